//! Media of an adopter, good and bad, in the suite of media.

use std::path::PathBuf;

use datapipe::limits::MAX_RECORD;
use datapipe::media::{
    Abilities, DirectoryReader, DirectoryWriter, HandleError, Item, MediumError, MediumHandle,
    Position,
};
use datapipe::prelude::*;
use datapipe::testkit::Suite;
use datapipe::wire::VOLUME_RECORD_LEN;

use crate::suites::failure;

/// A part of the contract that a medium breaks.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    None,
    /// Loses the tenth mark.
    LosesMark,
    /// Changes a byte of the tenth record.
    ChangesByte,
    /// Returns the position after the record.
    LatePosition,
    /// Writes nothing for a record of no bytes, and says that all is well.
    AcceptsNothing,
    /// Leaves the bytes of the last record at a mark.
    KeepsRecord,
    /// Begins anew after the end.
    ReadsOn,
    /// Never leaves the last volume.
    EndlessVolumes,
    /// Skips an item when it reads back.
    SkipsBackwards,
    /// Goes to the start of the volume if the position does not exist.
    MovesOnError,
    /// Accepts any volume.
    AnyVolume,
    /// Counts items after `seek_end`.
    Counts,
    /// Goes to the item after the one of the position.
    SeeksTooFar,
    /// Refuses everything after the end of the volume.
    NoReserve,
    /// Leaves a beginning of a record that did not fit.
    HalfRecord,
    /// Writes the last record only when the medium is dropped.
    Unsynced,
    /// Takes shorter records only than it says.
    WrongAbilities,
    /// Takes all records but the longest one that it says.
    RefusesLongest,
    /// Says that it takes longer records than any medium.
    ClaimsTooMuch,
}

/// A writer that forwards to a directory of volumes, and breaks its contract in one part.
struct BadWriter {
    inner: DirectoryWriter,
    fault: Fault,
    /// Calls of the kind that the fault counts.
    count: u32,
    ended: bool,
    late: Option<Vec<u8>>,
    at: Position,
}

/// A reader that forwards to a directory of volumes, and breaks its contract in one part.
struct BadReader {
    inner: DirectoryReader,
    fault: Fault,
    /// Items that were read backwards.
    count: u32,
    ended: bool,
    at: Position,
}

impl BadWriter {
    fn new(inner: DirectoryWriter, fault: Fault) -> Self {
        let at = Position::start_of(1);
        Self {
            inner,
            fault,
            count: 0,
            ended: false,
            late: None,
            at,
        }
    }

    fn counts_to(&mut self, fault: Fault, n: u32) -> bool {
        self.count += u32::from(self.fault == fault);
        self.fault == fault && self.count == n
    }
}

impl Drop for BadWriter {
    fn drop(&mut self) {
        if let Some(late) = self.late.take() {
            self.inner.write(&late).unwrap();
        }
    }
}

impl BadReader {
    fn new(inner: DirectoryReader, fault: Fault) -> Self {
        let at = Position::start_of(1);
        Self {
            inner,
            fault,
            count: 0,
            ended: false,
            at,
        }
    }
}

impl MediumWriter for BadWriter {
    fn write(&mut self, record: &[u8]) -> Result<Position, MediumError> {
        if self.fault == Fault::AcceptsNothing && record.is_empty() {
            return Ok(Position::start_of(1));
        }
        if self.fault == Fault::NoReserve && self.ended {
            return Err(MediumError::EndOfVolume { volume: 1 });
        }
        let longest = self.abilities().longest_record;
        let is_refused = match self.fault {
            Fault::RefusesLongest => record.len() >= longest,
            Fault::ClaimsTooMuch => record.len() > longest,
            _ => false,
        };
        if is_refused {
            let (len, max) = (record.len(), longest);
            return Err(MediumError::TooLong { len, max });
        }
        let mut record = record.to_vec();
        if self.counts_to(Fault::ChangesByte, 10) {
            record[0] ^= 1;
        }
        if self.fault == Fault::Unsynced && record.len() == 10 {
            // The suite's last record, the first one of its volume.
            self.late = Some(record);
            let (record, byte) = (1, 8 + VOLUME_RECORD_LEN as u64);
            let start = Position::start_of(self.at.volume + 1);
            return Ok(Position {
                record,
                byte,
                ..start
            });
        }
        let written = self.inner.write(&record);
        if let Err(MediumError::EndOfVolume { .. }) = written {
            self.ended = true;
            if self.fault == Fault::HalfRecord {
                self.inner.write(&record[..10])?;
            }
        }
        let mut at = written?;
        at.byte += u64::from(self.fault == Fault::LatePosition) * record.len() as u64;
        self.at = at;
        Ok(at)
    }

    fn write_mark(&mut self) -> Result<(), MediumError> {
        if self.counts_to(Fault::LosesMark, 10) {
            return Ok(());
        }
        self.inner.write_mark()
    }

    fn sync(&mut self) -> Result<(), MediumError> {
        self.inner.sync()
    }

    fn next_volume(&mut self) -> Result<(), MediumError> {
        self.ended = false;
        self.inner.next_volume()
    }

    fn finish(&mut self) -> Result<(), MediumError> {
        self.inner.finish()
    }

    fn abilities(&self) -> Abilities {
        match self.fault {
            Fault::WrongAbilities => Abilities::default(),
            Fault::ClaimsTooMuch => Abilities::default().longest_record(MAX_RECORD + 1),
            _ => self.inner.abilities(),
        }
    }

    fn handle(&self) -> Result<MediumHandle, HandleError> {
        Ok(MediumHandle::of_module("bad", "no process opens it"))
    }
}

impl MediumReader for BadReader {
    fn next_volume(&mut self) -> Result<bool, MediumError> {
        self.ended = false;
        Ok(self.inner.next_volume()? || self.fault == Fault::EndlessVolumes)
    }

    fn read(&mut self, record: &mut Vec<u8>) -> Result<Item, MediumError> {
        let before = record.clone();
        let item = self.inner.read(record)?;
        if let Item::Record(at) | Item::Mark(at) = item {
            self.at = at;
        }
        if self.fault == Fault::KeepsRecord && matches!(item, Item::Mark(_)) {
            *record = before;
        }
        if self.fault == Fault::ReadsOn
            && item == Item::End
            && std::mem::replace(&mut self.ended, true)
        {
            self.inner.seek(Position::start_of(self.at.volume))?;
            self.ended = false;
            return self.inner.read(record);
        }
        Ok(item)
    }

    fn read_back(&mut self, record: &mut Vec<u8>) -> Result<Item, MediumError> {
        self.count += 1;
        if self.fault == Fault::SkipsBackwards && self.count == 10 {
            self.inner.read_back(record)?;
        }
        self.inner.read_back(record)
    }

    fn seek_end(&mut self, volume: Option<u32>) -> Result<(), MediumError> {
        self.inner.seek_end(volume)?;
        if self.fault == Fault::Counts {
            // To the end, item by item from the start: so the items are counted.
            let at = volume.unwrap_or(self.at.volume);
            self.inner.seek(Position::start_of(at))?;
            while self.inner.read(&mut Vec::new())? != Item::End {}
        }
        Ok(())
    }

    fn seek(&mut self, to: Position) -> Result<(), MediumError> {
        let sought = match self.inner.seek(to) {
            Err(MediumError::NoSuchPosition { .. }) if self.fault == Fault::AnyVolume => Ok(()),
            other => other,
        };
        if sought.is_err() && self.fault == Fault::MovesOnError {
            self.inner.seek(Position::start_of(1))?;
        }
        sought?;
        if self.fault == Fault::SeeksTooFar {
            self.inner.read(&mut Vec::new())?;
        }
        Ok(())
    }

    fn handle(&self) -> Result<MediumHandle, HandleError> {
        Ok(MediumHandle::of_module("bad", "no process opens it"))
    }
}

/// Runs the suite on a medium of volumes of 100 KiB.
fn run(fault: Fault) {
    let dir = tempfile::tempdir().unwrap();
    let path: PathBuf = dir.path().join("volumes");
    let options = VolumeOptions::default()
        .volume_size(100 << 10)
        .overwrite(true);
    let create = || VolumeDirectory::create(&path, options.clone()).unwrap();
    // The records of the suite are not those of an archive.
    let open = || VolumeDirectory::open_with_probe(&path, |_| true).unwrap();
    Suite::on_threads().medium(
        || BadWriter::new(create(), fault),
        || BadReader::new(open(), fault),
    );
}

#[test]
fn good_media_pass_the_suite() {
    run(Fault::None);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tape");
    let options = VolumeOptions::default().overwrite(true);
    let create = || VirtualTape::create(&path, options.clone()).unwrap();
    Suite::on_threads().medium(create, || VirtualTape::open(&path).unwrap());
    let create = || -> Box<dyn MediumWriter> { Box::new(create()) };
    let open = || -> Box<dyn MediumReader> { Box::new(VirtualTape::open(&path).unwrap()) };
    Suite::on_threads().medium(create, open);
}

#[test]
fn bad_media_fail_with_the_contract() {
    let cases = [
        (
            Fault::LosesMark,
            "records and marks are read back as they were written",
        ),
        (
            Fault::ChangesByte,
            "records and marks are read back as they were written",
        ),
        (
            Fault::Unsynced,
            "what was synced is found by another reader",
        ),
        (
            Fault::HalfRecord,
            "records and marks are read back as they were written",
        ),
        (
            Fault::LatePosition,
            "read reports the position that write returned",
        ),
        (
            Fault::AcceptsNothing,
            "a record of no bytes is MediumError::Empty",
        ),
        (Fault::KeepsRecord, "Item::End and an empty record"),
        (
            Fault::ReadsOn,
            "at the end of a volume each read returns Item::End",
        ),
        (Fault::EndlessVolumes, "and then returns false"),
        (
            Fault::SkipsBackwards,
            "read_back gives the items of read in reverse order",
        ),
        (Fault::MovesOnError, "a seek to the position of an item"),
        (
            Fault::AnyVolume,
            "MediumError::NoSuchPosition, and moves nothing",
        ),
        (Fault::Counts, "positions count from Position::UNCOUNTED"),
        (Fault::SeeksTooFar, "a seek to the position of an item"),
        (
            Fault::WrongAbilities,
            "longer than Abilities::longest_record MediumError::TooLong",
        ),
        (
            Fault::RefusesLongest,
            "a record as long as the abilities of the medium allow",
        ),
        (Fault::ClaimsTooMuch, "a medium takes 1 to 16777216"),
        (Fault::NoReserve, "a short record and a mark still fit"),
    ];
    for (fault, contract) in cases {
        let text = failure(|| run(fault));
        assert!(text.contains(contract), "{fault:?}: {text}");
    }
}
