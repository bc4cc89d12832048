//! The file of revoked certificates: the own list, and those of other authorities, which stay.

use std::path::Path;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer};
use webpki::{BorrowedCertRevocationList, CertRevocationList, anchor_from_trusted_cert};

use super::error::AuthorityError;
use super::register::Register;

const BEGIN: &str = "-----BEGIN X509 CRL-----";
const END: &str = "-----END X509 CRL-----";

/// Lists in a file.
pub(super) struct Lists<'a> {
    /// The lists of the authority itself, which should be one.
    own: Vec<CertificateRevocationListDer<'static>>,
    /// Texts of the lists of other authorities.
    others: Vec<&'a str>,
}

impl<'a> Lists<'a> {
    /// Reads the file `path`, whose content is `text`, for the authority with this certificate.
    pub(super) fn read(
        path: &Path,
        text: &'a str,
        authority: &CertificateDer<'_>,
    ) -> Result<Self, AuthorityError> {
        let failed = |source| AuthorityError::List {
            path: path.to_owned(),
            source,
        };
        let subject = anchor_from_trusted_cert(authority).map_err(failed)?.subject;
        let (mut own, mut others) = (Vec::new(), Vec::new());
        for section in sections(text) {
            let list = CertificateRevocationListDer::from_pem_slice(section.as_bytes())
                .map_err(|_| failed(webpki::Error::BadDer))?;
            let parsed = BorrowedCertRevocationList::from_der(&list).map_err(failed)?;
            if CertRevocationList::from(parsed).issuer() == subject.as_ref() {
                own.push(list);
            } else {
                others.push(section);
            }
        }
        Ok(Self { own, others })
    }

    /// Checks that the register has revoked what the file revokes. An older register, from a
    /// backup, would make a list by which revoked certificates are accepted again.
    pub(super) fn check(
        &self,
        path: &Path,
        register: &Register,
        register_path: &Path,
    ) -> Result<(), AuthorityError> {
        let failed = |source| AuthorityError::List {
            path: path.to_owned(),
            source,
        };
        for list in &self.own {
            let parsed = BorrowedCertRevocationList::from_der(list).map_err(failed)?;
            for revoked in &parsed {
                let serial = revoked.map_err(failed)?.serial_number;
                if !register.has_revoked(serial) {
                    return Err(AuthorityError::Diverged {
                        list: path.to_owned(),
                        register: register_path.to_owned(),
                        serial: serial.iter().map(|byte| format!("{byte:02x}")).collect(),
                    });
                }
            }
        }
        Ok(())
    }

    /// True if the own list in the file is this one.
    pub(super) fn has(&self, list: &CertificateRevocationListDer<'_>) -> bool {
        self.own.len() == 1 && self.own[0] == *list
    }

    /// Text of a file with `own` as the own list.
    pub(super) fn with(&self, own: &str) -> String {
        let mut text = own.to_owned();
        for other in &self.others {
            if !text.ends_with('\n') {
                text.push('\n');
            }
            text.push_str(other);
        }
        text.push('\n');
        text
    }
}

/// The sections of a text that are lists, each from its first line to its last. A section without
/// an end reaches to the end of the text.
fn sections(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let section = &rest[rest.find(BEGIN)?..];
        let end = section.find(END).map_or(section.len(), |at| at + END.len());
        let (section, after) = section.split_at(end);
        rest = after;
        Some(section)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_are_found_between_other_text() {
        let list = format!("{BEGIN}\nAAAA\n{END}");
        let text = format!("first\n{list}\nbetween\n{list}\r\n{BEGIN}\ncut");
        let found: Vec<_> = sections(&text).collect();
        assert_eq!(found, [&*list, &list, &format!("{BEGIN}\ncut")]);
        assert_eq!(sections("nothing").count(), 0);
    }
}
