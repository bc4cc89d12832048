//! Media that are opened to append: nothing that was written changes, and everything can be read.

use std::fs;

use datapipe::limits::MIN_VOLUME_SIZE;
use datapipe::media::{
    MediumError, MediumReader, MediumWriter, VirtualTape, VolumeDirectory, VolumeOptions,
    find_writer, volume_files,
};
use datapipe::testkit::{Random, StorageCall};
use proptest::prelude::*;

use crate::site::{
    FRAME, Files, MAGIC, Site, Thing, faulty, only_things, ours, read, real, record_of, things,
    write,
};

/// A record that says which writer wrote it.
fn one(tag: u8) -> Vec<u8> {
    [MAGIC, &[tag; 21]].concat()
}

/// Writes a record and two marks, as a session ends.
fn session(medium: &mut dyn MediumWriter, tag: u8) {
    medium.write(&one(tag)).unwrap();
    medium.write_mark().unwrap();
    medium.write_mark().unwrap();
    medium.finish().unwrap();
}

fn items_of_session(tag: u8) -> [Thing; 3] {
    [Thing::Record(one(tag)), Thing::Mark, Thing::Mark]
}

fn everything<S: Files>(place: &Site<S>) -> Vec<Thing> {
    only_things(read(&mut *place.open_with(ours).unwrap()))
}

/// The bytes of all volumes, records included.
fn all_bytes<S: Files>(place: &Site<S>) -> Vec<Vec<u8>> {
    let volumes = 1..if place.many { 100 } else { 2 };
    let exists = |volume: &u32| place.storage.open(&place.file(*volume)).is_ok();
    let volumes = volumes.take_while(exists);
    volumes
        .map(|volume| place.storage.bytes(&place.file(volume)))
        .collect()
}

/// Asserts that each volume of before begins with what it had.
fn assert_kept(before: &[Vec<u8>], after: &[Vec<u8>]) {
    assert!(after.len() >= before.len());
    for (before, after) in before.iter().zip(after) {
        assert!(after.starts_with(before), "a byte that was written changed");
    }
}

#[test]
fn appended_session_follows_the_others_and_changes_nothing() {
    for many in [true, false] {
        let place = real(many);
        let mut expected = Vec::new();
        for tag in 1..5 {
            let before = match tag {
                1 => Vec::new(),
                _ => all_bytes(&place),
            };
            let mut medium = place.append(None).unwrap();
            assert!(find_writer(&place.path).unwrap().is_some(), "it is locked");
            assert!(place.append(None).is_err() && place.create(None, true).is_err());
            assert!(medium.accepts_empty() && medium.abilities().cuts_back);
            session(&mut *medium, tag);
            drop(medium);
            expected.extend(items_of_session(tag));
            assert_kept(&before, &all_bytes(&place));
            assert_eq!(everything(&place), expected);
        }
        assert_eq!(
            volume_files(&place.path).unwrap().len(),
            1,
            "one volume, one record"
        );
    }
}

#[test]
fn medium_that_is_opened_to_append_and_dropped_is_unchanged() {
    for many in [true, false] {
        let place = real(many);
        session(&mut *place.create(None, false).unwrap(), 1);
        let mut bytes = fs::read(place.file(1)).unwrap();
        for torn in [&[][..], &[9, 0, 0, 0, 1, 2]] {
            bytes.extend_from_slice(torn);
            fs::write(place.file(1), &bytes).unwrap();
            let mut medium = place.append(None).unwrap();
            assert!(medium.handle().is_ok());
            medium.sync().unwrap();
            medium.finish().unwrap();
            drop(medium);
            assert_eq!(fs::read(place.file(1)).unwrap(), bytes);
            assert_eq!(find_writer(&place.path).unwrap(), None);
        }
    }
}

#[test]
fn missing_marks_are_added_before_what_is_appended() {
    for many in [true, false] {
        for marks in 0..4 {
            let place = real(many);
            let mut medium = place.create(None, false).unwrap();
            medium.write(&one(1)).unwrap();
            (0..marks).for_each(|_| medium.write_mark().unwrap());
            medium.sync().unwrap();
            drop(medium);
            let mut medium = place.append(None).unwrap();
            let at = medium.write(&one(2)).unwrap();
            medium.sync().unwrap();
            drop(medium);
            let marks = vec![Thing::Mark; marks.max(2)];
            let expected = [
                &[Thing::Record(one(1))],
                &marks[..],
                &[Thing::Record(one(2))],
            ];
            let found = read(&mut *place.open());
            assert_eq!(
                found.last().unwrap().0,
                at,
                "the position is the one that is read"
            );
            assert_eq!(only_things(found), expected.concat());
        }
    }
}

/// A writer that was killed, at any byte of the last frames: what is whole stays, what is torn is
/// cut off, and the next session is whole.
#[test]
fn volume_that_was_cut_at_any_byte_is_continued() {
    let expected = [
        items_of_session(1).to_vec(),
        vec![Thing::Record(one(2)), Thing::Mark],
    ]
    .concat();
    for many in [true, false] {
        let place = faulty(1, many);
        let mut medium = place.create(None, false).unwrap();
        write(&mut *medium, &expected);
        medium.finish().unwrap();
        drop(medium);
        let bytes = place.storage.bytes(place.file(1)).unwrap();
        for len in 0..=bytes.len() {
            place.storage.set_bytes(place.file(1), &bytes[..len]);
            let mut medium = place.append(None).unwrap();
            session(&mut *medium, 3);
            drop(medium);
            // Items that are whole in the cut volume, and the marks that are missing after them.
            let (mut kept, mut end) = (Vec::new(), FRAME as u64);
            for thing in &expected {
                end += thing.bytes();
                if end > len as u64 {
                    break;
                }
                kept.push(thing.clone());
            }
            let marks = kept
                .iter()
                .rev()
                .take_while(|thing| **thing == Thing::Mark)
                .count();
            if !kept.is_empty() {
                kept.extend(vec![Thing::Mark; 2_usize.saturating_sub(marks)]);
            }
            kept.extend(items_of_session(3));
            assert_eq!(
                everything(&place),
                kept,
                "cut to {len} of {} bytes",
                bytes.len()
            );
            let whole = place.storage.bytes(place.file(1)).unwrap();
            assert!(record_of(&whole).is_some(), "the volume has its record");
            let common = whole
                .iter()
                .zip(&bytes)
                .take_while(|(one, other)| one == other)
                .count();
            let same: u64 = kept
                .iter()
                .take_while(|thing| expected.contains(thing))
                .map(Thing::bytes)
                .sum();
            assert!(common as u64 >= same.min(len as u64), "cut to {len}");
        }
    }
}

/// Any changed byte, and any stretch of zeros: nothing but a torn frame may be removed.
#[test]
fn damaged_volume_keeps_all_bytes_when_it_is_continued() {
    let place = faulty(1, false);
    let mut medium = place.create(None, false).unwrap();
    session(&mut *medium, 1);
    drop(medium);
    let bytes = place.storage.bytes(place.file(1)).unwrap();
    let check = |damaged: &[u8], what: &str| {
        place.storage.set_bytes(place.file(1), damaged);
        let mut medium = place.append(None).unwrap();
        session(&mut *medium, 3);
        drop(medium);
        let after = place.storage.bytes(place.file(1)).unwrap();
        // A length alone at the end is a torn frame, or was a mark, which is added again.
        let kept = damaged.len() - 4 * usize::from(damaged[bytes.len() - 4..] != [0; 4]);
        assert!(after.starts_with(&damaged[..kept]), "{what}");
        let found = everything(&place);
        // Marks after damage may be taken for data.
        let last: Vec<_> = found
            .iter()
            .filter(|thing| **thing == Thing::Record(one(3)))
            .collect();
        assert_eq!(last.len(), 1, "{what}: {found:?}");
        assert!(
            found.ends_with(&[Thing::Mark, Thing::Mark]),
            "{what}: {found:?}"
        );
    };
    for at in FRAME..bytes.len() {
        for flip in [0x01, 0x40, 0x80] {
            let mut damaged = bytes.clone();
            damaged[at] ^= flip;
            check(&damaged, &format!("byte {at} changed by {flip}"));
        }
        let mut zeros = bytes.clone();
        zeros[at..].fill(0);
        check(&zeros, &format!("zeros from byte {at} on"));
    }
    for zeros in (0..64).step_by(4) {
        check(
            &[&bytes[..], &vec![0; zeros]].concat(),
            &format!("{zeros} zeros at the end"),
        );
    }
}

#[test]
fn torn_frame_stays_on_a_volume_that_is_written_once() {
    for many in [true, false] {
        let place = real(many);
        let once = VolumeOptions::default().write_once(true);
        let mut medium = place.create_with(once).unwrap();
        assert!(!medium.abilities().cuts_back);
        session(&mut *medium, 1);
        drop(medium);
        let mut bytes = fs::read(place.file(1)).unwrap();
        bytes.extend([200, 0, 0, 0, 1, 2, 3]);
        fs::write(place.file(1), &bytes).unwrap();
        // The record says it, and not the options.
        let mut medium = place.append(None).unwrap();
        session(&mut *medium, 2);
        drop(medium);
        let after = fs::read(place.file(1)).unwrap();
        let (before, added) = after.split_at(bytes.len());
        assert!(before == bytes && added.starts_with(&[0; 8]), "two marks");
        let found = everything(&place);
        assert!(found.starts_with(&items_of_session(1)) && found.ends_with(&items_of_session(2)));
    }
}

#[test]
fn full_last_volume_is_completed_and_the_next_one_begun() {
    let place = real(true);
    let options = VolumeOptions::default().label("A1").pool("weekly");
    let mut medium = place
        .create_with(options.volume_size(MIN_VOLUME_SIZE))
        .unwrap();
    while medium.write(&[MAGIC, &[1; 4000]].concat()).is_ok() {}
    medium.sync().unwrap();
    drop(medium);
    let before = all_bytes(&place);
    // A larger size leaves room.
    let mut medium = place.append(Some(2 * MIN_VOLUME_SIZE)).unwrap();
    assert_eq!(medium.write(&one(2)).unwrap().volume, 1);
    drop(medium);
    assert_kept(&before, &all_bytes(&place));
    place.storage.set_bytes(&place.file(1), &before[0]);
    let mut medium = place.append(Some(MIN_VOLUME_SIZE)).unwrap();
    assert_eq!(medium.write(&one(2)).unwrap().volume, 2);
    medium.next_volume().unwrap();
    session(&mut *medium, 3);
    drop(medium);
    assert_kept(&before, &all_bytes(&place));
    let found = everything(&place);
    let turn = [
        Thing::Mark,
        Thing::Mark,
        Thing::NextVolume,
        Thing::Record(one(2)),
    ];
    assert!(found.windows(4).any(|things| things == turn), "{found:?}");
    let files = volume_files(&place.path).unwrap();
    let records: Vec<_> = files
        .iter()
        .map(|file| file.record.as_ref().unwrap())
        .collect();
    for (ordinal, record) in (1..).zip(&records) {
        assert_eq!(
            (record.ordinal, record.medium),
            (ordinal, records[0].medium)
        );
        assert_eq!((&*record.label, &*record.pool), ("A1", "weekly"));
    }
    assert_eq!(records.len(), 3);

    let tape = real(false);
    let mut medium = tape.create(Some(MIN_VOLUME_SIZE), false).unwrap();
    while medium.write(&[MAGIC, &[1; 4000]].concat()).is_ok() {}
    drop(medium);
    let error = tape.append(Some(MIN_VOLUME_SIZE)).map(drop).unwrap_err();
    assert!(matches!(error, MediumError::Full { .. }), "{error}");
}

/// Writers that were stopped before their first record, or right after the change of volumes.
#[test]
fn empty_volumes_are_continued() {
    let place = real(true);
    fs::create_dir(&place.path).unwrap();
    for volume in 1..=2 {
        fs::write(place.file(volume), "").unwrap();
    }
    session(&mut *place.append(None).unwrap(), 1);
    assert_eq!(volume_files(&place.path).unwrap().len(), 1);
    assert_eq!(everything(&place), items_of_session(1));
    fs::write(place.file(2), "").unwrap();
    session(&mut *place.append(None).unwrap(), 2);
    let expected = [
        &items_of_session(1)[..],
        &[Thing::NextVolume],
        &items_of_session(2),
    ];
    assert_eq!(everything(&place), expected.concat());
    let files = volume_files(&place.path).unwrap();
    let records: Vec<_> = files
        .iter()
        .map(|file| file.record.as_ref().unwrap())
        .collect();
    assert_eq!(
        (records[1].ordinal, records[1].medium),
        (2, records[0].medium)
    );
}

#[test]
fn volume_that_another_program_has_ended_is_not_continued() {
    let place = real(false);
    session(&mut *place.create(None, false).unwrap(), 1);
    let mut bytes = fs::read(&place.path).unwrap();
    bytes.extend([0xff; 4]);
    fs::write(&place.path, &bytes).unwrap();
    let error = place.append(None).map(drop).unwrap_err();
    assert!(matches!(error, MediumError::CannotAppend { .. }), "{error}");
    assert!(error.to_string().contains("end of the medium"), "{error}");
    assert_eq!(fs::read(&place.path).unwrap(), bytes);
    assert_eq!(find_writer(&place.path).unwrap(), None);
}

/// The machine stops at any time, or a call fails, while a session is appended: the earlier ones
/// are whole, and the next append works.
#[test]
fn failure_or_crash_while_appending_leaves_earlier_sessions_whole() {
    use StorageCall::{Create, Open, Read, Sync, SyncDirectory, Truncate, Write};
    let mut failed = 0;
    for many in [true, false] {
        for call in [Create, Open, Read, Sync, SyncDirectory, Truncate, Write] {
            for (nth, crashes) in (1..8).flat_map(|nth| [(nth, false), (nth, true)]) {
                let place = faulty(nth, many);
                session(&mut *place.create(None, false).unwrap(), 1);
                place.storage.set_short(true);
                place.storage.fail(call, nth);
                let appended = place.append(None).and_then(|mut medium| {
                    medium.write(&one(2))?;
                    medium.sync()?;
                    medium.write(&one(3))?;
                    medium.next_volume().or_else(|error| match error {
                        MediumError::Full { .. } => Ok(()),
                        error => Err(error),
                    })?;
                    medium.write(&one(4)).map(drop)
                });
                failed += u32::from(appended.is_err());
                place.storage.fail(call, u64::MAX);
                if crashes {
                    place.storage.crash();
                }
                let what = format!("{call:?} {nth}, many {many}, crashes {crashes}: {appended:?}");
                let before = all_bytes(&place);
                assert!(
                    everything(&place).starts_with(&items_of_session(1)),
                    "{what}"
                );
                session(&mut *place.append(None).expect(&what), 5);
                let found = everything(&place);
                assert!(found.starts_with(&items_of_session(1)), "{what}");
                assert!(found.ends_with(&items_of_session(5)), "{what}: {found:?}");
                for (before, after) in before.iter().zip(all_bytes(&place)) {
                    let common = before
                        .iter()
                        .zip(&after)
                        .take_while(|(one, other)| one == other);
                    // At most the torn beginning of a volume, or of a record, was cut off.
                    assert!(before.len() - common.count() < FRAME, "{what}");
                }
            }
        }
    }
    assert!(failed > 20, "{failed} calls failed");
}

/// Many writers, which end in any way, against a model: the items that all of them wrote, with the
/// marks between them.
#[test]
fn appended_media_match_a_model() {
    let config = ProptestConfig::with_cases(24);
    proptest!(config, |(seed in any::<u64>(), many in any::<bool>())| {
        let mut random = Random::new(seed);
        let place = faulty(seed, many);
        let size = many.then_some(MIN_VOLUME_SIZE);
        let mut expected: Vec<Thing> = Vec::new();
        for _ in 0..1 + random.below(6) {
            let before = match expected.is_empty() {
                true => Vec::new(),
                false => all_bytes(&place),
            };
            let mut medium = place.append(size).unwrap();
            let last = match many {
                true => all_bytes(&place).len(),
                false => 1,
            };
            let count = 1 + random.below(20) as usize;
            let session = things(&mut random, count, 9000);
            let (written, positions) = write(&mut *medium, &session);
            medium.sync().unwrap();
            drop(medium);
            // The model's rule for marks.
            let marks = expected.iter().rev().take_while(|thing| **thing == Thing::Mark).count();
            let has_records = expected.iter().any(|thing| *thing != Thing::NextVolume);
            let missing = 2_usize.saturating_sub(marks) * usize::from(has_records);
            expected.extend(vec![Thing::Mark; missing]);
            if last > before.len() && !before.is_empty() {
                expected.push(Thing::NextVolume);
            }
            expected.extend(written);
            assert_kept(&before, &all_bytes(&place));
            let found = read(&mut *place.open());
            let records: Vec<_> = found
                .iter()
                .filter(|(_, thing)| matches!(thing, Thing::Record(_)))
                .map(|(position, _)| *position)
                .collect();
            prop_assert!(records.ends_with(&positions));
            prop_assert_eq!(only_things(found), expected.clone());
        }
    });
}

#[test]
fn directory_and_tape_of_the_library_are_appended_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let (tape, volumes) = (dir.path().join("a.tap"), dir.path().join("volumes"));
    for tag in 1..3 {
        let mut media: [Box<dyn MediumWriter>; 2] = [
            Box::new(VirtualTape::append(&tape, VolumeOptions::default()).unwrap()),
            Box::new(VolumeDirectory::append(&volumes, VolumeOptions::default()).unwrap()),
        ];
        media
            .iter_mut()
            .for_each(|medium| session(&mut **medium, tag));
    }
    let mut media: [Box<dyn MediumReader>; 2] = [
        Box::new(VirtualTape::open_with_probe(&tape, ours).unwrap()),
        Box::new(VolumeDirectory::open_with_probe(&volumes, ours).unwrap()),
    ];
    for medium in &mut media {
        let expected = [items_of_session(1), items_of_session(2)].concat();
        assert_eq!(only_things(read(&mut **medium)), expected);
    }
}
