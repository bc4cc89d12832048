//! Stages in their own processes: the interface of such a process, and its messages.
//!
//! ```text
//!   controller                                          host: a program that calls serve() first
//!   the description of a stage, with its module's name
//!        |  starts the program, its standard input a socket
//!        +---- launch request: instances, module, ---->  module(arguments) -> stage
//!        |     arguments, segment                        runs it on the seat, as a thread would
//!        <---- result --------------------------------+
//! ```
//!
//! The data does not move: the process maps the pipe's segment and takes part in the same
//! hand-over. A program hosts its own stages:
//!
//! ```no_run
//! use datapipe::host;
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
//!     host::serve(datapipe::modules().with("repeat", |args| Ok(repeat(args.text()?.parse()?))));
//!     // Only the process that the user started gets here.
//!     let report = Pipe::builder()
//!         .head(StreamHead::new(std::io::stdin()))
//!         .stage(repeat(2).in_processes())
//!         .stage(zstd(3).instances(2).in_processes())
//!         .tail(StreamTail::new(std::io::sink()))
//!         .run()?;
//!     eprintln!("{report}");
//!     Ok(())
//! }
//! ```
//!
//! This module does not start, watch or replace processes: the controller does.
//!
//! # Differences from a thread
//!
//! The factory runs in the process. Objects that its closures share with the rest of the program,
//! such as a counter, are separate copies there. The stage receives only its arguments and
//! [descriptors](crate::stage::Stage::module_with_descriptors). These come back: its blocks; the
//! library's logs and reports, which the controller adds to those that the caller gave the stage;
//! the causes of its [error](crate::error#texts-and-causes); and its
//! [messages](StageArgs::add_message_source).
//!
//! # Deaths
//!
//! The kernel notifies the controller of a death, and the controller reclaims the buffers that the
//! dead process held. An error or a panic stops the pipe as it does in a thread, and so does a
//! process that exits by itself.
//!
//! A process that was killed by a signal is replaced, unless its stage is a loop over its port or
//! [stateful](crate::stage::Stage::stateful). The replacement begins with the block on which the
//! dead process was working. That block is unchanged, because a stage that works in place gets
//! copies in a process; only the findings of an analysis remain as the dead process left them. A
//! block at which two processes died stops the pipe, and so do
//! [`MAX_FRUITLESS_DEATHS`](crate::limits::MAX_FRUITLESS_DEATHS) deaths in a row without progress;
//! [`StageError::death`](crate::StageError::death) says which it was. Heads and tails are not
//! replaced: a head that reads again may read other data, and a tail may have written part of a
//! block. A loop at either end is replaced if it is declared
//! [replaceable](crate::stage::Stage::replaceable).
//!
//! A process that is stopped (SIGSTOP) for longer than [the
//! limit](crate::PipeBuilder::stopped_limit) is killed. So is one that works on one block for
//! longer than the [limit of its stage](crate::stage::Stage::work_limit). Two seconds after a stop
//! of the pipe, the controller kills the processes that have not ended.
//!
//! If the controller dies, each of its processes stops the pipe as soon as the kernel reports the
//! death. They end in order, by themselves within 0.7 seconds or by force. The destination of a
//! tail is then valid up to its last checkpoint.
//!
//! # Processes that the controller does not start
//!
//! A head or a tail can be [unbound](crate::stage::Stage::unbound_head): the pipe then waits for a
//! process to attach. The controller admits the process, [over a socket](crate::Pipe::admit_over)
//! or [by other means](crate::Pipe::admit), and the process uses the primitives through an
//! [`Attachment`]. [The recipe](crate::recipes::attach) has a whole program.

mod allowed_paths; // paths that a module's arguments may name
mod any_stage; // a stage in any role
mod attach_error; // reasons why a process cannot take a seat
pub(crate) mod attach_socket; // the control connection, over a socket of the caller
mod attachment; // a seat in a pipe of another process
mod confine; // restriction of the files that a process may open
mod failure; // the failure of an instance, with its causes
mod instance; // the process that runs a stage
pub(crate) mod launch_request; // the packet that starts an instance
pub(crate) mod message; // the packets that an instance sends
mod message_sources; // collection of an instance's progress messages
mod modules; // the stages that a host can make, by name
mod serve; // the entry point of a host
mod stage_args; // a module's input
mod stop_signals; // stop signals of a terminal, while a process is started
mod watch; // detection of the controller's death

pub use any_stage::AnyStage;
pub use attach_error::AttachError;
pub use attachment::Attachment;
pub use message::StageMessage;
pub use message_sources::Notifier;
pub use modules::Modules;
pub use serve::serve;
pub(crate) use serve::{ARGUMENT, serves};
pub use stage_args::StageArgs;
pub(crate) use stop_signals::StopSignalsBlocked;
