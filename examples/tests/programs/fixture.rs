//! A temporary directory with a source tree, secrets, media and destinations.

use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

use crate::walk::{assert_same, make_tree};

pub(crate) const DISK_TO_TAPE: &str = env!("CARGO_BIN_EXE_disk_to_tape");
pub(crate) const TAPE_TO_DISK: &str = env!("CARGO_BIN_EXE_tape_to_disk");
pub(crate) const ARCHIVE_COPY: &str = env!("CARGO_BIN_EXE_archive_copy");

/// True in the target `processes`, which runs every stage in its own process.
pub(crate) const PROCESSES: bool = matches!(env!("CARGO_CRATE_NAME").as_bytes(), b"processes");

pub(crate) struct Fixture {
    pub(crate) dir: TempDir,
}

impl Fixture {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for (name, content) in [
            ("key", &[7; 32][..]),
            ("other-key", &[8; 32]),
            ("passphrase", b"three short words\n"),
            ("other-passphrase", b"three short word\n"),
        ] {
            fs::write(dir.path().join(name), content).unwrap();
            fs::set_permissions(dir.path().join(name), Permissions::from_mode(0o600)).unwrap();
        }
        for folder in ["src/data", "out"] {
            fs::create_dir_all(dir.path().join(folder)).unwrap();
        }
        Self { dir }
    }

    /// A fixture with a little of everything in `src/data`.
    pub(crate) fn with_tree() -> Self {
        let fixture = Self::new();
        make_tree(&fixture.path("src/data"));
        fixture
    }

    /// A fixture with 300 KiB that do not compress in `src/data`, in the middle of three files.
    pub(crate) fn with_blocks() -> Self {
        let fixture = Self::new();
        fs::write(fixture.path("src/data/first"), b"the first").unwrap();
        fs::write(fixture.path("src/data/noise"), noise(300 << 10)).unwrap();
        fs::write(fixture.path("src/data/zlast"), b"the last").unwrap();
        fixture
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn back_up(&self, args: &[&str]) -> Output {
        self.command(DISK_TO_TAPE, args).output().unwrap()
    }

    pub(crate) fn restore(&self, args: &[&str]) -> Output {
        self.command(TAPE_TO_DISK, args).output().unwrap()
    }

    pub(crate) fn command(&self, program: &str, args: &[&str]) -> Command {
        let mut command = Command::new(program);
        // Other programs, which may run one of ours, do not have this option.
        if PROCESSES && [DISK_TO_TAPE, TAPE_TO_DISK, ARCHIVE_COPY].contains(&program) {
            command.arg("--processes");
        }
        command
            .args(args)
            .current_dir(self.dir.path())
            .stdin(Stdio::null());
        command
    }

    pub(crate) fn names(&self, dir: &str) -> Vec<OsString> {
        let mut names: Vec<_> = fs::read_dir(self.path(dir))
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        names.sort();
        names
    }

    /// Asserts that the directory has only its initial entries and the given ones.
    pub(crate) fn assert_holds(&self, more: &[&str]) {
        let mut names = [
            "key",
            "other-key",
            "other-passphrase",
            "out",
            "passphrase",
            "src",
        ]
        .to_vec();
        names.extend(more);
        names.sort_unstable();
        assert_eq!(self.names("."), names, "nothing else is left");
    }

    pub(crate) fn assert_same(&self) {
        assert_same(&self.path("src/data"), &self.path("out/data"));
        assert_eq!(self.names("out"), ["data"], "nothing else is left");
    }

    /// Asserts that each file in `out` that has its original name is intact; damaged ones have
    /// another name, and so have the parts that a killed restore leaves.
    pub(crate) fn assert_no_damage_under_original_names(&self) {
        if !self.path("out/data").exists() {
            return;
        }
        for name in self.names("out/data") {
            let path = self.path("out/data").join(&name);
            if fs::metadata(&path).unwrap().permissions().mode() & 0o777 == 0 {
                continue; // a file without permissions is not taken for intact
            }
            let text = name.to_str().unwrap();
            if text.contains(".damaged")
                || text.starts_with(".datapipe-") && text.ends_with(".part")
            {
                continue;
            }
            let restored = fs::read(&path).unwrap();
            let original = fs::read(self.path("src/data").join(&name))
                .unwrap_or_else(|error| panic!("{name:?} has no original: {error}"));
            assert!(restored == original, "{name:?}");
        }
    }

    /// Runs a restore that must fail and leave no damaged file under its original name. Returns its
    /// messages.
    pub(crate) fn fail_to_restore(&self, args: &[&str], code: i32) -> String {
        let text = failed(&self.restore(args), code);
        assert!(
            text.lines().all(|line| line.starts_with("tape_to_disk: ")),
            "{text}"
        );
        self.assert_no_damage_under_original_names();
        self.clear("out");
        text
    }

    /// Empties a directory, including entries whose permissions must be changed first.
    pub(crate) fn clear(&self, dir: &str) {
        open_up(&self.path(dir));
        fs::remove_dir_all(self.path(dir)).unwrap();
        fs::create_dir(self.path(dir)).unwrap();
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        open_up(self.dir.path());
    }
}

fn open_up(dir: &Path) {
    let _ = Command::new("chmod")
        .args(["-R", "u+rwX"])
        .arg(dir)
        .stderr(Stdio::null())
        .status();
}

pub(crate) fn ok(output: &Output) -> String {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {errors}", output.status);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub(crate) fn failed(output: &Output, code: i32) -> String {
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{errors}");
    assert!(
        !errors.is_empty() && !errors.contains("panicked"),
        "{errors}"
    );
    errors
}

/// Returns the number in the environment variable `name`, or `default` if there is none.
pub(crate) fn setting(name: &str, default: u64) -> u64 {
    let value = std::env::var(name).ok();
    value
        .and_then(|value| value.parse().ok())
        .unwrap_or(default)
}

/// The next of the random numbers of 31 bits that follow from a seed, which becomes the state.
pub(crate) fn next_random(state: &mut u64) -> u64 {
    *state = state
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1);
    *state >> 33
}

/// Bytes that do not compress.
pub(crate) fn noise(len: usize) -> Vec<u8> {
    let mut state = 88_172_645_463_325_252u64;
    let words = (0..len.div_ceil(8)).flat_map(|_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    words.take(len).collect()
}

/// Bytes that compress poorly, but well enough that compression is tried.
pub(crate) fn letters(len: usize) -> Vec<u8> {
    noise(len)
        .into_iter()
        .map(|byte| b'a' + byte % 26)
        .collect()
}
