//! The identity of this machine: its certificate and key, the authorities that it accepts, and what
//! they have revoked; read from files that only root and the own user can change.

use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fmt, path};

use datapipe::interrupt::retry;
use rustix::fs::{Mode, OFlags};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, VerifierBuilderError, WebPkiClientVerifier};
use rustls::{ClientConfig, RootCertStore, ServerConfig, version};
use zeroize::Zeroizing;

use super::verify::{CertificateRefusal, NamedClients, PeerMachine, Trust};
use crate::config::{
    DirectoryError, MAX_LINKS, OwnershipError, check_acl, check_directories, check_links,
    check_ownership,
};
use crate::limits::{MAX_CERTIFICATE_FILE, MAX_REVOCATION_FILE};

/// Name of the protocol in the handshake (ALPN).
pub(super) const PROTOCOL: &[u8] = b"datapipe/1";

/// Identity of this machine on links, and the certificates that it accepts.
#[derive(Clone, Debug)]
pub struct MachineIdentity {
    pub(super) server: Arc<ServerConfig>,
    pub(super) client: Arc<ClientConfig>,
    pub(super) trust: Arc<Trust>,
    clients: Arc<NamedClients>,
    certificates: Arc<[CertificateDer<'static>]>,
}

/// Failure to load an identity.
#[derive(Debug)]
#[non_exhaustive]
pub enum MachineIdentityError {
    /// A file, or a directory above it, cannot be read.
    Unreadable {
        /// Path of the file.
        path: PathBuf,
        /// Error of the system.
        source: io::Error,
    },
    /// A file is not a regular file.
    NotAFile {
        /// Path of the file.
        path: PathBuf,
    },
    /// A file is too long.
    TooLong {
        /// Path of the file.
        path: PathBuf,
        /// Most bytes that it may have.
        most: u64,
    },
    /// Another user could change a file.
    Writable {
        /// Path of the file.
        path: PathBuf,
        /// Right of that user.
        source: OwnershipError,
    },
    /// Another user could replace a file or a directory above it.
    Replaceable {
        /// Path of the file.
        path: PathBuf,
        /// Directory in which that user could do it.
        directory: PathBuf,
        /// Right of that user.
        source: OwnershipError,
    },
    /// Other users could read the key.
    KeyReadable {
        /// Path of the key.
        path: PathBuf,
        /// Permission bits of the file.
        mode: u32,
    },
    /// A file is not in the format PEM.
    NotPem {
        /// Path of the file.
        path: PathBuf,
        /// The mistake.
        source: pem::Error,
    },
    /// A file does not have what it is for.
    Empty {
        /// Path of the file.
        path: PathBuf,
        /// Label of the missing section.
        missing: &'static str,
    },
    /// The certificate or the key cannot be used, or they do not belong together.
    Pair {
        /// Path of the certificate.
        certificate: PathBuf,
        /// Path of the key.
        key: PathBuf,
        /// The reason.
        source: rustls::Error,
    },
    /// A certificate of an authority cannot be used.
    Authority {
        /// Path of the file.
        path: PathBuf,
        /// The reason.
        source: rustls::Error,
    },
    /// A list of revoked certificates cannot be used.
    Revoked {
        /// Path of the file.
        path: PathBuf,
        /// The reason.
        source: VerifierBuilderError,
    },
}

impl MachineIdentity {
    /// Loads the identity with the certificate at `certificate`, which ends in `.pem`. Beside it
    /// are
    ///
    /// - the key, with the same name and the ending `.key`;
    /// - `ca.pem`, the certificates of the authorities that issue those of other machines;
    /// - `crl.pem`, their lists of revoked certificates, if there are any. With one list, each
    ///   authority must have one: a certificate of another is refused. The times of the next lists
    ///   are ignored, because a list that was not renewed must not stop backups.
    ///
    /// # Errors
    ///
    /// If a file cannot be read, decoded or used, another user than root and the own one could
    /// change it, or others could read the key.
    pub fn load(certificate: &Path) -> Result<Self, MachineIdentityError> {
        let directory = certificate.parent().unwrap_or(certificate);
        let key = certificate.with_extension("key");
        let trust = Trust {
            authorities: directory.join("ca.pem"),
            revoked: directory.join("crl.pem"),
        };
        let certificates: Vec<_> = sections(certificate, MAX_CERTIFICATE_FILE, "CERTIFICATE")?;
        let revoked = match sections(&trust.revoked, MAX_REVOCATION_FILE, "X509 CRL") {
            // A link that leads nowhere is there: a list that is missing by mistake must not allow
            // what it revokes.
            Err(MachineIdentityError::Unreadable { source, .. })
                if source.kind() == io::ErrorKind::NotFound && is_absent(&trust.revoked) =>
            {
                Vec::new()
            }
            revoked => revoked?,
        };
        let roots = Arc::new(read_authorities(&trust.authorities)?);
        let files = Files {
            certificate,
            key: &key,
            trust: &trust,
        };
        let clients = files.clients(roots.clone(), revoked.clone())?;
        let clients = Arc::new(NamedClients::new(clients));
        // Once, so that both use the same key when the file is replaced meanwhile.
        let private = read_key(&key)?;
        let server = files.server(clients.clone(), certificates.clone(), private.clone_key())?;
        Ok(Self {
            server,
            client: files.client(roots, revoked, certificates.clone(), private)?,
            trust: Arc::new(trust),
            clients,
            certificates: certificates.into(),
        })
    }

    /// Judges a client of an earlier handshake by this identity, which may be newer, and by the
    /// clock.
    ///
    /// # Errors
    ///
    /// If its certificate has expired since, is revoked, or its authority is not accepted.
    pub fn judge_client(&self, client: &PeerMachine) -> Result<(), CertificateRefusal> {
        self.judge(client.certificates())
    }

    /// Judges the own certificate as that of a client, because the other machine answers with an
    /// alert that has no values. Its authority may be one that only the other machine accepts.
    pub(super) fn judge_own(&self) -> Result<(), CertificateRefusal> {
        match self.judge(&self.certificates) {
            Err(
                refusal @ (CertificateRefusal::Expired { .. }
                | CertificateRefusal::NotValidYet { .. }
                | CertificateRefusal::Purpose { .. }
                | CertificateRefusal::Names(_)),
            ) => Err(refusal),
            // The name is judged after everything else, which may have failed here alone.
            _ => PeerMachine::client(&self.certificates).map(|_| ()),
        }
    }

    fn judge(&self, certificates: &[CertificateDer<'_>]) -> Result<(), CertificateRefusal> {
        let Some((first, others)) = certificates.split_first() else {
            return Err(CertificateRefusal::Missing);
        };
        match self
            .clients
            .verify_client_cert(first, others, UnixTime::now())
        {
            Ok(_) => Ok(()),
            Err(error) => Err(CertificateRefusal::from_rustls(error, &self.trust)),
        }
    }
}

/// Paths of an identity, for its errors.
struct Files<'a> {
    certificate: &'a Path,
    key: &'a Path,
    trust: &'a Trust,
}

impl Files<'_> {
    fn clients(
        &self,
        roots: Arc<RootCertStore>,
        revoked: Vec<CertificateRevocationListDer<'static>>,
    ) -> Result<Arc<dyn ClientCertVerifier>, MachineIdentityError> {
        WebPkiClientVerifier::builder_with_provider(roots, provider())
            .with_crls(revoked)
            .build()
            .map_err(|source| self.revoked(source))
    }

    fn server(
        &self,
        clients: Arc<NamedClients>,
        certificates: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<Arc<ServerConfig>, MachineIdentityError> {
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&version::TLS13])
            .expect("the provider has suites of TLS 1.3")
            .with_client_cert_verifier(clients)
            .with_single_cert(certificates, key)
            .map_err(|source| self.pair(source))?;
        config.alpn_protocols = vec![PROTOCOL.to_vec()];
        config.enable_secret_extraction = true;
        // A connection is authenticated anew each time, and no message follows the handshake.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        config.max_early_data_size = 0;
        Ok(Arc::new(config))
    }

    fn client(
        &self,
        roots: Arc<RootCertStore>,
        revoked: Vec<CertificateRevocationListDer<'static>>,
        certificates: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<Arc<ClientConfig>, MachineIdentityError> {
        let servers = WebPkiServerVerifier::builder_with_provider(roots, provider())
            .with_crls(revoked)
            .build()
            .map_err(|source| self.revoked(source))?;
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&version::TLS13])
            .expect("the provider has suites of TLS 1.3")
            .with_webpki_verifier(servers)
            .with_client_auth_cert(certificates, key)
            .map_err(|source| self.pair(source))?;
        config.alpn_protocols = vec![PROTOCOL.to_vec()];
        config.enable_secret_extraction = true;
        config.resumption = Resumption::disabled();
        config.enable_early_data = false;
        Ok(Arc::new(config))
    }

    fn pair(&self, source: rustls::Error) -> MachineIdentityError {
        MachineIdentityError::Pair {
            certificate: self.certificate.to_owned(),
            key: self.key.to_owned(),
            source,
        }
    }

    fn revoked(&self, source: VerifierBuilderError) -> MachineIdentityError {
        let path = self.trust.revoked.clone();
        MachineIdentityError::Revoked { path, source }
    }
}

pub(crate) fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn read_authorities(path: &Path) -> Result<RootCertStore, MachineIdentityError> {
    let mut roots = RootCertStore::empty();
    for certificate in sections::<CertificateDer<'_>>(path, MAX_CERTIFICATE_FILE, "CERTIFICATE")? {
        roots.add(certificate).map_err(|source| {
            let path = path.to_owned();
            MachineIdentityError::Authority { path, source }
        })?;
    }
    Ok(roots)
}

pub(crate) fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, MachineIdentityError> {
    let (bytes, metadata) = read(path, MAX_CERTIFICATE_FILE)?;
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        let path = path.to_owned();
        return Err(MachineIdentityError::KeyReadable { path, mode });
    }
    PrivateKeyDer::from_pem_slice(&bytes).map_err(|source| match source {
        pem::Error::NoItemsFound => MachineIdentityError::Empty {
            path: path.to_owned(),
            missing: "PRIVATE KEY",
        },
        source => MachineIdentityError::NotPem {
            path: path.to_owned(),
            source,
        },
    })
}

/// Reads all sections of one kind from a file, which has at least one.
pub(crate) fn sections<T: PemObject>(
    path: &Path,
    most: u64,
    label: &'static str,
) -> Result<Vec<T>, MachineIdentityError> {
    let (bytes, _) = read(path, most)?;
    let found: Result<Vec<T>, _> = T::pem_slice_iter(&bytes).collect();
    let found = found.map_err(|source| MachineIdentityError::NotPem {
        path: path.to_owned(),
        source,
    })?;
    if found.is_empty() {
        return Err(MachineIdentityError::Empty {
            path: path.to_owned(),
            missing: label,
        });
    }
    Ok(found)
}

/// True if a path has no file and no link, not even one that leads nowhere.
fn is_absent(path: &Path) -> bool {
    retry(|| fs::symlink_metadata(path)).is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}

/// Reads a file that only root and the own user can change.
pub(crate) fn read(
    path: &Path,
    most: u64,
) -> Result<(Zeroizing<Vec<u8>>, Metadata), MachineIdentityError> {
    let named = || path.to_owned();
    let unreadable = |source| MachineIdentityError::Unreadable {
        path: named(),
        source,
    };
    let resolved = retry(|| fs::canonicalize(path)).map_err(unreadable)?;
    // Without waiting: the path can lead to a FIFO.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
    let file =
        retry(|| Ok(rustix::fs::open(&resolved, flags, Mode::empty())?)).map_err(unreadable)?;
    let file = File::from(file);
    let metadata = file.metadata().map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(MachineIdentityError::NotAFile { path: named() });
    }
    check_access(path, &resolved, &metadata)?;
    let too_long = || MachineIdentityError::TooLong {
        path: named(),
        most,
    };
    if metadata.len() > most {
        return Err(too_long());
    }
    // The capacity is for all of it, so that a growing vector leaves no copy of the text. What the
    // decoding of a key makes of it, base64 text included, is on the ordinary heap.
    let mut bytes = Zeroizing::new(Vec::with_capacity(metadata.len() as usize + 1));
    let mut limited = file.take(metadata.len() + 1);
    retry(|| limited.read_to_end(&mut bytes)).map_err(unreadable)?;
    match bytes.len() as u64 > metadata.len() {
        true => Err(too_long()),
        false => Ok((bytes, metadata)),
    }
}

/// Checks that only root and the own user can change a file, or let its path lead elsewhere.
fn check_access(
    path: &Path,
    resolved: &Path,
    metadata: &Metadata,
) -> Result<(), MachineIdentityError> {
    let named = || path.to_owned();
    let unreadable = |source| MachineIdentityError::Unreadable {
        path: named(),
        source,
    };
    let writable = |source| MachineIdentityError::Writable {
        path: named(),
        source,
    };
    check_ownership(metadata).map_err(writable)?;
    check_acl(resolved).map_err(unreadable)?.map_err(writable)?;
    let absolute = path::absolute(path).map_err(unreadable)?;
    check_directories(resolved)
        .and_then(|()| check_links(&absolute, MAX_LINKS))
        .map_err(|error| match error {
            DirectoryError::Unreadable { directory, source } => {
                let what = format!("{}: {source}", directory.display());
                unreadable(io::Error::new(source.kind(), what))
            }
            DirectoryError::Writable { directory, source } => MachineIdentityError::Replaceable {
                path: named(),
                directory,
                source,
            },
        })
}

impl fmt::Display for MachineIdentityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { path, source } => write!(f, "{}: {source}", path.display()),
            Self::NotAFile { path } => write!(f, "{} is not a regular file", path.display()),
            Self::TooLong { path, most } => {
                write!(
                    f,
                    "{} has more than {most} bytes, or grew meanwhile",
                    path.display()
                )
            }
            Self::Writable { path, source } => write!(f, "{} {source}", path.display()),
            Self::Replaceable {
                path,
                directory,
                source,
            } => {
                let (path, directory) = (path.display(), directory.display());
                write!(
                    f,
                    "{path} could be replaced: the directory {directory} {source}"
                )
            }
            Self::KeyReadable { path, mode } => {
                let path = path.display();
                write!(
                    f,
                    "the key {path} has the mode {mode:04o}: run chmod 600 {path}"
                )
            }
            Self::NotPem { path, source } => write!(f, "{}: {source}", path.display()),
            Self::Empty { path, missing } => {
                write!(f, "{} has no section BEGIN {missing}", path.display())
            }
            Self::Pair {
                certificate,
                key,
                source,
            } => {
                let (certificate, key) = (certificate.display(), key.display());
                write!(
                    f,
                    "the certificate {certificate} with the key {key}: {source}"
                )
            }
            Self::Authority { path, source } => {
                write!(f, "the authorities {}: {source}", path.display())
            }
            Self::Revoked { path, source } => {
                write!(f, "the revoked certificates {}: {source}", path.display())
            }
        }
    }
}

impl std::error::Error for MachineIdentityError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Unreadable { source, .. } => Some(source),
            Self::Writable { source, .. } | Self::Replaceable { source, .. } => Some(source),
            Self::NotPem { source, .. } => Some(source),
            Self::Pair { source, .. } | Self::Authority { source, .. } => Some(source),
            Self::Revoked { source, .. } => Some(source),
            Self::NotAFile { .. }
            | Self::TooLong { .. }
            | Self::KeyReadable { .. }
            | Self::Empty { .. } => None,
        }
    }
}
