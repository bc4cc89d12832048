//! Directories of authorities whose files contradict each other, and places that are taken.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use datapipe_net::authority::{
    AuthorityError, CertificatePurpose, PrivateAuthority, Selection, Validity,
};

use super::machines::{HOST, Site, assert_accepted, names, request, shake};

fn init(path: &Path) -> Result<(), AuthorityError> {
    PrivateAuthority::init(path, &request(Validity::days(30).unwrap())).map(|_| ())
}

fn name(name: &str) -> Selection {
    Selection::Name(name.to_owned())
}

#[test]
fn nothing_is_replaced_but_an_empty_directory() {
    let site = Site::empty();
    let (file, full, link, empty) = (
        site.path("file"),
        site.path("full"),
        site.path("link"),
        site.path("empty"),
    );
    fs::write(&file, "mine").unwrap();
    fs::create_dir(&full).unwrap();
    fs::write(full.join("file"), "mine").unwrap();
    fs::create_dir(&empty).unwrap();
    symlink(&empty, &link).unwrap();
    for path in [&file, &full, &link] {
        let error = init(path).unwrap_err();
        assert!(matches!(error, AuthorityError::Exists { .. }), "{error}");
        let name = path.file_name().unwrap().to_str().unwrap();
        assert!(error.to_string().contains(name), "{error}");
    }
    assert_eq!(fs::read_to_string(&file).unwrap(), "mine");
    assert_eq!(names(&full), ["file"]);
    assert_eq!(names(&empty), Vec::<String>::new());
    init(&empty).unwrap();
    assert!(empty.join("server.pem").exists());
    assert_eq!(site.names(), ["empty", "file", "full", "link"]);
}

#[test]
fn place_of_an_issued_certificate_is_not_replaced() {
    let site = Site::new();
    let before = names(&site.authority());
    let mut authority = site.open();
    let names_ = ["server.pem".to_owned()];
    // A name of a machine can be that of a file.
    let days = Validity::days(1).unwrap();
    let to = site.server();
    let error = authority
        .issue(CertificatePurpose::Client, &names_, days, &to)
        .unwrap_err();
    assert!(matches!(error, AuthorityError::Exists { .. }), "{error}");
    assert_eq!(names(&site.authority()), before);
    assert_eq!(
        PrivateAuthority::issued(&site.authority()).unwrap().len(),
        2
    );
}

#[test]
fn places_that_others_can_change_are_refused() {
    let site = Site::empty();
    let open = site.path("open");
    fs::create_dir(&open).unwrap();
    fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).unwrap();
    let error = init(&open.join("authority")).unwrap_err();
    assert!(
        matches!(error, AuthorityError::Replaceable { .. }),
        "{error}"
    );
    let error = init(&site.path("missing/authority")).unwrap_err();
    assert!(matches!(error, AuthorityError::NoParent { .. }), "{error}");
    for path in ["/", ".."] {
        let error = init(Path::new(path)).unwrap_err();
        assert!(
            matches!(error, AuthorityError::Unnamed { .. }),
            "{path}: {error}"
        );
    }
    assert_eq!(names(&open), Vec::<String>::new());
}

/// A directory with the name of the one in which files are prepared is used if it can only be what
/// an interrupted command has left.
#[test]
fn files_of_others_are_not_taken_for_leftovers() {
    let site = Site::empty();
    let draft = site.path(".authority.new");
    let private = fs::Permissions::from_mode(0o700);
    fs::create_dir(&draft).unwrap();
    fs::set_permissions(&draft, private.clone()).unwrap();
    fs::write(draft.join("letter"), "mine").unwrap();
    let refused = || {
        let error = init(&site.authority()).unwrap_err();
        assert!(matches!(error, AuthorityError::Leftover { .. }), "{error}");
        assert!(error.to_string().contains(".authority.new"), "{error}");
        assert!(!site.authority().exists());
    };
    refused();
    assert_eq!(fs::read_to_string(draft.join("letter")).unwrap(), "mine");
    fs::remove_dir_all(&draft).unwrap();
    fs::create_dir(&draft).unwrap();
    fs::set_permissions(&draft, fs::Permissions::from_mode(0o755)).unwrap();
    refused();
    fs::remove_dir(&draft).unwrap();
    fs::create_dir(site.path("elsewhere")).unwrap();
    symlink(site.path("elsewhere"), &draft).unwrap();
    refused();
    fs::remove_file(&draft).unwrap();
    fs::create_dir(&draft).unwrap();
    fs::set_permissions(&draft, private).unwrap();
    fs::write(draft.join("ca.key"), "half a k").unwrap();
    init(&site.authority()).unwrap();
    assert!(!draft.exists());
    assert_accepted(&site.client(), &site.server(), HOST, "client.vault.example");
}

/// Error of opening after `change`, which names the file.
fn error_after(named: &str, change: impl FnOnce(&Path)) -> AuthorityError {
    let site = Site::new();
    change(&site.authority());
    let error = PrivateAuthority::open(&site.authority(), None).unwrap_err();
    assert!(error.to_string().contains(named), "{error}");
    error
}

#[test]
fn files_that_are_missing_or_contradict_are_named() {
    let error = error_after("--key", |path| {
        fs::remove_file(path.join("ca.key")).unwrap()
    });
    assert!(matches!(error, AuthorityError::NoKey { .. }), "{error}");
    let error = error_after("issued.json", |path| {
        fs::remove_file(path.join("issued.json")).unwrap()
    });
    assert!(
        matches!(error, AuthorityError::NotAnAuthority { .. }),
        "{error}"
    );
    let error = error_after("authority", |path| fs::remove_dir_all(path).unwrap());
    assert!(
        matches!(error, AuthorityError::NotAnAuthority { .. }),
        "{error}"
    );
    let error = error_after("ca.pem", |path| {
        fs::remove_file(path.join("ca.pem")).unwrap()
    });
    assert!(matches!(error, AuthorityError::Files(_)), "{error}");
    let error = error_after("issued.json", |path| {
        let text = fs::read_to_string(path.join("issued.json")).unwrap();
        fs::write(path.join("issued.json"), &text[..text.len() / 2]).unwrap();
    });
    assert!(matches!(error, AuthorityError::Register { .. }), "{error}");
    let error = error_after("chmod 600", |path| {
        let mode = fs::Permissions::from_mode(0o640);
        fs::set_permissions(path.join("ca.key"), mode).unwrap();
    });
    assert!(matches!(error, AuthorityError::Files(_)), "{error}");
    let error = error_after("crl.pem", |path| {
        let text = "-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n";
        fs::write(path.join("crl.pem"), text).unwrap();
    });
    assert!(matches!(error, AuthorityError::List { .. }), "{error}");
    let other = Site::new();
    let copy = |name: &'static str| {
        let from = other.authority().join(name);
        move |path: &Path| assert!(fs::copy(&from, path.join(name)).unwrap() > 0)
    };
    let error = error_after("ca.key", copy("ca.key"));
    assert!(matches!(error, AuthorityError::OtherKey { .. }), "{error}");
    let error = error_after("issued.json", copy("issued.json"));
    assert!(
        matches!(error, AuthorityError::OtherRegister { .. }),
        "{error}"
    );
}

#[test]
fn key_can_be_elsewhere() {
    let site = Site::new();
    let key = site.path("kept.key");
    fs::rename(site.authority().join("ca.key"), &key).unwrap();
    let mut authority = PrivateAuthority::open(&site.authority(), Some(&key)).unwrap();
    authority.revoke(&name("client.vault.example")).unwrap();
}

#[test]
fn list_that_is_missing_or_old_is_written_anew() {
    let site = Site::new();
    let list = site.authority().join("crl.pem");
    let empty = fs::read(&list).unwrap();
    site.open().revoke(&name("client.vault.example")).unwrap();
    let text = fs::read(&list).unwrap();
    assert_ne!(text, empty);
    // As if the command had been interrupted before it wrote the list.
    fs::write(&list, &empty).unwrap();
    drop(site.open());
    assert_eq!(fs::read(&list).unwrap(), text);
    fs::remove_file(&list).unwrap();
    let again = site.open().revoke(&name("client.vault.example")).unwrap();
    assert_eq!((again.certificates.len(), again.new), (1, 0));
    assert_eq!(fs::read(&list).unwrap(), text);
}

/// A register from a backup does not know what was revoked since. A list that is made from it would
/// let a stolen certificate in again.
#[test]
fn register_that_is_older_than_the_list_is_refused() {
    let site = Site::new();
    let register = site.authority().join("issued.json");
    let old = fs::read(&register).unwrap();
    site.open().revoke(&name("client.vault.example")).unwrap();
    fs::write(&register, &old).unwrap();
    let list = fs::read(site.authority().join("crl.pem")).unwrap();
    let error = PrivateAuthority::open(&site.authority(), None).unwrap_err();
    assert!(matches!(error, AuthorityError::Diverged { .. }), "{error}");
    assert!(error.to_string().contains("crl.pem"), "{error}");
    assert_eq!(fs::read(site.authority().join("crl.pem")).unwrap(), list);
    assert!(shake(&site.client(), &site.server(), HOST).1.is_err());
}

#[test]
fn lists_of_other_authorities_stay() {
    let (site, other) = (Site::new(), Site::new());
    other.open().revoke(&name("client.vault.example")).unwrap();
    let both = |name: &str| {
        let path = site.authority().join(name);
        let texts = [&path, &other.authority().join(name)].map(|path| fs::read(path).unwrap());
        fs::write(path, texts.concat()).unwrap();
    };
    both("ca.pem");
    both("crl.pem");
    assert!(shake(&other.client(), &site.server(), HOST).1.is_err());
    site.open().revoke(&name(HOST)).unwrap();
    let list = fs::read_to_string(site.authority().join("crl.pem")).unwrap();
    assert_eq!(list.matches("BEGIN X509 CRL").count(), 2);
    assert!(shake(&other.client(), &site.server(), HOST).1.is_err());
}

#[test]
fn unknown_certificates_cannot_be_revoked() {
    let site = Site::new();
    let before = fs::read(site.authority().join("crl.pem")).unwrap();
    let error = site.open().revoke(&name("db9.example")).unwrap_err();
    assert!(matches!(error, AuthorityError::NotIssued { .. }), "{error}");
    let text = error.to_string();
    assert!(
        text.contains("db9.example") && text.contains("client.vault.example"),
        "{text}"
    );
    assert_eq!(fs::read(site.authority().join("crl.pem")).unwrap(), before);
}
