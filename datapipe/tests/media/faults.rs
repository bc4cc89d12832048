//! Storages that fail, fill up, crash, or have lost data.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use datapipe::limits::MIN_VOLUME_SIZE;
use datapipe::media::{Item, MediumError, MediumReader as _, MediumWriter, Position};
use datapipe::testkit::{Random, StorageCall};

use crate::site::{
    MAGIC, Thing, faulty, only_things, ours, read, real, record, simh, things, write,
};

fn is_io(error: &MediumError, doing: &str, path: &Path) -> bool {
    let text = error.to_string();
    let starts = text.starts_with(&format!("cannot {doing} {}: ", path.display()));
    matches!(error, MediumError::Io { .. }) && starts && text.contains("nput/output error")
}

#[test]
fn short_writes_and_reads_are_continued() {
    for many in [true, false] {
        crate::suite::written_records_are_read_back(&{
            let place = faulty(9, many);
            place.storage.set_short(true);
            place
        });
    }
}

#[test]
fn full_file_system_ends_the_volume() {
    for capacity in 50_000..50_080 {
        let place = faulty(10, true);
        place.storage.set_capacity(capacity);
        let mut medium = place.create(None, false).unwrap();
        let mut expected = Vec::new();
        let mut random = Random::new(capacity);
        let refused = loop {
            let record = record(&mut random, 3000);
            match medium.write(&record) {
                Err(MediumError::EndOfVolume { volume: 1 }) => break record,
                written => drop(written.unwrap()),
            }
            expected.push(Thing::Record(record));
        };
        assert_eq!(
            simh(&place.bytes(1)),
            expected,
            "no byte of the record that did not fit is left"
        );
        // The storage is full: another volume does not help.
        while medium.write_mark().is_ok() {
            expected.push(Thing::Mark);
        }
        expected.push(Thing::NextVolume);
        medium.next_volume().unwrap();
        let error = medium.write(&refused).unwrap_err();
        assert!(matches!(error, MediumError::Full { .. }), "{error}");
        place.storage.set_capacity(1 << 20);
        medium.write(&refused).unwrap();
        expected.push(Thing::Record(refused));
        assert_eq!(only_things(read(&mut *place.open())), expected);
    }
}

#[test]
fn tape_is_truncated_only_if_its_directory_syncs() {
    let place = faulty(1, false);
    let mut medium = place.create(None, false).unwrap();
    medium.write(b"of value").unwrap();
    medium.sync().unwrap();
    drop(medium);
    let before = place.bytes(1);
    place.storage.fail(StorageCall::SyncDirectory, 1);
    let error = place.create(None, true).map(drop).unwrap_err();
    assert!(
        error.to_string().contains("cannot sync the directory"),
        "{error}"
    );
    assert!(place.bytes(1) == before);
}

#[test]
fn failed_write_is_reported_and_leaves_nothing() {
    for many in [true, false] {
        for nth in 1..100 {
            let place = faulty(nth, many);
            let mut medium = place.create(None, false).unwrap();
            place.storage.set_short(true);
            place.storage.fail(StorageCall::Write, nth);
            let mut expected = Vec::new();
            let mut failed = 0;
            for thing in things(&mut Random::new(nth), 40, 500) {
                let written = match &thing {
                    Thing::Record(record) => medium.write(record).map(drop),
                    _ => medium.write_mark(),
                };
                match written {
                    Ok(()) => expected.push(thing),
                    Err(error) => {
                        assert!(is_io(&error, "write", &place.file(1)), "{error}");
                        failed += 1;
                    }
                }
            }
            assert!(failed == 1 || nth > 40, "the fault was met");
            medium.sync().unwrap();
            assert_eq!(only_things(read(&mut *place.open())), expected);
        }
    }
}

#[test]
fn volume_with_an_unknown_end_rejects_writes() {
    let broken = |medium: &mut dyn MediumWriter| {
        for error in [
            medium.write(MAGIC).unwrap_err(),
            medium.write_mark().unwrap_err(),
            medium.sync().unwrap_err(),
            medium.next_volume().unwrap_err(),
        ] {
            assert!(matches!(error, MediumError::Broken { .. }), "{error}");
        }
    };
    for many in [true, false] {
        let place = faulty(11, many);
        let mut medium = place.create(None, false).unwrap();
        medium.write(MAGIC).unwrap();
        place.storage.fail(StorageCall::Write, 1);
        place.storage.fail(StorageCall::Truncate, 1);
        let error = medium.write(MAGIC).unwrap_err();
        assert!(is_io(&error, "truncate", &place.file(1)), "{error}");
        broken(&mut *medium);

        for (call, doing) in [
            (StorageCall::Sync, "sync"),
            (StorageCall::SyncDirectory, "sync the directory"),
        ] {
            let mut medium = place.create_in_place(None).unwrap();
            medium.write(MAGIC).unwrap();
            place.storage.fail(call, 1);
            let error = medium.sync().unwrap_err();
            let file = place.file(1);
            let path = if call == StorageCall::Sync {
                &file
            } else {
                file.parent().unwrap()
            };
            assert!(is_io(&error, doing, path), "{error}");
            broken(&mut *medium);
        }
    }
}

#[test]
fn unreadable_sectors_are_damage_and_a_dead_drive_is_an_error() {
    let place = faulty(13, false);
    let things = things(&mut Random::new(13), 200, 50_000);
    place.one_volume(&things);
    let len = place.storage.bytes(place.file(1)).unwrap().len() as u64;
    place
        .storage
        .set_unreadable(place.file(1), 1_000_000..1_004_096);
    let (mut medium, mut record, mut damaged, mut records) = (place.open(), Vec::new(), 0, 0);
    loop {
        match medium.read(&mut record).unwrap() {
            Item::Record(_) => records += 1,
            Item::Damaged { .. } => damaged += 1,
            Item::Mark(_) => {}
            Item::End => break,
        }
    }
    let all = things
        .iter()
        .filter(|thing| matches!(thing, Thing::Record(_)))
        .count();
    assert!(
        damaged == 1 && records + 3 >= all,
        "{records} of {all}, {damaged} stretches damaged"
    );
    assert!(len > 2 << 20, "{len}");
    place.storage.set_unreadable(place.file(1), 0..len);
    let error = place.open().read(&mut record).unwrap_err();
    assert!(is_io(&error, "read", &place.file(1)), "{error}");
}

#[test]
fn failed_read_is_reported_and_can_be_retried() {
    for many in [true, false] {
        let place = faulty(12, many);
        let things = things(&mut Random::new(12), 20, 500);
        place.one_volume(&things);
        for nth in 1..50 {
            let mut medium = place.open();
            place.storage.fail(StorageCall::Read, nth);
            let (mut found, mut record) = (Vec::new(), Vec::new());
            loop {
                match medium.read(&mut record) {
                    Ok(Item::Record(_)) => found.push(Thing::Record(record.clone())),
                    Ok(Item::Mark(_)) => found.push(Thing::Mark),
                    Ok(Item::End) => break,
                    Ok(damaged @ Item::Damaged { .. }) => panic!("{damaged:?}"),
                    Err(error) => assert!(is_io(&error, "read", &place.file(1)), "{error}"),
                }
            }
            assert_eq!(found, things);
        }
    }
}

#[test]
fn synced_records_survive_a_crash() {
    for seed in 0..200 {
        let place = faulty(seed, seed % 2 == 0);
        place.storage.set_short(seed % 3 == 0);
        let mut random = Random::new(seed);
        let mut medium = place
            .create(place.many.then_some(MIN_VOLUME_SIZE), false)
            .unwrap();
        let (mut written, mut synced) = (Vec::new(), 0);
        for _ in 0..random.below(60) {
            let volumes = written
                .iter()
                .filter(|thing| **thing == Thing::NextVolume)
                .count();
            written.extend(write(&mut *medium, &things(&mut random, 1, 9000)).0);
            if let Some(turn) = written
                .iter()
                .rposition(|thing| *thing == Thing::NextVolume)
                && written
                    .iter()
                    .filter(|thing| **thing == Thing::NextVolume)
                    .count()
                    > volumes
            {
                synced = turn;
            }
            if random.below(6) == 0 {
                medium.sync().unwrap();
                synced = written.len();
            }
        }
        place.storage.crash();
        medium.write(MAGIC).unwrap_err();
        match place.open_with(ours) {
            Ok(mut medium) => {
                let found = only_things(read(&mut *medium));
                assert!(
                    found.starts_with(&written[..synced]),
                    "seed {seed}: {synced} things were synced"
                );
            }
            Err(error) => assert_eq!(synced, 0, "seed {seed}: {error}"),
        }
    }
}

#[test]
fn overwritten_volume_does_not_return_after_a_crash() {
    for seed in 0..20 {
        let place = faulty(seed, true);
        let mut medium = place.create(None, false).unwrap();
        for _ in 0..3 {
            medium.write(b"old").unwrap();
            medium.next_volume().unwrap();
        }
        medium.sync().unwrap();
        let mut medium = place.create_in_place(None).unwrap();
        medium.write(MAGIC).unwrap();
        if seed % 2 == 0 {
            medium.sync().unwrap();
            place.storage.crash();
            assert_eq!(place.storage.files(), [place.file(1)]);
            assert_eq!(
                only_things(read(&mut *place.open())),
                [Thing::Record(MAGIC.to_vec())]
            );
        } else {
            place.storage.crash();
            let files = place.storage.files();
            assert!(files.iter().all(|file| *file == place.file(1)), "{files:?}");
        }
    }
}

/// A truncated tape must stay empty, or old records would follow the new ones.
#[test]
fn overwritten_record_does_not_return_after_a_crash() {
    for seed in 0..20 {
        let place = faulty(seed, false);
        place.one_volume(&[Thing::Record(b"old".to_vec())]);
        let mut medium = place.create_in_place(None).unwrap();
        medium.write(MAGIC).unwrap();
        place.storage.crash();
        let left = place.bytes(1);
        assert!(
            !left.windows(3).any(|bytes| bytes == b"old"),
            "seed {seed}: {left:?}"
        );
    }
}

#[test]
fn missing_volume_is_reported_and_can_be_skipped() {
    let place = real(true);
    let mut medium = place.create(None, false).unwrap();
    for number in 1..=4u8 {
        medium.write(&[number; 10]).unwrap();
        medium.next_volume().unwrap();
    }
    for volume in [1, 3] {
        fs::remove_file(place.file(volume)).unwrap();
    }
    fs::write(place.path.join("7.tap"), "not of ours").unwrap();
    let missing = |error: MediumError, number: u32| {
        let path = place.file(number);
        let text = format!(
            "volume {number} of 5 is missing; put {} back, or continue after it",
            path.display()
        );
        assert_eq!(error.to_string(), text);
    };
    let mut medium = place.open();
    let mut record = Vec::new();
    missing(medium.read(&mut record).unwrap_err(), 1);
    missing(medium.seek(Position::start_of(3)).unwrap_err(), 3);
    assert!(medium.next_volume().unwrap());
    medium.read(&mut record).unwrap();
    assert_eq!(record, [2; 10]);
    missing(medium.next_volume().unwrap_err(), 3);
    missing(medium.read(&mut record).unwrap_err(), 3);
    assert!(medium.next_volume().unwrap());
    medium.read(&mut record).unwrap();
    assert_eq!(record, [4; 10]);
}

#[test]
fn foreign_files_are_kept_and_volumes_are_private() {
    let place = real(true);
    drop(place.create(None, false).unwrap());
    let others = [
        "7.tap",
        "0000001.tap",
        "000000.tap",
        "00000a.tap",
        "000001.TAP",
        "readme",
    ];
    others
        .iter()
        .for_each(|name| fs::write(place.path.join(name), "theirs").unwrap());
    drop(place.create(None, true).unwrap());
    others
        .iter()
        .for_each(|name| assert_eq!(fs::read(place.path.join(name)).unwrap(), b"theirs"));
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&place.file(1)), mode(&place.path)), (0o600, 0o700));

    let empty = real(true);
    fs::create_dir(&empty.path).unwrap();
    let error = empty.open_with(ours).err().unwrap();
    assert!(matches!(error, MediumError::NoVolumes { .. }), "{error}");
}

/// Opening a FIFO waits for its other end. Opening a tape must not wait.
#[test]
fn fifo_is_rejected_as_a_tape() {
    let place = real(false);
    rustix::fs::mkfifoat(rustix::fs::CWD, &place.path, rustix::fs::Mode::RUSR).unwrap();
    let error = place.open_with(ours).err().unwrap();
    let MediumError::Io { source, .. } = &error else {
        panic!("{error}")
    };
    assert_eq!(source.kind(), ErrorKind::InvalidInput, "{error}");
    assert!(place.create(None, true).is_err());
}
