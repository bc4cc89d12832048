//! Stages: the traits that a stage implements, the description from which a pipe starts it, and
//! the stages that come with the library.
//!
//! ```text
//!             Head            Transform / InPlace / Analyze / FlatMap    Tail
//!   source -> fill  -> queue -> transform, once per instance -> queue -> write -> destination
//! ```
//!
//! A stage sees only blocks. Numbers, order, waiting and placement are the runner's business, so
//! the same code runs on a thread, in a process, or inline, called in turn with other stages.
//!
//! # For callers
//!
//! A [`Stage`] describes one stage: its name, the number of instances, where they run, and how to
//! make one.
//!
//! - Between head and tail, the library's stages are functions that return a description:
//!   [`analyze()`], [`zstd()`], [`deflate()`], [`decompress()`], [`decompress_salvaging()`],
//!   [`sequence()`], [`resequence()`]. Make your own with [`Stage::transform`] and its siblings.
//! - Heads and tails are types, because they own what they read or write, and some have a report:
//!   [`StreamHead`], [`StreamTail`]. A value that implements [`Head`] or [`Tail`] converts into a
//!   stage of one instance.
//!
//! # For implementers
//!
//! | when | what is called | on which thread | may it block? | what ends the pipe |
//! |---|---|---|---|---|
//! | launch, tail first | your factory, per instance | the launching one | briefly | panic |
//! | a block is ready | `fill`, `transform`, ... | the instance's own | yes | error, panic |
//! | the stream ended well | [`Tail::finish`] | the instance's own | yes | error, panic |
//! | always, last | `drop` | the instance's own | briefly | panic |
//!
//! A block is ready when it can be filled (`fill`), read (`transform`, `analyze`) or written
//! (`write`). A stop of the pipe waits for a call that blocks, unless it blocks in a
//! [`Stop`](crate::pool::Stop), as [`Block::stop`](crate::pool::Block::stop) returns it.
//!
//! The runner never makes a call twice for one block, and never makes one after an error. The one
//! exception is a process that is killed: its replacement, a new instance, receives the block on
//! which the killed process was working. Blocks arrive in the order of the stream. In a stage of
//! several instances exactly one of them sees each block, and they may finish blocks in any order.
//!
//! Plain streams apart, this module does not read files. It does not write media or know the
//! archive format either: the stages that do are built on top of it.

mod arguments; // named fields of a module's arguments
mod builtin; // the library's stages
mod cause; // causes of errors, also those that a process has sent
#[cfg(feature = "archive")]
mod checkpoint; // blocks that say how far a head has come
mod confinement; // files that a stage's processes may open
mod damage_log; // record of what a salvaging reader could not read
mod description; // `Stage`: everything known before a stage runs
mod error; // errors of a stage, and the ends of its process
mod following; // blocks after the one that a tail has
mod inspection_log; // record of what an inspection has marked or rejected
mod into_stage; // conversions into the stages of a pipe
pub(crate) mod mirror; // copies of a process's reports in the controller
mod notice; // news of a stage for the events of its pipe
mod outputs; // the blocks that a stage makes from one
mod problem_count; // problems of a pipe
pub(crate) mod problem_sink; // problems on their way to the caller
mod process_rights; // user, program and temporary files of a stage's processes
mod replaceable; // loops at either end that go on after a death
mod role; // head, middle or tail
pub(crate) mod runner; // one instance, step by step, on a thread or inline
mod settings; // name, instances, placement and module of a stage
mod shorten; // stages that live longer than what their pipe borrows
mod traits; // head, transform, in-place, analyze, tail
mod work; // kind and instances of a described stage

pub use arguments::{Arguments, Fields};
#[cfg(feature = "deflate")]
pub use builtin::deflate;
#[cfg(feature = "zstd")]
pub use builtin::zstd;
pub(crate) use builtin::{
    ANALYZE_MODULE, DECOMPRESS_MODULE, DEFLATE_MODULE, RESEQUENCE_MODULE, SEQUENCE_MODULE,
    STREAM_HEAD_MODULE, STREAM_TAIL_MODULE, ZSTD_MODULE, write_error,
};
pub use builtin::{
    BlockReader, BlockWriter, Finding, Inspect, OpenFile, StreamHead, StreamTail, analyze,
    classify, decompress, decompress_salvaging, resequence, sequence,
};
pub use cause::ProcessCause;
pub(crate) use cause::{SystemCode, causes};
#[cfg(feature = "archive")]
pub(crate) use checkpoint::{CheckpointClock, has_checkpoints, put_checkpoint};
pub(crate) use confinement::AllowedPath;
pub use confinement::{CheckedPath, Confinement};
pub(crate) use damage_log::SALVAGE;
pub use damage_log::{DamageEntry, DamageLog, DamageOutcome};
pub use description::{HeadStage, HeadWork, MiddleStage, MiddleWork, Stage, TailStage, TailWork};
pub(crate) use error::WaitingInstance;
pub use error::{Death, NotReplaced, StageError, StageFailure, WaitsFor};
#[doc(hidden)]
pub use following::Following;
pub(crate) use inspection_log::InspectionMirror;
pub use inspection_log::{InspectionLog, InspectionOutcome};
pub use into_stage::{IntoHead, IntoMiddle, IntoTail};
pub(crate) use notice::{Notice, NoticeSource};
pub use outputs::Outputs;
pub(crate) use problem_count::ProblemCount;
pub(crate) use process_rights::ProcessRights;
pub use process_rights::{ProcessUser, ProgramFile};
pub use role::Role;
pub use settings::StageKind;
pub(crate) use settings::{
    ARCHIVE_HEAD_MODULE, ARCHIVE_TAIL_MODULE, MessageHandler, Module, Placement, Settings,
    TREE_HEAD_MODULE,
};
pub use traits::{Analyze, Fill, FlatMap, Head, InPlace, Tail, Transform, Verdict};
