//! The suite of media.

use crate::archive::{ArchiveOptions, ArchiveReader, BlockSet};
use crate::controller::PipeBuilder;
use crate::error::Error;
use crate::media::{Item, MediumError, MediumReader, MediumWriter, Position};

use super::super::Random;
use super::contract::Contract;
use super::difference::Difference;
use super::medium_items::{Written, check_limits, compare, outcome, read, write, write_longest};
use super::middle::fail;
use super::run::{Received, Suite, pipe};

const BLOCK: usize = 4096;

impl Suite {
    /// Runs a medium in both directions. `create` makes an empty one, open to write, in the place
    /// of the last; `open` opens the last one to read, from its start.
    ///
    /// To write:
    ///
    /// - Records of 1 to 65,536 bytes and marks are written, over the ends of volumes, and invalid
    ///   records are the errors that [`MediumWriter`] names.
    /// - What was synced is there for another reader, while the writer is open.
    /// - An empty medium takes a record that is as long as its
    ///   [abilities](MediumWriter::abilities) say, and refuses longer ones as too long.
    ///
    /// To read:
    ///
    /// - Records and marks are read back in order, at the positions that `write` returned; at the
    ///   end of the last volume there is nothing more.
    /// - Reading backwards, seeking, and `seek_end` lead to the same items, and invalid positions
    ///   are the errors that [`MediumReader`] names.
    ///
    /// An archive is written, and read as a whole and in part. If processes are part of the suite,
    /// the archive is also written and read by processes, which open the medium by its handle
    /// ([`MediumWriter::handle`], [`MediumReader::handle`]).
    ///
    /// The suite writes about a megabyte, and a record of the longest length. To include the ends
    /// of volumes, let `create` make volumes of 64 KiB to 200 KiB. Failures of the storage are not
    /// part of it, and neither is a crash: for these the medium needs tests of its own.
    ///
    /// # Panics
    ///
    /// If the medium breaks its contract.
    pub fn medium<W: MediumWriter + 'static, R: MediumReader + 'static>(
        &self,
        create: impl Fn() -> W,
        open: impl Fn() -> R,
    ) {
        let written = check_writer(&create);
        let case = "reading from the start to the end";
        let mut reader = open();
        let found = read(case, &mut reader, written.len() + 10);
        compare(Contract::ReadBack, case, &found, &written);
        check_backwards(&mut reader, &found);
        check_seeks(&mut reader, &found);
        drop(reader);
        check_sync(&create, &open);
        check_empty(&create, &open);
        check_longest(&create, &open);
        self.check_archive(&create, &open, false);
        if self.with_processes {
            self.check_archive(&create, &open, true);
        }
    }

    /// Writes an archive and reads it back, all of it and some blocks.
    fn check_archive<W: MediumWriter + 'static, R: MediumReader + 'static>(
        &self,
        create: &impl Fn() -> W,
        open: &impl Fn() -> R,
        in_processes: bool,
    ) {
        let place = if in_processes {
            "in processes"
        } else {
            "on threads"
        };
        let mut bytes = vec![0; 50 * BLOCK - 100];
        Random::new(5).fill(&mut bytes);
        let blocks: Vec<_> = bytes.chunks(BLOCK).map(<[u8]>::to_vec).collect();
        let case = format!("an archive written {place}");
        let plan = ArchiveOptions::stream("suite").record_len(BLOCK);
        let plan = plan.chunk_len(50_000).block_len(BLOCK as u32).plan();
        let medium = create();
        if in_processes && let Err(error) = medium.handle() {
            Contract::Handle.broken(&case, error);
        }
        let archive = plan.expect("a plan without a key");
        let archive = if in_processes {
            archive.map_tail(|tail| tail.in_processes())
        } else {
            archive
        };
        let head = crate::stage::StreamHead::new(std::io::Cursor::new(bytes));
        let pipe = pipe().buffer_size(BLOCK as u32).head(head);
        let pipe = pipe.archive(archive, medium);
        if let Err(error) = self.run(&case, pipe) {
            broken_archive(&case, in_processes, error);
        }
        let reader = ArchiveReader::open(open(), None);
        let reader = reader.unwrap_or_else(|error| Contract::Archive.broken(&case, error));
        let put = |pipe: PipeBuilder<'static>| {
            if in_processes {
                pipe.in_processes()
            } else {
                pipe
            }
        };
        let check = |case: &str, pipe: PipeBuilder<'static>, expected: &[Vec<u8>]| {
            let received = Received::default();
            if let Err(error) = self.run(case, received.end(put(pipe))) {
                broken_archive(case, in_processes, error);
            }
            if let Some(difference) = Difference::of_blocks(&received.take(), expected) {
                Contract::Archive.broken(case, difference);
            }
        };
        let case = format!("an archive read {place}");
        check(&case, reader.read().pipe, &blocks);
        let case = format!("blocks 7 to 9 and 40 of an archive, read {place}");
        let mut some = BlockSet::new();
        some.insert(7..=9);
        some.insert(40..=40);
        let index = reader.index();
        let index = index.unwrap_or_else(|error| Contract::Archive.broken(&case, error));
        let reading = reader.read_blocks(&index, &some);
        let reading = reading.unwrap_or_else(|error| Contract::Archive.broken(&case, error));
        // Block 0 is the origin of the archive.
        let expected = [&blocks[6..=8], &blocks[39..=39]].concat();
        check(&case, reading.pipe, &expected);
    }
}

fn broken_archive(case: &str, in_processes: bool, error: Error) -> ! {
    if in_processes {
        Contract::Handle.broken(case, error);
    }
    fail(case, error)
}

/// Writes to a medium what it takes, and tries what it does not take. Returns what was written.
fn check_writer<W: MediumWriter>(create: &impl Fn() -> W) -> Vec<Written> {
    let mut writer = create();
    check_limits(&mut writer);
    write(&mut writer)
}

/// Reads what was written to a medium while it is open to write.
fn check_sync<W: MediumWriter, R: MediumReader>(create: &impl Fn() -> W, open: &impl Fn() -> R) {
    let mut writer = create();
    let written = write(&mut writer);
    let case = "another reader, before the writer is dropped";
    let found = read(case, &mut open(), written.len() + 10);
    compare(Contract::Sync, case, &found, &written);
}

/// Reads each volume from its end to its start.
fn check_backwards(medium: &mut impl MediumReader, found: &[Written]) {
    let volumes: Vec<_> = found.split(|item| *item == Written::NextVolume).collect();
    let (last, mut record) = (volumes.len(), vec![1]);
    for (number, items) in (1u32..).zip(&volumes).collect::<Vec<_>>().into_iter().rev() {
        let case = format!("volume {number} from its end to its start");
        let which = (number < last as u32).then_some(number);
        if let Err(error) = medium.seek_end(which) {
            Contract::SeekEnd.broken(&case, error);
        }
        match medium.read(&mut record) {
            Ok(Item::End) => {}
            other => Contract::SeekEnd.broken(&case, outcome(&other)),
        }
        for (index, item) in items.iter().enumerate().rev() {
            let back = medium.read_back(&mut record);
            let (found, at) = match back {
                Ok(Item::Record(at)) => (Written::Record(at, record.clone()), at),
                Ok(Item::Mark(at)) => (Written::Mark(Some(at)), at),
                other => {
                    let text = format!("item {index}, {}: {}", item.name(), outcome(&other));
                    Contract::Backwards.broken(&case, text)
                }
            };
            if let Some(difference) = found.difference(item) {
                Contract::Backwards.broken(&case, format!("item {index}, {difference}"));
            }
            let expected = item.position().map_or(at, |expected| expected);
            if (at.volume, at.byte) != (expected.volume, expected.byte) {
                let text = format!("item {index}: read_back reports {at}, read {expected}");
                Contract::Backwards.broken(&case, text);
            }
            if at.record < Position::UNCOUNTED / 2 {
                Contract::SeekEnd.broken(&case, format!("item {index} is counted: {at}"));
            }
        }
        match medium.read_back(&mut record) {
            Ok(Item::End) if record.is_empty() => {}
            other => {
                let text = format!("at the start of the volume {}", outcome(&other));
                Contract::Backwards.broken(&case, text);
            }
        }
    }
}

/// Goes to items in no order, and to positions that do not exist.
fn check_seeks(medium: &mut impl MediumReader, found: &[Written]) {
    let items: Vec<_> = found
        .iter()
        .filter_map(|item| item.position().map(|at| (at, item)))
        .collect();
    if items.is_empty() {
        Contract::ReadBack.broken("300 records and marks", "the medium has none of them");
    }
    let mut random = Random::new(3);
    let mut record = Vec::new();
    let ends = found.iter().filter(|item| **item == Written::NextVolume);
    let last = 1 + ends.count() as u32;
    for _ in 0..200 {
        let (at, item) = items[random.below(items.len() as u64) as usize];
        let case = format!("a seek to {at}");
        if let Err(error) = medium.seek(at) {
            Contract::Seek.broken(&case, error);
        }
        for nowhere in [
            Position::start_of(0),
            Position::start_of(last + 1),
            Position {
                byte: u64::MAX / 4,
                ..Position::start_of(1)
            },
        ] {
            match medium.seek(nowhere) {
                Err(MediumError::NoSuchPosition { .. }) => {}
                other => {
                    let case = format!("a seek to {nowhere}, of {last} volumes");
                    Contract::SeekNowhere.broken(&case, outcome(&other));
                }
            }
        }
        let next = match medium.read(&mut record) {
            Ok(Item::Record(at)) => Written::Record(at, record.clone()),
            Ok(Item::Mark(at)) => Written::Mark(Some(at)),
            other => Contract::Seek.broken(&case, outcome(&other)),
        };
        if let Some(difference) = next.difference(item) {
            Contract::Seek.broken(&case, difference);
        }
    }
}

/// A medium to which nothing was written has no items.
fn check_empty<W: MediumWriter, R: MediumReader>(create: &impl Fn() -> W, open: &impl Fn() -> R) {
    let case = "a medium without items";
    let mut writer = create();
    if let Err(error) = writer.sync().and_then(|()| writer.finish()) {
        Contract::Works.broken(case, error);
    }
    let found = read(case, &mut open(), 10);
    compare(Contract::ReadBack, case, &found, &[]);
}

/// An empty medium takes the longest record of its abilities.
fn check_longest<W: MediumWriter, R: MediumReader>(create: &impl Fn() -> W, open: &impl Fn() -> R) {
    let case = "a record as long as the abilities of the medium allow";
    let written = write_longest(&mut create());
    let found = read(case, &mut open(), 10);
    compare(Contract::RecordLimits, case, &found, &[written]);
}
