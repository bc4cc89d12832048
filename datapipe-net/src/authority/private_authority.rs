//! Authorities in directories: made, opened, and what they issue and revoke.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use rustls::pki_types::CertificateDer;

use super::certificates::{Issued, Signer, check_signer};
use super::directory::{
    AUTHORITIES, AUTHORITY_KEY, FileMode, LockedDirectory, NewDirectory, REGISTER, REVOKED,
};
use super::error::AuthorityError;
use super::names::{checked, first_client};
use super::register::{
    CertificatePurpose, CertificateSerial, IssuedCertificate, Register, Selection,
};
use super::revocation_list::Lists;
use super::validity::{DAY, Validity, now};
use crate::limits::{AUTHORITY_DAYS, MAX_CERTIFICATE_FILE, MAX_REGISTER_FILE, MAX_REVOCATION_FILE};
use crate::tls::{MachineIdentityError, read, read_key, sections};

/// Authority in a directory, which is locked while this value exists.
///
/// # Examples
///
/// ```
/// use datapipe_net::authority::{
///     CertificatePurpose, InitRequest, PrivateAuthority, Selection, Validity,
/// };
/// use datapipe_net::tls::MachineIdentity;
///
/// # let place = tempfile::tempdir()?;
/// # let place = place.path();
/// let directory = place.join("authority");
/// let request = InitRequest {
///     server: vec!["vault.example".to_owned(), "192.0.2.1".to_owned()],
///     client: None,
///     validity: Validity::days(365)?,
/// };
/// PrivateAuthority::init(&directory, &request)?;
/// MachineIdentity::load(&directory.join("server.pem"))?;
///
/// let mut authority = PrivateAuthority::open(&directory, None)?;
/// let names = ["db1.example".to_owned()];
/// let days = Validity::days(365)?;
/// let to = place.join("db1");
/// authority.issue(CertificatePurpose::Client, &names, days, &to)?;
/// MachineIdentity::load(&to.join("client.pem"))?;
/// let revocation = authority.revoke(&Selection::Name("db1.example".to_owned()))?;
/// assert_eq!(revocation.new, 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct PrivateAuthority {
    directory: LockedDirectory,
    register: Register,
    signer: Signer,
    certificate: CertificateDer<'static>,
}

/// Parameters of a new authority, with the first server and the first client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InitRequest {
    /// Names of the server: DNS names and addresses, 1 to
    /// [`MAX_SERVER_NAMES`](crate::limits::MAX_SERVER_NAMES).
    pub server: Vec<String>,
    /// Name of the client; `None` for `client.HOST`, where HOST is the server's first DNS name.
    pub client: Option<String>,
    /// Validity of the two certificates. That of the authority begins with it.
    pub validity: Validity,
}

/// Certificates that were to be revoked.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Revocation {
    /// The certificates. All of them are revoked now.
    pub certificates: Vec<IssuedCertificate>,
    /// Number of those that were not revoked before.
    pub new: usize,
}

impl PrivateAuthority {
    /// Makes a directory with an authority, the certificates and keys of a server and a client, and
    /// a list of revoked certificates, which is empty. At the path there may be an empty directory,
    /// which is replaced. Returns the certificates; until then there is nothing at the path.
    ///
    /// # Errors
    ///
    /// If a name is invalid, there is something at the path, another user could change a directory
    /// above it, or the files cannot be made.
    pub fn init(
        path: &Path,
        request: &InitRequest,
    ) -> Result<Vec<IssuedCertificate>, AuthorityError> {
        let server = checked(CertificatePurpose::Server, &request.server)?;
        let client = request.client.clone();
        let client = [client.unwrap_or_else(|| first_client(&server))];
        let client = checked(CertificatePurpose::Client, &client)?;
        let now = now()?;
        let validity = request.validity;
        let end = validity.from + u64::from(AUTHORITY_DAYS) * DAY;
        let directory = NewDirectory::prepare(path)?;
        let mut register = Register::new(authority_name(&server[0]), validity.from, end, now);
        let (signer, certificate, key) = Signer::generate(&register)?;
        directory.add(AUTHORITY_KEY, key.as_bytes(), FileMode::Private)?;
        directory.add(AUTHORITIES, certificate.pem().as_bytes(), FileMode::Public)?;
        for (purpose, names) in [
            (CertificatePurpose::Server, server),
            (CertificatePurpose::Client, client),
        ] {
            let entry = entry(purpose, names, validity);
            let issued = signer.issue(&entry, certificate.der())?;
            add_issued(&directory, purpose, &issued)?;
            register.certificates.push(entry);
        }
        let (_, list) = signer.list(&register)?;
        directory.add(REVOKED, list.as_bytes(), FileMode::Public)?;
        directory.add(REGISTER, &register.encode()?, FileMode::Private)?;
        directory.publish()?;
        Ok(register.certificates)
    }

    /// Opens and locks an authority, waiting up to
    /// [`AUTHORITY_PATIENCE`](crate::limits::AUTHORITY_PATIENCE) for other commands. Its key is
    /// `ca.key` in the directory, or the file `key`. If an interrupted command has not written the
    /// list of revoked certificates, it is written now.
    ///
    /// # Errors
    ///
    /// If a file is missing, refused as those of a
    /// [`MachineIdentity`](crate::tls::MachineIdentity) are, or contradicts another one.
    pub fn open(path: &Path, key: Option<&Path>) -> Result<Self, AuthorityError> {
        let directory = LockedDirectory::open(path)?;
        let register = read_register(path)?;
        let key_path = key.map_or_else(|| path.join(AUTHORITY_KEY), Path::to_owned);
        let key = read_key(&key_path).map_err(|error| match error {
            MachineIdentityError::Unreadable { source, path }
                if source.kind() == io::ErrorKind::NotFound =>
            {
                AuthorityError::NoKey { path }
            }
            error => error.into(),
        })?;
        let signer = Signer::new(&key, &register)?;
        let authorities = path.join(AUTHORITIES);
        let found = sections(&authorities, MAX_CERTIFICATE_FILE, "CERTIFICATE")?;
        let Some(certificate) = signer.own_certificate(found) else {
            let key = key_path;
            return Err(AuthorityError::OtherKey { key, authorities });
        };
        check_signer(&signer, &register, &certificate).map_err(|error| match error {
            AuthorityError::Unusable { source, .. } => AuthorityError::OtherRegister {
                register: path.join(REGISTER),
                authorities,
                source,
            },
            error => error,
        })?;
        let authority = Self {
            directory,
            register,
            signer,
            certificate,
        };
        authority.write_list()?;
        Ok(authority)
    }

    /// Issues a certificate, and makes the directory `to` with what its machine needs: the
    /// certificate and its key, `ca.pem` and `crl.pem`.
    ///
    /// # Errors
    ///
    /// If a name is invalid, the validity is not within that of the authority, there is something
    /// at the path `to`, or files cannot be written.
    pub fn issue(
        &mut self,
        purpose: CertificatePurpose,
        names: &[String],
        validity: Validity,
        to: &Path,
    ) -> Result<IssuedCertificate, AuthorityError> {
        let names = checked(purpose, names)?;
        let mut validity = validity;
        // The day before today may be one before the authority was made.
        if validity.from < self.register.not_before
            && validity.from + DAY >= self.register.not_before
        {
            validity.from = self.register.not_before;
        }
        if validity.from < self.register.not_before || validity.end() > self.register.not_after {
            return Err(AuthorityError::BeyondAuthority {
                asked: (validity.from, validity.end()),
                authority: (self.register.not_before, self.register.not_after),
            });
        }
        let entry = entry(purpose, names, validity);
        let issued = self.signer.issue(&entry, &self.certificate)?;
        let directory = NewDirectory::prepare(to)?;
        add_issued(&directory, purpose, &issued)?;
        for (name, most) in [
            (AUTHORITIES, MAX_CERTIFICATE_FILE),
            (REVOKED, MAX_REVOCATION_FILE),
        ] {
            let (text, _) = read(&self.path(name), most)?;
            directory.add(name, &text, FileMode::Public)?;
        }
        // Before the directory has its name: there is no certificate that cannot be revoked.
        let mut register = self.register.clone();
        register.certificates.push(entry.clone());
        self.write_register(register)?;
        directory.publish()?;
        Ok(entry)
    }

    /// Revokes certificates: enters them in the register, and writes the list anew. The lists of
    /// other authorities in its file stay.
    ///
    /// # Errors
    ///
    /// If there are none, or the files cannot be written.
    pub fn revoke(&mut self, selection: &Selection) -> Result<Revocation, AuthorityError> {
        let mut register = self.register.clone();
        let Some((certificates, new)) = register.revoke(selection, now()?) else {
            let last = self.register.certificates.iter().rev();
            return Err(AuthorityError::NotIssued {
                selection: selection.clone(),
                known: last.map(|known| known.names[0].clone()).take(8).collect(),
            });
        };
        if new > 0 {
            // First: a list that is made from the register never has fewer certificates.
            self.write_register(register)?;
        }
        self.write_list()?;
        Ok(Revocation { certificates, new })
    }

    /// Reads which certificates an authority has issued, the oldest first. The key is not needed.
    ///
    /// # Errors
    ///
    /// If the register cannot be read, is refused as the files of a
    /// [`MachineIdentity`](crate::tls::MachineIdentity) are, or has a mistake.
    pub fn issued(path: &Path) -> Result<Vec<IssuedCertificate>, AuthorityError> {
        Ok(read_register(path)?.certificates)
    }

    fn write_register(&mut self, register: Register) -> Result<(), AuthorityError> {
        let text = register.encode()?;
        self.directory.replace(REGISTER, &text, FileMode::Private)?;
        self.register = register;
        Ok(())
    }

    /// Writes the list of revoked certificates, if the one in the file is another.
    fn write_list(&self) -> Result<(), AuthorityError> {
        let path = self.path(REVOKED);
        let text = match read(&path, MAX_REVOCATION_FILE) {
            Ok((text, _)) => String::from_utf8_lossy(&text).into_owned(),
            Err(MachineIdentityError::Unreadable { source, .. })
                if source.kind() == io::ErrorKind::NotFound =>
            {
                String::new()
            }
            Err(error) => return Err(error.into()),
        };
        let lists = Lists::read(&path, &text, &self.certificate)?;
        lists.check(&path, &self.register, &self.path(REGISTER))?;
        let (list, own) = self.signer.list(&self.register)?;
        if lists.has(&list) {
            return Ok(());
        }
        let text = lists.with(&own);
        // The file before is better than one that no machine loads.
        if text.len() as u64 > MAX_REVOCATION_FILE {
            let most = MAX_REVOCATION_FILE;
            return Err(MachineIdentityError::TooLong { path, most }.into());
        }
        self.directory
            .replace(REVOKED, text.as_bytes(), FileMode::Public)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

impl fmt::Debug for PrivateAuthority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PrivateAuthority")
            .field("directory", &self.directory)
            .field("certificates", &self.register.certificates.len())
            .finish_non_exhaustive()
    }
}

/// Name of a new authority. Its random part distinguishes it from others for the same machine:
/// certificates name their authority by this.
fn authority_name(server: &str) -> String {
    let serial = CertificateSerial::random().to_string();
    let server: String = server.chars().take(30).collect();
    format!("DataPipe {} for {server}", &serial[2..18])
}

fn entry(purpose: CertificatePurpose, names: Vec<String>, validity: Validity) -> IssuedCertificate {
    IssuedCertificate {
        names,
        purpose,
        serial: CertificateSerial::random(),
        not_before: validity.from,
        not_after: validity.end(),
        revoked: None,
    }
}

/// Adds a certificate and its key to a directory.
fn add_issued(
    directory: &NewDirectory,
    purpose: CertificatePurpose,
    issued: &Issued,
) -> Result<(), AuthorityError> {
    let (certificate, key) = (format!("{purpose}.pem"), format!("{purpose}.key"));
    directory.add(&key, issued.key.as_bytes(), FileMode::Private)?;
    directory.add(
        &certificate,
        issued.certificate.as_bytes(),
        FileMode::Public,
    )
}

fn read_register(directory: &Path) -> Result<Register, AuthorityError> {
    let path = directory.join(REGISTER);
    let bytes = match read(&path, MAX_REGISTER_FILE) {
        Ok((bytes, _)) => bytes,
        Err(MachineIdentityError::Unreadable { source, .. })
            if source.kind() == io::ErrorKind::NotFound =>
        {
            let path = directory.to_owned();
            return Err(AuthorityError::NotAnAuthority { path });
        }
        Err(error) => return Err(error.into()),
    };
    Register::decode(&bytes).map_err(|mistake| AuthorityError::Register { path, mistake })
}
