//! Failures of an authority.

use std::path::PathBuf;
use std::{error, fmt, io};

use super::register::{CertificatePurpose, CertificateSerial, Selection};
use crate::config::DirectoryError;
use crate::limits::{AUTHORITY_PATIENCE, MAX_CERTIFICATE_DAYS, MAX_REGISTER_FILE};
use crate::show::{date, escaped_line};
use crate::tls::MachineIdentityError;

/// Failure to make or use an authority.
#[derive(Debug)]
#[non_exhaustive]
pub enum AuthorityError {
    /// A name cannot be that of a machine.
    Name {
        /// Use of the certificate.
        purpose: CertificatePurpose,
        /// The name.
        name: String,
    },
    /// A certificate needs another number of names.
    NumberOfNames {
        /// Use of the certificate.
        purpose: CertificatePurpose,
        /// Number of names.
        found: usize,
        /// Most names of such a certificate.
        most: usize,
    },
    /// A number of days is out of range.
    Days {
        /// The number.
        days: u32,
    },
    /// A time is one that a clock cannot have.
    Clock {
        /// The time, in seconds since 1970.
        now: u64,
    },
    /// A certificate would be valid when its authority is not.
    BeyondAuthority {
        /// Validity of the certificate, in seconds since 1970.
        asked: (u64, u64),
        /// Validity of the authority, in seconds since 1970.
        authority: (u64, u64),
    },
    /// There is something with the name of a directory that is to be made.
    Exists {
        /// Path of the directory.
        path: PathBuf,
    },
    /// The path of a directory that is to be made has no name at its end.
    Unnamed {
        /// The path.
        path: PathBuf,
    },
    /// The directory above the one that is to be made does not exist.
    NoParent {
        /// Path of that directory.
        path: PathBuf,
    },
    /// Another user could replace a directory above the one that is to be made.
    Replaceable {
        /// Path of the directory that is to be made.
        path: PathBuf,
        /// The reason.
        reason: String,
    },
    /// The directory in which the files are prepared has files of others.
    Leftover {
        /// Path of that directory.
        path: PathBuf,
    },
    /// Another command works in the directory.
    Busy {
        /// Path of the directory.
        path: PathBuf,
    },
    /// A directory was replaced while it was opened.
    Moved {
        /// Path of the directory.
        path: PathBuf,
    },
    /// The directory has no register, so it is not that of an authority.
    NotAnAuthority {
        /// Path of the directory.
        path: PathBuf,
    },
    /// The authority's key is not there.
    NoKey {
        /// Path at which it was looked for.
        path: PathBuf,
    },
    /// The key is not that of the authority.
    OtherKey {
        /// Path of the key.
        key: PathBuf,
        /// Path of the authorities' certificates.
        authorities: PathBuf,
    },
    /// The register has a mistake.
    Register {
        /// Path of the register.
        path: PathBuf,
        /// The mistake.
        mistake: String,
    },
    /// The register is not that of the authority's certificate.
    OtherRegister {
        /// Path of the register.
        register: PathBuf,
        /// Path of the authorities' certificates.
        authorities: PathBuf,
        /// The reason.
        source: webpki::Error,
    },
    /// The register has no room for another certificate.
    Full,
    /// The list of revoked certificates has one that the register has not.
    Diverged {
        /// Path of the list.
        list: PathBuf,
        /// Path of the register.
        register: PathBuf,
        /// Serial number of the certificate, in hexadecimal digits.
        serial: String,
    },
    /// The file of revoked certificates has a list that cannot be read.
    List {
        /// Path of the file.
        path: PathBuf,
        /// The reason.
        source: webpki::Error,
    },
    /// The authority has not issued such a certificate.
    NotIssued {
        /// The certificate.
        selection: Selection,
        /// Names of certificates that it has issued, at most the last 8.
        known: Vec<String>,
    },
    /// A file could not be read, made or replaced.
    File {
        /// Path of the file or directory.
        path: PathBuf,
        /// Error of the system.
        source: io::Error,
    },
    /// A file of the authority is refused.
    Files(MachineIdentityError),
    /// A key or a certificate could not be made.
    Making(rcgen::Error),
    /// A certificate that was made does not have what it is for.
    Unusable {
        /// Serial number of the certificate.
        serial: CertificateSerial,
        /// The reason.
        source: webpki::Error,
    },
}

impl AuthorityError {
    pub(super) fn replaceable(path: PathBuf, reason: &DirectoryError) -> Self {
        let reason = reason.to_string();
        Self::Replaceable { path, reason }
    }
}

impl From<MachineIdentityError> for AuthorityError {
    fn from(error: MachineIdentityError) -> Self {
        Self::Files(error)
    }
}

impl From<rcgen::Error> for AuthorityError {
    fn from(error: rcgen::Error) -> Self {
        Self::Making(error)
    }
}

impl fmt::Display for AuthorityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name { .. }
            | Self::NumberOfNames { .. }
            | Self::Days { .. }
            | Self::Clock { .. }
            | Self::BeyondAuthority { .. }
            | Self::NotIssued { .. } => self.write_request(f),
            Self::Exists { .. }
            | Self::Unnamed { .. }
            | Self::NoParent { .. }
            | Self::Replaceable { .. }
            | Self::Leftover { .. }
            | Self::Busy { .. }
            | Self::Moved { .. } => self.write_directory(f),
            _ => self.write_files(f),
        }
    }
}

impl AuthorityError {
    /// Writes a mistake in what was asked for.
    fn write_request(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name { purpose, name } => {
                let needed = match purpose {
                    CertificatePurpose::Client => "a client has a DNS name without *",
                    CertificatePurpose::Server => "a server has DNS names without * and addresses",
                };
                write!(f, "{name:?} cannot be the name of a {purpose}: {needed}")
            }
            Self::NumberOfNames {
                purpose,
                found,
                most,
            } => {
                let range = match most {
                    1 => "exactly 1".to_owned(),
                    most => format!("1 to {most}"),
                };
                write!(
                    f,
                    "the certificate of a {purpose} has {range} names, not {found}"
                )
            }
            Self::Days { days } => write!(
                f,
                "a certificate is valid for 1 to {MAX_CERTIFICATE_DAYS} days, not {days}"
            ),
            Self::Clock { now } => write!(
                f,
                "the clock of this machine is at {}, which cannot be right: set it first",
                date(*now)
            ),
            Self::BeyondAuthority { asked, authority } => write!(
                f,
                "the certificate would be valid from {} to {}, and its authority is from {} to {}: \
                 give fewer days, or make a new authority",
                date(asked.0),
                date(asked.1),
                date(authority.0),
                date(authority.1)
            ),
            Self::NotIssued { selection, known } => write!(
                f,
                "the authority has not issued a certificate with {selection}; its last names are \
                 {}",
                escaped_line(&known.join(", "))
            ),
            _ => Ok(()),
        }
    }

    /// Writes an obstacle to a directory.
    fn write_directory(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exists { path } => write!(
                f,
                "{} exists and is not replaced: move it away, or name another directory",
                path.display()
            ),
            Self::Unnamed { path } => write!(
                f,
                "the path {:?} has no name at its end under which a directory could be made",
                path.display()
            ),
            Self::NoParent { path } => write!(
                f,
                "the directory {} does not exist: make it first",
                path.display()
            ),
            Self::Replaceable { path, reason } => write!(
                f,
                "{} would not be safe: {reason}; choose another place",
                path.display()
            ),
            Self::Leftover { path } => write!(
                f,
                "{} is where new files are prepared, and it is of another user, open to others, or \
                 has other files: move it away",
                path.display()
            ),
            Self::Busy { path } => write!(
                f,
                "another command has been at work in {} for {} s: try again later",
                path.display(),
                AUTHORITY_PATIENCE.as_secs()
            ),
            Self::Moved { path } => write!(
                f,
                "{} was moved or replaced while it was opened: try again",
                path.display()
            ),
            _ => Ok(()),
        }
    }

    /// Writes a defect of the authority's files, or a failure to write them.
    fn write_files(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAnAuthority { path } => write!(
                f,
                "{} has no issued.json, so it is not a directory that `datapiped init` has made",
                path.display()
            ),
            Self::NoKey { path } => write!(
                f,
                "the authority's key {} is not there: put it back, or name the file with --key",
                path.display()
            ),
            Self::OtherKey { key, authorities } => write!(
                f,
                "the key {} is not that of a certificate in {}",
                key.display(),
                authorities.display()
            ),
            Self::Register { path, mistake } => write!(
                f,
                "the register {}: {mistake}; restore it from a backup",
                path.display()
            ),
            Self::OtherRegister {
                register,
                authorities,
                source,
            } => write!(
                f,
                "the register {} is not that of the authority in {}: {source}; restore both from \
                 one backup",
                register.display(),
                authorities.display()
            ),
            Self::Full => write!(
                f,
                "the register would be longer than {MAX_REGISTER_FILE} bytes: make a new authority"
            ),
            Self::Diverged {
                list,
                register,
                serial,
            } => write!(
                f,
                "{} revokes the serial number {serial}, and {} does not: the register is older; \
                 restore the newer one from a backup, so that nothing is accepted again",
                list.display(),
                register.display()
            ),
            Self::List { path, source } => write!(
                f,
                "the revoked certificates {}: {source}; move the file away, and the list of this \
                 authority is made anew",
                path.display()
            ),
            Self::File { path, source } => write!(f, "{}: {source}", path.display()),
            Self::Files(error) => write!(f, "{error}"),
            Self::Making(error) => write!(f, "a key or certificate could not be made: {error}"),
            Self::Unusable { serial, source } => write!(
                f,
                "the certificate {serial} was made, and does not have what it is for: {source}"
            ),
            _ => Ok(()),
        }
    }
}

impl error::Error for AuthorityError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::File { source, .. } => Some(source),
            Self::Files(error) => Some(error),
            Self::Making(error) => Some(error),
            Self::OtherRegister { source, .. }
            | Self::List { source, .. }
            | Self::Unusable { source, .. } => Some(source),
            _ => None,
        }
    }
}
