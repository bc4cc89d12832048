//! Judgement of the other machine's certificate: what rustls decides, the one name of a client, and
//! the reasons of refusals with their values.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, ExtendedKeyPurpose, OtherError,
    SignatureScheme,
};
use webpki::EndEntityCert;

use crate::show::utc;

/// The machine at the other end of a connection, as its certificate proves it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerMachine {
    name: String,
    certificates: Vec<CertificateDer<'static>>,
}

/// Paths of the files that decide on certificates, for messages.
#[derive(Debug)]
pub(super) struct Trust {
    pub(super) authorities: PathBuf,
    pub(super) revoked: PathBuf,
}

/// Reason for which a certificate is refused.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum CertificateRefusal {
    /// The other machine has presented none.
    Missing,
    /// The clock of this machine is past the end of the certificate's validity.
    Expired {
        /// End of the validity, in seconds since 1970.
        not_after: u64,
        /// The clock of this machine.
        now: u64,
    },
    /// The clock of this machine is before the beginning of the certificate's validity.
    NotValidYet {
        /// Beginning of the validity, in seconds since 1970.
        not_before: u64,
        /// The clock of this machine.
        now: u64,
    },
    /// The certificate's authority is not accepted here.
    Foreign {
        /// File of the authorities that are.
        authorities: PathBuf,
    },
    /// The authority has revoked the certificate.
    Revoked {
        /// File with the list.
        list: PathBuf,
    },
    /// The file of revoked certificates has no list of the certificate's authority.
    NoList {
        /// File with the lists.
        list: PathBuf,
    },
    /// A server's certificate where a client's is needed, or the other way.
    Purpose {
        /// Use that is needed.
        needed: ExtendedKeyPurpose,
        /// Uses that the certificate names.
        found: Vec<ExtendedKeyPurpose>,
    },
    /// The certificate of a server does not have the name that was dialled.
    Name {
        /// Name that was dialled.
        expected: String,
        /// Names in the certificate.
        found: Vec<String>,
    },
    /// The certificate of a client does not have exactly one DNS name.
    Names(NamesError),
    /// Another defect of the certificate.
    Defect(CertificateError),
    /// A list of revoked certificates, or another part of the check, is defective.
    Check(rustls::Error),
}

/// Client's certificate whose DNS names do not identify it. One name is needed, without wildcard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamesError {
    /// The DNS names in the certificate, at most the first 8.
    pub found: Vec<String>,
}

/// Verifier of clients: rustls's, and then the name.
#[derive(Debug)]
pub(super) struct NamedClients(Arc<dyn ClientCertVerifier>);

/// Number of names that an error has.
const MAX_NAMES: usize = 8;

impl PeerMachine {
    pub(super) fn client(
        certificates: &[CertificateDer<'static>],
    ) -> Result<Self, CertificateRefusal> {
        let first = certificates.first().ok_or(CertificateRefusal::Missing)?;
        Ok(Self {
            name: client_name(first)?,
            certificates: certificates.to_vec(),
        })
    }

    pub(super) fn server(name: &ServerName<'_>, certificates: &[CertificateDer<'static>]) -> Self {
        Self {
            name: name.to_str().into_owned(),
            certificates: certificates.to_vec(),
        }
    }

    /// Name of the machine. Of a client it is the one DNS name in its certificate, in lower case;
    /// of a server it is the name that was dialled.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Certificates that the machine has presented, its own first.
    pub fn certificates(&self) -> &[CertificateDer<'static>] {
        &self.certificates
    }
}

/// Returns the one DNS name of a client's certificate.
fn client_name(certificate: &CertificateDer<'_>) -> Result<String, CertificateRefusal> {
    let parsed = EndEntityCert::try_from(certificate)
        .map_err(|_| CertificateRefusal::Defect(CertificateError::BadEncoding))?;
    let mut names = parsed.valid_dns_names();
    match (names.next(), names.next()) {
        (Some(name), None) if !name.starts_with('*') => {
            Ok(name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase())
        }
        _ => {
            let names = parsed.valid_dns_names().take(MAX_NAMES);
            let found = names.map(str::to_owned).collect();
            Err(CertificateRefusal::Names(NamesError { found }))
        }
    }
}

impl NamedClients {
    pub(super) fn new(verifier: Arc<dyn ClientCertVerifier>) -> Self {
        Self(verifier)
    }
}

impl ClientCertVerifier for NamedClients {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.0.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let verified = self.0.verify_client_cert(end_entity, intermediates, now)?;
        match client_name(end_entity) {
            Ok(_) => Ok(verified),
            Err(CertificateRefusal::Names(error)) => {
                Err(CertificateError::Other(OtherError(Arc::new(error))).into())
            }
            Err(_) => Err(CertificateError::BadEncoding.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

impl CertificateRefusal {
    pub(super) fn from_rustls(error: rustls::Error, trust: &Trust) -> Self {
        let error = match error {
            rustls::Error::InvalidCertificate(error) => error,
            rustls::Error::NoCertificatesPresented => return Self::Missing,
            error => return Self::Check(error),
        };
        match error {
            CertificateError::ExpiredContext { time, not_after } => Self::Expired {
                not_after: not_after.as_secs(),
                now: time.as_secs(),
            },
            CertificateError::NotValidYetContext { time, not_before } => Self::NotValidYet {
                not_before: not_before.as_secs(),
                now: time.as_secs(),
            },
            CertificateError::UnknownIssuer => Self::Foreign {
                authorities: trust.authorities.clone(),
            },
            CertificateError::Revoked => Self::Revoked {
                list: trust.revoked.clone(),
            },
            CertificateError::UnknownRevocationStatus => Self::NoList {
                list: trust.revoked.clone(),
            },
            CertificateError::InvalidPurposeContext {
                required,
                presented,
            } => Self::Purpose {
                needed: required,
                found: presented,
            },
            CertificateError::NotValidForNameContext {
                expected,
                presented,
            } => Self::Name {
                expected: expected.to_str().into_owned(),
                found: presented,
            },
            CertificateError::Other(other) => match other.0.downcast_ref::<NamesError>() {
                Some(names) => Self::Names(names.clone()),
                None => Self::Defect(CertificateError::Other(other)),
            },
            error => Self::Defect(error),
        }
    }
}

/// Formats seconds since 1970 as date and time.
fn date(seconds: u64) -> String {
    utc(seconds.saturating_mul(1000))
}

impl fmt::Display for CertificateRefusal {
    /// Continues a sentence whose subject is the certificate.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("was not presented"),
            Self::Expired { not_after, now } => write!(
                f,
                "was valid until {}, and the clock of this machine is at {}",
                date(*not_after),
                date(*now)
            ),
            Self::NotValidYet { not_before, now } => write!(
                f,
                "is valid from {}, and the clock of this machine is at {}",
                date(*not_before),
                date(*now)
            ),
            Self::Foreign { authorities } => {
                write!(
                    f,
                    "is not of one of the authorities in {}",
                    authorities.display()
                )
            }
            Self::Revoked { list } => write!(f, "is revoked in {}", list.display()),
            Self::NoList { list } => write!(
                f,
                "is of an authority without a list in {}: add its list of revoked certificates",
                list.display()
            ),
            Self::Purpose { needed, found } => {
                write!(f, "is needed for {needed}, and is for ")?;
                write_list(f, found, "nothing")
            }
            Self::Name { expected, found } => {
                write!(f, "is needed for {expected:?}, and has the names ")?;
                write_list(f, found, "(none)")
            }
            Self::Names(error) => write!(f, "{error}"),
            Self::Defect(error) => write!(f, "has a defect: {error}"),
            Self::Check(error) => write!(f, "could not be checked: {error}"),
        }
    }
}

impl fmt::Display for NamesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("has the DNS names ")?;
        write_list(f, &self.found, "(none)")?;
        f.write_str(", and needs exactly one without *, which is the name of the client")
    }
}

/// Writes a list of values that the peer has chosen: escaped, and at most [`MAX_NAMES`].
fn write_list<T: fmt::Display>(f: &mut fmt::Formatter<'_>, list: &[T], none: &str) -> fmt::Result {
    if list.is_empty() {
        return f.write_str(none);
    }
    for (index, value) in list.iter().take(MAX_NAMES).enumerate() {
        let comma = if index > 0 { ", " } else { "" };
        write!(f, "{comma}{}", value.to_string().escape_debug())?;
    }
    match list.len().checked_sub(MAX_NAMES) {
        None | Some(0) => Ok(()),
        Some(more) => write!(f, " and {more} more"),
    }
}

impl std::error::Error for CertificateRefusal {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Names(error) => Some(error),
            Self::Check(error) => Some(error),
            _ => None,
        }
    }
}

impl std::error::Error for NamesError {}
