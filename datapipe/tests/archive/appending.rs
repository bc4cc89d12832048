//! Many sessions on media of all sizes: each archive restores, and no append changes an earlier
//! byte. `scripts/append-campaign` runs the long form.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use blake3::{Hash, Hasher};
use datapipe::archive::ListedArchive;
use datapipe::prelude::*;

use crate::data::{key, setting};
use crate::medium::open;
use crate::site::{SMALL, Scale, Site};

/// Scale of archives of a megabyte and more. Each chunk is synced, so that small ones would take
/// all the time.
const LARGE: Scale = Scale {
    block: 64 << 10,
    record: 64 << 10,
    chunk: 32 << 20,
};

/// Appends `DATAPIPE_SESSIONS` sessions of three archives, 4 if that is not set, to tapes and to
/// volumes of 64 KiB and 1 MiB, with a key and without one. With `DATAPIPE_LARGE_VOLUMES` set to 1,
/// also to volumes of 16 MiB, 128 MiB and 1 GiB. From 1 MiB on all archives fill one and a half
/// volumes: their data are compressed to a half.
#[test]
fn sessions_of_several_archives_restore_and_appending_changes_no_earlier_byte() {
    let sessions = setting("DATAPIPE_SESSIONS", 4) as usize;
    let mut sizes = vec![None, Some(64 << 10), Some(1 << 20)];
    if setting("DATAPIPE_LARGE_VOLUMES", 0) > 0 {
        sizes.extend([16 << 20, 128 << 20, 1 << 30].map(Some));
    }
    for size in sizes {
        for secret in [None, Some(key(7))] {
            let is_encrypted = secret.is_some();
            let figures = append_all(sessions, size, secret);
            assert_eq!(figures.files > 1, size.is_some(), "{size:?}: {figures:?}");
            println!(
                "volumes of {size:?} bytes, encrypted {is_encrypted}: {sessions} sessions, {} \
                 archives restored, {} bytes in {} files, {} earlier bytes compared",
                figures.archives, figures.bytes, figures.files, figures.compared
            );
        }
    }
}

/// Counts of one medium.
#[derive(Debug, Default)]
struct Figures {
    archives: usize,
    bytes: u64,
    files: usize,
    /// Bytes that were hashed again after an append.
    compared: u64,
}

/// Appends sessions to a new medium, and checks it after each of them.
fn append_all(count: usize, size: Option<u64>, secret: Option<Secret>) -> Figures {
    let (scale, len) = match size {
        Some(size) if size >= 1 << 20 => (LARGE, size as usize * 3 / count),
        _ => (SMALL, 30_000),
    };
    let mut site = Site::of_scale(scale, "medium", size, secret);
    let (mut prints, mut sent, mut figures) = (Vec::new(), Vec::new(), Figures::default());
    for number in 1..=count {
        let session = site.session(&format!("session {number}"));
        for (index, len) in [len, 0, 9_000 + number].into_iter().enumerate() {
            let (name, data) = (format!("{number}.{index}"), content(len, number, index));
            site.write_data(&session, &name, &data);
            sent.push((name, blake3::hash(&data)));
        }
        session.finish().unwrap();
        prints = look(&site, &prints, &mut figures.compared);
    }
    check_sessions(&site, count);
    let sessions = site.list();
    let names: Vec<_> = sessions.archives().map(ListedArchive::name).collect();
    let wanted: Vec<_> = sent.iter().map(|(name, _)| Some(&name[..])).collect();
    assert_eq!(names, wanted);
    for (archive, (name, hash)) in sessions.archives().zip(&sent) {
        assert_eq!(restored(&site, archive), *hash, "{name} has other data");
    }
    // All files once more, those as well that seemed to be untouched.
    for print in &mut prints {
        print.changed = (0, 0);
    }
    look(&site, &prints, &mut figures.compared);
    Figures {
        archives: sent.len(),
        bytes: prints.iter().map(|print| print.len).sum(),
        files: prints.len(),
        ..figures
    }
}

/// Checks that the sessions are finished, and that each one names the one before.
fn check_sessions(site: &Site, count: usize) {
    let sessions = site.list();
    assert_eq!(sessions.sessions().len(), count);
    let mut id = [0; 16];
    for (session, number) in sessions.sessions().iter().zip(1..) {
        let header = session.header().unwrap();
        assert_eq!(
            (session.number(), header.before.count),
            (number, number - 1)
        );
        assert_eq!(header.before.id, id);
        assert!(session.is_finished() && session.archives().len() == 3);
        id = *session.id();
    }
}

/// Returns `len` bytes, a half of which does not compress. They depend on the session and the
/// archive.
fn content(len: usize, session: usize, archive: usize) -> Vec<u8> {
    let mut data = vec![b'a' + (session % 26) as u8; len];
    let mut noise = Hasher::new()
        .update(&[session as u8, archive as u8])
        .finalize_xof();
    noise.fill(&mut data[..len / 2]);
    data
}

/// A file of a medium as it was after an append.
struct Print {
    path: PathBuf,
    len: u64,
    /// Time of the last change: seconds and nanoseconds. No program can set it.
    changed: (i64, i64),
    hash: Hash,
}

/// Looks at the files of a medium, and checks that the bytes that they had before have not changed.
/// A file that was not written since then is not read. Adds the bytes that were read again to
/// `compared`.
fn look(site: &Site, before: &[Print], compared: &mut u64) -> Vec<Print> {
    let paths = site.paths();
    assert!(paths.len() >= before.len(), "a volume is missing");
    let mut prints = Vec::new();
    for (index, path) in paths.into_iter().enumerate() {
        let old = before.get(index);
        let found = fs::metadata(&path).unwrap();
        let (len, changed) = (found.len(), (found.ctime(), found.ctime_nsec()));
        let mut hash = None;
        if let Some(old) = old {
            assert_eq!(old.path, path, "a volume is missing");
            assert!(len >= old.len, "{} has lost its end", path.display());
            hash = (old.changed == changed).then_some(old.hash);
        }
        let hash = hash.unwrap_or_else(|| {
            let (mut file, mut hasher) = (File::open(&path).unwrap(), Hasher::new());
            if let Some(old) = old {
                let earlier = io::copy(&mut (&mut file).take(old.len), &mut hasher).unwrap();
                assert_eq!(
                    hasher.finalize(),
                    old.hash,
                    "{} has changed",
                    path.display()
                );
                *compared += earlier;
            }
            io::copy(&mut file, &mut hasher).unwrap();
            hasher.finalize()
        });
        prints.push(Print {
            path,
            len,
            changed,
            hash,
        });
    }
    prints
}

/// Restores an archive, which must be complete and without damage. Returns the hash of its data.
fn restored(site: &Site, archive: &ListedArchive) -> Hash {
    let (secret, log) = (site.secret.as_ref(), DamageLog::new());
    let reader = ArchiveReader::open_listed(open(&site.path), archive, secret).unwrap();
    let (reading, sink) = (reader.salvage(&log).read(), HashSink::default());
    let tail = StreamRestore::new(sink.clone());
    reading.pipe.tail(tail).run().unwrap();
    assert_eq!(log.snapshot().count, 0, "{:?}", log.snapshot());
    assert!(reading.report.snapshot().complete);
    sink.0.lock().unwrap().finalize()
}

/// A writer that hashes what it gets.
#[derive(Clone, Default)]
struct HashSink(Arc<Mutex<Hasher>>);

impl Write for HashSink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
