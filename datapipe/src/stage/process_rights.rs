//! Rights of a stage's processes: the user that they run as, and the file of their program.

use std::fs::{File, Metadata};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Mode, OFlags};

use super::description::Stage;
#[cfg(feature = "processes")]
use super::settings::Placement;

/// Rights of a stage's processes.
#[derive(Clone, Debug, Default)]
pub(crate) struct ProcessRights {
    /// User that they run as; `None` for the controller's.
    pub(crate) user: Option<ProcessUser>,
    /// File of their program, if it is held open.
    pub(crate) program: Option<ProgramFile>,
    /// Directory for their temporary files, if it is not the controller's.
    pub(crate) temporary: Option<PathBuf>,
    /// They restore no object with rights of others.
    pub(crate) restores_plainly: bool,
}

/// User and groups that a stage's processes run as: [`Stage::run_as`](super::Stage::run_as).
///
/// ```
/// use datapipe::stage::ProcessUser;
///
/// let backup = ProcessUser::new(34, 34).groups([26]);
/// assert_eq!((backup.user(), backup.group()), (34, 34));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessUser {
    user: u32,
    group: u32,
    groups: Vec<u32>,
}

impl ProcessUser {
    /// The user and the primary group with these ids, and no other groups.
    pub fn new(user: u32, group: u32) -> Self {
        Self {
            user,
            group,
            groups: Vec::new(),
        }
    }

    /// Sets the supplementary groups, by their ids.
    #[must_use]
    pub fn groups(mut self, groups: impl IntoIterator<Item = u32>) -> Self {
        self.groups = groups.into_iter().collect();
        self
    }

    /// Id of the user.
    pub fn user(&self) -> u32 {
        self.user
    }

    /// Id of the primary group.
    pub fn group(&self) -> u32 {
        self.group
    }

    /// Ids of the supplementary groups.
    pub fn supplementary(&self) -> &[u32] {
        &self.groups
    }
}

/// File of a program, held open: every process that is started from it runs this file, also if
/// another is at its path by then
/// ([`Stage::in_processes_of_file`](super::Stage::in_processes_of_file)).
///
/// A script cannot be started in this way: its interpreter would look for the file by name.
#[derive(Clone, Debug)]
pub struct ProgramFile {
    path: PathBuf,
    file: Arc<OwnedFd>,
    content: Content,
}

/// Facts about a file of which one changes when its content, mode or owner does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Content {
    size: u64,
    modified: (i64, i64),
    mode: u32,
    owner: (u32, u32),
}

impl ProgramFile {
    /// Opens the program at `path`. Follows symbolic links.
    ///
    /// # Errors
    ///
    /// If the system cannot open it.
    pub fn open(path: impl Into<PathBuf>) -> io::Result<Self> {
        let path = path.into();
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let opened = rustix::io::retry_on_intr(|| rustix::fs::open(&path, flags, Mode::empty()))?;
        let file = File::from(opened);
        let content = Content::of(&file.metadata()?);
        Ok(Self {
            path,
            file: Arc::new(file.into()),
            content,
        })
    }

    /// Path at which the file was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Facts about the file as it is now, also if its path leads to another one.
    ///
    /// # Errors
    ///
    /// Those of the system.
    pub fn metadata(&self) -> io::Result<Metadata> {
        File::from(self.file.try_clone()?).metadata()
    }

    /// Returns the path by which this process and its children reach the file.
    ///
    /// Fails if the file was written, or got another owner or mode, since it was opened.
    pub(crate) fn path_of_descriptor(&self) -> io::Result<PathBuf> {
        if Content::of(&self.metadata()?) != self.content {
            return Err(io::Error::other(format!(
                "the program {} was changed after it was checked: check it again",
                self.path.display()
            )));
        }
        let number = self.file.as_fd().as_raw_fd();
        Ok(PathBuf::from(format!("/proc/self/fd/{number}")))
    }
}

impl<W> Stage<W> {
    /// As [`in_processes_of`](Self::in_processes_of), but all processes of the stage, replacements
    /// included, run the file that was opened, also if another one has been put at its path since.
    /// A file that was written since then is not run.
    #[cfg(feature = "processes")]
    #[must_use]
    pub fn in_processes_of_file(mut self, program: ProgramFile) -> Self {
        self.settings.placement = Placement::Process(Some(program.path().to_owned()));
        self.settings.rights.program = Some(program);
        self
    }

    /// Runs the stage's processes as another user, which only a privileged controller can do. They
    /// have the ids and groups of `user`, and no capability unless that is root; nothing that they
    /// execute gets more rights. Of the controller's environment they get PATH, LANG, LC_ALL, TZ,
    /// RUST_BACKTRACE and LLVM_PROFILE_FILE. The ids are set before the program runs.
    ///
    /// The user can trace such a process, and take what it has. So its standard output is
    /// `/dev/null`, its standard error a pipe whose lines are events
    /// ([`Event::ErrorOutput`](crate::controller::Event::ErrorOutput)), its working directory is
    /// `/`, it has a session of its own, and no descriptor that the controller inherited. If a
    /// process that traces it keeps it from ending after it was killed, the controller goes on
    /// without it.
    #[must_use]
    pub fn run_as(mut self, user: ProcessUser) -> Self {
        self.settings.rights.user = Some(user);
        self
    }

    /// Makes `directory` the one for temporary files of the stage's processes, by the variable
    /// TMPDIR. A [confined](Self::confined) process may write in it.
    #[must_use]
    pub fn temporary_files_in(mut self, directory: impl Into<PathBuf>) -> Self {
        self.settings.rights.temporary = Some(directory.into());
        self
    }

    /// Forbids the stage's processes to restore what gives or takes away rights of users: owners,
    /// setuid and setgid, file capabilities and other attributes that only root may set, and
    /// devices. For a stage that runs with more rights than the party that chose its arguments.
    /// The library's [`TreeRestore`](crate::tree::TreeRestore) obeys it; a module of your own reads
    /// [`StageArgs::restores_plainly`](crate::host::StageArgs::restores_plainly).
    #[must_use]
    pub fn restores_plainly(mut self) -> Self {
        self.settings.rights.restores_plainly = true;
        self
    }
}

impl Content {
    fn of(metadata: &Metadata) -> Self {
        Self {
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            mode: metadata.mode(),
            owner: (metadata.uid(), metadata.gid()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;
    use std::fs;

    #[test]
    fn program_file_stays_the_same_when_its_path_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let (path, other) = (dir.path().join("program"), dir.path().join("other"));
        fs::write(&path, "one").unwrap();
        fs::write(&other, "another").unwrap();
        let program = ProgramFile::open(&path).unwrap();
        fs::rename(&other, &path).unwrap();
        let reached = fs::read(program.path_of_descriptor().unwrap()).unwrap();
        assert_eq!(reached, b"one");
    }

    #[test]
    fn program_file_that_was_written_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("program");
        fs::write(&path, "one").unwrap();
        let program = ProgramFile::open(&path).unwrap();
        fs::write(&path, "other").unwrap();
        let error = program.path_of_descriptor().unwrap_err().to_string();
        assert!(
            error.contains("was changed after it was checked"),
            "{error}"
        );
        assert!(ProgramFile::open(dir.path().join("none")).is_err());
    }
}
