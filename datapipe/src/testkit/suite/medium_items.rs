//! Records and marks that a suite writes to a medium, and reads back.

use crate::limits::MAX_RECORD;
use crate::media::{Item, MediumError, MediumReader, MediumWriter, Position};

use super::super::Random;
use super::contract::Contract;
use super::difference::{Difference, Shown};

/// Something on a medium, as it was written or read.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Written {
    /// A record with its position.
    Record(Position, Vec<u8>),
    /// A mark. Its position is known only when it is read.
    Mark(Option<Position>),
    NextVolume,
}

impl Written {
    pub(super) fn position(&self) -> Option<Position> {
        match self {
            Self::Record(at, _) => Some(*at),
            Self::Mark(at) => *at,
            Self::NextVolume => None,
        }
    }

    pub(super) fn name(&self) -> String {
        match self {
            Self::Record(_, bytes) => {
                format!("a record of {} bytes, {}", bytes.len(), Shown(bytes, 0))
            }
            Self::Mark(_) => "a mark".to_owned(),
            Self::NextVolume => "the end of the volume".to_owned(),
        }
    }

    /// Returns the difference from `expected`, without the positions.
    pub(super) fn difference(&self, expected: &Self) -> Option<String> {
        match (self, expected) {
            (Self::Record(_, one), Self::Record(_, other)) => {
                Difference::of_bytes(one, other).map(|difference| difference.to_string())
            }
            (Self::Mark(_), Self::Mark(_)) | (Self::NextVolume, Self::NextVolume) => None,
            _ => Some(format!("{} instead of {}", self.name(), expected.name())),
        }
    }
}

/// Items that are written, or volumes, if these come first.
const ITEMS: usize = 300;
const VOLUMES: usize = 3;

/// Writes records of many lengths, and marks, to up to three volumes. Returns what was written.
pub(super) fn write(medium: &mut impl MediumWriter) -> Vec<Written> {
    let case = "writing 300 records and marks";
    let works = |error: MediumError| -> ! { Contract::Works.broken(case, error) };
    let mut random = Random::new(11);
    let (mut written, mut volumes) = (Vec::new(), 1);
    for number in 0..ITEMS {
        if random.below(5) == 0 {
            match medium.write_mark() {
                Ok(()) => written.push(Written::Mark(None)),
                Err(MediumError::EndOfVolume { .. }) => {}
                Err(error) => works(error),
            }
            continue;
        }
        let len = match number % 20 {
            0 => 1,
            1 => 65_536,
            _ => 1 + random.below(9000),
        };
        let mut bytes = vec![0; len as usize];
        random.fill(&mut bytes);
        let result = if number % 3 == 0 {
            let (begin, end) = bytes.split_at(random.below(len + 1) as usize);
            medium.write_parts(&[begin, &[], end])
        } else {
            medium.write(&bytes)
        };
        match result {
            Ok(at) => written.push(Written::Record(at, bytes)),
            Err(MediumError::TooLong { max, .. }) if max < bytes.len() && max > 0 => {}
            Err(MediumError::EndOfVolume { .. }) => {
                written.extend(end_volume(medium));
                volumes += 1;
                match medium.next_volume() {
                    Ok(()) => {
                        written.push(Written::NextVolume);
                        if volumes > VOLUMES {
                            written.push(last_record(medium));
                            break;
                        }
                    }
                    Err(MediumError::Full { .. }) => break,
                    Err(error) => Contract::EndOfVolume.broken(case, error),
                }
            }
            Err(error) => works(error),
        }
    }
    if let Err(error) = medium.sync().and_then(|()| medium.finish()) {
        works(error);
    }
    written
}

/// Writes the only record of the last volume.
fn last_record(medium: &mut impl MediumWriter) -> Written {
    let bytes = b"the end...".to_vec();
    match medium.write(&bytes) {
        Ok(at) => Written::Record(at, bytes),
        Err(error) => Contract::EndOfVolume.broken("the first record of a volume", error),
    }
}

/// Uses the room that is reserved at the end of a volume.
fn end_volume(medium: &mut impl MediumWriter) -> [Written; 2] {
    let case = "a record of 100 bytes and a mark after the first EndOfVolume";
    let bytes = vec![0x5a; 100];
    let at = match medium.write(&bytes) {
        Ok(at) => at,
        Err(error) => Contract::EndOfVolume.broken(case, error),
    };
    if let Err(error) = medium.write_mark() {
        Contract::EndOfVolume.broken(case, error);
    }
    [Written::Record(at, bytes), Written::Mark(None)]
}

/// Reads a medium from its position to its end. `most` items are believed.
pub(super) fn read(case: &str, medium: &mut impl MediumReader, most: usize) -> Vec<Written> {
    let (mut found, mut record) = (Vec::new(), vec![1, 2, 3]);
    loop {
        let item = match medium.read(&mut record) {
            Ok(item) => item,
            Err(error) => Contract::Works.broken(case, error),
        };
        match item {
            Item::Record(at) => found.push(Written::Record(at, record.clone())),
            Item::Mark(at) => found.push(Written::Mark(Some(at))),
            Item::Damaged { at, skipped } => Contract::ReadBack.broken(
                case,
                format!("item {}: {skipped} damaged bytes at {at}", found.len()),
            ),
            Item::End => {
                check_end(case, medium, &mut record, found.len());
                match medium.next_volume() {
                    Ok(true) => found.push(Written::NextVolume),
                    Ok(false) => return found,
                    Err(error) => Contract::EndOfItems.broken(case, error),
                }
            }
        }
        if !matches!(item, Item::Record(_)) && !record.is_empty() {
            let text = format!(
                "item {}: the record is not empty after {item:?}",
                found.len()
            );
            Contract::EndOfItems.broken(case, text);
        }
        if found.len() > most {
            let text = format!("more than {most} items");
            Contract::EndOfItems.broken(case, text);
        }
    }
}

/// Reads at the end of a volume once more.
fn check_end(case: &str, medium: &mut impl MediumReader, record: &mut Vec<u8>, items: usize) {
    if !record.is_empty() {
        let text = format!("item {items}: the record is not empty after Item::End");
        Contract::EndOfItems.broken(case, text);
    }
    match medium.read(record) {
        Ok(Item::End) if record.is_empty() => {}
        Ok(item) => {
            let text = format!("item {items}: a second read at the end returned {item:?}");
            Contract::EndOfItems.broken(case, text);
        }
        Err(error) => Contract::EndOfItems.broken(case, error),
    }
}

/// Compares what was found with what was written.
pub(super) fn compare(contract: Contract, case: &str, found: &[Written], written: &[Written]) {
    for (number, (found, written)) in found.iter().zip(written).enumerate() {
        if let Some(difference) = found.difference(written) {
            contract.broken(case, format!("item {number}, {difference}"));
        }
        if let (Written::Record(read, _), Written::Record(at, _)) = (found, written)
            && read != at
        {
            let text = format!("item {number}: read reports {read}, write returned {at}");
            Contract::Positions.broken(case, text);
        }
    }
    if found.len() != written.len() {
        let more = if found.len() > written.len() {
            found
        } else {
            written
        };
        let number = found.len().min(written.len());
        let text = format!(
            "{} items instead of {}; item {number} of the longer list is {}",
            found.len(),
            written.len(),
            more[number].name()
        );
        contract.broken(case, text);
    }
}

/// Writes records that no medium takes.
pub(super) fn check_limits(medium: &mut impl MediumWriter) {
    let case = "a record of no bytes";
    match medium.write(&[]) {
        Err(MediumError::Empty) => {}
        other => Contract::RecordLimits.broken(case, outcome(&other)),
    }
    let case = "a record of no parts";
    match medium.write_parts(&[]) {
        Err(MediumError::Empty) => {}
        other => Contract::RecordLimits.broken(case, outcome(&other)),
    }
    let case = "the longest record of the abilities of the medium";
    let longest = medium.abilities().longest_record;
    if !(1..=MAX_RECORD).contains(&longest) {
        let text = format!("{longest} bytes; a medium takes 1 to {MAX_RECORD}");
        Contract::RecordLimits.broken(case, text);
    }
    let case = "a record that is one byte longer than the abilities of the medium allow";
    match medium.write(&vec![1; longest + 1]) {
        Err(MediumError::TooLong { max, .. }) if max == longest => {}
        other => Contract::RecordLimits.broken(case, outcome(&other)),
    }
}

/// Writes the longest record that the medium takes to an empty one.
pub(super) fn write_longest(medium: &mut impl MediumWriter) -> Written {
    let case = "a record as long as the abilities of the medium allow";
    let mut bytes = vec![0; medium.abilities().longest_record];
    Random::new(7).fill(&mut bytes);
    let written = medium.write(&bytes);
    let finished = written.and_then(|at| medium.finish().map(|()| at));
    match finished {
        Ok(at) => Written::Record(at, bytes),
        Err(error) => Contract::RecordLimits.broken(case, error),
    }
}

/// Returns the result of a call for a message.
pub(super) fn outcome<T: std::fmt::Debug>(result: &Result<T, MediumError>) -> String {
    match result {
        Ok(value) => format!("the call returned {value:?}"),
        Err(error) => format!("the call failed: {error}"),
    }
}
