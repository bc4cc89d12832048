//! A tree in memory, the archives of it, and the runs that make them: ours and a peer's.

use std::error::Error;
use std::path::{Path, PathBuf};

use super::scratch::Scratch;
use super::{ExpectedFiles, FileTotals, RunSpec, programs};

/// A directory with a tree, and the paths of keys and archives.
pub(super) struct SourceTree {
    scratch: Scratch,
    name: &'static str,
}

impl SourceTree {
    /// Makes the directory, in which the caller makes the tree `name`, after checking that `files`
    /// files with `bytes` bytes fit.
    pub(super) fn new(name: &'static str, bytes: u64, files: u64) -> Result<Self, Box<dyn Error>> {
        let scratch = Scratch::new(bytes, files)?;
        let tree = Self { scratch, name };
        programs::make_key(&tree.key())?;
        Ok(tree)
    }

    /// Counts the files of the tree.
    pub(super) fn totals(&self) -> Result<FileTotals, Box<dyn Error>> {
        Ok(FileTotals::of(&self.root())?)
    }

    /// Returns our backup of the tree.
    pub(super) fn back_up(&self) -> Result<RunSpec, Box<dyn Error>> {
        let mut arguments = ["--compress", "zstd:3", "--quiet", "--key-file"]
            .map(Into::into)
            .to_vec();
        arguments.extend([self.key(), self.root(), self.ours()].map(Into::into));
        let spec = RunSpec::command("disk_to_tape", programs::ours("disk_to_tape")?, arguments);
        Ok(spec.expect_files(ExpectedFiles::Any(self.ours())))
    }

    /// Returns the peer's backup: a pipeline of programs that do one thing each.
    pub(super) fn tar(&self) -> Result<RunSpec, Box<dyn Error>> {
        let recipient = programs::output(
            r#"age-keygen -o "$1" 2> /dev/null && age-keygen -y "$1""#,
            &[self.identity()],
        )?;
        let spec = programs::shell(
            "tar | zstd | age",
            r#"tar c -C "$1" "$2" | zstd -q -3 -T2 | age -r "$3" -o "$4""#,
            &[
                self.parent().as_os_str(),
                self.name.as_ref(),
                recipient.as_ref(),
                self.theirs().as_ref(),
            ],
        );
        Ok(spec.expect_files(ExpectedFiles::Any(self.theirs())))
    }

    /// Returns our restore of the archive to `to`, which must leave `whole`.
    pub(super) fn restore(
        &self,
        name: &'static str,
        options: &[&str],
        to: &Path,
        whole: FileTotals,
    ) -> Result<RunSpec, Box<dyn Error>> {
        let mut arguments: Vec<_> = options.iter().map(Into::into).collect();
        arguments.extend(["--quiet", "--key-file"].map(Into::into));
        arguments.extend([self.key(), self.ours(), to.to_owned()].map(Into::into));
        let spec = RunSpec::command(name, programs::ours("tape_to_disk")?, arguments);
        Ok(spec.expect_files(ExpectedFiles::Exactly(to.to_owned(), whole)))
    }

    /// Returns the path of the tree.
    pub(super) fn root(&self) -> PathBuf {
        self.scratch.join(self.name)
    }

    /// Returns the path of a file or directory beside the tree.
    pub(super) fn join(&self, name: &str) -> PathBuf {
        self.scratch.join(name)
    }

    /// Returns the directory that has the tree.
    pub(super) fn parent(&self) -> PathBuf {
        self.scratch.join("")
    }

    fn key(&self) -> PathBuf {
        self.scratch.join("key")
    }

    /// Returns the path of the peer's key.
    pub(super) fn identity(&self) -> PathBuf {
        self.scratch.join("identity")
    }

    fn ours(&self) -> PathBuf {
        self.scratch.join("ours.tap")
    }

    /// Returns the path of the peer's archive.
    pub(super) fn theirs(&self) -> PathBuf {
        self.scratch.join("theirs.tap")
    }
}
