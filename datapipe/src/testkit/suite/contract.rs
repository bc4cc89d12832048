//! The parts of the contracts of stages and media, as failures name them.

use std::fmt;

/// A part of a contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Contract {
    Works,
    SameResult,
    NoState,
    EmptyStream,
    Stops,
    DeclaredHolds,
    Replaceable,
    Module,
    HeadData,
    HeadEnds,
    TailData,
    TailBeginning,
    ReadBack,
    Positions,
    RecordLimits,
    EndOfItems,
    Backwards,
    Seek,
    SeekNowhere,
    SeekEnd,
    EndOfVolume,
    Sync,
    Archive,
    Handle,
}

impl Contract {
    /// Fails the test, with the part of the contract that is broken, the case, and the detail.
    pub(super) fn broken(self, case: &str, detail: impl fmt::Display) -> ! {
        panic!("broken contract: {self}\n    case: {case}\n    found: {detail}")
    }
}

impl fmt::Display for Contract {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = TEXTS.iter().find(|(contract, _)| contract == self);
        f.write_str(text.map_or("", |(_, text)| text))
    }
}

/// The text of each part.
const TEXTS: [(Contract, &str); 24] = [
    (
        Contract::Works,
        "the stage works on every block without an error",
    ),
    (
        Contract::SameResult,
        "the result does not depend on the number of instances, nor on whether they are \
         threads, inline or processes",
    ),
    (
        Contract::NoState,
        "the result of a block depends on this block only; declare a stage that needs earlier \
         blocks a loop over its port",
    ),
    (
        Contract::EmptyStream,
        "an empty stream gives an empty stream",
    ),
    (
        Contract::Stops,
        "the stage ends when the pipe stops: it returns the error of its port, and does not \
         wait for anything else",
    ),
    (
        Contract::DeclaredHolds,
        "the stage holds no more blocks than it declares (Stage::holds_in, Stage::holds_out)",
    ),
    (
        Contract::Replaceable,
        "the replacement of a process that was killed goes on with the same result; declare a \
         stage that keeps state stateful",
    ),
    (
        Contract::Module,
        "the stage can be made in a process: it names a module (Stage::module), and main \
         calls host::serve with this module",
    ),
    (
        Contract::HeadData,
        "a head gives its data in order, each byte once, with buffers of any size",
    ),
    (
        Contract::HeadEnds,
        "a head returns Fill::End at the end of its data",
    ),
    (
        Contract::TailData,
        "a tail writes its data in order, each byte once, however they are cut into blocks",
    ),
    (
        Contract::TailBeginning,
        "the tail of a pipe that was cancelled has written a beginning of the data",
    ),
    (
        Contract::ReadBack,
        "records and marks are read back as they were written, and a record that was refused \
         leaves nothing",
    ),
    (
        Contract::Positions,
        "read reports the position that write returned",
    ),
    (
        Contract::RecordLimits,
        "a record of no bytes is MediumError::Empty, one that is longer than \
         Abilities::longest_record MediumError::TooLong, and neither is written",
    ),
    (
        Contract::EndOfItems,
        "at the end of a volume each read returns Item::End and an empty record; next_volume \
         goes to each further volume, and then returns false",
    ),
    (
        Contract::Backwards,
        "read_back gives the items of read in reverse order, and Item::End at the start of \
         the volume",
    ),
    (
        Contract::Seek,
        "a seek to the position of an item makes that item the next one",
    ),
    (
        Contract::SeekNowhere,
        "a seek to a position that does not exist is MediumError::NoSuchPosition, and moves \
         nothing",
    ),
    (
        Contract::SeekEnd,
        "after seek_end the end of the volume is next, and positions count from \
         Position::UNCOUNTED",
    ),
    (
        Contract::EndOfVolume,
        "after MediumError::EndOfVolume a short record and a mark still fit, and next_volume \
         begins a volume or returns MediumError::Full",
    ),
    (
        Contract::Sync,
        "what was synced is found by another reader at once",
    ),
    (
        Contract::Archive,
        "an archive can be written, and read back as a whole and in part",
    ),
    (
        Contract::Handle,
        "handle names a module that opens the same medium in a process, and main calls \
         host::serve with this module (Modules::with_medium)",
    ),
];
