//! Media, on which a stream is stored. A medium is a sequence of volumes, each a sequence of
//! records and marks.
//!
//! ```text
//!   medium     volume 1                      volume 2
//!            +--------+--------+------+    +--------+------+--------+------+
//!            | record | record | mark |    | record | mark | record | mark |
//!            +--------+--------+------+    +--------+------+--------+------+
//!   files     000001.tap                    000002.tap                   a VolumeDirectory
//!             backup.tap                                                 a VirtualTape: one volume
//! ```
//!
//! A medium is used like a tape drive: a caller writes records one after the other, and reads them
//! back as it wrote them, up to the end of the volume, which the caller cannot predict. A volume is
//! a file in the layout that tape simulators use (SIMH, `.tap`), so other tools can read it.
//! `docs/wire-format.md` has the bytes.
//!
//! A reader recovers from damage in a volume: it reports bytes that are not a record with their
//! position and length, and continues at the next record after them.
//!
//! A direction is a type: a [`MediumWriter`] writes, a [`MediumReader`] reads. The first record of
//! each volume is its volume record, which the library writes and reads by itself: it has the ids
//! of the volume and of the medium, and a label. [`volume_files()`] lists them. A volume of another
//! medium in the place of the right one is reported ([`MediumError::WrongVolume`]).
//!
//! This module does not check the content of other records: a record whose bytes were changed is
//! still a record here. It knows only the header of a session's label, from which it takes the
//! number of a volume whose record is lost. It does not force anything to stable storage before
//! [`sync`](MediumWriter::sync).
//!
//! A medium has one writer: `create` and `append` take the kernel's lock on it until the medium is
//! dropped, and are refused with the holder's process while another one has it
//! ([`MediumError::InUse`]). The lock of a process that was killed ends with it. Reading needs no
//! lock, and [`find_writer`] returns the process that writes.
//!
//! A medium that replaces old content ([`VolumeOptions::overwrite`]) is written beside it, and
//! takes its place in [`finish`](MediumWriter::finish). One that is opened to append
//! ([`VirtualTape::append`], [`VolumeDirectory::append`]) never changes what is there.
//!
//! # Examples
//!
//! ```
//! use datapipe::media::{Item, MediumError, MediumReader, MediumWriter};
//! use datapipe::media::{VolumeDirectory, VolumeOptions};
//!
//! let dir = tempfile::tempdir()?;
//! let path = dir.path().join("backup");
//!
//! let options = VolumeOptions::default().volume_size(64 << 10);
//! let mut medium = VolumeDirectory::create(&path, options)?;
//! for number in 0..100u8 {
//!     let record = [number; 1000];
//!     match medium.write(&record) {
//!         Err(MediumError::EndOfVolume { .. }) => {
//!             medium.write_mark()?;
//!             medium.next_volume()?;
//!             medium.write(&record)?;
//!         }
//!         written => drop(written?),
//!     }
//! }
//! medium.finish()?;
//!
//! let mut medium = VolumeDirectory::open_with_probe(&path, |_| true)?;
//! let (mut record, mut count, mut volumes) = (Vec::new(), 0, 1);
//! loop {
//!     match medium.read(&mut record)? {
//!         Item::Record(_) => count += 1,
//!         Item::Mark(_) => {}
//!         Item::Damaged { at, skipped } => eprintln!("{skipped} bytes are damaged at {at}"),
//!         Item::End if medium.next_volume()? => volumes += 1,
//!         Item::End => break,
//!     }
//! }
//! assert_eq!((count, volumes), (100, 2));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod append; // goes on after the content of a volume
mod chain; // a medium as a chain of the volumes on a shelf
mod dir_storage; // storage below one directory descriptor
mod directory; // a shelf whose volumes are the files of a directory
mod error; // errors of a medium
mod item; // the items that a read finds, and the probe
mod layout; // the words of a volume's file
mod lock; // the lock on a medium that is being written
mod medium; // the traits, one for each direction
mod medium_handle; // descriptors or arguments for another process
mod reader; // reads a volume, and resynchronises after damage
mod reopen; // a medium from another process's descriptors
mod storage; // the file system, as a trait
mod tape; // a shelf of one volume, a file
mod volume_files; // names and replacement of the volumes of a directory
mod volume_labels; // volumes that are missing or have exchanged their names
mod volume_options; // size, overwriting and labels
mod volume_start; // the volume record at the start of a file
mod writer; // writes whole records, or nothing of them

pub use crate::position::Position;
pub use directory::{DirectoryReader, DirectoryWriter, VolumeDirectory};
pub use error::MediumError;
pub use item::{Item, Probe};
pub use lock::{Writer, find_writer};
pub use medium::{Abilities, MediumReader, MediumWriter, VolumeId};
use medium_handle::GivenAway;
pub(crate) use medium_handle::{Form, Origin, Replacing, VolumeEnd};
pub use medium_handle::{HandleError, MediumHandle};
pub(crate) use reopen::{reopen_to_append, reopen_to_read, reopen_to_write};
pub use storage::{FileSystem, NameKind, Storage, StorageFile};
pub use tape::{TapeReader, TapeWriter, VirtualTape};
pub use volume_labels::{
    MisnamedVolume, VolumeFile, VolumeRelation, misnamed_volumes, missing_volumes, volume_files,
};
pub use volume_options::VolumeOptions;
