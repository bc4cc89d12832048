//! Stages in processes of their own: what such a process calls, and what it is told.
//!
//! ```text
//!   controller                                            host: a program that calls serve() first
//!   the description of a stage, with its module's name
//!        |  starts the program, its standard input a socket
//!        +---- order: seat, module, arguments, segment ---->  module(arguments) -> stage
//!        |                                                    runs it on the seat, as a thread would
//!        <---- how it ended --------------------------------+
//! ```
//!
//! The data stays where it is: the process maps the pipe's segment and takes part in the same
//! hand-over. A program hosts its own stages:
//!
//! ```no_run
//! use datapipe::host::{self, Modules};
//! use datapipe::prelude::*;
//!
//! struct Repeat(usize);
//!
//! impl Transform for Repeat {
//!     fn transform(&mut self, input: &Block, output: &mut Block) -> Result<Verdict, StageError> {
//!         output.put(&input.bytes().repeat(self.0))?;
//!         Ok(Verdict::Send)
//!     }
//! }
//!
//! /// The one description of the stage, for threads and for processes.
//! fn repeat(times: usize) -> MiddleStage<'static> {
//!     Stage::transform("repeat", move |_| Repeat(times)).module("repeat", times.to_string())
//! }
//!
//! fn main() -> Result<(), datapipe::Error> {
//!     host::serve(Modules::new().with("repeat", |call| Ok(repeat(call.text()?.parse()?))));
//!     // From here on, this is the program that was started by its user.
//!     let report = Pipe::builder()
//!         .head(StreamHead::new(std::io::stdin()))
//!         .stage(repeat(2).in_processes())
//!         .stage(Zstd::level(3).instances(2).in_processes())
//!         .tail(StreamTail::new(std::io::sink()))
//!         .run()?;
//!     eprintln!("{report}");
//!     Ok(())
//! }
//! ```
//!
//! # What is different from a thread
//!
//! The factory runs in the process. So what its closures share with the rest of the program, say a
//! log, is another one there: the arguments, and [descriptors](crate::stage::Stage::descriptor),
//! are all that the stage gets to know, and its blocks and [notes](StageArgs::notes) are all that comes
//! back.
//!
//! # Deaths
//!
//! The controller notices a death from the kernel, and takes back what the dead one held. An error
//! or a panic stops the pipe as it does in a thread, and so does a process that exits by itself.
//! One that was killed by a signal is replaced, unless its stage is a loop over its port or
//! [stateful](crate::stage::Stage::stateful): the replacement begins with the block that the dead
//! one was working on. That is as it was, for what changes blocks in place gets copies in a
//! process; only what an analysis said about it is as the dead one left it. A block at which two
//! died stops the pipe, and so do [`MAX_FRUITLESS_DEATHS`](crate::limits::MAX_FRUITLESS_DEATHS) in
//! a row without any work done; [`StageError::death`](crate::StageError::death) says which it was.
//! Heads and tails are not replaced: a head that reads again may see something else, and a tail may
//! have written part of a block.
//!
//! A process that is stopped (SIGSTOP) for longer than [the
//! limit](crate::PipeBuilder::stopped_limit) is killed. Two seconds after a stop of the pipe, the
//! controller kills those that have not ended.
//!
//! If the controller dies, each of its processes stops the pipe when the kernel says so: they end
//! in order, by themselves within 0.7 seconds or by force. What a tail has written is then valid up
//! to its last checkpoint.
//!
//! # Somebody else's process
//!
//! A head or a tail can be [unbound](crate::stage::Stage::unbound_head): the pipe then waits for a
//! process to come, which its controller [admits](crate::Pipe::admit), and which uses the
//! primitives through an [`Attachment`].

mod attachment; // a process that takes a seat in somebody else's pipe
mod confine; // what a process may open
mod instance; // the process that runs a stage
mod modules; // what a host can make, by name
pub(crate) mod order; // what a process is to do
pub(crate) mod report; // what it says
mod watch; // whether its controller lives

use std::sync::OnceLock;

pub use attachment::Attachment;
pub use modules::{AnyStage, Modules, Notifier, StageArgs};
pub use report::StageMessage;

/// What a process is started with that is to run a stage; behind it stands, for whoever lists
/// processes, which one.
pub(crate) const ARGUMENT: &str = "--datapipe-instance";

static SERVES: OnceLock<()> = OnceLock::new();

/// Runs a stage of a pipe, if that is what this process was started for, and exits; returns at once
/// otherwise.
///
/// To be called first in `main`, before threads are started and arguments are looked at.
/// [`datapipe::modules`](crate::modules) has all that come with the library.
pub fn serve(modules: Modules) {
    if std::env::args_os()
        .nth(1)
        .is_some_and(|first| first == ARGUMENT)
    {
        std::process::exit(instance::run(modules));
    }
    SERVES.get_or_init(|| ());
}

/// Whether this program can be started once more to run a stage. One that does not call [`serve`]
/// would do again whatever it does.
pub(crate) fn serves() -> bool {
    SERVES.get().is_some()
}
