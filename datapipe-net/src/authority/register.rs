//! The register of an authority: the certificates that it has issued, and which of them it has
//! revoked. It is a JSON file, so that it can be read without this program.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::error::AuthorityError;
use crate::limits::MAX_REGISTER_FILE;

/// Version of the file's format.
const FORMAT: u32 = 1;

/// Last time that a certificate can have, in seconds since 1970: the end of the year 9999.
const MAX_TIME: u64 = 253_402_300_799;

/// Greatest number of a list.
const MAX_LIST_NUMBER: u64 = i64::MAX as u64;

/// Use of a certificate.
///
/// Exhaustive: a certificate of TLS has no other use here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CertificatePurpose {
    /// The machine is dialled.
    Server,
    /// The machine dials.
    Client,
}

/// Serial number of a certificate: 16 random bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CertificateSerial([u8; 16]);

/// Certificate that an authority has issued.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct IssuedCertificate {
    /// Names of the machine: of a client one DNS name; of a server DNS names and addresses.
    pub names: Vec<String>,
    /// Use of the certificate.
    pub purpose: CertificatePurpose,
    /// Serial number.
    pub serial: CertificateSerial,
    /// Beginning of the validity, in seconds since 1970.
    pub not_before: u64,
    /// End of the validity, in seconds since 1970.
    pub not_after: u64,
    /// Time at which it was revoked, in seconds since 1970.
    pub revoked: Option<u64>,
}

/// The certificates that a command is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selection {
    /// All certificates with a name.
    Name(String),
    /// The certificate with a serial number.
    Serial(CertificateSerial),
}

/// The register.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Register {
    format: u32,
    /// Name of the authority in its own certificate.
    pub(super) authority: String,
    pub(super) not_before: u64,
    pub(super) not_after: u64,
    /// Number and time of the last list of revoked certificates.
    pub(super) list: ListVersion,
    pub(super) certificates: Vec<IssuedCertificate>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListVersion {
    pub(super) number: u64,
    pub(super) time: u64,
}

impl CertificateSerial {
    pub(super) fn random() -> Self {
        let mut bytes = [0; 16];
        // It cannot fail: AWS-LC ends the process if the kernel gives no random bytes.
        aws_lc_rs::rand::fill(&mut bytes).expect("random bytes");
        // The first bit says that the number is positive; the second, that none of its bytes is
        // left out at the front.
        bytes[0] = bytes[0] & 0x7f | 0x40;
        Self(bytes)
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl Register {
    pub(super) fn new(authority: String, not_before: u64, not_after: u64, now: u64) -> Self {
        Self {
            format: FORMAT,
            authority,
            not_before,
            not_after,
            list: ListVersion {
                number: 1,
                time: now,
            },
            certificates: Vec::new(),
        }
    }

    /// Reads a register; the error is the mistake in it.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, String> {
        let register: Self = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        if register.format != FORMAT {
            return Err(format!(
                "its format is {}, and this program knows {FORMAT}: use a newer version",
                register.format
            ));
        }
        if register
            .certificates
            .iter()
            .any(|known| known.names.is_empty())
        {
            return Err("a certificate in it has no names".to_owned());
        }
        let number = register.list.number;
        if !(1..MAX_LIST_NUMBER).contains(&number) {
            return Err(format!(
                "its list has the number {number}, and numbers are 1 to {MAX_LIST_NUMBER}"
            ));
        }
        let of_certificate = |certificate: &IssuedCertificate| {
            [certificate.not_before, certificate.not_after]
                .into_iter()
                .chain(certificate.revoked)
                .max()
        };
        let times = register.certificates.iter().filter_map(of_certificate);
        let own = [register.not_before, register.not_after, register.list.time];
        match times.chain(own).max().filter(|&last| last > MAX_TIME) {
            Some(time) => Err(format!(
                "a time in it is {time}, and the last is {MAX_TIME}"
            )),
            None => Ok(register),
        }
    }

    /// Returns the text of the register.
    pub(super) fn encode(&self) -> Result<Vec<u8>, AuthorityError> {
        let mut text =
            serde_json::to_vec_pretty(self).expect("a register has only texts and numbers");
        text.push(b'\n');
        match text.len() as u64 <= MAX_REGISTER_FILE {
            true => Ok(text),
            false => Err(AuthorityError::Full),
        }
    }

    /// Marks the selected certificates as revoked at `now`, and counts the list up if that changes
    /// it. Returns the certificates, and the number of those that were not revoked before, or
    /// nothing if there are none.
    pub(super) fn revoke(
        &mut self,
        selection: &Selection,
        now: u64,
    ) -> Option<(Vec<IssuedCertificate>, usize)> {
        // The clock may have been set back; lists do not go back.
        let time = now.max(self.list.time);
        let (mut found, mut new) = (Vec::new(), 0);
        for certificate in &mut self.certificates {
            if !selection.has(certificate) {
                continue;
            }
            if certificate.revoked.is_none() {
                certificate.revoked = Some(time);
                new += 1;
            }
            found.push(certificate.clone());
        }
        if new > 0 {
            self.list = ListVersion {
                number: self.list.number + 1,
                time,
            };
        }
        (!found.is_empty()).then_some((found, new))
    }

    /// True if the certificate with this serial number is revoked.
    pub(super) fn has_revoked(&self, serial: &[u8]) -> bool {
        let mut certificates = self.certificates.iter();
        certificates.any(|known| known.serial.bytes() == serial && known.revoked.is_some())
    }
}

impl Selection {
    fn has(&self, certificate: &IssuedCertificate) -> bool {
        match self {
            Self::Name(name) => {
                let name = name.strip_suffix('.').unwrap_or(name);
                let mut names = certificate.names.iter();
                names.any(|known| known.eq_ignore_ascii_case(name))
            }
            Self::Serial(serial) => *serial == certificate.serial,
        }
    }
}

impl TryFrom<String> for CertificateSerial {
    type Error = String;

    /// Reads a serial number as it is printed: 32 hexadecimal digits.
    fn try_from(text: String) -> Result<Self, String> {
        let invalid = || format!("a serial number has 32 hexadecimal digits, and {text:?} has not");
        if text.len() != 32 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(invalid());
        }
        let number = u128::from_str_radix(&text, 16).map_err(|_| invalid())?;
        Ok(Self(std::array::from_fn(|index| {
            (number >> (120 - 8 * index)) as u8
        })))
    }
}

impl From<CertificateSerial> for String {
    fn from(serial: CertificateSerial) -> Self {
        serial.to_string()
    }
}

impl fmt::Display for CertificateSerial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Display for CertificatePurpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Server => "server",
            Self::Client => "client",
        })
    }
}

impl fmt::Display for Selection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => write!(f, "the name {name:?}"),
            Self::Serial(serial) => write!(f, "the serial number {serial}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn register(names: &[&str]) -> Register {
        let mut register = Register::new("authority".to_owned(), 0, 1000, 5);
        register.certificates = names
            .iter()
            .map(|&name| IssuedCertificate {
                names: vec![name.to_owned()],
                purpose: CertificatePurpose::Client,
                serial: CertificateSerial::random(),
                not_before: 0,
                not_after: 100,
                revoked: None,
            })
            .collect();
        register
    }

    #[test]
    fn register_is_read_as_it_was_written() {
        let mut register = register(&["a.example", "b.example"]);
        register.revoke(&Selection::Name("a.example".to_owned()), 7);
        let text = register.encode().unwrap();
        assert_eq!(Register::decode(&text), Ok(register));
    }

    #[test]
    fn register_with_mistakes_is_refused() {
        let text = String::from_utf8(register(&["a.example"]).encode().unwrap()).unwrap();
        for (from, to, expected) in [
            ("\"format\": 1", "\"format\": 2", "its format is 2"),
            (
                "\"not_after\": 1000",
                "\"not_after\": 253402300800",
                "253402300800",
            ),
            (
                "\"not_after\": 100,",
                "\"not_after\": 18446744073709551615,",
                "18446744073709551615",
            ),
            ("\"number\": 1", "\"number\": 0", "the number 0"),
            ("\"a.example\"", "", "no names"),
            ("\"purpose\": \"client\"", "\"purpose\": \"both\"", "both"),
            ("\"serial\": \"", "\"serial\": \"0", "32 hexadecimal digits"),
            ("\"number\": 1", "\"number\": 1, \"other\": 1", "other"),
            ("  ]\n}\n", "  ]\n", "EOF"),
        ] {
            let changed = text.replacen(from, to, 1);
            assert_ne!(changed, text, "{from}");
            let error = Register::decode(changed.as_bytes()).unwrap_err();
            assert!(error.contains(expected), "{to}: {error}");
        }
    }

    #[test]
    fn revoking_again_changes_nothing() {
        let mut register = register(&["a.example", "b.example", "a.example"]);
        let name = Selection::Name("A.example.".to_owned());
        let (found, new) = register.revoke(&name, 7).unwrap();
        assert_eq!((found.len(), new), (2, 2));
        assert_eq!(register.list, ListVersion { number: 2, time: 7 });
        let before = register.clone();
        assert_eq!(register.revoke(&name, 9), Some((found.clone(), 0)));
        assert_eq!(register, before);
        assert!(register.has_revoked(found[0].serial.bytes()));
        assert!(!register.has_revoked(register.certificates[1].serial.bytes()));
        assert_eq!(register.revoke(&Selection::Name("c".to_owned()), 9), None);
    }

    #[test]
    fn lists_do_not_go_back_with_the_clock() {
        let mut register = register(&["a.example"]);
        let serial = Selection::Serial(register.certificates[0].serial);
        register.revoke(&serial, 3).unwrap();
        assert_eq!(register.list, ListVersion { number: 2, time: 5 });
    }

    #[test]
    fn serial_numbers_are_printed_and_read() {
        let serial = CertificateSerial::random();
        assert!((0x40..0x80).contains(&serial.bytes()[0]));
        assert_eq!(CertificateSerial::try_from(serial.to_string()), Ok(serial));
        for text in ["", "0", "+1234567890123456789012345678901", &"g".repeat(32)] {
            assert!(
                CertificateSerial::try_from(text.to_owned()).is_err(),
                "{text}"
            );
        }
    }
}
