//! A file that gets its name when it is whole.
//!
//! ```text
//!   .stdin.Xy12Zq --whole, synced--> stdin            (replaced only if that was asked for)
//!                 \--damaged-------> stdin.damaged    (or stdin.damaged.1, and so on; never replaced)
//!                 \--neither-------> removed
//! ```

use std::fs::{File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::console::Failure;

/// A file without its name yet.
#[derive(Debug)]
pub struct NewFile {
    dir: PathBuf,
    name: String,
    overwrite: bool,
    file: NamedTempFile,
}

impl NewFile {
    /// Makes a file in `dir` that is to be called `name`, which an archive says and may be
    /// anything.
    ///
    /// # Errors
    ///
    /// If that cannot be a file's name, or something is called so that is not to be replaced, or no
    /// file can be made.
    pub fn create(dir: &Path, name: &str, overwrite: bool) -> Result<Self, Failure> {
        check_name(name).map_err(|why| {
            Failure::new(format!("the archive's stream cannot become a file: {why}"))
        })?;
        let path = dir.join(name);
        if !overwrite && path.symlink_metadata().is_ok() {
            return Err(exists(&path));
        }
        // What other programs make is as open as the user's mask says.
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

    /// What is written to.
    ///
    /// # Errors
    ///
    /// If the system has no more descriptors.
    pub fn writer(&self) -> io::Result<File> {
        self.file.as_file().try_clone()
    }

    /// Gives it its name. It is on stable storage then.
    ///
    /// # Errors
    ///
    /// If that cannot be done, or something is called so by now. Nothing is left of it then.
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
            _ => Failure::new(format!("cannot make {}: {}", path.display(), failed.error)),
        })?;
        Ok(File::open(&self.dir)?.sync_all()?)
    }

    /// Gives it a name that says that it is not whole, and returns that.
    ///
    /// # Errors
    ///
    /// If that cannot be done. Nothing is left of it then.
    pub fn keep_damaged(mut self) -> Result<PathBuf, Failure> {
        self.file.as_file().sync_all()?;
        for number in 0..MAX_DAMAGED {
            let behind = if number == 0 {
                String::new()
            } else {
                format!(".{number}")
            };
            let ending = format!(".damaged{behind}");
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
                        "cannot make {}: {}",
                        path.display(),
                        failed.error
                    )));
                }
            }
        }
        Err(Failure::new(format!(
            "there are {MAX_DAMAGED} of {}.damaged already",
            self.name
        )))
    }
}

/// Damaged files of one name that may lie in a directory.
const MAX_DAMAGED: u32 = 1000;

fn exists(path: &Path) -> Failure {
    Failure::new(format!(
        "{} exists already; give --overwrite to replace it",
        path.display()
    ))
}

/// A name is that of a file in a directory, and leads nowhere else.
///
/// # Errors
///
/// Why it is none.
pub fn check_name(name: &str) -> Result<(), String> {
    match name {
        "" | "." | ".." => Err(format!("\"{name}\" is no name of a file")),
        _ if name.contains(['/', '\0']) => Err(format!("\"{name}\" is no name, but a path")),
        _ if name.len() > MAX_NAME => Err(format!("a name has at most {MAX_NAME} bytes")),
        _ => Ok(()),
    }
}

/// Bytes of a file's name on the usual file systems, and of an archive's name.
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
    fn gets_its_name_when_it_is_whole() {
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
        // Somebody was faster.
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
    fn a_name_that_is_long_is_cut_for_what_is_damaged() {
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
    fn names_lead_nowhere() {
        for name in [
            "",
            ".",
            "..",
            "a/b",
            "/etc/passwd",
            "a\0b",
            &"x".repeat(256),
        ] {
            assert!(check_name(name).is_err(), "{name:?}");
        }
        assert!(check_name("...").is_ok() && check_name(" \n").is_ok());
    }
}
