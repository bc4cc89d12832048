//! Makes files, directories and everything else beneath the destination.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::error::StageError;
use crate::wire::{ObjectKind, ObjectMeta};

use super::attributes::{self, User};
use super::beneath::{Beneath, Dir, inode_of, is_directory, look, set_aside};
use super::follow::{Failure, Sink};
use super::open::Described;
use super::report::RestoreReport;
use super::spill::{Became, First, Stack};

/// The mode of what has content, and is not what it should be.
const FOR_ITS_OWNER: Mode = Mode::RUSR.union(Mode::WUSR);

/// Writes objects to a file system.
#[derive(Debug)]
pub(super) struct Writer {
    beneath: Beneath,
    overwrite: bool,
    sync: bool,
    user: User,
    /// Directories, with all that is to be set at the end.
    directories: Stack,
    report: RestoreReport,
}

/// What was made of an object.
#[derive(Debug)]
pub(super) enum Made {
    File(MadeFile),
    /// Whether its attributes are to be set.
    Directory(bool),
    /// Nothing: it is made at its end, in one go.
    Nothing,
}

#[derive(Debug)]
pub(super) struct MadeFile {
    file: File,
    /// Its name until it is whole, if its own is taken.
    temporary: Option<Vec<u8>>,
    len: u64,
}

impl Writer {
    /// Writes beneath an open directory.
    pub(super) fn new(
        dest: Dir,
        overwrite: bool,
        sync: bool,
        report: &RestoreReport,
    ) -> io::Result<Self> {
        let beneath = Beneath::new(dest, report)?;
        let (user, directories, report) = (User::current(), Stack::default(), report.clone());
        Ok(Self {
            beneath,
            overwrite,
            sync,
            user,
            directories,
            report,
        })
    }

    fn parent<'a>(&mut self, path: &'a [u8]) -> Result<(Dir, &'a [u8]), Failure> {
        self.beneath
            .parent(path, true)
            .map_err(|error| match error {
                Errno::LOOP | Errno::NOTDIR => {
                    Failure::Refused("something on the way to it is no directory".to_owned())
                }
                error => refused("open the directory of", path, error),
            })
    }

    /// Makes something that is no directory under `name`, or, if that is taken and may be
    /// overwritten, under a temporary name.
    fn make<T>(
        &mut self,
        (dir, name): (&Dir, &[u8]),
        path: &[u8],
        make: impl Fn(&[u8]) -> rustix::io::Result<T>,
    ) -> Result<(Option<Vec<u8>>, T), Failure> {
        let taken = match make(name) {
            Err(Errno::EXIST) => look(dir, name),
            made => {
                return made
                    .map(|made| (None, made))
                    .map_err(|error| refused("make", path, error));
            }
        };
        if taken.is_ok_and(|stat| is_directory(&stat)) {
            return Err(Failure::Refused(
                "a directory is in its place, and stays".to_owned(),
            ));
        }
        if !self.overwrite {
            return Err(Failure::Refused(
                "exists already, and stays as it is".to_owned(),
            ));
        }
        let (temporary, made) = self
            .beneath
            .temporary(make)
            .map_err(|error| refused("make", path, error))?;
        Ok((Some(temporary), made))
    }

    /// Gives something that is whole its name, if it does not have it yet.
    fn give_name(&self, dir: &Dir, temporary: Option<&[u8]>, name: &[u8]) -> Result<(), Failure> {
        let Some(temporary) = temporary else {
            return Ok(());
        };
        rustix::fs::renameat(dir, temporary, dir, name).map_err(|error| {
            let _ = rustix::fs::unlinkat(dir, temporary, AtFlags::empty());
            Failure::Refused(format!("cannot replace what is there: {error}"))
        })
    }

    /// Makes a file that nobody may open before it is whole: so one that was being made when its
    /// process was killed is seen to be none.
    fn begin_file(&mut self, path: &[u8]) -> Result<MadeFile, Failure> {
        let (dir, name) = self.parent(path)?;
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let (temporary, file) = self.make((&dir, name), path, |name| {
            rustix::fs::openat(&dir, name, flags, Mode::empty())
        })?;
        Ok(MadeFile {
            file: file.into(),
            temporary,
            len: 0,
        })
    }

    fn end_file(
        &mut self,
        made: MadeFile,
        what: &Described,
        object: &ObjectMeta<'_>,
        size: u64,
    ) -> Result<Became, Failure> {
        if size != made.len
            && let Err(error) = rustix::fs::ftruncate(&made.file, size)
        {
            let became = self.set_aside(Made::File(made), object);
            return Err(Failure::Damaged(format!(
                "cannot be made {size} bytes long: {error}{became}"
            )));
        }
        if what.attribute_bytes() > 0 {
            // Who may not write to it may not give it attributes. If that cannot be done, they say
            // so.
            let _ = rustix::fs::fchmod(&made.file, FOR_ITS_OWNER);
        }
        let place = attributes::Made::Open(made.file.as_fd());
        self.user.apply(place, what, &self.report);
        if let Some(temporary) = &made.temporary {
            let (dir, name) = self.parent(object.path)?;
            self.give_name(&dir, Some(temporary), name)?;
        }
        became(&made.file, object)
    }

    fn begin_directory(&mut self, path: &[u8]) -> Result<bool, Failure> {
        let (dir, name) = self.parent(path)?;
        match rustix::fs::mkdirat(&dir, name, Mode::RWXU) {
            Ok(()) => Ok(true),
            Err(Errno::EXIST) => match look(&dir, name) {
                Ok(stat) if is_directory(&stat) && self.beneath.was_made(&stat) => Ok(true),
                Ok(stat) if is_directory(&stat) => {
                    if self.overwrite {
                        self.user.open_up(&dir, name, &stat);
                    }
                    Ok(self.overwrite)
                }
                _ => Err(Failure::Refused(
                    "something that is no directory is in its place, and stays".to_owned(),
                )),
            },
            Err(error) => Err(refused("make", path, error)),
        }
    }

    /// Makes what has no data: a symbolic link, a fifo, a device.
    fn make_special(
        &mut self,
        what: &Described,
        object: &ObjectMeta<'_>,
    ) -> Result<Became, Failure> {
        let (kind, device) = match object.kind {
            ObjectKind::Symlink => (None, (0, 0)),
            ObjectKind::Fifo => (Some(FileType::Fifo), (0, 0)),
            ObjectKind::CharacterDevice => (Some(FileType::CharacterDevice), object.device),
            _ => (Some(FileType::BlockDevice), object.device),
        };
        if !self.user.is_root() && kind.is_some_and(|kind| kind != FileType::Fifo) {
            self.report
                .note("devices are not restored: only root may do that");
            return Ok(Became::Verified);
        }
        let (dir, name) = self.parent(object.path)?;
        let device = rustix::fs::makedev(device.0, device.1);
        let make = |name: &[u8]| match kind {
            None => rustix::fs::symlinkat(object.target, &dir, name),
            Some(kind) => rustix::fs::mknodat(&dir, name, kind, Mode::RUSR | Mode::WUSR, device),
        };
        let (temporary, ()) = self.make((&dir, name), object.path, make)?;
        let now = temporary.as_deref().unwrap_or(name);
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let place = rustix::fs::openat(&dir, now, flags, Mode::empty()).map_err(|error| {
            let _ = rustix::fs::unlinkat(&dir, now, AtFlags::empty());
            refused("open", object.path, error)
        })?;
        self.user
            .apply(attributes::Made::Place(place.as_fd()), what, &self.report);
        self.give_name(&dir, temporary.as_deref(), name)?;
        became(&place, object)
    }

    fn finish_directory(&mut self, what: &Described) {
        let Some(object) = what.object() else { return };
        match self.beneath.directory(object.path, false) {
            Ok(dir) => {
                let place = attributes::Made::Open(dir.as_fd());
                self.user.apply(place, what, &self.report);
            }
            Err(error) => self
                .report
                .problem(object.path, format!("cannot set its attributes: {error}")),
        }
    }
}

/// Device and inode of what was made, if they are needed.
fn became(file: impl AsFd, object: &ObjectMeta<'_>) -> Result<Became, Failure> {
    if !object.linked {
        return Ok(Became::Verified);
    }
    let stat = rustix::fs::fstat(file).map_err(|error| refused("look at", object.path, error))?;
    let (device, inode) = inode_of(&stat);
    Ok(Became::Made(device, inode))
}

impl Sink for Writer {
    type Made = Made;

    fn another(&self) -> Self {
        let Self {
            overwrite,
            sync,
            user,
            ..
        } = *self;
        let (beneath, directories) = (self.beneath.another(), Stack::default());
        Self {
            beneath,
            overwrite,
            sync,
            user,
            directories,
            report: self.report.clone(),
        }
    }

    fn begin(&mut self, object: &ObjectMeta<'_>) -> Result<Made, Failure> {
        match object.kind {
            ObjectKind::File => self.begin_file(object.path).map(Made::File),
            ObjectKind::Directory => self.begin_directory(object.path).map(Made::Directory),
            _ => Ok(Made::Nothing),
        }
    }

    fn extent(&mut self, made: &mut Made, offset: u64, data: &[u8]) -> Result<(), Failure> {
        let Made::File(made) = made else {
            return Ok(());
        };
        made.file.write_all_at(data, offset).map_err(|error| {
            let what = format!(
                "cannot write {} bytes at byte {offset}: {error}",
                data.len()
            );
            match error.raw_os_error().map(Errno::from_raw_os_error) {
                Some(error) if is_final(error) => Failure::Stop(StageError::new(what)),
                _ => Failure::Damaged(what),
            }
        })?;
        made.len = offset + data.len() as u64;
        Ok(())
    }

    fn end(&mut self, made: Made, what: &Described, size: u64) -> Result<Became, Failure> {
        let Some(object) = what.object() else {
            return Ok(Became::NotRestored);
        };
        match made {
            Made::File(made) => self.end_file(made, what, &object, size),
            Made::Directory(false) => Ok(Became::Verified),
            Made::Directory(true) => {
                self.directories.push(what.bytes()).map_err(|error| {
                    Failure::Stop(StageError::new(format!(
                        "cannot keep directories in a temporary file: {error}"
                    )))
                })?;
                Ok(Became::Verified)
            }
            Made::Nothing => self.make_special(what, &object),
        }
    }

    fn link(&mut self, object: &ObjectMeta<'_>, first: &First) -> Result<(), Failure> {
        let gone = || {
            Failure::Damaged(
                "the object that it is another name of is not there any more".to_owned(),
            )
        };
        let (from, from_name) = self
            .beneath
            .parent(&first.path, false)
            .map_err(|_| gone())?;
        let is_first = |dir, name| {
            let seen = look(dir, name).map(|stat| inode_of(&stat));
            seen.is_ok_and(|(device, inode)| first.became == Became::Made(device, inode))
        };
        if !is_first(&from, from_name) {
            return Err(gone());
        }
        let (dir, name) = self.parent(object.path)?;
        let (temporary, ()) = self.make((&dir, name), object.path, |name| {
            rustix::fs::linkat(&from, from_name, &dir, name, AtFlags::empty())
        })?;
        if let Some(temporary) = temporary {
            if is_first(&dir, name) {
                // A rename between two names of one object does nothing.
                let _ = rustix::fs::unlinkat(&dir, temporary, AtFlags::empty());
            } else {
                self.give_name(&dir, Some(&temporary), name)?;
            }
        }
        Ok(())
    }

    fn set_aside(&mut self, made: Made, object: &ObjectMeta<'_>) -> String {
        let made = match made {
            Made::File(made) => made,
            Made::Directory(_) => return "; it is there, but only for its owner".to_owned(),
            Made::Nothing => return String::new(),
        };
        let aside = self
            .beneath
            .parent(object.path, false)
            .and_then(|(dir, name)| {
                let now = made.temporary.as_deref().unwrap_or(name);
                // Only what we made: somebody may have put something else there.
                if inode_of(&look(&dir, now)?) != inode_of(&rustix::fs::fstat(&made.file)?) {
                    return Err(Errno::NOENT);
                }
                let _ = rustix::fs::fchmod(&made.file, FOR_ITS_OWNER);
                set_aside(&dir, now, name).or_else(|error| {
                    rustix::fs::unlinkat(&dir, now, AtFlags::empty())?;
                    Err(error)
                })
            });
        match aside {
            Ok(aside) => format!("; what there is of it is called {}", aside.escape_ascii()),
            Err(error) => {
                format!("; it could not be given another name, and is not there: {error}")
            }
        }
    }

    fn finish(&mut self) -> Result<(), StageError> {
        let kept = |error| {
            StageError::new(format!(
                "cannot read the directories that were kept: {error}"
            ))
        };
        while let Some(directory) = self.directories.pop().map_err(kept)? {
            self.finish_directory(&Described::from_bytes(directory));
        }
        self.beneath.say_made();
        if self.sync {
            self.beneath.sync().map_err(|error| {
                StageError::new(format!(
                    "what was restored may not be on stable storage: {error}"
                ))
            })?;
        }
        Ok(())
    }
}

/// Whether everything that comes will fail too.
fn is_final(error: Errno) -> bool {
    matches!(
        error,
        Errno::NOSPC | Errno::DQUOT | Errno::ROFS | Errno::IO | Errno::NFILE | Errno::MFILE
    )
}

fn refused(what: &str, path: &[u8], error: Errno) -> Failure {
    if is_final(error) {
        let shown = path[..path.len().min(200)].escape_ascii();
        return Failure::Stop(StageError::new(format!(
            "cannot {what} \"{shown}\": {error}"
        )));
    }
    Failure::Refused(format!("cannot {what} it: {error}"))
}
