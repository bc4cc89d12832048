//! The files of an identity: what is missing, damaged, or open to others.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use datapipe_net::tls::{MachineIdentity, MachineIdentityError};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use tempfile::TempDir;

use super::authority::{Authority, Kind, load, write};

fn files() -> (Authority, TempDir) {
    let authority = Authority::new("identities");
    let files = authority.files(&authority.issue(Kind::Client, &["db1.example"]));
    (authority, files)
}

/// The error after `change` of the directory, which names the file.
fn error_after(named: &str, change: impl FnOnce(&Path)) -> MachineIdentityError {
    let (_, files) = files();
    load(&files).unwrap();
    change(files.path());
    let error = load(&files).unwrap_err();
    assert!(error.to_string().contains(named), "{error}");
    error
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn missing_files_are_named() {
    for name in ["own.pem", "own.key", "ca.pem"] {
        let error = error_after(name, |path| fs::remove_file(path.join(name)).unwrap());
        assert!(
            matches!(error, MachineIdentityError::Unreadable { .. }),
            "{error}"
        );
    }
}

#[test]
fn list_of_revoked_certificates_may_be_missing_and_not_lead_nowhere() {
    let error = error_after("crl.pem", |path| {
        assert!(!path.join("crl.pem").exists());
        symlink(path.join("moved.pem"), path.join("crl.pem")).unwrap();
    });
    assert!(
        matches!(error, MachineIdentityError::Unreadable { .. }),
        "{error}"
    );
}

#[test]
fn key_that_others_can_read_is_refused() {
    for mode in [0o640, 0o604, 0o644] {
        let error = error_after("own.key", |path| chmod(&path.join("own.key"), mode));
        assert!(
            matches!(error, MachineIdentityError::KeyReadable { .. }),
            "{error}"
        );
        assert!(error.to_string().contains("run chmod 600"), "{error}");
    }
}

#[test]
fn files_that_others_can_change_are_refused() {
    for name in ["own.pem", "own.key", "ca.pem"] {
        let error = error_after(name, |path| chmod(&path.join(name), 0o666));
        assert!(
            matches!(error, MachineIdentityError::Writable { .. }),
            "{error}"
        );
    }
    let error = error_after("crl.pem", |path| write(&path.join("crl.pem"), "", 0o666));
    assert!(
        matches!(error, MachineIdentityError::Writable { .. }),
        "{error}"
    );
    let error = error_after("own.pem", |path| chmod(path, 0o777));
    assert!(
        matches!(error, MachineIdentityError::Replaceable { .. }),
        "{error}"
    );
}

#[test]
fn files_of_another_content_are_refused() {
    for (name, text) in [
        ("own.pem", ""),
        ("own.key", "no key"),
        ("ca.pem", "-----BEGIN X-----\n-----END X-----\n"),
        ("crl.pem", ""),
    ] {
        let error = error_after(name, |path| write(&path.join(name), text, 0o600));
        assert!(
            matches!(error, MachineIdentityError::Empty { .. }),
            "{name}: {error}"
        );
    }
    for name in ["own.pem", "own.key", "ca.pem", "crl.pem"] {
        let text = "-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----\n";
        let error = error_after(name, |path| write(&path.join(name), text, 0o600));
        assert!(
            matches!(error, MachineIdentityError::NotPem { .. }),
            "{name}: {error}"
        );
    }
    let certificate = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let error = error_after("ca.pem", |path| {
        write(&path.join("ca.pem"), certificate, 0o600)
    });
    assert!(
        matches!(error, MachineIdentityError::Authority { .. }),
        "{error}"
    );
    let error = error_after("own.pem", |path| {
        write(&path.join("own.pem"), certificate, 0o600)
    });
    assert!(
        matches!(error, MachineIdentityError::Pair { .. }),
        "{error}"
    );
    let list = certificate.replace("CERTIFICATE", "X509 CRL");
    let error = error_after("crl.pem", |path| write(&path.join("crl.pem"), &list, 0o600));
    assert!(
        matches!(error, MachineIdentityError::Revoked { .. }),
        "{error}"
    );
}

#[test]
fn key_of_another_certificate_is_refused() {
    let (authority, files) = files();
    let other = authority.issue(Kind::Client, &["db2.example"]);
    write(
        &files.path().join("own.key"),
        &other.key.serialize_pem(),
        0o600,
    );
    let error = load(&files).unwrap_err();
    assert!(
        matches!(error, MachineIdentityError::Pair { .. }),
        "{error}"
    );
    assert!(error.to_string().contains("own.pem") && error.to_string().contains("own.key"));
}

#[test]
fn what_is_not_a_file_is_refused() {
    let error = error_after("ca.pem", |path| {
        fs::remove_file(path.join("ca.pem")).unwrap();
        mknodat(CWD, path.join("ca.pem"), FileType::Fifo, Mode::RUSR, 0).unwrap();
    });
    assert!(
        matches!(error, MachineIdentityError::NotAFile { .. }),
        "{error}"
    );
    let error = error_after("own.pem", |path| {
        let file = fs::File::options()
            .write(true)
            .open(path.join("own.pem"))
            .unwrap();
        file.set_len((1 << 20) + 1).unwrap();
    });
    assert!(
        matches!(error, MachineIdentityError::TooLong { .. }),
        "{error}"
    );
}

#[test]
fn links_are_followed_if_others_cannot_change_them() {
    let (_, files) = files();
    let links = tempfile::tempdir().unwrap();
    for name in ["own.pem", "own.key", "ca.pem"] {
        symlink(files.path().join(name), links.path().join(name)).unwrap();
    }
    load(&links).unwrap();
    chmod(links.path(), 0o777);
    let error = load(&links).unwrap_err();
    assert!(
        matches!(error, MachineIdentityError::Replaceable { .. }),
        "{error}"
    );
}

#[test]
fn identity_prints_no_key() {
    let (_, files) = files();
    let key = fs::read_to_string(files.path().join("own.key")).unwrap();
    let text = format!(
        "{:?}",
        MachineIdentity::load(&files.path().join("own.pem")).unwrap()
    );
    for line in key.lines().filter(|line| !line.starts_with('-')) {
        assert!(!text.contains(line));
    }
}
