//! The suite that every medium passes, on every storage.

use datapipe::limits::{MAX_RECORD, MIN_VOLUME_SIZE, VOLUME_RESERVE};
use datapipe::media::{Item, MediumError, Position};
use datapipe::testkit::Random;
use proptest::prelude::*;

use crate::site::{
    FRAME, Files, MAGIC, Site, Thing, faulty, only_things, ours, read, record, simh, things, write,
};

pub(crate) fn written_records_are_read_back<S: Files>(place: &Site<S>) {
    let seeds = any::<u64>();
    let config = ProptestConfig::with_cases(24);
    proptest!(config, |(seed in seeds, count in 0..200usize, longest in 3..9000u64)| {
        let expected = things(&mut Random::new(seed), count, longest);
        let size = place.many.then_some(MIN_VOLUME_SIZE);
        let mut medium = place.create(size, true).unwrap();
        let (written, positions) = write(&mut *medium, &expected);
        medium.finish().unwrap();

        let found = read(&mut *place.open());
        let records = found.iter().filter(|(_, thing)| matches!(thing, Thing::Record(_)));
        prop_assert_eq!(records.map(|(position, _)| *position).collect::<Vec<_>>(), positions);
        prop_assert_eq!(only_things(found), written.clone());
        for (volume, things) in (1..).zip(written.split(|thing| *thing == Thing::NextVolume)) {
            let bytes = place.bytes(volume);
            prop_assert!(size.is_none_or(|size| (bytes.len() + FRAME) as u64 <= size));
            prop_assert_eq!(simh(&bytes), things);
        }
    });
}

pub(crate) fn position_can_be_sought<S: Files>(place: &Site<S>) {
    let mut random = Random::new(3);
    let expected = things(&mut random, 100, 9000);
    let mut medium = place
        .create(place.many.then_some(MIN_VOLUME_SIZE), false)
        .unwrap();
    write(&mut *medium, &expected);
    medium.sync().unwrap();
    let mut medium = place.open();
    let found = read(&mut *medium);
    let last = found.last().unwrap().0.volume;
    assert_eq!(last > 1, place.many);
    let mut bytes = Vec::new();
    for _ in 0..1000 {
        let (position, thing) = &found[random.below(found.len() as u64) as usize];
        medium.seek(*position).unwrap();
        match (thing, medium.read(&mut bytes).unwrap()) {
            (Thing::Record(record), Item::Record(at)) => {
                assert_eq!((at, &bytes), (*position, record))
            }
            (Thing::Mark, Item::Mark(at)) => assert_eq!(at, *position),
            (Thing::NextVolume, Item::Record(at) | Item::Mark(at)) => {
                assert_eq!((at.volume, at.record), (position.volume, 1))
            }
            (thing, item) => panic!("{thing:?} was read as {item:?}"),
        }
    }
    for volume in 1..=last {
        medium.seek(Position::start_of(volume)).unwrap();
    }
    let beyond = Position {
        byte: 1 << 30,
        ..Position::start_of(1)
    };
    for nowhere in [Position::start_of(0), Position::start_of(last + 1), beyond] {
        let error = medium.seek(nowhere).unwrap_err();
        assert!(
            matches!(error, MediumError::NoSuchPosition { .. }),
            "{error}"
        );
    }
    assert_eq!(
        beyond.to_string(),
        "volume 1, record 0 (byte 1,073,741,824)"
    );
}

/// Reading from the end of each volume to its start gives the same items as reading forwards, in
/// reverse and at the same positions.
pub(crate) fn reading_backwards_matches_reading_forwards<S: Files>(place: &Site<S>) {
    let expected = things(&mut Random::new(8), 100, 9000);
    let mut medium = place
        .create(place.many.then_some(MIN_VOLUME_SIZE), false)
        .unwrap();
    write(&mut *medium, &expected);
    let mut medium = place.open();
    let found: Vec<_> = read(&mut *medium)
        .into_iter()
        .filter(|(_, thing)| *thing != Thing::NextVolume)
        .collect();
    let last = found.last().unwrap().0.volume;
    let mut bytes = Vec::new();
    for volume in (1..=last).rev() {
        medium.seek_end((volume < last).then_some(volume)).unwrap();
        assert_eq!(medium.read(&mut bytes).unwrap(), Item::End);
        for (position, thing) in found
            .iter()
            .filter(|(position, _)| position.volume == volume)
            .rev()
        {
            let item = medium.read_back(&mut bytes).unwrap();
            match (thing, item) {
                (Thing::Record(record), Item::Record(at)) if *record == bytes => {
                    assert!(
                        (at.volume, at.byte) == (volume, position.byte)
                            && at.record > Position::UNCOUNTED / 2
                    );
                    assert_eq!(at.to_string().matches("record").count(), 0);
                    // And forwards again.
                    assert_eq!(medium.read(&mut bytes).unwrap(), item);
                    assert_eq!(medium.read_back(&mut bytes).unwrap(), item);
                }
                (Thing::Mark, Item::Mark(at)) => assert_eq!(at.byte, position.byte),
                (thing, item) => panic!("{thing:?} was read as {item:?}"),
            }
        }
        assert_eq!(medium.read_back(&mut bytes).unwrap(), Item::End);
        assert!(bytes.is_empty());
    }
    for nowhere in [0, last + 1] {
        let error = medium.seek_end(Some(nowhere)).unwrap_err();
        assert!(
            matches!(error, MediumError::NoSuchPosition { .. }),
            "{error}"
        );
    }
}

/// Any changed byte: the records that are read are correct, and all bytes before them are damage.
pub(crate) fn reading_backwards_through_damage_ends<S: Files>(place: &Site<S>) {
    let things = things(&mut Random::new(9), 12, 60);
    let bytes = place.one_volume(&things);
    for at in 0..bytes.len() {
        let mut bad = bytes.clone();
        bad[at] ^= 0x10;
        place.storage.set_bytes(&place.file(1), &bad);
        let (mut medium, mut record, mut left) = (place.open(), Vec::new(), bad.len() as u64);
        medium.seek_end(None).unwrap();
        loop {
            match medium.read_back(&mut record).unwrap() {
                Item::Record(place) => left = place.byte,
                Item::Mark(place) => {
                    assert_eq!(place.byte, left - 4);
                    left = place.byte;
                }
                Item::Damaged { at, skipped } => {
                    assert_eq!((at.byte + skipped, skipped > 0), (left, true));
                    left = at.byte;
                }
                Item::End => break,
            }
        }
        assert_eq!(left, 0);
    }
}

pub(crate) fn truncation_keeps_whole_records<S: Files>(place: &Site<S>) {
    let things = [
        things(&mut Random::new(4), 12, 60),
        vec![Thing::Mark, Thing::Mark],
    ]
    .concat();
    let bytes = place.one_volume(&things);
    for len in 0..=bytes.len() as u64 {
        let mut expected = Vec::new();
        let mut end = 0;
        for thing in things.iter().take_while(|thing| {
            end += thing.bytes();
            end <= len
        }) {
            expected.push(thing.clone());
        }
        let whole = expected.iter().map(Thing::bytes).sum::<u64>();
        expected.extend((whole < len).then_some(Thing::Damaged(len - whole)));
        let found = only_things(place.read_bytes(&bytes[..len as usize], ours));
        assert_eq!(found, expected, "cut to {len} of {} bytes", bytes.len());
    }
}

pub(crate) fn flipped_byte_spares_other_records<S: Files>(place: &Site<S>) {
    let things = things(&mut Random::new(5), 14, 60);
    let bytes = place.one_volume(&things);
    let whole = place.read_bytes(&bytes, ours);
    for flipped in 0..bytes.len() as u64 {
        for flip in [0x01, 0x80, 0xff, bytes[flipped as usize]]
            .into_iter()
            .filter(|flip| *flip != 0)
        {
            let mut damaged = bytes.clone();
            damaged[flipped as usize] ^= flip;
            let found = place.read_bytes(&damaged, ours);
            assert!(found.len() <= whole.len() + 2, "{found:?}");
            let touched = |(position, thing): &&(Position, Thing)| {
                (position.byte..position.byte + thing.bytes()).contains(&flipped)
            };
            for (position, thing) in whole.iter().filter(|whole| !touched(whole)) {
                let mark_beside = *thing == Thing::Mark;
                let there = found
                    .iter()
                    .any(|(at, found)| (at.byte, found) == (position.byte, thing));
                assert!(
                    there || mark_beside,
                    "{thing:?} at {position} is lost by byte {flipped}: {found:?}"
                );
            }
        }
    }
}

/// Marks before and after a record with one wrong length are not damaged and not lost.
#[test]
fn marks_beside_damage_are_kept() {
    let place = faulty(1, false);
    let record = Thing::Record([MAGIC, &[0; 20]].concat());
    let things = [
        Thing::Mark,
        record.clone(),
        Thing::Mark,
        Thing::Mark,
        record.clone(),
        Thing::Mark,
    ];
    let bytes = place.one_volume(&things);
    let frame = record.bytes();
    // Four lengths: both of both records. The data end in zeros, as marks do.
    let first = 4;
    let second = first + frame + 8;
    for (start, index) in [(first, 1), (second, 4)] {
        for length in [start, start + frame - 4] {
            let mut bytes = bytes.clone();
            bytes[length as usize] ^= 0x40;
            let mut expected = things.clone();
            expected[index] = Thing::Damaged(frame);
            assert_eq!(
                only_things(place.read_bytes(&bytes, ours)),
                expected,
                "length at {length}"
            );
        }
    }
    // Zeros without evidence that they are marks belong to the damage.
    let bytes = [&[0xee; 5][..], &[0; 8], &bytes[first as usize..]].concat();
    let expected = [&[Thing::Damaged(13)], &things[1..]].concat();
    assert_eq!(only_things(place.read_bytes(&bytes, ours)), expected);
}

pub(crate) fn garbage_is_covered_and_bounded<S: Files>(place: &Site<S>) {
    place.one_volume(&[]);
    let mut random = Random::new(6);
    for _ in 0..300 {
        // Few different words, so that matching lengths are frequent.
        let words = [
            0,
            2,
            3,
            4,
            8,
            0x8000_0002,
            0xffff_fff0,
            0x0100_0000,
            0x0100_0001,
            0xd19e_0402,
        ];
        let mut bytes = Vec::new();
        for _ in 0..random.below(200) {
            bytes.extend(u32::to_le_bytes(words[random.below(10) as usize]));
            bytes.extend(&MAGIC[..random.below(4) as usize]);
        }
        place.read_bytes(&bytes, |_| true);
        place.read_bytes(&bytes, ours);
        place.read_bytes(&bytes, |_| false);
        // The reader does not allocate the length that a record claims.
        let mut record = Vec::new();
        let mut medium = place.open();
        while medium.read(&mut record).unwrap() != Item::End {
            assert!(record.capacity() <= bytes.len() + 8);
        }
    }
}

/// An item is the same whether the reader comes to it from the one before, or from anywhere else.
pub(crate) fn items_do_not_depend_on_the_way_to_them<S: Files>(place: &Site<S>) {
    place.one_volume(&[]);
    let mut random = Random::new(7);
    // Marks, erase gaps, ends of the medium, short and long records, and parts of records.
    let words = [
        0,
        0,
        3,
        3,
        4,
        0x8000_0003,
        0xffff_fffe,
        0xffff_ffff,
        0x00d1_9e04,
    ];
    for _ in 0..300 {
        let words = (0..random.below(100)).map(|_| words[random.below(9) as usize]);
        let bytes: Vec<u8> = words.flat_map(u32::to_le_bytes).collect();
        place.storage.set_bytes(&place.file(1), &bytes);
        for probe in [ours, |_: &[u8]| true] {
            let mut medium = place.open_with(probe).unwrap();
            let (mut record, mut items) = (Vec::new(), Vec::new());
            loop {
                match medium.read(&mut record).unwrap() {
                    Item::End => break,
                    item => items.push((item, record.clone())),
                }
            }
            assert_eq!(medium.read(&mut record).unwrap(), Item::End, "again");
            for _ in 0..3 * items.len() {
                let (expected, content) = &items[random.below(items.len() as u64) as usize];
                let (Item::Record(at) | Item::Mark(at) | Item::Damaged { at, .. }) = *expected
                else {
                    unreachable!("the end is not among the items");
                };
                medium.seek(at).unwrap();
                assert_eq!(medium.read(&mut record).unwrap(), *expected, "{bytes:x?}");
                assert_eq!(record, *content);
            }
        }
    }
}

/// The search reads in windows. It finds a record at any offset of a window, and across its end.
pub(crate) fn record_after_damage_of_any_length_is_found<S: Files>(place: &Site<S>) {
    let record = Thing::Record([MAGIC, &[7; 100]].concat());
    let frame = place.one_volume(std::slice::from_ref(&record));
    for near in [0usize, 4 << 10, 8 << 10, 12 << 10, 28 << 10, 2 << 20] {
        let lens = if near > 1 << 20 {
            near..near + 1
        } else {
            near.saturating_sub(150).max(4)..near + 150
        };
        for len in lens {
            let bytes = [&vec![0xee; len][..], &frame].concat();
            let found = only_things(place.read_bytes(&bytes, ours));
            assert_eq!(
                found,
                [Thing::Damaged(len as u64), record.clone()],
                "{len} bytes of damage"
            );
        }
    }
    // The shortest possible frame, at the very end.
    for len in 1..20 {
        let bytes = [&vec![0xee; len][..], &[1, 0, 0, 0, 9, 0, 1, 0, 0, 0]].concat();
        let found = only_things(place.read_bytes(&bytes, |_| true));
        assert_eq!(found, [Thing::Damaged(len as u64), Thing::Record(vec![9])]);
    }
}

/// A false length at every word, and a probe that believes all of them.
pub(crate) fn volume_of_false_lengths_ends<S: Files>(place: &Site<S>) {
    place.one_volume(&[]);
    let bytes = vec![0x00; 64 << 10].into_iter().enumerate();
    let bytes: Vec<u8> = bytes
        .map(|(at, _)| {
            if at % 4 == 0 {
                1 + (at / 4 % 250) as u8
            } else {
                0
            }
        })
        .collect();
    let found = place.read_bytes(&bytes, |_| true);
    assert!(found.len() < bytes.len());
}

pub(crate) fn words_of_other_writers_are_classified<S: Files>(place: &Site<S>) {
    let frame = place.one_volume(&[Thing::Record(MAGIC.to_vec())]);
    let good = Thing::Record(MAGIC.to_vec());
    let with = |first: u8, last: u8| {
        let mut frame = frame.clone();
        frame[3] = first;
        *frame.last_mut().unwrap() = last;
        frame
    };
    let bad = Thing::Damaged(frame.len() as u64);
    for (first, last) in [
        (0x80, 0x80),
        (0x80, 0),
        (0, 0x80),
        (0x10, 0x10),
        (0x90, 0x90),
        (0xe0, 0),
    ] {
        let bytes = [&frame[..], &with(first, last), &frame].concat();
        let found = only_things(place.read_bytes(&bytes, ours));
        assert_eq!(
            found,
            [good.clone(), bad.clone(), good.clone()],
            "classes {first:x} and {last:x}"
        );
    }
    let end = [0xff; 4];
    let bytes = [&frame, &end[..], &frame].concat();
    assert_eq!(
        only_things(place.read_bytes(&bytes, ours)),
        [good],
        "the end of the medium"
    );
    let gaps = [0xfe, 0xff, 0xff, 0xff].repeat(1000);
    place
        .storage
        .set_bytes(&place.file(1), &[&frame, &gaps[..], &frame].concat());
    let mut medium = place.open();
    let mut record = Vec::new();
    for byte in [0, 4000 + frame.len() as u64] {
        let Item::Record(at) = medium.read(&mut record).unwrap() else {
            panic!("a record")
        };
        assert_eq!((at.byte, &record[..]), (byte, MAGIC));
    }
    assert_eq!(medium.read(&mut record).unwrap(), Item::End);
}

pub(crate) fn volume_size_is_kept_and_its_reserve_is_usable<S: Files>(place: &Site<S>) {
    let mut random = Random::new(7);
    for size in [MIN_VOLUME_SIZE, MIN_VOLUME_SIZE + 1, 100_000] {
        let mut medium = place.create_in_place(Some(size)).unwrap();
        let volume = loop {
            match medium.write(&record(&mut random, 2000)) {
                Err(MediumError::EndOfVolume { volume }) => break volume,
                written => drop(written.unwrap()),
            }
        };
        assert_eq!(volume, 1);
        let used = (place.bytes(1).len() + FRAME) as u64;
        assert!(
            used <= size - VOLUME_RESERVE && used > size - VOLUME_RESERVE - 2100,
            "{used} of {size}"
        );
        // The reserve takes twice 2 KiB with their lengths, and a mark.
        medium
            .write(&record(&mut Random::new(1), 3).repeat(680))
            .unwrap();
        medium
            .write(&record(&mut Random::new(1), 3).repeat(680))
            .unwrap();
        medium.write_mark().unwrap();
        while medium.write_mark().is_ok() {}
        assert!(matches!(
            medium.write(MAGIC),
            Err(MediumError::EndOfVolume { volume: 1 })
        ));
        assert!((place.bytes(1).len() + FRAME) as u64 <= size);
        match medium.next_volume() {
            Ok(()) => {
                let first = Position {
                    record: 1,
                    byte: FRAME as u64,
                    ..Position::start_of(2)
                };
                assert_eq!(medium.write(MAGIC).unwrap(), first);
            }
            Err(error @ MediumError::Full { .. }) => {
                assert!(!place.many);
                assert!(
                    error.to_string().contains("use a directory of volumes"),
                    "{error}"
                );
            }
            other => panic!("{other:?}"),
        }
    }
    let error = place.create(Some(MIN_VOLUME_SIZE - 1), true).err().unwrap();
    assert!(
        matches!(error, MediumError::VolumeTooSmall { .. }),
        "{error}"
    );
}

pub(crate) fn nonempty_medium_is_not_overwritten<S: Files>(place: &Site<S>) {
    let old = place.one_volume(&things(&mut Random::new(8), 5, 50));
    let error = place.create(None, false).err().unwrap();
    assert!(
        matches!(&error, MediumError::NotEmpty { path } if *path == place.file(1)),
        "{error}"
    );
    assert_eq!(place.bytes(1), old);
    drop(place.create(None, true).unwrap());
    assert_eq!(place.bytes(1), old, "nothing was written in its place");
    place.create(None, true).unwrap().finish().unwrap();
    assert_eq!(place.bytes(1), b"");
    assert_eq!(read(&mut *place.open()), []);
    assert!(
        place.create(None, false).is_ok(),
        "an empty medium is as good as none"
    );
}

pub(crate) fn empty_and_oversized_records_are_rejected<S: Files>(place: &Site<S>) {
    let mut medium = place.create(None, false).unwrap();
    assert!(matches!(medium.write(&[]), Err(MediumError::Empty)));
    let longest = vec![0xd1; MAX_RECORD];
    medium.write(&longest).unwrap();
    let error = medium.write(&vec![0; MAX_RECORD + 1]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "a record of 16777217 bytes is longer than the 16777216 that this medium takes; \
         write shorter ones"
    );
    assert_eq!(
        only_things(read(&mut *place.open())),
        [Thing::Record(longest)]
    );

    drop(medium);
    let mut medium = place.create(Some(MIN_VOLUME_SIZE), true).unwrap();
    let Err(MediumError::TooLong { max, .. }) = medium.write(&[0; 1 << 16]) else {
        panic!("too long")
    };
    assert_eq!(
        max as u64,
        MIN_VOLUME_SIZE - VOLUME_RESERVE - FRAME as u64 - 8
    );
    assert_eq!(medium.abilities().longest_record, max);
    medium.write(&vec![1; max]).unwrap();
    assert!(matches!(
        medium.write(&[1]),
        Err(MediumError::EndOfVolume { volume: 1 })
    ));
}
