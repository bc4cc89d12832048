//! Sessions whose records are not where their footers say, and damage outside of archives.

use std::fs;

use datapipe::archive::Sessions;
use datapipe::testkit::frames;
use datapipe::wire::{RecordHeader, RecordKind};

use crate::data::key;
use crate::medium::open;
use crate::site::Site;

/// A tape with two sessions of three archives each, as its records and marks.
struct Tape {
    site: Site,
    frames: Vec<Vec<u8>>,
    /// Index of each session's label.
    labels: [usize; 2],
}

impl Tape {
    fn new() -> Self {
        let mut site = Site::new("t", None, Some(key(7)));
        site.add_session(1);
        site.add_session(2);
        let frames: Vec<_> = frames(&fs::read(&site.path).unwrap())
            .iter()
            .map(|frame| frame.to_vec())
            .collect();
        let is_label = |at: &usize| {
            header_of(&frames[*at]).is_some_and(|header| header.kind == RecordKind::Label)
        };
        let labels: Vec<_> = (0..frames.len()).filter(is_label).collect();
        Self {
            site,
            labels: labels.try_into().unwrap(),
            frames,
        }
    }

    /// Index of the last record before `end`, or of the one before it, and so on.
    fn record_before(&self, end: usize, number: usize) -> usize {
        let mut records = (0..end).rev();
        let is_record = |at: &usize| header_of(&self.frames[*at]).is_some();
        records.by_ref().filter(is_record).nth(number).unwrap()
    }

    fn put(&self, frames: &[&[Vec<u8>]]) {
        fs::write(&self.site.path, frames.concat().concat()).unwrap();
    }

    /// Checks that all archives are listed, and that damage is noted.
    fn check_list(&self, what: &str) -> Sessions {
        let sessions = self.site.list();
        assert!(!sessions.damage().is_empty(), "{what}");
        let names: Vec<_> = sessions.archives().map(|found| found.name()).collect();
        let wanted: Vec<_> = self.site.data.iter().map(|(name, _)| name).collect();
        assert_eq!(names.len(), wanted.len(), "{what}: {names:?}");
        for (name, wanted) in names.iter().zip(wanted) {
            assert_eq!(*name, Some(&wanted[..]), "{what}: {names:?}");
        }
        sessions
    }

    /// Checks that the archives with these indexes come back as they were.
    fn check_content(&self, sessions: &Sessions, indexes: impl Iterator<Item = usize>, what: &str) {
        for index in indexes {
            let archive = sessions.archives().nth(index).unwrap();
            let (bytes, is_complete, damage) = self.site.restore(archive);
            assert!(is_complete, "{what}, archive {index}: {damage:?}");
            assert!(bytes == self.site.data[index].1, "{what}, archive {index}");
        }
    }
}

fn header_of(frame: &[u8]) -> Option<RecordHeader> {
    let record = frame.get(4..frame.len().checked_sub(4)?)?;
    RecordHeader::parse(record).ok().map(|(header, _)| header)
}

/// A copy of an old footer at the end hid all sessions after it.
#[test]
fn copies_of_a_session_or_of_its_footer_hide_no_other_session() {
    let tape = Tape::new();
    let [first, second] = tape.labels;
    let (all, mark) = (&tape.frames[..], vec![0; 4]);
    let footer = all[tape.record_before(second, 0)].clone();
    let footer = [footer, mark.clone(), mark];
    let inside = second - 12;
    let third = |site: &mut Site| site.add_session(3);
    for (what, frames) in [
        ("its footer", &[all, &footer][..]),
        ("all of it", &[all, &all[first..second]]),
        ("both", &[all, &all[first..second], &all[second..], &footer]),
        (
            "one in the other",
            &[&all[..inside], &all[second..], &all[inside..second]],
        ),
    ] {
        tape.put(frames);
        let sessions = tape.check_list(what);
        assert_eq!(sessions.sessions().len(), 2, "{what}");
        tape.check_content(&sessions, 0..6, what);
    }
    // A session that is appended then hid the second one, too.
    let mut tape = Tape::new();
    tape.put(&[all, &footer]);
    third(&mut tape.site);
    let sessions = tape.check_list("appended");
    let numbers: Vec<_> = sessions.sessions().iter().map(|one| one.number()).collect();
    assert_eq!(numbers, [1, 2, 3]);
    tape.check_content(&sessions, 0..9, "appended");
}

/// Missing bytes move all archives after them away from the places in the footer.
#[test]
fn missing_and_inserted_bytes_cost_no_archive_that_has_them_not() {
    let tape = Tape::new();
    let bytes = tape.frames.concat();
    let at = tape.frames[..tape.labels[1] + 3].concat().len() + 600;
    let more: Vec<_> = (0..4096).map(|byte| (byte % 251) as u8 | 1).collect();
    for len in [1, 100, 4096] {
        let missing = [&bytes[..at], &bytes[at + len..]].concat();
        let inserted = [&bytes[..at], &more[..len], &bytes[at..]].concat();
        for (what, bad) in [("missing", missing), ("inserted", inserted)] {
            let what = format!("{len} bytes {what}");
            fs::write(&tape.site.path, bad).unwrap();
            let sessions = tape.check_list(&what);
            tape.check_content(&sessions, (0..6).filter(|index| *index != 3), &what);
        }
    }
}

/// Damage of what belongs to no archive was passed over in silence.
#[test]
fn damage_outside_of_archives_is_noted() {
    let tape = Tape::new();
    let [first, second] = tape.labels;
    let ends = [second, tape.frames.len()];
    let mut places = vec![first, second];
    for number in 0..3 {
        // The session's footer, the list of volumes, and the footer of the last archive.
        places.extend(ends.map(|end| tape.record_before(end, number)));
    }
    for place in places {
        // In the record's header, in that of its first unit, and in the body of that.
        for byte in [4 + 20, 4 + 64 + 20, 4 + 64 + 64 + 2] {
            let mut bad = tape.frames.clone();
            bad[place][byte] ^= 1;
            tape.put(&[&bad]);
            let what = format!("byte {byte} of record {place}");
            let sessions = tape.check_list(&what);
            tape.check_content(&sessions, 0..6, &what);
        }
    }
    tape.put(&[&tape.frames]);
    let sessions = Sessions::read(open(&tape.site.path)).unwrap();
    assert!(sessions.damage().is_empty(), "{:?}", sessions.damage());
}
