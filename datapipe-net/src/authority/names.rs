//! Names of machines in certificates.

use rustls::pki_types::{DnsName, ServerName};

use super::error::AuthorityError;
use super::register::CertificatePurpose;
use crate::limits::MAX_SERVER_NAMES;

/// Longest DNS name, in bytes.
const MAX_DNS_NAME: usize = 253;

/// Checks the names of a certificate, and returns them in the form in which they are compared: DNS
/// names in lower case without a dot at the end, addresses in their shortest form. A client has
/// exactly one DNS name; a server has DNS names and addresses.
pub(super) fn checked(
    purpose: CertificatePurpose,
    names: &[String],
) -> Result<Vec<String>, AuthorityError> {
    let most = match purpose {
        CertificatePurpose::Client => 1,
        CertificatePurpose::Server => MAX_SERVER_NAMES,
    };
    if !(1..=most).contains(&names.len()) {
        let found = names.len();
        return Err(AuthorityError::NumberOfNames {
            purpose,
            found,
            most,
        });
    }
    let mut checked: Vec<String> = Vec::new();
    for name in names {
        let canonical = canonical(purpose, name).ok_or_else(|| AuthorityError::Name {
            purpose,
            name: name.clone(),
        })?;
        if !checked.contains(&canonical) {
            checked.push(canonical);
        }
    }
    Ok(checked)
}

/// Name of the client that a new authority begins with: `client.HOST`, or `client` if the server
/// has only addresses.
pub(super) fn first_client(servers: &[String]) -> String {
    let host = servers.iter().find(|name| is_dns_name(name));
    match host {
        Some(host) => format!("client.{host}"),
        None => "client".to_owned(),
    }
}

fn canonical(purpose: CertificatePurpose, name: &str) -> Option<String> {
    let lower = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    if is_dns_name(&lower) {
        return Some(lower);
    }
    match (purpose, ServerName::try_from(name)) {
        (CertificatePurpose::Server, Ok(name @ ServerName::IpAddress(_))) => {
            Some(name.to_str().into_owned())
        }
        _ => None,
    }
}

fn is_dns_name(name: &str) -> bool {
    name.len() <= MAX_DNS_NAME && !name.ends_with('.') && DnsName::try_from(name).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(purpose: CertificatePurpose, names: &[&str]) -> Result<Vec<String>, AuthorityError> {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        checked(purpose, &names)
    }

    #[test]
    fn names_are_brought_into_one_form() {
        let client = check(CertificatePurpose::Client, &["DB1.Example."]).unwrap();
        assert_eq!(client, ["db1.example"]);
        let server = ["Vault.Example", "vault.example", "192.0.2.1", "0::1"];
        let server = check(CertificatePurpose::Server, &server).unwrap();
        assert_eq!(server, ["vault.example", "192.0.2.1", "::1"]);
    }

    #[test]
    fn names_that_identify_no_machine_are_refused() {
        let long = ["a"; 127].join(".") + ".a";
        for name in [
            "",
            ".",
            "..",
            "a..b",
            "*.example",
            "a/b",
            "../a",
            "a b",
            "a\n",
            "-",
            "192.0.2.1",
            "::1",
            "ä.example",
            &long,
        ] {
            let error = check(CertificatePurpose::Client, &[name]).unwrap_err();
            assert!(
                matches!(error, AuthorityError::Name { .. }),
                "{name:?}: {error}"
            );
        }
        for names in [&[][..], &["a", "b"]] {
            let error = check(CertificatePurpose::Client, names).unwrap_err();
            assert!(
                matches!(error, AuthorityError::NumberOfNames { .. }),
                "{error}"
            );
        }
    }

    #[test]
    fn first_client_has_a_name_of_its_own() {
        let names =
            |names: &[&str]| -> Vec<String> { names.iter().map(|&name| name.into()).collect() };
        assert_eq!(first_client(&names(&["::1", "vault"])), "client.vault");
        assert_eq!(first_client(&names(&["::1"])), "client");
    }
}
