//! Move data through a chain of tasks that share one pool of buffers in shared memory.
//!
//! ```text
//!              +------- queue -------+------- queue -------+------- queue -------+
//!              |                     v                     v                     v
//!   source -> head                zstd x2           aes-256-gcm x2              tail -> medium
//!              ^                                                                 |
//!              +-------------------------- free buffers -------------------------+
//! ```
//!
//! The tasks hand each other buffers, never copies. Each can have many instances, and their results
//! leave in order. The pipe runs as fast as its slowest task, in the memory of its pool.
//!
//! ```
//! use datapipe::prelude::*;
//! # let dir = tempfile::tempdir()?;
//! # let path = dir.path().join("nightly.tap");
//!
//! let data = b"the only copy of a user's data".repeat(100_000);
//! let key = Secret::Key(Key::from_bytes([7; 32]));
//! let archive = ArchiveOptions::stream("nightly").encrypt(key).plan()?;
//! let tape = VirtualTape::create(path, VolumeOptions::default())?;
//! let report = Pipe::builder()
//!     .head(StreamHead::new(&data[..]))
//!     .stage(zstd(3).instances(2))
//!     .archive(archive.map_seal(|seal| seal.instances(2)), tape)
//!     .run()?;
//! println!("{report}");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # The modules, in the order of the data
//!
//! - [`tree`] has file trees: from files to the entries of an archive, and from entries to files.
//!   [`TreeReader`](tree::TreeReader) lists a tree by patterns and reads single files of it,
//!   without a destination.
//! - [`archive`] writes blocks to a medium and reads them back, all of them or some.
//! - [`controller`] checks a description, makes the memory, starts the stages, watches and stops
//!   them.
//! - [`host`] is for a process that runs stages of another program's pipe.
//! - [`stage`] has what a pipe consists of: traits to implement, and the stages that come with the
//!   library.
//! - [`media`] has what a stream is stored on: volumes of records and marks, in files.
//! - [`wire`] has the bytes of an archive.
//! - [`pool`] has the buffers: their holders, the quotas, and the reclaiming of what the dead held.
//! - `queue` moves descriptors between the stages, in order.
//! - [`memory`] is the segment that contains all of it.
//! - [`crypto`] has keys: the secrets of users, the keys derived from them, and the cipher.
//! - [`sequence`] has numbers and their order by themselves.
//! - `limits` has every bound of the system, and [`error`] every error.
//!
//! A module uses only those below it. [`docs`] has the reference pages: the segment and the
//! hand-over, which survives the death of any participant at any instruction
//! ([shared memory](docs::shared_memory)), and the terms ([glossary](docs::glossary)), among
//! others. [`recipes`] has whole programs.
//!
//! # Where to find
//!
//! Each folder begins with a `mod.rs` that has a figure and a line for each file. Some places:
//!
//! | subject | file |
//! |---|---|
//! | one buffer changing hands: take, send, free | `datapipe/src/pool/participant.rs` |
//! | waiting, and being woken | `datapipe/src/pool/wait.rs`, `datapipe/src/memory/event_count.rs` |
//! | the number of buffers that a pipe needs | `datapipe/src/pool/budget.rs` |
//! | reclaiming a dead process's buffers | `datapipe/src/pool/reclaim.rs` |
//! | starting and replacing processes | `datapipe/src/controller/processes/supervisor.rs` |
//! | detecting a deadlock | `datapipe/src/controller/supervise.rs` |
//! | running a stage, step by step | `datapipe/src/stage/runner/task.rs` |
//! | compressing a block | `datapipe/src/stage/builtin/compress/encode.rs` |
//! | encrypting a block | `datapipe/src/archive/seal.rs`, with `datapipe/src/crypto/cipher.rs` |
//! | unlocking an archive with a key or passphrase | `datapipe/src/crypto/slot.rs` |
//! | recovering from damage on a medium | `datapipe/src/archive/read/record_reader.rs` |
//! | reading the attributes of a file | `datapipe/src/tree/read/open.rs` |
//! | restoring extended attributes | `datapipe/src/tree/restore/attributes.rs` |
//! | keeping a restore below its directory | `datapipe/src/tree/restore/destination.rs` |
//! | deciding in `datapiped` who may do what | `datapipe-net/src/config/permissions.rs` |
//! | deciding in `datapiped` which paths are allowed | `datapipe-net/src/config/paths.rs` |
//!
//! # Stability
//!
//! The documented items are the stable interface; `docs/surface.txt` lists them. Items that are
//! public and not documented (the segment, seats, budgets, limits, the cipher) are for the tools of
//! this project, and may change in any release.
//!
//! # Platform
//!
//! 64-bit Linux, kernel 5.14 or later; a build for another system stops with that message. The
//! oldest supported Rust is 1.95 (`rust-version` in `Cargo.toml`): it is raised only in a release
//! that raises the minor version, before 1.0 as after it, never to a Rust that is younger than six
//! months, and the changelog names it. With the feature `zstd`, a C compiler is needed.
//!
//! # Features
//!
//! | feature | has | on by default |
//! |---|---|---|
//! | `archive` | [`archive`], and `crypto` | yes |
//! | `crypto` | [`crypto`] | yes |
//! | `deflate` | [`stage::deflate`], and the decompression of its blocks | yes |
//! | `named-segments` | [`memory::Backing::Named`], by the crate `shared_memory` | yes |
//! | `processes` | [`host`], [`stage::Stage::in_processes`], [`Pipe::admit`] | yes |
//! | `tree` | [`tree`], and `archive` | yes |
//! | `zstd` | [`stage::zstd`], and the decompression of its blocks | yes |
//! | `aws-lc` | AES-256-GCM by AWS-LC instead of the `aes-gcm` crate, and `crypto` | no |
//! | `serde` | `Serialize` for [`Status`], [`Report`] and [`Event`] | no |
//! | `tracing` | events and spans of a pipe for the crate `tracing` | no |
//! | `testkit` | suites for stages and media of yours; with `archive`, `processes` | no |
//!
//! A pipe alone, with `default-features = false`, builds with 18 crates. A block that was
//! compressed by an omitted algorithm stops the pipe with an error that names the feature.
//!
//! # Limits of the library
//!
//! It has no async runtime, and does no networking by itself. It does not defend the data in a
//! buffer against another process that was given the segment and writes to a buffer that it does
//! not hold.

#![cfg_attr(
    not(all(
        feature = "archive",
        feature = "deflate",
        feature = "named-segments",
        feature = "processes",
        feature = "tree",
        feature = "zstd"
    )),
    allow(
        dead_code,
        unused_imports,
        reason = "lower layers have parts that only the modules of an omitted feature use"
    )
)]
#![warn(unnameable_types, clippy::exhaustive_enums, clippy::exhaustive_structs)]
#![cfg_attr(docsrs, feature(doc_cfg))]
#![cfg_attr(
    loom,
    allow(
        dead_code,
        unused_imports,
        unreachable_pub,
        reason = "the models run the layers below the ports"
    )
)]

#[cfg(not(all(target_os = "linux", target_pointer_width = "64")))]
compile_error!("datapipe supports only 64-bit Linux, kernel 5.14 or later");

#[cfg(all(not(loom), feature = "archive"))]
pub mod archive;
#[cfg(not(loom))]
mod block_info;
#[cfg(all(not(loom), feature = "archive"))]
mod cells; // digest of a file's or a stream's content
#[cfg(not(loom))]
pub mod controller;
#[cfg(all(not(loom), feature = "crypto"))]
pub mod crypto;
#[cfg(not(loom))]
pub mod docs;
pub mod error;
#[cfg(all(not(loom), feature = "processes"))]
pub mod host;
#[doc(hidden)]
pub mod interrupt;
#[doc(hidden)]
pub mod limits;
#[cfg(not(loom))]
pub mod media;
#[allow(unsafe_code, reason = "maps memory that other processes map too")]
pub mod memory;
#[cfg(not(loom))]
mod planted; // files that another user may have put in the way
pub mod pool;
#[cfg(not(loom))]
mod position;
mod queue;
#[cfg(not(loom))]
pub mod recipes;
#[cfg(not(loom))]
pub mod sequence;
#[cfg(not(loom))]
#[allow(unsafe_code, reason = "loads bytes that other processes change")]
mod shared_bytes; // bytes that another process may change while they are read
#[cfg(not(loom))]
pub mod stage;
#[cfg(not(loom))]
#[doc(hidden)]
pub mod standard_streams;
#[cfg(all(not(loom), any(test, feature = "testkit")))]
pub mod testkit;
#[cfg(all(not(loom), feature = "tree"))]
pub mod tree;
#[allow(
    clippy::exhaustive_enums,
    clippy::exhaustive_structs,
    reason = "version 1 of the format fixes their fields and codes, as each type says"
)]
#[cfg(not(loom))]
pub mod wire;
mod words; // counts and errors in words

#[cfg(not(loom))]
pub use controller::{AtLimit, Canceller, Event, Pipe, PipeBuilder, Plan, Report, Status};
pub use error::Corruption;
#[cfg(not(loom))]
pub use error::{
    Deadlock, Death, Error, NotReplaced, StageError, StageFailure, WaitingStage, WaitsFor,
};
pub use memory::{Direction, InstanceId};
#[cfg(not(loom))]
pub use stage::Role;

/// Returns all modules that come with the library: those of `datapipe-host`, and the start for a
/// [`host`] of your own, which adds its modules with [`with`](host::Modules::with).
#[cfg(all(not(loom), feature = "processes"))]
pub fn modules() -> host::Modules {
    let modules = host::Modules::of_plain_stages();
    #[cfg(feature = "archive")]
    let modules = archive::modules(modules);
    #[cfg(feature = "tree")]
    let modules = tree::modules(modules);
    modules
}

/// The names that a program with pipes needs most: `use datapipe::prelude::*;`
#[cfg(not(loom))]
pub mod prelude {
    #[cfg(feature = "archive")]
    pub use crate::archive::{Archive, ArchiveOptions, ArchiveReader, StreamRestore};
    pub use crate::controller::{
        AtLimit, Canceller, Event, Pipe, PipeBuilder, Progress, Report, Status,
    };
    #[cfg(feature = "crypto")]
    pub use crate::crypto::{Identity, Key, Passphrase, Recipient, Secret};
    pub use crate::error::{Error, StageError};
    pub use crate::media::{
        MediumReader, MediumWriter, VirtualTape, VolumeDirectory, VolumeOptions,
    };
    pub use crate::memory::Direction;
    pub use crate::pool::{
        Block, BlockInfo, Codec, ContentClass, HeadPort, Marks, MiddlePort, Stop, TailPort,
    };
    #[cfg(feature = "deflate")]
    pub use crate::stage::deflate;
    #[cfg(feature = "zstd")]
    pub use crate::stage::zstd;
    pub use crate::stage::{
        Analyze, BlockReader, BlockWriter, DamageLog, Fill, Finding, Head, HeadStage, InPlace,
        Inspect, InspectionLog, MiddleStage, Stage, StreamHead, StreamTail, Tail, TailStage,
        Transform, Verdict, analyze, decompress, decompress_salvaging,
    };
    pub use crate::stage::{FlatMap, Outputs};
    #[cfg(feature = "tree")]
    pub use crate::tree::{
        ObjectInspector, ObjectVerdict, RestoreOptions, TreeHead, TreeOptions, TreeRestore,
        TreeVerify,
    };
    pub use crate::wire::Content;
}

/// The program of the package's readme compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
