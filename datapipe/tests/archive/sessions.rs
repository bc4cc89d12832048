//! Several archives in a session, several sessions on a medium.

use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use datapipe::archive::{ListedArchive, OpenError, Session, SessionOptions, Sessions, SharedKey};
use datapipe::media::{MediumError, MediumWriter, Position};
use datapipe::prelude::*;
use datapipe::testkit::Sink;
use datapipe::wire::{UNIT_HEADER_LEN, UnitHeader, UnitKind};

use crate::data::{blocks, key, setting};
use crate::medium::open;
use crate::site::{BLOCK, Site, cheap, pipe, sites};

#[test]
fn archives_that_share_a_key_have_one_key_id_and_other_slots_are_added() {
    let passphrase = Secret::from(Passphrase::from_bytes("what the operators know").unwrap());
    let first = ArchiveOptions::stream("a").encrypt_at(passphrase, cheap());
    let first = first.plan().unwrap();
    let key = first.shared_key().unwrap();
    let identity = Identity::random().unwrap();
    let second = ArchiveOptions::stream("b")
        .share_key(key.clone())
        .recipient(identity.recipient())
        .plan()
        .unwrap();
    assert_eq!(first.header().key_id, second.header().key_id);
    assert_eq!(first.header().slots[0], second.header().slots[0]);
    assert_eq!(second.header().slots.len(), 2);
    let mut many = ArchiveOptions::stream("c").share_key(key);
    for _ in 0..8 {
        many = many.recipient(identity.recipient());
    }
    let error = many.plan().unwrap_err().to_string();
    assert!(error.contains('9'), "{error}");
    assert!(
        ArchiveOptions::stream("d")
            .plan()
            .unwrap()
            .shared_key()
            .is_none()
    );
}

#[test]
fn shared_key_comes_from_an_archive_that_a_secret_has_opened_and_not_from_a_recipient() {
    let secret = key(7);
    let identity = Identity::random().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t");
    let archive = ArchiveOptions::stream("a")
        .block_len(BLOCK)
        .recipient(identity.recipient())
        .encrypt(secret.clone())
        .plan()
        .unwrap();
    let slots = archive.header().slots.clone();
    let tape = VirtualTape::create(&path, VolumeOptions::default()).unwrap();
    pipe(b"data").archive(archive, tape).run().unwrap();
    let sessions = Sessions::read(open(&path)).unwrap();
    let listed = sessions.archives().next().unwrap();
    let key_with = |secret: &Secret| SharedKey::of_listed(open(&path), listed, secret);
    let next = ArchiveOptions::stream("b").share_key(key_with(&secret).unwrap().unwrap());
    assert_eq!(next.plan().unwrap().header().slots, [slots[1]]);
    assert!(key_with(&identity.into()).unwrap().is_none());
    assert!(matches!(key_with(&key(8)), Err(OpenError::Locked(_))));
}

#[test]
fn pipe_that_fails_leaves_its_archive_incomplete_and_the_session_goes_on() {
    for mut site in sites() {
        let session = site.session("nightly");
        site.write(&session, "first", 10_000);
        let data = blocks(50_000, BLOCK as usize, 7);
        let failing = site.plan("second");
        let fail = Stage::in_place("fails", |_| FailAfter(5));
        let error = pipe(&data).stage(fail).archive_in(failing, &session).run();
        assert!(error.unwrap_err().to_string().contains("as planned"));
        site.data.push(("second".to_owned(), data));
        site.write(&session, "third", 10_000);
        session.finish().unwrap();
        let sessions = site.list();
        let archives: Vec<_> = sessions.archives().collect();
        let finished: Vec<_> = archives.iter().map(|found| found.is_finished()).collect();
        assert_eq!(finished, [true, false, true]);
        for index in [0, 2] {
            let (bytes, is_complete, damage) = site.restore(archives[index]);
            assert!(is_complete && damage.is_empty(), "{damage:?}");
            assert!(bytes == site.data[index].1);
        }
        let (bytes, is_complete, damage) = site.restore(archives[1]);
        assert!(!is_complete && site.data[1].1.starts_with(&bytes));
        assert!(damage[0].contains("incomplete"), "{damage:?}");
    }
}

/// Fails at the block after this many.
struct FailAfter(u32);

impl InPlace for FailAfter {
    fn transform(&mut self, _: &mut Block) -> Result<Verdict, StageError> {
        if self.0 == 0 {
            return Err(StageError::new("as planned"));
        }
        self.0 -= 1;
        Ok(Verdict::Send)
    }
}

#[test]
fn unfinished_session_is_listed_and_another_one_follows_it() {
    for mut site in sites() {
        site.add_session(1);
        let session = site.session("unfinished");
        site.write(&session, "2.0", 20_000);
        site.write(&session, "2.1", 1000);
        drop(session);
        site.check_all();
        assert!(!site.list().sessions()[1].is_finished());
        site.add_session(3);
        site.check_all();
        let sessions = site.list();
        let finished: Vec<_> = sessions
            .sessions()
            .iter()
            .map(|session| (session.number(), session.is_finished()))
            .collect();
        assert_eq!(finished, [(1, true), (2, false), (3, true)]);
    }
}

#[test]
fn append_that_is_cut_at_any_byte_costs_no_earlier_session() {
    let seed = setting("DATAPIPE_SEED", 1);
    for (number, mut site) in sites().into_iter().enumerate() {
        site.add_session(1);
        site.add_session(2);
        let before = site.files();
        site.add_session(3);
        let after = site.files();
        let data = site.data.clone();
        for round in 0..setting("DATAPIPE_CUTS", 8) {
            let at = seed
                .wrapping_add(number as u64 * 1000 + round)
                .wrapping_mul(0x9e37_79b9_7f4a_7c15)
                >> 8;
            cut(&before, &after, at);
            let context = format!("seed {seed}, site {number}, round {round}");
            let sessions = site.list();
            for (archive, (_, data)) in sessions.archives().zip(&data[..6]) {
                let (bytes, is_complete, damage) = site.restore(archive);
                assert!(is_complete && damage.is_empty(), "{context}: {damage:?}");
                assert!(&bytes == data, "{context}");
            }
            site.data = data[..6].to_vec();
            site.add_session(4);
            let sessions = site.list();
            let last = sessions.sessions().last().unwrap();
            for (archive, (_, data)) in last.archives().iter().zip(&site.data[6..]) {
                let (bytes, is_complete, damage) = site.restore(archive);
                assert!(is_complete && damage.is_empty(), "{context}: {damage:?}");
                assert!(&bytes == data, "{context}");
            }
            let whole = sessions.archives().filter(|found| found.is_finished());
            assert!(whole.count() >= 9, "{context}: {sessions:?}");
        }
    }
}

/// Leaves of what was appended a part that `random` chooses, as a crash does.
fn cut(before: &[(PathBuf, Vec<u8>)], after: &[(PathBuf, Vec<u8>)], random: u64) {
    let old = |path: &PathBuf| {
        let found = before.iter().find(|(found, _)| found == path);
        found.map_or(0, |(_, bytes)| bytes.len())
    };
    let added = |(path, bytes): &(PathBuf, Vec<u8>)| bytes.len() - old(path);
    let total: usize = after.iter().map(added).sum();
    let mut left = (random % total as u64) as usize;
    let (first, _) = &after[0];
    for file in fs::read_dir(first.parent().unwrap()).unwrap() {
        let path = file.unwrap().path();
        if path.is_file() {
            fs::remove_file(path).unwrap();
        }
    }
    for file in after {
        let kept = added(file).min(left);
        left -= kept;
        let len = old(&file.0) + kept;
        if len > 0 {
            fs::write(&file.0, &file.1[..len]).unwrap();
        }
    }
}

#[test]
fn session_refuses_the_1025th_archive_and_ends_well() {
    let mut site = Site::new("t", None, None);
    let session = Session::new(site.append(), SessionOptions::new("many")).unwrap();
    for _ in 0..1024 {
        let archive = site.plan("a");
        let head = HeadStage::from(StreamHead::new(&b""[..])).inline();
        let pipe = Pipe::builder().buffer_size(BLOCK).head(head);
        let archive = archive.map_tail(|tail| tail.inline());
        pipe.archive_in(archive, &session).run().unwrap();
    }
    let one_more = pipe(b"x").archive_in(site.plan("b"), &session).run();
    let error = one_more.unwrap_err().to_string();
    assert!(
        error.contains("has 1024 archives, which is the most"),
        "{error}"
    );
    session.finish().unwrap();
    assert_eq!(site.list().archives().count(), 1024);
}

#[test]
fn damage_to_one_session_costs_no_other_one() {
    let mut site = Site::new("t", None, Some(key(7)));
    for number in 1..=3 {
        site.add_session(number);
    }
    let whole = fs::read(&site.path).unwrap();
    let sessions = site.list();
    let labels: Vec<_> = sessions
        .sessions()
        .iter()
        .map(|found| found.position())
        .collect();
    let at = |position: &Position| position.byte as usize;
    // The label, the record after it with the headers, and the footer before the next session.
    let label = at(&labels[1]);
    let label_len = u32::from_le_bytes(whole[label..label + 4].try_into().unwrap()) as usize;
    let places = [
        label + 30,
        label + 8 + label_len + 80,
        at(&labels[2]) - 8 - 60,
    ];
    for (number, place) in places.into_iter().enumerate() {
        let mut damaged = whole.clone();
        damaged[place] ^= 0x55;
        fs::write(&site.path, &damaged).unwrap();
        let sessions = site.list();
        let of_others = |archive: &&ListedArchive| archive.session_number() != 2;
        assert_eq!(sessions.sessions().len(), 3, "place {number}");
        assert_eq!(
            sessions.archives().filter(of_others).count(),
            6,
            "place {number}"
        );
        for archive in sessions.archives() {
            let (bytes, is_complete, damage) = site.restore(archive);
            let index = 3 * (archive.session_number() as usize - 1) + archive.number() as usize - 1;
            assert!(is_complete, "place {number}, archive {index}: {damage:?}");
            assert!(
                bytes == site.data[index].1,
                "place {number}, archive {index}"
            );
        }
    }
}

#[test]
fn last_archive_is_the_one_that_was_begun_last_among_those_that_open() {
    let (one, other) = (key(1), key(2));
    let mut site = Site::new("t", None, Some(one.clone()));
    site.add_session(1);
    site.secret = Some(other.clone());
    site.key = None;
    site.add_session(2);
    let last = |secret: Option<&Secret>| {
        ArchiveReader::open_last(open(&site.path), site.list().archives(), secret)
            .map(|reader| reader.origin().unwrap().name.clone())
    };
    assert_eq!(last(Some(&one)).unwrap(), "1.2");
    assert_eq!(last(Some(&other)).unwrap(), "2.2");
    assert!(matches!(last(None), Err(OpenError::KeyNeeded)));
    let none = key(3);
    assert!(matches!(last(Some(&none)), Err(OpenError::Locked(_))));
    // A clear archive after them does not count for a secret.
    site.secret = None;
    site.key = None;
    site.add_session(3);
    let last = |secret: Option<&Secret>| {
        ArchiveReader::open_last(open(&site.path), site.list().archives(), secret)
            .map(|reader| reader.origin().unwrap().name.clone())
    };
    assert_eq!(last(Some(&one)).unwrap(), "1.2");
    assert_eq!(last(None).unwrap(), "3.2");
}

#[test]
fn blocks_of_an_archive_among_others_are_found_by_the_index() {
    for mut site in sites() {
        site.add_session(1);
        site.add_session(2);
        let sessions = site.list();
        for (archive, (name, data)) in sessions.archives().zip(&site.data) {
            let secret = site.secret.as_ref();
            let reader = ArchiveReader::open_listed(open(&site.path), archive, secret).unwrap();
            let index = reader.index().unwrap();
            assert_eq!(index.plain(), data.len() as u64, "{name}");
            if data.len() < 2 * BLOCK as usize {
                continue;
            }
            let mut blocks = datapipe::archive::BlockSet::new();
            blocks.insert(2..=2);
            let reading = reader.read_blocks(&index, &blocks).unwrap();
            let sink = Sink::default();
            let tail = StreamRestore::new(sink.clone());
            reading.pipe.tail(tail).run().unwrap();
            let block = &data[BLOCK as usize..2 * BLOCK as usize];
            assert!(sink.bytes().ends_with(block), "{name}");
        }
    }
}

#[test]
fn session_without_a_complete_archive_keeps_the_content_that_it_would_replace() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t");
    let archive = || ArchiveOptions::stream("a").block_len(BLOCK).plan().unwrap();
    let tape = VirtualTape::create(&path, VolumeOptions::default()).unwrap();
    pipe(b"precious").archive(archive(), tape).run().unwrap();
    let before = fs::read(&path).unwrap();
    let replace = || {
        let options = VolumeOptions::default().overwrite(true);
        let tape = VirtualTape::create(&path, options).unwrap();
        Session::new(tape, SessionOptions::new("")).unwrap()
    };
    // Without data.
    let session = replace();
    let empty = pipe(b"").archive_in(archive(), &session).run();
    let error = empty.unwrap_err().to_string();
    assert!(error.contains("there is no data to archive"), "{error}");
    session.finish().unwrap();
    assert!(fs::read(&path).unwrap() == before);
    // With an archive that is not complete.
    let (session, data) = (replace(), blocks(50_000, BLOCK as usize, 7));
    let fail = Stage::in_place("fails", |_| FailAfter(5));
    let failed = pipe(&data)
        .stage(fail)
        .archive_in(archive(), &session)
        .run();
    assert!(failed.is_err());
    // An empty archive after it would be the only complete one.
    let empty = pipe(b"").archive_in(archive(), &session).run();
    let error = empty.unwrap_err().to_string();
    assert!(error.contains("there is no data to archive"), "{error}");
    let error = session.finish().unwrap_err().to_string();
    assert!(
        error.contains("no archive of the session is complete"),
        "{error}"
    );
    assert!(fs::read(&path).unwrap() == before);
    // With a complete one, and then one without data.
    let session = replace();
    pipe(b"new").archive_in(archive(), &session).run().unwrap();
    pipe(b"").archive_in(archive(), &session).run().unwrap();
    session.finish().unwrap();
    let list = Sessions::read(open(&path)).unwrap();
    assert_eq!(list.archives().count(), 2);
}

/// A medium that takes some records, and panics at the next one.
struct Panicking {
    records: u32,
}

impl MediumWriter for Panicking {
    fn write(&mut self, _: &[u8]) -> Result<Position, MediumError> {
        self.records = self.records.checked_sub(1).expect("a planned panic");
        Ok(Position::start_of(1))
    }

    fn write_mark(&mut self) -> Result<(), MediumError> {
        Ok(())
    }

    fn sync(&mut self) -> Result<(), MediumError> {
        Ok(())
    }

    fn next_volume(&mut self) -> Result<(), MediumError> {
        Ok(())
    }

    fn finish(&mut self) -> Result<(), MediumError> {
        Ok(())
    }
}

#[test]
fn session_whose_medium_has_panicked_gets_no_other_archive() {
    let session = Session::new(Panicking { records: 2 }, SessionOptions::new("")).unwrap();
    let archive = || ArchiveOptions::stream("a").block_len(BLOCK).plan().unwrap();
    let data = blocks(50_000, BLOCK as usize, 7);
    let mut errors = [(); 2].map(|()| {
        let archive = archive();
        pipe(&data).archive_in(archive, &session).run().unwrap_err()
    });
    let [panicked, refused] = errors.each_mut().map(|error| error.to_string());
    assert!(panicked.contains("a planned panic"), "{panicked}");
    assert!(refused.contains("it gets no other archive"), "{refused}");
    assert!(session.finish().is_err());
}

/// The header of the newest archive was lost with a byte, and an older archive became the last one.
#[test]
fn archive_whose_header_is_damaged_is_listed_by_its_copy() {
    for secret in [None, Some(key(7))] {
        let mut site = Site::new("t", None, secret);
        for name in ["old", "new"] {
            let session = site.session(name);
            let archive = site.plan(name);
            pipe(name.as_bytes())
                .archive_in(archive, &session)
                .run()
                .unwrap();
            session.finish().unwrap();
        }
        let mut bytes = fs::read(&site.path).unwrap();
        let is_header = |at: &usize| {
            let header = UnitHeader::parse(&bytes[*at..]);
            header.is_ok_and(|header| header.kind == UnitKind::ArchiveHeader)
        };
        let at = (0..bytes.len()).rev().find(is_header).unwrap();
        bytes[at + UNIT_HEADER_LEN + 20] ^= 1;
        fs::write(&site.path, bytes).unwrap();
        let sessions = site.list();
        let names: Vec<_> = sessions.archives().map(ListedArchive::name).collect();
        assert_eq!(names, [Some("old"), Some("new")]);
        let secret = site.secret.as_ref();
        let reader = ArchiveReader::open_last(open(&site.path), sessions.archives(), secret);
        assert_eq!(reader.unwrap().origin().unwrap().name, "new");
    }
}

#[test]
fn special_headers_of_an_archive_among_others_are_read_before_some_of_its_blocks() {
    use datapipe::archive::{BlockSet, Special};

    let mut site = Site::new("t", None, Some(key(7)));
    let session = site.session("specials");
    let data = blocks(50_000, BLOCK as usize, 7);
    for number in 1..=3u8 {
        let special = Special::new(Special::OWN | u32::from(number), [number; 10]).unwrap();
        let archive = site.plan("a").special(special).unwrap();
        pipe(&data).archive_in(archive, &session).run().unwrap();
    }
    session.finish().unwrap();
    let sessions = site.list();
    for (archive, number) in sessions.archives().zip(1..) {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let note = Arc::clone(&seen);
        let secret = site.secret.as_ref();
        let reader = ArchiveReader::open_listed(open(&site.path), archive, secret).unwrap();
        let reader = reader.on_special(move |special| {
            note.lock().unwrap().push(special.id());
            true
        });
        let index = reader.index().unwrap();
        let mut blocks = BlockSet::new();
        blocks.insert(3..=3);
        let reading = reader.read_blocks(&index, &blocks).unwrap();
        let tail = StreamRestore::new(std::io::sink());
        reading.pipe.tail(tail).run().unwrap();
        assert_eq!(*seen.lock().unwrap(), [Special::OWN | number]);
    }
}
