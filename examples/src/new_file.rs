//! A file that gets its name after it is complete.
//!
//! ```text
//!   .restored.Xy12Zq --complete, synced--> stdin          (replaces a file only on request)
//!                    \--damaged----------> stdin.damaged  (or .damaged.1 ...; replaces no file)
//!                    \--dropped----------> removed
//! ```

use std::fs::{File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::console::Failure;

/// A file that does not have its name yet.
#[derive(Debug)]
pub struct NewFile {
    dir: PathBuf,
    name: String,
    overwrite: bool,
    file: NamedTempFile,
}

impl NewFile {
    /// Makes a file in `dir` that will get the name `name`. The name comes from an archive, so it
    /// may be anything.
    ///
    /// # Errors
    ///
    /// Returns a failure if `name` is not a valid file name, if it exists and `overwrite` is false,
    /// or if the file cannot be made.
    pub fn create(dir: &Path, name: &str, overwrite: bool) -> Result<Self, Failure> {
        validate_file_name(name).map_err(|reason| {
            Failure::new(format!("cannot restore the stream to a file: {reason}"))
        })?;
        let path = dir.join(name);
        if !overwrite && path.symlink_metadata().is_ok() {
            return Err(exists(&path));
        }
        // The user's mask restricts this mode, as for files of other programs.
        let mode = Permissions::from_mode(0o666);
        let file = tempfile::Builder::new()
            .prefix(".restored.")
            .permissions(mode)
            .tempfile_in(dir);
        let file = file
            .map_err(|error| Failure::new(format!("cannot write to {}: {error}", dir.display())))?;
        Ok(Self {
            dir: dir.to_owned(),
            name: name.to_owned(),
            overwrite,
            file,
        })
    }

    /// Returns a handle to write to the file.
    ///
    /// # Errors
    ///
    /// Returns an error if no descriptor is available.
    pub fn writer(&self) -> io::Result<File> {
        self.file.as_file().try_clone()
    }

    /// Gives the file its name. After that it is on stable storage.
    ///
    /// # Errors
    ///
    /// Returns a failure if the file cannot be synced or renamed, or if the name exists by now and
    /// must not be replaced. The file is removed in these cases.
    pub fn keep(self) -> Result<(), Failure> {
        self.file.as_file().sync_all()?;
        let path = self.dir.join(&self.name);
        let kept = if self.overwrite {
            self.file.persist(&path)
        } else {
            self.file.persist_noclobber(&path)
        };
        kept.map_err(|failed| match failed.error.kind() {
            io::ErrorKind::AlreadyExists => exists(&path),
            _ => Failure::new(format!(
                "cannot create {}: {}",
                path.display(),
                failed.error
            )),
        })?;
        Ok(File::open(&self.dir)?.sync_all()?)
    }

    /// Gives the file a name that ends in `.damaged` or `.damaged.N`, and returns its path.
    ///
    /// # Errors
    ///
    /// Returns a failure if the file cannot be synced or renamed. The file is removed in this case.
    pub fn keep_damaged(mut self) -> Result<PathBuf, Failure> {
        self.file.as_file().sync_all()?;
        for number in 0..MAX_DAMAGED {
            let suffix = if number == 0 {
                String::new()
            } else {
                format!(".{number}")
            };
            let ending = format!(".damaged{suffix}");
            let kept = self.name.floor_char_boundary(MAX_NAME - ending.len());
            let path = self.dir.join(format!("{}{ending}", &self.name[..kept]));
            match self.file.persist_noclobber(&path) {
                Ok(_) => {
                    File::open(&self.dir)?.sync_all()?;
                    return Ok(path);
                }
                Err(failed) if failed.error.kind() == io::ErrorKind::AlreadyExists => {
                    self.file = failed.file
                }
                Err(failed) => {
                    return Err(Failure::new(format!(
                        "cannot create {}: {}",
                        path.display(),
                        failed.error
                    )));
                }
            }
        }
        Err(Failure::new(format!(
            "{MAX_DAMAGED} files named {}.damaged exist already; remove some",
            self.name
        )))
    }
}

/// Number of damaged files with one name in a directory.
const MAX_DAMAGED: u32 = 1000;

/// Failure because of a file that must not be replaced.
fn exists(path: &Path) -> Failure {
    Failure::new(format!(
        "{} already exists; use --overwrite to replace it",
        path.display()
    ))
}

/// Checks that a name is the name of a file in a directory, and does not lead to another directory.
///
/// # Errors
///
/// Returns the reason why the name is not valid.
pub fn validate_file_name(name: &str) -> Result<(), String> {
    match name {
        "" | "." | ".." => Err(format!("\"{name}\" is not a file name")),
        _ if name.contains(['/', '\0']) => Err(format!("\"{name}\" is a path and not a file name")),
        _ if name.len() > MAX_NAME => Err(format!(
            "the name has {} bytes; at most {MAX_NAME} are allowed",
            name.len()
        )),
        _ => Ok(()),
    }
}

/// Largest length in bytes of a file's name on the usual file systems, and of an archive's name.
const MAX_NAME: usize = 255;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use std::fs;
    use std::io::Write;

    use super::*;

    fn make(dir: &Path, overwrite: bool) -> NewFile {
        let file = NewFile::create(dir, "data", overwrite).unwrap();
        file.writer().unwrap().write_all(b"new").unwrap();
        file
    }

    fn names(dir: &Path) -> Vec<String> {
        let names = fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.collect();
        names.sort();
        names
    }

    #[test]
    fn new_file_gets_its_name_after_it_is_complete() {
        let dir = tempfile::tempdir().unwrap();
        drop(make(dir.path(), false));
        assert!(names(dir.path()).is_empty());
        make(dir.path(), false).keep().unwrap();
        assert_eq!(fs::read(dir.path().join("data")).unwrap(), b"new");
        assert!(NewFile::create(dir.path(), "data", false).is_err());
        make(dir.path(), true).keep().unwrap();
        make(dir.path(), true).keep_damaged().unwrap();
        let second = make(dir.path(), true).keep_damaged().unwrap();
        assert_eq!(second, dir.path().join("data.damaged.1"));
        assert_eq!(
            names(dir.path()),
            ["data", "data.damaged", "data.damaged.1"]
        );
        // Another program makes the file first.
        let late = {
            fs::remove_file(dir.path().join("data")).unwrap();
            make(dir.path(), false)
        };
        fs::write(dir.path().join("data"), b"theirs").unwrap();
        assert!(late.keep().is_err());
        assert_eq!(fs::read(dir.path().join("data")).unwrap(), b"theirs");
        assert_eq!(
            names(dir.path()),
            ["data", "data.damaged", "data.damaged.1"]
        );
    }

    #[test]
    fn long_name_is_cut_for_a_damaged_file() {
        let dir = tempfile::tempdir().unwrap();
        let name = "ä".repeat(127);
        NewFile::create(dir.path(), &name, false)
            .unwrap()
            .keep_damaged()
            .unwrap();
        let cut = "ä".repeat(123);
        assert_eq!(names(dir.path()), [format!("{cut}.damaged")]);
    }

    #[test]
    fn names_of_other_directories_are_rejected() {
        for name in [
            "",
            ".",
            "..",
            "a/b",
            "/etc/passwd",
            "a\0b",
            &"x".repeat(256),
        ] {
            assert!(validate_file_name(name).is_err(), "{name:?}");
        }
        assert!(validate_file_name("...").is_ok() && validate_file_name(" \n").is_ok());
    }
}
