//! A medium has one writer, which notices if its files are taken away.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, IoSlice};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use datapipe::limits::MIN_VOLUME_SIZE;
use datapipe::media::{
    FileSystem, MediumError, MediumWriter as _, Storage, StorageFile, VirtualTape, VolumeOptions,
    Writer, find_writer,
};

use crate::site::{MAGIC, Site, Thing, only_things, read, real};

/// Sites of each form, with and without content.
fn sites() -> Vec<Site<FileSystem>> {
    let mut sites = Vec::new();
    for many in [true, false] {
        sites.push(real(many));
        let full = real(many);
        full.one_volume(&[Thing::Record(MAGIC.to_vec())]);
        sites.push(full);
    }
    sites
}

#[test]
fn second_writer_is_refused_and_sees_the_first() {
    for place in sites() {
        let mut medium = place.create(None, true).unwrap();
        for created in [
            place.create(None, true),
            place.create(None, false),
            place.create_in_place(None),
        ] {
            let error = created.map(drop).unwrap_err();
            let MediumError::InUse { path, writer } = &error else {
                panic!("{error}");
            };
            assert_eq!(*path, place.path);
            assert_eq!(writer.process, Some(std::process::id()));
            let text = error.to_string();
            let process = format!(
                "is being written by process {}, since 2",
                std::process::id()
            );
            assert!(text.contains(&process), "{text}");
            assert_eq!(find_writer(&place.path).unwrap(), Some(*writer));
        }
        medium.write(MAGIC).unwrap();
        medium.finish().unwrap();
        assert!(place.create(None, true).is_err(), "until it is dropped");
        drop(medium);
        assert_eq!(find_writer(&place.path).unwrap(), None);
        drop(place.create(None, true).unwrap());
        let left = fs::read_dir(place.path.parent().unwrap()).unwrap().count();
        assert_eq!(left, 1, "nothing is left beside the medium");
        if place.many {
            assert_eq!(fs::read_dir(&place.path).unwrap().count(), 1, "or in it");
        }
    }
}

/// A writer that was killed leaves the file of its lock, and no lock.
#[test]
fn lock_file_of_a_dead_writer_does_not_block() {
    let place = real(true);
    fs::create_dir(&place.path).unwrap();
    fs::write(place.path.join(".datapipe-lock"), "").unwrap();
    assert_eq!(find_writer(&place.path).unwrap(), None);
    drop(place.create(None, false).unwrap());
    assert!(!place.path.join(".datapipe-lock").exists());
}

#[test]
fn file_that_was_taken_away_is_an_error_at_the_next_sync() {
    for many in [true, false] {
        for replaced in [true, false] {
            let place = real(many);
            let mut medium = place.create(None, false).unwrap();
            medium.write(MAGIC).unwrap();
            medium.sync().unwrap();
            fs::remove_file(place.file(1)).unwrap();
            if replaced {
                fs::write(place.file(1), "theirs").unwrap();
            }
            let error = medium.finish().unwrap_err();
            let is_displaced =
                matches!(&error, MediumError::Displaced { path } if *path == place.file(1));
            assert!(is_displaced, "{error}");
            assert!(medium.sync().is_err());
        }
    }
}

/// Another program cuts a file that is being written, to clean up say.
#[test]
fn file_that_was_cut_is_an_error_at_the_end() {
    for many in [true, false] {
        let place = real(many);
        let mut medium = place.create(None, false).unwrap();
        medium.write(MAGIC).unwrap();
        medium.sync().unwrap();
        let file = File::options().write(true).open(place.file(1));
        file.unwrap().set_len(1).unwrap();
        let error = medium.finish().unwrap_err().to_string();
        assert!(error.contains("another program has cut it"), "{error}");
    }
}

#[test]
fn volume_of_a_directory_that_is_written_is_locked() {
    let place = real(true);
    let medium = place.create(Some(MIN_VOLUME_SIZE), false).unwrap();
    let holder = find_writer(&place.path).unwrap().unwrap();
    for volume in [1, 2] {
        let options = VolumeOptions::default().overwrite(true);
        let error = VirtualTape::create(place.file(volume), options).map(drop);
        let error = error.unwrap_err();
        let is_in_use = matches!(&error, MediumError::InUse { path, writer }
            if *path == place.file(volume) && *writer == holder);
        assert!(is_in_use, "{error}");
    }
    drop(medium);
    drop(VirtualTape::create(place.file(2), VolumeOptions::default()).unwrap());
}

#[test]
fn earlier_volume_that_was_taken_away_is_an_error_at_the_end() {
    let place = real(true);
    let mut medium = place.create(Some(MIN_VOLUME_SIZE), false).unwrap();
    medium.write(MAGIC).unwrap();
    medium.next_volume().unwrap();
    medium.write(MAGIC).unwrap();
    fs::remove_file(place.file(1)).unwrap();
    medium.sync().unwrap();
    let error = medium.finish().unwrap_err();
    assert!(
        matches!(&error, MediumError::Displaced { path } if *path == place.file(1)),
        "{error}"
    );
}

#[test]
fn dangling_link_is_named() {
    let place = real(false);
    symlink("nowhere", &place.path).unwrap();
    let error = place.create(None, true).map(drop).unwrap_err().to_string();
    assert!(
        error.contains("it is a symbolic link to a file that does not exist"),
        "{error}"
    );
}

/// The file system, where another writer begins and finishes between the creation of a file and
/// its lock.
#[derive(Clone, Debug)]
struct Late(FileSystem);

/// A file of it, with its path if it was created.
#[derive(Debug)]
struct LateFile {
    file: File,
    created: Option<PathBuf>,
}

impl LateFile {
    fn of(file: io::Result<File>) -> io::Result<Self> {
        let created = None;
        file.map(|file| Self { file, created })
    }
}

impl Storage for Late {
    type File = LateFile;
    const LOCKS: bool = true;

    fn create_new(&self, path: &Path) -> io::Result<LateFile> {
        let created = Some(path.to_owned());
        let file = self.0.create_new(path)?;
        Ok(LateFile { file, created })
    }

    fn open_to_write(&self, path: &Path) -> io::Result<LateFile> {
        LateFile::of(self.0.open_to_write(path))
    }

    fn open(&self, path: &Path) -> io::Result<LateFile> {
        LateFile::of(self.0.open(path))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.0.remove(path)
    }

    fn create_directory(&self, path: &Path) -> io::Result<()> {
        self.0.create_directory(path)
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<OsString>> {
        self.0.list(directory)
    }

    fn sync_directory(&self, directory: &Path) -> io::Result<()> {
        self.0.sync_directory(directory)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.rename(from, to)
    }

    fn identity(&self, path: &Path) -> io::Result<(u64, u64)> {
        self.0.identity(path)
    }
}

impl StorageFile for LateFile {
    fn len(&self) -> io::Result<u64> {
        StorageFile::len(&self.file)
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        StorageFile::read_at(&self.file, bytes, offset)
    }

    fn write_at(&self, parts: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        StorageFile::write_at(&self.file, parts, offset)
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        StorageFile::truncate(&self.file, len)
    }

    fn lock(&self) -> io::Result<Option<Writer>> {
        if let Some(path) = &self.created {
            let other = VirtualTape::create(path, VolumeOptions::default());
            let mut other = other.map_err(io::Error::other)?;
            other.write(MAGIC).map_err(io::Error::other)?;
            other.finish().map_err(io::Error::other)?;
        }
        StorageFile::lock(&self.file)
    }

    fn identity(&self) -> io::Result<(u64, u64)> {
        StorageFile::identity(&self.file)
    }

    fn sync(&self) -> io::Result<()> {
        StorageFile::sync(&self.file)
    }
}

/// Two writers created one tape. The second one opened the empty file, wrote and finished before
/// the first one had the lock, which then wrote over the tape from its start.
#[test]
fn tape_of_a_writer_that_was_faster_is_not_written_over() {
    let place = real(false);
    let created = VirtualTape::create_on(Late(FileSystem), &place.path, VolumeOptions::default());
    let error = created.map(drop).unwrap_err();
    assert!(matches!(error, MediumError::NotEmpty { .. }), "{error}");
    let kept = only_things(read(&mut *place.open()));
    assert_eq!(kept, [Thing::Record(MAGIC.to_vec())]);
}
