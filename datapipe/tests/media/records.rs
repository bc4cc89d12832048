//! Volume records: what a writer puts in front of each volume, and what a reader makes of it.

use std::fs;

use datapipe::limits::{MAX_VOLUME_TEXT, MIN_VOLUME_SIZE};
use datapipe::media::{
    Item, MediumError, Position, VolumeOptions, VolumeRelation, misnamed_volumes, missing_volumes,
    volume_files,
};
use datapipe::testkit::Random;
use datapipe::wire::{RecordHeader, RecordKind};

use crate::site::{
    FRAME, Files, MAGIC, Site, Thing, faulty, only_things, ours, read, real, record_of, things,
    write,
};

/// Writes `volumes` volumes of one record each, in which the number of the volume is.
fn fill<S: Files>(place: &Site<S>, label: &str, volumes: u8) {
    let options = VolumeOptions::default().label(label).pool("weekly");
    let mut medium = place.create_with(options).unwrap();
    for volume in 1..=volumes {
        medium.write(&[MAGIC, &[volume]].concat()).unwrap();
        if volume < volumes {
            medium.next_volume().unwrap();
        }
    }
    medium.finish().unwrap();
}

#[test]
fn each_volume_begins_with_a_record_of_its_medium() {
    for many in [true, false] {
        let place = real(many);
        fill(&place, "A00001", if many { 3 } else { 1 });
        let files = volume_files(&place.path).unwrap();
        assert_eq!(files.len(), if many { 3 } else { 1 });
        for (ordinal, file) in (1..).zip(&files) {
            let record = file.record.as_ref().unwrap();
            assert_eq!(
                record_of(&fs::read(&file.path).unwrap()).as_ref(),
                Some(record)
            );
            assert_eq!((&*record.label, &*record.pool), ("A00001", "weekly"));
            assert_eq!((record.ordinal, record.write_once), (ordinal, false));
            assert_eq!(
                record.medium == [0; 16],
                !many,
                "a tape has no other volumes"
            );
            assert_eq!(record.medium, files[0].record.as_ref().unwrap().medium);
            assert!(!file.is_record_lost && file.label.is_none());
        }
        let ids: std::collections::BTreeSet<_> = files
            .iter()
            .map(|file| file.record.as_ref().unwrap().id)
            .collect();
        assert_eq!(ids.len(), files.len(), "each volume has an id of its own");
    }
}

#[test]
fn texts_that_are_too_long_are_refused_before_a_file_is_made() {
    for many in [true, false] {
        let place = real(many);
        for (options, what) in [
            (
                VolumeOptions::default().label("l".repeat(MAX_VOLUME_TEXT + 1)),
                "label",
            ),
            (
                VolumeOptions::default().pool("p".repeat(MAX_VOLUME_TEXT + 1)),
                "pool",
            ),
        ] {
            for made in [
                place.create_with(options.clone()),
                place.append_with(options),
            ] {
                let error = made.map(drop).unwrap_err();
                let text =
                    format!("a {what} of 65 bytes is too long; use one of 64 bytes or fewer");
                assert_eq!(error.to_string(), text);
            }
        }
        assert!(!place.path.exists());
        let longest = VolumeOptions::default().label("l".repeat(MAX_VOLUME_TEXT));
        place.create_with(longest).unwrap();
    }
}

/// Any damage to the volume record costs nothing of the volume. A record with one changed byte is
/// known to be lost.
#[test]
fn damaged_volume_record_costs_nothing_else() {
    let place = faulty(3, false);
    let expected = things(&mut Random::new(3), 6, 50);
    let mut medium = place.create(None, false).unwrap();
    write(&mut *medium, &expected);
    medium.finish().unwrap();
    drop(medium);
    let bytes = place.storage.bytes(place.file(1)).unwrap();
    for at in 0..FRAME {
        for flip in [0x01, 0x80, 0xff] {
            let mut damaged = bytes.clone();
            damaged[at] ^= flip;
            place.storage.set_bytes(place.file(1), &damaged);
            let found = read(&mut *place.open());
            assert_eq!(found[0].0.byte, FRAME as u64, "byte {at}");
            assert_eq!(only_things(found), expected, "byte {at}");
            // Backwards, too.
            let (mut medium, mut record, mut items) = (place.open(), Vec::new(), 0);
            medium.seek_end(None).unwrap();
            while medium.read_back(&mut record).unwrap() != Item::End {
                items += 1;
            }
            assert_eq!(items, expected.len());
            medium.seek(Position::start_of(1)).unwrap();
            assert_eq!(only_things(read(&mut *medium)), expected);
        }
    }
}

/// A volume record whose frame is destroyed is known by the record of an archive after it.
#[test]
fn destroyed_volume_record_is_known_by_its_successor() {
    let place = real(false);
    let header = RecordHeader {
        kind: RecordKind::Label,
        session: [5; 16],
        sequence: 0,
        volume: 1,
        length: 8,
        position: 0,
        first: Some(0),
    };
    let label = [&header.to_bytes()[..], &[0; 8]].concat();
    let mut medium = place.create(None, false).unwrap();
    medium.write(&label).unwrap();
    medium.finish().unwrap();
    drop(medium);
    let mut bytes = fs::read(&place.path).unwrap();
    for fill in [0, 0xee] {
        bytes[..FRAME].fill(fill);
        fs::write(&place.path, &bytes).unwrap();
        let files = volume_files(&place.path).unwrap();
        assert!(files[0].is_record_lost && files[0].record.is_none());
        assert_eq!(files[0].label, Some(1));
        let found = only_things(read(&mut *place.open()));
        assert_eq!(found, [Thing::Record(label.clone())]);
    }
}

#[test]
fn volumes_that_have_exchanged_their_names_are_read_by_their_records() {
    let place = real(true);
    fill(&place, "", 4);
    let expected = only_things(read(&mut *place.open()));
    let aside = place.path.join("aside");
    for (from, to) in [(2, 4), (3, 4)] {
        fs::rename(place.file(from), &aside).unwrap();
        fs::rename(place.file(to), place.file(from)).unwrap();
        fs::rename(&aside, place.file(to)).unwrap();
        assert_eq!(only_things(read(&mut *place.open())), expected);
        let misnamed = misnamed_volumes(&place.path).unwrap();
        assert!(
            misnamed
                .iter()
                .all(|found| found.relation == VolumeRelation::Exchanged)
        );
        assert!(misnamed.len() >= 2 && missing_volumes(&place.path).unwrap().is_empty());
    }
    // An appending writer would go on after the wrong volume.
    let error = place.append(None).map(drop).unwrap_err();
    assert!(matches!(&error, MediumError::CannotAppend { path, .. } if *path == place.file(4)));
    assert!(error.to_string().contains("it is volume 3"), "{error}");
}

#[test]
fn volume_of_another_medium_is_named_and_passed() {
    let (place, other) = (real(true), real(true));
    fill(&place, "A1", 3);
    fill(&other, "B1", 3);
    fs::copy(other.file(2), place.file(2)).unwrap();
    let wrong = |error: MediumError| {
        let path = place.file(2);
        let text = format!(
            "the wrong volume: {} is volume 2 of another medium with the label \"B1\", and not \
             volume 2 of 3; put the right one in its place, or continue after it",
            path.display()
        );
        assert_eq!(error.to_string(), text);
    };
    let (mut medium, mut record) = (place.open(), Vec::new());
    assert!(matches!(medium.read(&mut record).unwrap(), Item::Record(_)));
    wrong(medium.seek(Position::start_of(2)).unwrap_err());
    wrong(medium.next_volume().unwrap_err());
    wrong(medium.read(&mut record).unwrap_err());
    assert!(medium.next_volume().unwrap());
    medium.read(&mut record).unwrap();
    assert_eq!(record, [MAGIC, &[3]].concat());
    let misnamed = misnamed_volumes(&place.path).unwrap();
    assert_eq!(misnamed.len(), 1);
    assert_eq!(misnamed[0].relation, VolumeRelation::OtherArchive);
    // The right one may have another name.
    fs::rename(place.file(2), place.file(4)).unwrap();
    assert_eq!(missing_volumes(&place.path).unwrap(), [2]);
    fs::copy(other.file(1), place.file(4)).unwrap();
    let error = place.append(None).map(drop).unwrap_err();
    assert!(matches!(error, MediumError::CannotAppend { .. }), "{error}");
}

#[test]
fn first_write_of_the_smallest_volume_has_room_for_its_record() {
    let place = real(true);
    let mut medium = place.create(Some(MIN_VOLUME_SIZE), false).unwrap();
    let longest = medium.abilities().longest_record;
    for _ in 0..3 {
        medium.write(&vec![0xd1; longest]).unwrap();
        medium.write_mark().unwrap();
        medium.next_volume().unwrap();
    }
    medium.finish().unwrap();
    for volume in 1..=3 {
        let len = fs::metadata(place.file(volume)).unwrap().len();
        assert!(len <= MIN_VOLUME_SIZE, "{len}");
    }
    let mut medium = place.open_with(ours).unwrap();
    assert_eq!(read(&mut *medium).len(), 3 * 3);
}

/// The second volume begins with a session of its own. Its record was lost, and it counted as a
/// volume of another archive, and as missing.
#[test]
fn volume_without_its_record_may_begin_with_another_session() {
    let label = |session: u8| {
        let header = RecordHeader {
            kind: RecordKind::Label,
            session: [session; 16],
            sequence: 0,
            volume: 1,
            length: 8,
            position: 0,
            first: Some(0),
        };
        [&header.to_bytes()[..], &[0; 8]].concat()
    };
    let place = real(true);
    let mut medium = place.create(None, false).unwrap();
    medium.write(&label(1)).unwrap();
    for session in 2..=3 {
        medium.next_volume().unwrap();
        medium.write(&label(session)).unwrap();
    }
    medium.finish().unwrap();
    drop(medium);
    for lost in 1..=3 {
        let good = fs::read(place.file(lost)).unwrap();
        let mut bytes = good.clone();
        bytes[200] ^= 1;
        fs::write(place.file(lost), &bytes).unwrap();
        assert_eq!(misnamed_volumes(&place.path).unwrap(), [], "{lost}");
        assert_eq!(missing_volumes(&place.path).unwrap(), [0; 0], "{lost}");
        let found = only_things(read(&mut *place.open_with(|_| true).unwrap()));
        let records = found.iter().filter(|found| **found != Thing::NextVolume);
        let labels: Vec<_> = (1..=3)
            .map(|session| Thing::Record(label(session)))
            .collect();
        assert!(records.eq(&labels), "{lost}: {found:?}");
        fs::write(place.file(lost), &good).unwrap();
    }
}
