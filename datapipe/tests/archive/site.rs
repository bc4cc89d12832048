//! A medium on the file system that grows by sessions.

use std::fs;
use std::path::{Path, PathBuf};

use datapipe::archive::{ListedArchive, Session, SessionOptions, Sessions, SharedKey};
use datapipe::crypto::Argon2Cost;
use datapipe::media::MediumWriter;
use datapipe::prelude::*;

use crate::data::{blocks, key};
use crate::fixture::{damage_of, restored};
use crate::medium::open;

/// Size of the blocks, in bytes.
pub(crate) const BLOCK: u32 = 4096;

/// Sizes of what an archive is made of, in bytes.
#[derive(Clone, Copy)]
pub(crate) struct Scale {
    pub(crate) block: u32,
    pub(crate) record: usize,
    pub(crate) chunk: u64,
}

/// Scale of archives of some kilobytes, with several of everything.
pub(crate) const SMALL: Scale = Scale {
    block: BLOCK,
    record: 4096,
    chunk: 20_000,
};

/// A medium that grows by sessions, with the data of all archives.
pub(crate) struct Site {
    pub(crate) path: PathBuf,
    volume_size: Option<u64>,
    scale: Scale,
    pub(crate) secret: Option<Secret>,
    pub(crate) key: Option<SharedKey>,
    /// Data of each archive, by its name.
    pub(crate) data: Vec<(String, Vec<u8>)>,
    _dir: tempfile::TempDir,
}

impl Site {
    pub(crate) fn new(name: &str, volume_size: Option<u64>, secret: Option<Secret>) -> Self {
        Self::of_scale(SMALL, name, volume_size, secret)
    }

    pub(crate) fn of_scale(
        scale: Scale,
        name: &str,
        volume_size: Option<u64>,
        secret: Option<Secret>,
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self {
            path: dir.path().join(name),
            volume_size,
            scale,
            secret,
            key: None,
            data: Vec::new(),
            _dir: dir,
        }
    }

    pub(crate) fn is_directory(&self) -> bool {
        self.volume_size.is_some()
    }

    pub(crate) fn append(&self) -> Box<dyn MediumWriter> {
        let options = VolumeOptions::default().volume_size(self.volume_size);
        match self.is_directory() {
            true => Box::new(VolumeDirectory::append(&self.path, options).unwrap()),
            false => Box::new(VirtualTape::append(&self.path, options).unwrap()),
        }
    }

    pub(crate) fn session(&self, label: &str) -> Session<Box<dyn MediumWriter>> {
        let medium = self.append();
        let is_empty = |path: &PathBuf| fs::metadata(path).map_or(0, |found| found.len()) == 0;
        let is_new = self.paths().iter().all(is_empty);
        let options = SessionOptions::new(label).record_len(self.scale.record);
        let options = match is_new {
            true => options,
            false => options.after(Sessions::before_next(open(&self.path)).unwrap()),
        };
        Session::new(medium, options).unwrap()
    }

    /// Plans an archive with the key of the site.
    pub(crate) fn plan(&mut self, name: &str) -> Archive {
        let options = ArchiveOptions::stream(name)
            .block_len(self.scale.block)
            .chunk_len(self.scale.chunk);
        let options = match (&self.secret, &self.key) {
            (None, _) => options,
            (Some(_), Some(key)) => options.share_key(key.clone()),
            (Some(secret), None) => options.encrypt_at(secret.clone(), cheap()),
        };
        let archive = options.plan().unwrap();
        self.key = archive.shared_key();
        archive
    }

    pub(crate) fn write(
        &mut self,
        session: &Session<Box<dyn MediumWriter>>,
        name: &str,
        len: usize,
    ) {
        let data = blocks(len, BLOCK as usize, self.data.len() as u64);
        self.write_data(session, name, &data);
        self.data.push((name.to_owned(), data));
    }

    /// Writes an archive of `data`, which is not kept.
    pub(crate) fn write_data(
        &mut self,
        session: &Session<Box<dyn MediumWriter>>,
        name: &str,
        data: &[u8],
    ) {
        let archive = self.plan(name);
        let pipe = pipe(data).buffer_size(self.scale.block);
        pipe.archive_in(archive, session).run().unwrap();
    }

    /// Adds a finished session with three archives.
    pub(crate) fn add_session(&mut self, number: usize) {
        let session = self.session(&format!("session {number}"));
        for (index, len) in [30_000, 0, 9_000 + number].into_iter().enumerate() {
            self.write(&session, &format!("{number}.{index}"), len);
        }
        session.finish().unwrap();
    }

    /// Paths of the files of the medium, in the order of their names.
    pub(crate) fn paths(&self) -> Vec<PathBuf> {
        if !self.is_directory() {
            return vec![self.path.clone()];
        }
        let found = fs::read_dir(&self.path).map(|dir| {
            let mut files: Vec<_> = dir.map(|file| file.unwrap().path()).collect();
            files.retain(|file| file.extension().is_some_and(|end| end == "tap"));
            files.sort();
            files
        });
        found.unwrap_or_default()
    }

    /// The files of the medium, with their bytes.
    pub(crate) fn files(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let files = self.paths().into_iter();
        files
            .map(|file| (file.clone(), fs::read(&file).unwrap_or_default()))
            .collect()
    }

    pub(crate) fn list(&self) -> Sessions {
        let sessions = Sessions::read(open(&self.path)).unwrap();
        match &self.secret {
            None => sessions,
            Some(secret) => sessions.with_names(open(&self.path), secret).unwrap(),
        }
    }

    pub(crate) fn restore(&self, archive: &ListedArchive) -> (Vec<u8>, bool, Vec<String>) {
        restore(&self.path, archive, self.secret.as_ref())
    }

    /// Checks that every archive comes back as it was.
    pub(crate) fn check_all(&self) {
        let sessions = self.list();
        assert!(sessions.damage().is_empty(), "{:?}", sessions.damage());
        let names: Vec<_> = sessions.archives().map(|found| found.name()).collect();
        let wanted: Vec<_> = self.data.iter().map(|(name, _)| Some(&name[..])).collect();
        assert_eq!(names, wanted);
        for (archive, (name, data)) in sessions.archives().zip(&self.data) {
            let (bytes, is_complete, damage) = self.restore(archive);
            assert!(is_complete && damage.is_empty(), "{name}: {damage:?}");
            assert!(&bytes == data, "{name} has other data");
        }
    }
}

pub(crate) fn cheap() -> Argon2Cost {
    let mut cost = Argon2Cost::default();
    (cost.memory_kib, cost.passes, cost.lanes) = (64, 1, 1);
    cost
}

pub(crate) fn pipe(data: &[u8]) -> PipeBuilder<'_> {
    Pipe::builder()
        .buffer_size(BLOCK)
        .head(StreamHead::new(data))
        .stage(zstd(1))
}

/// Restores a listed archive. Returns its data, true if it is complete, and the damage.
fn restore(
    path: &Path,
    archive: &ListedArchive,
    secret: Option<&Secret>,
) -> (Vec<u8>, bool, Vec<String>) {
    let log = DamageLog::new();
    let reader = ArchiveReader::open_listed(open(path), archive, secret).unwrap();
    let (bytes, is_complete) = restored(reader.salvage(&log).read());
    (bytes, is_complete, damage_of(&log))
}

pub(crate) fn sites() -> Vec<Site> {
    let mut sites = Vec::new();
    for is_encrypted in [false, true] {
        for volume_size in [None, Some(64 << 10), Some(1 << 20)] {
            let secret = is_encrypted.then(|| key(7));
            sites.push(Site::new("medium", volume_size, secret));
        }
    }
    sites
}
