//! Hostile catalogues: they name objects that are not at the positions there, or further names that
//! the objects do not have.

use std::collections::VecDeque;
use std::fs;
use std::sync::{Arc, Mutex};

use datapipe::prelude::*;
use datapipe::stage::IntoTail;
use datapipe::tree::{CatalogueCheck, CatalogueQuery, RestoreOutcome, TreeList};
use datapipe::wire::{
    BlockKind, CatalogueEntry, CatalogueStart, Entry, EntryBody, EntryPiece, ObjectEnd, ObjectKind,
    ObjectMeta, ObjectState, Time,
};

use crate::placement::Placement;

in_both_placements! {
    object_not_where_the_catalogue_says_is_not_restored
    missing_last_block_is_reported
    hard_link_to_an_unlinked_object_is_not_restored
    control_blocks_between_the_pieces_of_an_entry_are_passed_over
}

/// A head that sends these blocks of entries.
#[derive(Clone, Default)]
struct Forged {
    blocks: VecDeque<(BlockKind, Marks, Vec<u8>)>,
    next: u64,
}

impl Head for Forged {
    fn fill(&mut self, block: &mut Block) -> Result<Fill, StageError> {
        let Some((kind, marks, bytes)) = self.blocks.pop_front() else {
            return Ok(Fill::End);
        };
        block.put(&bytes)?;
        let mut info = block.info();
        (info.kind, info.marks, info.sequence) = (kind.code(), marks, Some(self.next));
        block.set_info(info);
        self.next += 1;
        Ok(Fill::Block)
    }
}

impl Forged {
    fn block(mut self, kind: BlockKind, entries: &[Entry<'_>]) -> Self {
        let mut bytes = Vec::new();
        entries
            .iter()
            .for_each(|entry| entry.append_to(&mut bytes).unwrap());
        self.blocks.push_back((kind, Marks::default(), bytes));
        self
    }

    /// Begins the closing run with its start, if there is one.
    fn with_start(mut self) -> Self {
        let is_closing = |kind: &BlockKind| *kind == BlockKind::ClosingCatalogue;
        let mut objects = 0;
        for (_, _, bytes) in self.blocks.iter().filter(|block| is_closing(&block.0)) {
            let mut rest = &bytes[..];
            while let Ok((entry, after)) = Entry::parse(rest) {
                objects += u64::from(matches!(entry.body, EntryBody::Catalogue(_)));
                rest = after;
            }
        }
        let start = CatalogueStart { objects, bytes: 0 };
        let body = EntryBody::CatalogueStart(start);
        if let Some(first) = self.blocks.iter_mut().find(|block| is_closing(&block.0)) {
            let mut bytes = Vec::new();
            Entry { object: 0, body }.append_to(&mut bytes).unwrap();
            first.2.splice(0..0, bytes);
        }
        self
    }

    fn run<'a>(&self, tail: impl IntoTail<'a>) -> Result<Report, Error> {
        Pipe::builder()
            .buffer_size(2 << 20)
            .head(self.clone().with_start())
            .tail(tail)
            .run()
    }

    /// Searches this catalogue for a path, and restores the path from `data`.
    fn restore(
        &self,
        path: &str,
        data: &Self,
        placement: Placement,
    ) -> (RestoreOutcome, Vec<String>) {
        let wanted = CatalogueQuery::new(&[path.as_bytes().to_vec()]);
        while let Some(search) = wanted.search() {
            self.run(search).unwrap();
        }
        let dest = tempfile::tempdir().unwrap();
        let restore = TreeRestore::part(dest.path(), RestoreOptions::default(), &wanted).unwrap();
        let report = restore.report();
        data.run(placement.place(restore)).unwrap();
        let names = fs::read_dir(dest.path()).unwrap();
        (
            report.snapshot(),
            names
                .map(|name| name.unwrap().file_name().into_string().unwrap())
                .collect(),
        )
    }
}

/// Returns the catalogue entry of an object in block 0.
fn named(object: u64, kind: ObjectKind, link: u64, path: &[u8]) -> Entry<'_> {
    named_in(0, object, kind, link, path)
}

/// Returns the catalogue entry of an object in a block.
fn named_in(block: u64, object: u64, kind: ObjectKind, link: u64, path: &[u8]) -> Entry<'_> {
    let (state, modified, target) = (ObjectState::Whole, Time::default(), &b""[..]);
    let (mode, size, blocks, offset) = (0o600, 0, (block, block), 0);
    let entry = CatalogueEntry {
        kind,
        state,
        mode,
        size,
        link,
        modified,
        blocks,
        offset,
        changed: modified,
        inode: 0,
        path,
        target,
    };
    Entry {
        object,
        body: EntryBody::Catalogue(entry),
    }
}

/// Returns the entries of a whole object without content.
fn object(number: u64, kind: ObjectKind, path: &[u8]) -> [Entry<'_>; 2] {
    let object = ObjectMeta {
        kind,
        mode: 0o700,
        uid: 0,
        gid: 0,
        modified: Time::default(),
        size: 0,
        device: (0, 0),
        link: 0,
        linked: false,
        path,
        target: b"",
    };
    let end = ObjectEnd {
        state: ObjectState::Whole,
        size: 0,
        digest: None,
    };
    [EntryBody::Object(object), EntryBody::End(end)].map(|body| Entry {
        object: number,
        body,
    })
}

fn object_not_where_the_catalogue_says_is_not_restored(placement: Placement) {
    let catalogue = Forged::default().block(
        BlockKind::ClosingCatalogue,
        &[named(0, ObjectKind::File, 0, b"x")],
    );
    let data = Forged::default().block(BlockKind::Data, &object(1, ObjectKind::File, b"y"));
    let (report, names) = catalogue.restore("x", &data, placement);
    assert_eq!(names, Vec::<String>::new());
    let problems: Vec<_> = report.problems.iter().map(ToString::to_string).collect();
    assert_eq!(problems, ["\"x\": not found in the archive"]);
}

/// The missing blocks are reported even if no block follows them. The restore gets no catalogue
/// either, which would name what was lost.
fn missing_last_block_is_reported(placement: Placement) {
    let entries = [b"x/a", b"x/b"]
        .map(|path| named_in(u64::from(path[2] - b'a'), 0, ObjectKind::File, 0, path));
    let catalogue = Forged::default().block(BlockKind::ClosingCatalogue, &entries);
    let data = Forged::default().block(BlockKind::Data, &object(1, ObjectKind::File, b"x/a"));
    let (report, names) = catalogue.restore("x", &data, placement);
    assert_eq!((report.files, names), (1, vec!["x".to_owned()]));
    let problems: Vec<_> = report.problems.iter().map(ToString::to_string).collect();
    let unknown = "the catalogue is lost, too: if objects begin in lost blocks, from block 1 on, \
                   the names of some are not known";
    assert_eq!(problems, ["block 1 is missing", unknown]);
}

fn hard_link_to_an_unlinked_object_is_not_restored(placement: Placement) {
    let entries = [
        named(7, ObjectKind::File, 0, b"y"),
        named(0, ObjectKind::HardLink, 7, b"x"),
    ];
    let catalogue = Forged::default().block(BlockKind::ClosingCatalogue, &entries);
    for kind in [ObjectKind::Directory, ObjectKind::File] {
        let data = Forged::default().block(BlockKind::Data, &object(7, kind, b"y"));
        let (report, names) = catalogue.restore("x", &data, placement);
        assert!(!report.is_whole() && names.is_empty(), "{names:?}");
    }
}

#[test]
fn catalogue_block_without_content_is_an_error() {
    let mut catalogue = Forged::default().block(
        BlockKind::ClosingCatalogue,
        &[named(0, ObjectKind::File, 0, b"x")],
    );
    catalogue
        .blocks
        .push_back((BlockKind::ClosingCatalogue, Marks::REJECTED, Vec::new()));
    let search = CatalogueQuery::new(&[b"x".to_vec()]).search().unwrap();
    let error = catalogue.run(search).unwrap_err();
    assert!(error.to_string().contains("no valid content"), "{error}");
}

/// A few kilobytes of an archive can name very many objects.
#[test]
fn long_names_do_not_exhaust_memory() {
    let long = vec![b'n'; (1 << 20) - 10];
    let paths: Vec<_> = (0..40)
        .map(|i| [format!("x/{i}/").as_bytes(), &long].concat())
        .collect();
    let mut catalogue = Forged::default();
    for (path, link) in paths.iter().zip(1..) {
        catalogue = catalogue.block(
            BlockKind::ClosingCatalogue,
            &[named(0, ObjectKind::HardLink, link, path)],
        );
    }
    let wanted = CatalogueQuery::new(&[b"x".to_vec()]);
    catalogue.run(wanted.search().unwrap()).unwrap();
    let error = catalogue.run(wanted.search().unwrap()).unwrap_err();
    assert!(error.to_string().contains("too many"), "{error}");
}

/// Divides an entry into two pieces.
fn pieces(entry: &Entry<'_>) -> [Vec<u8>; 2] {
    let mut bytes = Vec::new();
    entry.append_to(&mut bytes).unwrap();
    let (kind, body) = (bytes[0], &bytes[16..]);
    let halves = body.split_at(body.len() / 2);
    [(false, halves.0), (true, halves.1)].map(|(continues, body)| {
        let goes_on = !continues;
        let piece = EntryPiece {
            kind,
            continues,
            goes_on,
            body,
        };
        let mut bytes = Vec::new();
        let body = EntryBody::Piece(piece);
        let object = entry.object;
        Entry { object, body }.append_to(&mut bytes).unwrap();
        bytes
    })
}

/// Returns an archive with a file whose first entry is in pieces, in the data and in the catalogue,
/// with control blocks between them.
fn in_pieces() -> Forged {
    let object = ObjectMeta {
        kind: ObjectKind::File,
        mode: 0o600,
        uid: 0,
        gid: 0,
        modified: Time::default(),
        size: 0,
        device: (0, 0),
        link: 0,
        linked: false,
        path: b"a file",
        target: b"",
    };
    let end = ObjectEnd {
        state: ObjectState::Whole,
        size: 0,
        digest: None,
    };
    let body = EntryBody::Object(object);
    let [first, mut second] = pieces(&Entry { object: 1, body });
    let body = EntryBody::End(end);
    Entry { object: 1, body }.append_to(&mut second).unwrap();
    let mut listed = named_in(0, 0, ObjectKind::File, 0, b"a file");
    if let EntryBody::Catalogue(entry) = &mut listed.body {
        entry.blocks = (0, 4);
    }
    let list = pieces(&listed);
    let body = EntryBody::CatalogueStart(CatalogueStart {
        objects: 1,
        bytes: 0,
    });
    let mut start = Vec::new();
    Entry { object: 0, body }.append_to(&mut start).unwrap();
    start.extend_from_slice(&list[0]);
    let mut forged = Forged::default();
    for (kind, first, second) in [
        (BlockKind::Data, first, second),
        (BlockKind::Catalogue, list[0].clone(), list[1].clone()),
        (BlockKind::ClosingCatalogue, start, list[1].clone()),
    ] {
        let control = [
            BlockKind::Checkpoint,
            BlockKind::Later(200),
            BlockKind::Special,
        ];
        let mut add = |kind, bytes| forged.blocks.push_back((kind, Marks::default(), bytes));
        add(kind, first);
        for kind in control {
            add(kind, b"anything".to_vec());
        }
        add(kind, second);
    }
    forged
}

/// Checkpoints, and control blocks of later versions, were taken for a gap in the entry.
fn control_blocks_between_the_pieces_of_an_entry_are_passed_over(placement: Placement) {
    const CLOSING: u64 = 10;
    let forged = in_pieces();
    let run = |from: u64, tail: TailStage<'static>| {
        let mut part = forged.clone();
        part.blocks.drain(..from as usize);
        part.next = from;
        let pipe = Pipe::builder().buffer_size(2 << 20).head(part);
        pipe.tail(tail).run().unwrap();
    };
    let dest = tempfile::tempdir().unwrap();
    let restore = TreeRestore::new(dest.path(), RestoreOptions::default()).unwrap();
    let report = restore.report();
    run(0, placement.place(restore));
    assert!(report.snapshot().is_whole(), "{:?}", report.snapshot());
    assert!(dest.path().join("a file").exists());
    // From the objects, and from the closing run only.
    for from in [0, CLOSING] {
        let listed = Arc::new(Mutex::new(Vec::new()));
        let into = Arc::clone(&listed);
        let list = TreeList::new(move |object| {
            into.lock().unwrap().push(object.path.to_vec());
            Ok(())
        });
        run(from, list.into());
        assert_eq!(*listed.lock().unwrap(), [b"a file".to_vec()]);
    }
    run(CLOSING, CatalogueCheck::new().into());
    let query = CatalogueQuery::new(&[b"a file".to_vec()]);
    while let Some(search) = query.search() {
        run(CLOSING, search.into());
    }
    assert!(query.not_found().is_empty());
}
