//! Media: what a stream is kept on. A sequence of volumes, each a sequence of records and marks.
//!
//! ```text
//!   medium     volume 1                      volume 2
//!            +--------+--------+------+    +--------+------+--------+------+
//!            | record | record | mark |    | record | mark | record | mark |
//!            +--------+--------+------+    +--------+------+--------+------+
//!   files     000001.tap                    000002.tap                         a VolumeDirectory
//!             backup.tap                                                       a VirtualTape: one volume
//! ```
//!
//! It is used like a tape drive: records are written one behind the other and read back as they
//! were written, up to the end of the volume, which comes when it comes. A volume is a file in the
//! layout that tape simulators use (SIMH, `.tap`), so other tools can read it.
//! `docs/wire-format.md` has the bytes.
//!
//! A volume that was damaged is read as far as that goes: what is no record is reported with its
//! place and its length, and reading goes on at the next record behind it.
//!
//! Does not know what is in a record, nor check it: a record whose bytes were changed is still a
//! record here. Does not lock: two that write one tape spoil it. Does not write its memory to
//! stable storage until it is asked to [`sync`](Medium::sync).
//!
//! # Examples
//!
//! ```
//! use datapipe::media::{VolumeDirectory, VolumeOptions, Item, Medium, MediumError};
//!
//! let place = tempfile::tempdir()?;
//! let path = place.path().join("backup");
//!
//! let options = VolumeOptions { volume_size: Some(64 << 10), ..VolumeOptions::default() };
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
//! medium.sync()?;
//!
//! let mut medium = VolumeDirectory::open(&path, |_| true)?;
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

mod dir_storage; // storage below one directory descriptor
mod directory; // volumes as the files of a directory
mod error; // errors of a medium
mod item; // the items that a read finds, and the probe
mod layout; // the words of a volume's file
mod medium; // the trait
mod medium_handle; // the descriptors with which another process reopens a medium
mod position; // the position of a record or a mark
mod reader; // reads a volume, and resynchronises after damage
mod reopen; // a medium from another process's descriptors
mod storage; // the file system, as a trait
mod tape; // one file, one volume
mod volume_options; // size and overwriting
mod writer; // writes whole records, or nothing of them

pub use directory::VolumeDirectory;
pub use error::MediumError;
pub use item::{Item, Probe};
pub use medium::Medium;
pub(crate) use medium_handle::Form;
pub use medium_handle::MediumHandle;
pub use position::Position;
pub(crate) use reopen::{reopen_to_read, reopen_to_write};
pub use storage::{FileSystem, Storage, StorageFile};
pub use tape::VirtualTape;
pub use volume_options::VolumeOptions;
