//! Directories that exist at the destination: a restore reports that they keep their permissions.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use crate::fixture::{Fixture, failed, ok};

fn set_mode(fixture: &Fixture, path: &str, mode: u32) {
    fs::set_permissions(fixture.path(path), Permissions::from_mode(mode)).unwrap();
}

fn mode(fixture: &Fixture, path: &str) -> u32 {
    fs::metadata(fixture.path(path)).unwrap().mode() & 0o7777
}

/// An archive of `data/private/file`, both directories with mode 700, and a destination that has
/// both with mode 777.
fn with_existing() -> Fixture {
    let fixture = Fixture::new();
    fs::create_dir(fixture.path("src/data/private")).unwrap();
    fs::write(fixture.path("src/data/private/file"), "secret").unwrap();
    set_mode(&fixture, "src/data/private", 0o700);
    set_mode(&fixture, "src/data", 0o700);
    ok(&fixture.back_up(&["--quiet", "src/data", "tape"]));
    fs::create_dir_all(fixture.path("out/data/private")).unwrap();
    set_mode(&fixture, "out/data", 0o777);
    set_mode(&fixture, "out/data/private", 0o777);
    fixture
}

/// A directory was restored with exit 0 and kept its wide permissions.
#[test]
fn existing_directory_that_keeps_its_mode_is_named() {
    let fixture = with_existing();
    let text = failed(&fixture.restore(&["tape", "out"]), 3);
    for path in ["data", "data/private"] {
        let named = format!("{path}\": already exists: the directory keeps");
        let plain = format!("{path}: already exists: the directory keeps");
        assert!(text.contains(&named) || text.contains(&plain), "{text}");
        assert_eq!(mode(&fixture, &format!("out/{path}")), 0o777);
    }
    assert_eq!(
        fs::read(fixture.path("out/data/private/file")).unwrap(),
        b"secret"
    );
}

#[test]
fn existing_directory_gets_its_mode_if_it_may_be_overwritten() {
    let fixture = with_existing();
    ok(&fixture.restore(&["--quiet", "--overwrite", "tape", "out"]));
    fixture.assert_same();
}

/// A user restores one directory to where it was. The directories above it were not asked for.
#[test]
fn directory_on_the_way_stays_as_it_is() {
    for overwrite in [false, true] {
        let fixture = with_existing();
        fs::remove_dir(fixture.path("out/data/private")).unwrap();
        let mut args = vec!["--quiet", "--path", "data/private", "tape", "out"];
        args.extend(overwrite.then_some("--overwrite"));
        ok(&fixture.restore(&args));
        assert_eq!(mode(&fixture, "out/data"), 0o777);
        assert_eq!(mode(&fixture, "out/data/private"), 0o700);
    }
    // One that is missing is created as it was.
    let fixture = with_existing();
    fs::remove_dir_all(fixture.path("out/data")).unwrap();
    ok(&fixture.restore(&["--quiet", "--path", "data/private", "tape", "out"]));
    assert_eq!(mode(&fixture, "out/data"), 0o700);
}
