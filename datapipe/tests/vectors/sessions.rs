//! Golden vectors of media with several archives and sessions.

use std::fs;
use std::path::Path;

use datapipe::archive::{ListedArchive, Session, SessionOptions, Sessions, SharedKey};
use datapipe::crypto::Argon2Cost;
use datapipe::media::TapeWriter;
use datapipe::prelude::*;
use datapipe::testkit::Sink;

use crate::folder;
use crate::make::{self, BLOCK, Lock};
use crate::medium::open;

/// Name of a vector, its lock, and true if its first session is unfinished. The stream beside it is
/// that of the archives of all finished sessions.
const VECTORS: [(&str, Lock, bool); 3] = [
    ("sessions", Lock::None, false),
    ("sessions-key-file", Lock::KeyFile, false),
    ("sessions-unfinished", Lock::None, true),
];

/// Makes the vectors that are not there: two sessions of two archives each.
pub(crate) fn make_missing(folder: &Path) {
    for (name, lock, is_unfinished) in VECTORS {
        let path = folder.join(format!("{name}.tap"));
        if path.exists() {
            continue;
        }
        let (mut plain, mut key) = (Vec::new(), None);
        for number in 0..2 {
            let session = begin(&path, number);
            for len in [2 * BLOCK + 9, 5 * BLOCK] {
                let data = make::material(len + number * 100);
                write(&session, lock, &mut key, &data);
                if number == 1 || !is_unfinished {
                    plain.extend(data);
                }
            }
            if number == 1 || !is_unfinished {
                session.finish().unwrap();
            }
        }
        fs::write(folder.join(format!("{name}.plain")), plain).unwrap();
    }
}

fn begin(path: &Path, number: usize) -> Session<TapeWriter> {
    let tape = VirtualTape::append(path, VolumeOptions::default()).unwrap();
    let options = SessionOptions::new(format!("session {number}")).record_len(1024);
    let options = match number {
        0 => options,
        _ => options.after(Sessions::before_next(open(path)).unwrap()),
    };
    Session::new(tape, options).unwrap()
}

fn write(session: &Session<TapeWriter>, lock: Lock, key: &mut Option<SharedKey>, data: &[u8]) {
    let options = ArchiveOptions::stream("vector")
        .program("vectors")
        .chunk_len(2500)
        .block_len(BLOCK as u32);
    let options = match (key.take(), make::secret(lock)) {
        (Some(key), _) => options.share_key(key),
        (None, Some(secret)) => options.encrypt_at(secret, Argon2Cost::default()),
        (None, None) => options,
    };
    let archive = options.plan().unwrap();
    *key = archive.shared_key();
    Pipe::builder()
        .buffer_size(BLOCK as u32)
        .head(HeadStage::from(StreamHead::new(data)).inline())
        .stage(zstd(1).inline())
        .archive_in(archive, session)
        .run()
        .unwrap();
}

#[test]
fn golden_sessions_are_listed_and_read_back() {
    for (name, lock, is_unfinished) in VECTORS {
        let path = folder().join(format!("good/{name}.tap"));
        let plain = fs::read(path.with_extension("plain")).unwrap();
        let sessions = Sessions::read(open(&path)).unwrap();
        let finished = sessions.sessions().iter().map(|found| found.is_finished());
        assert_eq!(
            finished.collect::<Vec<_>>(),
            [!is_unfinished, true],
            "{name}"
        );
        assert_eq!(sessions.archives().count(), 4, "{name}");
        let named = sessions.archives().map(ListedArchive::name);
        let clear = Some("vector").filter(|_| lock == Lock::None);
        assert!(named.eq([clear; 4]), "{name}");
        let mut restored = Vec::new();
        for archive in sessions.archives() {
            let secret = make::secret(lock);
            let reader = ArchiveReader::open_listed(open(&path), archive, secret.as_ref());
            let (reading, sink) = (reader.unwrap().read(), Sink::default());
            let tail = StreamRestore::new(sink.clone());
            reading.pipe.tail(tail).run().unwrap();
            assert!(reading.report.snapshot().complete, "{name}: {archive:?}");
            if archive.session_number() == 2 || !is_unfinished {
                restored.extend(sink.bytes());
            }
        }
        assert!(restored == plain, "{name}");
    }
}
