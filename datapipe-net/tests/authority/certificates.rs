//! Certificates that an authority issues, as the machines judge them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use datapipe_net::authority::{AuthorityError, CertificatePurpose, Selection, Validity};
use datapipe_net::tls::{CertificateRefusal, HandshakeError};

use super::machines::{HOST, Site, assert_accepted, names, refusal, shake};

const CLIENT: CertificatePurpose = CertificatePurpose::Client;
const SERVER: CertificatePurpose = CertificatePurpose::Server;

fn days(days: u32) -> Validity {
    Validity::days(days).unwrap()
}

fn one(name: &str) -> Vec<String> {
    vec![name.to_owned()]
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn first_server_and_client_accept_each_other() {
    let site = Site::new();
    assert_accepted(&site.client(), &site.server(), HOST, "client.vault.example");
    let files = names(&site.authority());
    assert_eq!(site.names(), ["authority"]);
    assert_eq!(mode(&site.authority()), 0o700);
    for name in &files {
        let is_private = name.ends_with(".key") || name == "issued.json";
        let expected = if is_private { 0o600 } else { 0o644 };
        assert_eq!(mode(&site.authority().join(name)), expected, "{name}");
    }
    assert_eq!(files.len(), 8);
}

#[test]
fn further_machines_have_their_own_directories() {
    let site = Site::new();
    let mut authority = site.open();
    let (db1, other) = (site.path("db1"), site.path("other"));
    let issued = authority
        .issue(CLIENT, &one("DB1.example"), days(10), &db1)
        .unwrap();
    assert_eq!(issued.names, ["db1.example"]);
    let hosts = [one("other.example"), one("127.0.0.1")].concat();
    authority.issue(SERVER, &hosts, days(10), &other).unwrap();
    assert_eq!(
        names(&db1),
        ["ca.pem", "client.key", "client.pem", "crl.pem"]
    );
    assert_eq!(mode(&db1), 0o700);
    assert_accepted(&db1.join("client.pem"), &site.server(), HOST, "db1.example");
    for host in hosts {
        assert_accepted(
            &site.client(),
            &other.join("server.pem"),
            &host,
            "client.vault.example",
        );
    }
    assert_eq!(site.names(), ["authority", "db1", "other"]);
}

#[test]
fn revoked_certificates_are_refused_at_both_ends() {
    let site = Site::new();
    let mut authority = site.open();
    let db1 = site.path("db1");
    authority
        .issue(CLIENT, &one("db1.example"), days(10), &db1)
        .unwrap();
    let client = db1.join("client.pem");
    assert_accepted(&client, &site.server(), HOST, "db1.example");
    let revoked = authority
        .revoke(&Selection::Name("db1.example".to_owned()))
        .unwrap();
    assert_eq!((revoked.certificates.len(), revoked.new), (1, 1));
    let (_, theirs) = shake(&client, &site.server(), HOST);
    let refusal_of_client = refusal(theirs);
    assert!(
        matches!(refusal_of_client, CertificateRefusal::Revoked { .. }),
        "{refusal_of_client}"
    );
    assert_accepted(&site.client(), &site.server(), HOST, "client.vault.example");

    // A server, by a client that has the new list.
    let server = revoked_server(&site, authority);
    let (ours, theirs) = shake(&site.client(), &server, HOST);
    let refusal_of_server = refusal(ours);
    assert!(
        matches!(refusal_of_server, CertificateRefusal::Revoked { .. }),
        "{refusal_of_server}"
    );
    assert!(
        matches!(theirs, Err(HandshakeError::Alert(_))),
        "{theirs:?}"
    );
}

/// Issues a second server, revokes it by its serial number, and returns its certificate's path.
fn revoked_server(
    site: &Site,
    mut authority: datapipe_net::authority::PrivateAuthority,
) -> std::path::PathBuf {
    let second = site.path("second");
    let issued = authority
        .issue(SERVER, &one(HOST), days(10), &second)
        .unwrap();
    let server = second.join("server.pem");
    assert_accepted(&site.client(), &server, HOST, "client.vault.example");
    let revoked = authority.revoke(&Selection::Serial(issued.serial)).unwrap();
    assert_eq!(revoked.certificates[0].serial, issued.serial);
    // The first server has the same name and is not revoked.
    assert_accepted(&site.client(), &site.server(), HOST, "client.vault.example");
    server
}

#[test]
fn wrong_names_and_uses_are_refused_with_both_values() {
    let site = Site::new();
    let (ours, theirs) = shake(&site.client(), &site.server(), "other.example");
    let text = refusal(ours).to_string();
    assert!(
        text.starts_with("is needed for \"other.example\", and has the names "),
        "{text}"
    );
    assert!(text.contains(HOST), "{text}");
    assert!(
        matches!(theirs, Err(HandshakeError::Alert(_))),
        "{theirs:?}"
    );
    // A client's certificate as a server's, and the other way.
    let mut authority = site.open();
    let client = site.path("client");
    authority
        .issue(CLIENT, &one(HOST), days(10), &client)
        .unwrap();
    let (ours, _) = shake(&site.client(), &client.join("client.pem"), HOST);
    let text = refusal(ours).to_string();
    let expected = "is needed for server authentication, and is for client authentication";
    assert_eq!(text, expected);
    let (ours, _) = shake(&site.server(), &site.server(), HOST);
    let text = ours.unwrap_err().to_string();
    let expected = "is needed for client authentication, and is for server authentication";
    assert!(text.ends_with(expected), "{text}");
}

#[test]
fn expired_and_early_certificates_are_refused_with_both_times() {
    // 2001-01-01 and 2150-01-01.
    for (from, text) in [
        (
            978_307_200,
            "was valid until 2001-01-11T00:00:00Z, and the clock of this machine is at 2",
        ),
        (
            5_680_281_600,
            "is valid from 2150-01-01T00:00:00Z, and the clock of this machine is at 2",
        ),
    ] {
        let site = Site::valid(Validity::starting(from, 10).unwrap());
        let (ours, _) = shake(&site.client(), &site.server(), HOST);
        let refused = ours.unwrap_err().to_string();
        assert!(refused.contains(text), "{refused}");
        // A client that is valid finds it in the server's.
        let now = Site::new();
        fs::copy(
            site.authority().join("ca.pem"),
            now.authority().join("ca.pem"),
        )
        .unwrap();
        fs::remove_file(now.authority().join("crl.pem")).unwrap();
        let (ours, theirs) = shake(&now.client(), &site.server(), HOST);
        let refused = refusal(ours).to_string();
        assert!(refused.starts_with(text), "{refused}");
        assert!(
            matches!(theirs, Err(HandshakeError::Alert(_))),
            "{theirs:?}"
        );
    }
}

#[test]
fn machines_of_another_authority_are_refused() {
    let (site, other) = (Site::new(), Site::new());
    let (ours, theirs) = shake(&other.client(), &site.server(), HOST);
    let foreign = refusal(ours);
    assert!(
        matches!(foreign, CertificateRefusal::Foreign { .. }),
        "{foreign}"
    );
    assert!(
        matches!(theirs, Err(HandshakeError::Alert(_))),
        "{theirs:?}"
    );
}

#[test]
fn validity_ends_with_the_authority() {
    // 1 January 2010: the authority ends in 2030 and may not issue for 2027 to 2037.
    let site = Site::valid(Validity::starting(1_262_304_000, 10).unwrap());
    let mut authority = site.open();
    let to = site.path("db1");
    let asked = Validity::starting(1_798_761_600, 3653).unwrap();
    let error = authority
        .issue(CLIENT, &one("db1.example"), asked, &to)
        .unwrap_err();
    assert!(
        matches!(error, AuthorityError::BeyondAuthority { .. }),
        "{error}"
    );
    for value in ["2027-01-01", "2037-01-01", "2010-01-01", "2030-01-01"] {
        assert!(error.to_string().contains(value), "{value}: {error}");
    }
    assert_eq!(site.names(), ["authority"]);
}
