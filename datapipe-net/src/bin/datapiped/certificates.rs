//! The commands `init`, `issue`, `revoke` and `issued`.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use datapipe::crypto::prevent_core_dumps;
use datapipe_net::authority::{
    CertificatePurpose, InitRequest, IssuedCertificate, PrivateAuthority, Selection, Validity,
};
use datapipe_net::show::{certificates_table, date};

use crate::arguments::{InitArgs, IssueArgs, RevokeArgs};
use crate::failure::Failure;
use crate::output::{columns, print};

/// Makes an authority with its first certificates.
pub(crate) fn init(arguments: &InitArgs) -> Result<(), Failure> {
    prevent_core_dumps()?;
    let directory = arguments.directory.display();
    let request = InitRequest {
        server: arguments.names.clone(),
        client: arguments.client.clone(),
        validity: Validity::days(arguments.validity.days)?,
    };
    let certificates = PrivateAuthority::init(&arguments.directory, &request)?;
    let mut text = String::new();
    for certificate in &certificates {
        text += &issued_text(certificate, &arguments.directory);
    }
    text += &format!(
        "The client needs client.pem, client.key, ca.pem and crl.pem, in a directory of its own.\n\
         {directory}/ca.key makes certificates that all these machines accept: keep it, and a copy \
         of {directory}/issued.json, on a machine that others do not reach.\n"
    );
    print(&text)
}

/// Issues a certificate.
pub(crate) fn issue(arguments: &IssueArgs) -> Result<(), Failure> {
    prevent_core_dumps()?;
    let directory = &arguments.authority.authority;
    let purpose = match arguments.server {
        true => CertificatePurpose::Server,
        false => CertificatePurpose::Client,
    };
    let validity = Validity::days(arguments.validity.days)?;
    let mut authority = PrivateAuthority::open(directory, arguments.key.key.as_deref())?;
    let to = match &arguments.to {
        Some(to) => to.clone(),
        // Not the path of a file elsewhere: a name with a slash is refused before it is used.
        None => directory.join(arguments.names[0].to_ascii_lowercase()),
    };
    let certificate = authority.issue(purpose, &arguments.names, validity, &to)?;
    let text = issued_text(&certificate, &to);
    print(&format!(
        "{text}Move the directory {} to that machine.\n",
        to.display()
    ))
}

/// Revokes certificates.
pub(crate) fn revoke(arguments: RevokeArgs) -> Result<(), Failure> {
    prevent_core_dumps()?;
    let directory = &arguments.authority.authority;
    let selection = match (arguments.serial, arguments.name) {
        (Some(serial), _) => Selection::Serial(serial),
        (None, name) => Selection::Name(name.unwrap_or_default()),
    };
    let mut authority = PrivateAuthority::open(directory, arguments.key.key.as_deref())?;
    let revocation = authority.revoke(&selection)?;
    let mut text = String::new();
    for certificate in &revocation.certificates {
        text += &format!(
            "{} {} ({}) is revoked since {}\n",
            certificate.purpose,
            certificate.names.join(" "),
            certificate.serial,
            date(certificate.revoked.unwrap_or_default())
        );
    }
    text += &match revocation.new {
        0 => "They were revoked before; the list has them.\n".to_owned(),
        _ => format!(
            "Copy {}/crl.pem to all machines that may meet the revoked ones.\n",
            directory.display()
        ),
    };
    print(&text)
}

/// Lists the certificates of an authority.
pub(crate) fn issued(directory: &Path, json: bool) -> Result<(), Failure> {
    let certificates = PrivateAuthority::issued(directory)?;
    if json {
        let object = serde_json::json!({ "certificates": certificates });
        return print(&format!("{object}\n"));
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.map_or(0, |since| since.as_secs());
    print(&certificates_table(&certificates, now, columns()))
}

/// Line about a certificate in a directory.
fn issued_text(certificate: &IssuedCertificate, directory: &Path) -> String {
    format!(
        "{}/{purpose}.pem: {purpose} {}, valid until {}, serial number {}\n",
        directory.display(),
        certificate.names.join(" "),
        date(certificate.not_after),
        certificate.serial,
        purpose = certificate.purpose
    )
}
