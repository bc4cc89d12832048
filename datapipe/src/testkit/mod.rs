//! For tests, ours and yours: stages that misbehave on request, a source and an end that know what
//! must arrive, a sink that keeps its bytes, suites for heads, stages, tails and media, and a
//! storage that fails on schedule.
//!
//! ```text
//!   numbers -> drop_every, fail_at, panic_at, sleepy, pass, gather, repeat, or yours -> collect
//!
//!   Suite: the cases that every head, stage, port loop, tail and medium must pass
//!   with_copies_changed: another process that changes what a stage has copied
//!   archive_stages: the seal and the tail of an archive, to put a stage between them
//!   FaultyStorage: files in memory, whose n-th call fails, and which lose what was not synced
//! ```
//!
//! The module is compiled only with the feature `testkit`, or in this crate's own tests. Nothing in
//! it is fast, and nothing in it is for production.

mod archive; // the stages of an archive, apart
mod changes; // a participant that changes what was copied
mod frames; // a volume's file, taken apart
mod random; // a small generator whose seed is printed
mod sink; // a writer that keeps what it gets
mod stages; // a source, a sink, and stages that misbehave on request
mod storage; // a storage in memory that fails on schedule
mod suite; // suites through which stages and media of yours are run

pub use archive::archive_stages;
pub use changes::with_copies_changed;
pub use frames::frames;
pub use random::Random;
pub use sink::Sink;
pub use stages::{
    Collected, collect, drop_every, fail_at, gather, numbers, panic_at, pass, repeat, sleepy,
};
pub use storage::{FaultyFile, FaultyStorage, StorageCall};
pub use suite::{Suite, check_stage};
