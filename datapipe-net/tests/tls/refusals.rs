//! Certificates and peers that are refused: what each end reports, with both values.

use datapipe_net::tls::{
    Alert, CertificateRefusal, Handshake, HandshakeError, MachineIdentity, TlsRecordError,
};
use rustls::{ClientConfig, HandshakeKind};

use super::authority::{Authority, Issued, Kind, load, write};
use super::peers::{End, Outcome, client_config, next_error, shake, sockets};

fn client(identity: &MachineIdentity) -> End {
    End::Library(Handshake::client(identity, "server.example").unwrap())
}

fn server(identity: &MachineIdentity) -> End {
    End::Library(Handshake::server(identity).unwrap())
}

fn outcomes(mut client: End, mut server: End) -> (Outcome, Outcome) {
    let (mut near, mut far) = sockets();
    shake(&mut client, &mut server, &mut near, &mut far)
}

/// Reason for which this end refuses the other's certificate.
fn refusal(outcome: Outcome) -> CertificateRefusal {
    match outcome {
        Err(HandshakeError::Refused(refusal)) => refusal,
        other => panic!("{other:?}"),
    }
}

fn alert(outcome: Outcome) -> u8 {
    match outcome {
        Err(HandshakeError::Alert(Alert(alert))) => alert,
        other => panic!("{other:?}"),
    }
}

/// Outcomes of a client's certificate: the server's refusal, and the alert that the client gets.
fn outcome_of_client(authority: &Authority, issued: Option<&Issued>) -> (CertificateRefusal, u8) {
    let identity = authority.identity(&authority.issue(Kind::Server, &["server.example"]));
    outcome_at(&identity, client_config(authority, issued))
}

/// Outcomes of a client of rustls, which presents what the library's own would not begin with.
fn outcome_at(identity: &MachineIdentity, config: ClientConfig) -> (CertificateRefusal, u8) {
    let (mut client, mut server) = (End::rustls(config), server(identity));
    let (mut near, mut far) = sockets();
    let (ours, theirs) = shake(&mut client, &mut server, &mut near, &mut far);
    ours.unwrap();
    let End::Rustls(mut client) = client else {
        panic!("a client of rustls");
    };
    // The server has refused after the client was done.
    assert!(client.read_tls(&mut near).unwrap() > 0);
    match client.process_new_packets() {
        Err(rustls::Error::AlertReceived(alert)) => (refusal(theirs), alert.into()),
        other => panic!("{other:?}"),
    }
}

/// Outcomes of a server's certificate: this end's refusal, and the alert that the server gets.
fn outcome_of_server(authority: &Authority, issued: &Issued) -> (CertificateRefusal, u8) {
    let client = client(&authority.identity(&authority.issue(Kind::Client, &["db1.example"])));
    let (ours, theirs) = outcomes(client, server(&authority.identity(issued)));
    (refusal(ours), alert(theirs))
}

/// The server has refused after the client was done: the client finds the alert in the records.
fn late_alert(client: End, mut server: End) -> (CertificateRefusal, TlsRecordError) {
    let (mut near, mut far) = sockets();
    let mut client = client;
    let (ours, theirs) = shake(&mut client, &mut server, &mut near, &mut far);
    ours.unwrap();
    let End::Library(client) = client else {
        panic!("a client of the library");
    };
    let (mut reader, _) = client.finish().unwrap().into_records();
    (refusal(theirs), next_error(&mut reader, &mut near))
}

#[test]
fn foreign_client_is_refused_and_finds_out() {
    let (ours, other) = (Authority::new("ours"), Authority::new("other"));
    let server = server(&ours.identity(&ours.issue(Kind::Server, &["server.example"])));
    let foreign = other.issue(Kind::Client, &["db1.example"]);
    let files = other.files(&foreign);
    // The client accepts the server; the server does not accept the client.
    write(&files.path().join("ca.pem"), &ours.pem(), 0o644);
    let (refusal, error) = late_alert(client(&load(&files).unwrap()), server);
    assert!(
        matches!(refusal, CertificateRefusal::Foreign { .. }),
        "{refusal}"
    );
    assert!(refusal.to_string().ends_with("ca.pem"), "{refusal}");
    assert_eq!(error, TlsRecordError::Alert(Alert(48)));
    assert!(error.to_string().contains("authority"), "{error}");
}

#[test]
fn revoked_client_is_refused_and_finds_out() {
    let authority = Authority::new("ours");
    let revoked = authority.issue(Kind::Client, &["db1.example"]);
    let good = authority.issue(Kind::Client, &["db2.example"]);
    let files = authority.files(&authority.issue(Kind::Server, &["server.example"]));
    write(
        &files.path().join("crl.pem"),
        &authority.revoke(&[&revoked]),
        0o644,
    );
    let identity = load(&files).unwrap();
    let (refusal, error) = late_alert(client(&authority.identity(&revoked)), server(&identity));
    assert!(
        matches!(refusal, CertificateRefusal::Revoked { .. }),
        "{refusal}"
    );
    assert!(refusal.to_string().ends_with("crl.pem"), "{refusal}");
    assert_eq!(error, TlsRecordError::Alert(Alert(44)));
    let (ours, theirs) = outcomes(client(&authority.identity(&good)), server(&identity));
    ours.and(theirs).unwrap();
}

#[test]
fn client_of_an_authority_without_list_is_refused() {
    let (ours, other) = (Authority::new("ours"), Authority::new("other"));
    let files = ours.files(&ours.issue(Kind::Server, &["server.example"]));
    write(
        &files.path().join("ca.pem"),
        &(ours.pem() + &other.pem()),
        0o644,
    );
    write(&files.path().join("crl.pem"), &ours.revoke(&[]), 0o644);
    let issued = other.issue(Kind::Client, &["db1.example"]);
    let config = client_config(&ours, Some(&issued));
    let (refusal, alert) = outcome_at(&load(&files).unwrap(), config);
    assert!(
        matches!(refusal, CertificateRefusal::NoList { .. }),
        "{refusal}"
    );
    assert_eq!(alert, 48);
}

#[test]
fn client_is_judged_again_by_newer_files() {
    let authority = Authority::new("ours");
    let issued = authority.issue(Kind::Client, &["db1.example"]);
    let files = authority.files(&authority.issue(Kind::Server, &["server.example"]));
    let identity = load(&files).unwrap();
    let (mut near, mut far) = sockets();
    let (mut near_end, mut far_end) = (client(&authority.identity(&issued)), server(&identity));
    let (ours, theirs) = shake(&mut near_end, &mut far_end, &mut near, &mut far);
    ours.and(theirs).unwrap();
    let End::Library(far_end) = far_end else {
        panic!("a server of the library");
    };
    let peer = far_end.finish().unwrap().peer;
    identity.judge_client(&peer).unwrap();
    write(
        &files.path().join("crl.pem"),
        &authority.revoke(&[&issued]),
        0o644,
    );
    let refusal = load(&files).unwrap().judge_client(&peer).unwrap_err();
    assert!(
        matches!(refusal, CertificateRefusal::Revoked { .. }),
        "{refusal}"
    );
}

#[test]
fn times_of_certificates_are_checked_on_both_ends() {
    let authority = Authority::new("ours");
    let cases = [
        (
            2001,
            2002,
            "was valid until 2002-01-01T00:00:00Z, and the clock of this machine is at 2",
        ),
        (
            2150,
            2160,
            "is valid from 2150-01-01T00:00:00Z, and the clock of this machine is at 2",
        ),
    ];
    for (from, to, text) in cases {
        let issued = authority.issue_between(Kind::Server, &["server.example"], from, to);
        let (refusal, alert) = outcome_of_server(&authority, &issued);
        assert!(refusal.to_string().starts_with(text), "{refusal}");
        assert_eq!(alert, 45);

        let issued = authority.issue_between(Kind::Client, &["db1.example"], from, to);
        let (refusal, alert) = outcome_of_client(&authority, Some(&issued));
        assert!(refusal.to_string().starts_with(text), "{refusal}");
        assert_eq!(alert, 45);
        // The client itself has the values, and the server's alert has not.
        let error = Handshake::client(&authority.identity(&issued), "server.example").unwrap_err();
        let text = format!("the certificate of this machine {text}");
        assert!(error.to_string().starts_with(&text), "{error}");
    }
}

#[test]
fn certificates_of_the_wrong_kind_are_refused() {
    let authority = Authority::new("ours");
    let (refusal, alert) = outcome_of_server(
        &authority,
        &authority.issue(Kind::Client, &["server.example"]),
    );
    assert_eq!(
        refusal.to_string(),
        "is needed for server authentication, and is for client authentication"
    );
    assert_eq!(alert, 43);
    let issued = authority.issue(Kind::Server, &["db1.example"]);
    let text = "is needed for client authentication, and is for server authentication";
    let (refusal, alert) = outcome_of_client(&authority, Some(&issued));
    assert_eq!(refusal.to_string(), text);
    assert_eq!(alert, 43);
    let error = Handshake::client(&authority.identity(&issued), "server.example").unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("the certificate of this machine {text}")
    );
}

#[test]
fn server_of_another_name_or_authority_is_refused() {
    let authority = Authority::new("ours");
    let issued = authority.issue(Kind::Server, &["other.example", "third.example"]);
    let (refusal, alert) = outcome_of_server(&authority, &issued);
    let text = refusal.to_string();
    assert!(
        text.starts_with("is needed for \"server.example\", and has the names "),
        "{text}"
    );
    assert!(
        text.contains("other.example") && text.contains("third.example"),
        "{text}"
    );
    assert_eq!(alert, 42);

    let other = Authority::new("other");
    let near = client(&authority.identity(&authority.issue(Kind::Client, &["db1.example"])));
    let far = server(&other.identity(&other.issue(Kind::Server, &["server.example"])));
    let (ours, theirs) = outcomes(near, far);
    let refusal = refusal_and_alert(ours, theirs, 48);
    assert!(
        matches!(refusal, CertificateRefusal::Foreign { .. }),
        "{refusal}"
    );
}

fn refusal_and_alert(ours: Outcome, theirs: Outcome, expected: u8) -> CertificateRefusal {
    assert_eq!(alert(theirs), expected);
    refusal(ours)
}

#[test]
fn revoked_server_is_refused() {
    let authority = Authority::new("ours");
    let issued = authority.issue(Kind::Server, &["server.example"]);
    let files = authority.files(&authority.issue(Kind::Client, &["db1.example"]));
    write(
        &files.path().join("crl.pem"),
        &authority.revoke(&[&issued]),
        0o644,
    );
    let near = client(&load(&files).unwrap());
    let (ours, theirs) = outcomes(near, server(&authority.identity(&issued)));
    let refusal = refusal_and_alert(ours, theirs, 44);
    assert!(
        matches!(refusal, CertificateRefusal::Revoked { .. }),
        "{refusal}"
    );
}

#[test]
fn clients_need_one_name() {
    let (authority, other) = (Authority::new("ours"), Authority::new("other"));
    for (names, text) in [
        (&[][..], "has the DNS names (none), and needs exactly one"),
        (
            &["192.0.2.1"],
            "has the DNS names (none), and needs exactly one",
        ),
        (
            &["a.example", "b.example"],
            "has the DNS names a.example, b.example, and",
        ),
        (
            &["*.db.example"],
            "has the DNS names *.db.example, and needs exactly one",
        ),
    ] {
        let issued = authority.issue(Kind::Client, names);
        let (refusal, alert) = outcome_of_client(&authority, Some(&issued));
        assert!(matches!(refusal, CertificateRefusal::Names(_)), "{refusal}");
        assert!(refusal.to_string().starts_with(text), "{refusal}");
        assert_eq!(alert, 46);
        // The own authority may be one that this machine does not accept, or has no list of.
        let without_list = authority.files(&issued);
        let list = other.revoke(&[]);
        write(&without_list.path().join("crl.pem"), &list, 0o644);
        let foreign = other.files(&other.issue(Kind::Client, names));
        write(&foreign.path().join("ca.pem"), &authority.pem(), 0o644);
        for files in [authority.files(&issued), without_list, foreign] {
            let identity = load(&files).unwrap();
            let error = Handshake::client(&identity, "server.example").unwrap_err();
            assert!(
                matches!(error, HandshakeError::Own(CertificateRefusal::Names(_))),
                "{error}"
            );
        }
    }
}

#[test]
fn client_without_certificate_is_refused() {
    let outcome = outcome_of_client(&Authority::new("ours"), None);
    assert_eq!(outcome, (CertificateRefusal::Missing, 116));
}

#[test]
fn peers_with_another_protocol_are_refused() {
    let authority = Authority::new("ours");
    let issued = authority.issue(Kind::Client, &["db1.example"]);
    let identity = authority.identity(&authority.issue(Kind::Server, &["server.example"]));
    let with = |protocols: &[&[u8]]| -> ClientConfig {
        let mut config = client_config(&authority, Some(&issued));
        config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        config
    };
    let (_, theirs) = outcomes(
        End::rustls(with(&[b"h2", b"datapipe/2"])),
        server(&identity),
    );
    assert!(
        matches!(theirs, Err(HandshakeError::Protocol)),
        "{theirs:?}"
    );

    // A client that names no protocol gets through the handshake of rustls.
    let (mut near, mut far) = sockets();
    let (mut near_end, mut far_end) = (End::rustls(with(&[])), server(&identity));
    let (_, theirs) = shake(&mut near_end, &mut far_end, &mut near, &mut far);
    theirs.unwrap();
    let End::Library(far_end) = far_end else {
        panic!("a server of the library");
    };
    let error = far_end.finish().unwrap_err();
    assert!(matches!(error, HandshakeError::Protocol), "{error}");
}

#[test]
fn client_of_rustls_is_served() {
    let authority = Authority::new("ours");
    let issued = authority.issue(Kind::Client, &["db1.example"]);
    let identity = authority.identity(&authority.issue(Kind::Server, &["server.example"]));
    let mut config = client_config(&authority, Some(&issued));
    // The client would resume and send early data, and each time gets a whole handshake.
    config.enable_early_data = true;
    for _ in 0..2 {
        let mut client = End::rustls(config.clone());
        let (mut near, mut far) = sockets();
        let mut server = server(&identity);
        let (ours, theirs) = shake(&mut client, &mut server, &mut near, &mut far);
        ours.and(theirs).unwrap();
        let End::Rustls(client) = client else {
            panic!("a client of rustls");
        };
        assert_eq!(client.handshake_kind(), Some(HandshakeKind::Full));
    }
}
