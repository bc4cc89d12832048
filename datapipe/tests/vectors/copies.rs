//! Golden vectors of copies, which were made without a key.

use std::fs;
use std::path::Path;

use datapipe::archive::{Sessions, StoredArchive};
use datapipe::wire::Framing;

use crate::folder;
use crate::make::{self, Lock};
use crate::medium::{create_tape, open};

/// Name of a vector, and the good vector of which it is a copy. Its lock is that of a key file.
const NAME: &str = "copy-key-file";
const SOURCE: &str = "key-file-raw";

/// Makes the vector if it is not there.
pub(crate) fn make_missing(folder: &Path) {
    let path = folder.join(format!("{NAME}.tap"));
    if path.exists() {
        return;
    }
    let from = folder.join(format!("{SOURCE}.tap"));
    copy(&from, &path);
    let plain = folder.join(format!("{NAME}.plain"));
    fs::copy(from.with_extension("plain"), plain).unwrap();
}

/// Copies a tape, with other records, chunks and framing.
pub(crate) fn copy(from: &Path, to: &Path) {
    let source = StoredArchive::open(open(from)).unwrap();
    let options = source.copy().framing(Framing::Once).record_len(2048);
    let plan = options.chunk_len(1200).plan().unwrap();
    let pipe = source.read().pipe;
    pipe.archive(plan, create_tape(to)).run().unwrap();
}

#[test]
fn golden_copy_restores_as_its_source_and_names_it() {
    let good = folder().join("good");
    let (path, from) = (
        good.join(format!("{NAME}.tap")),
        good.join(format!("{SOURCE}.tap")),
    );
    let restored = make::read(&path, Lock::KeyFile, false);
    assert_eq!(restored.report, "");
    assert!(restored.outcome.complete);
    assert!(restored.bytes == fs::read(path.with_extension("plain")).unwrap());
    let source = StoredArchive::open(open(&from)).unwrap();
    let copy = Sessions::read(open(&path)).unwrap();
    let copy = copy.with_sources(open(&path)).unwrap();
    let copy = copy.archives().next().unwrap();
    assert_eq!(copy.header_hash(), Some(&source.header_hash()));
    let named = copy.copy_of().unwrap();
    assert_eq!(named.session, source.session().id);
    assert_eq!(named.created, source.session().created);
}
