//! Moves blocks between the pool and a stage, one step at a time.
//!
//! ```text
//!   step:  input?  output?  call the stage  send      -> Moved, Ended, or Blocked and on what
//!
//!   thread: step until blocked, sleep on that one event, step again
//!   inline: step every task in turn, sleep on all events at once when none moved
//!   process: as a thread, in a process that has the segment; see `host`
//! ```
//!
//! A step never waits, so a stage's code cannot tell where it runs. Does not know the other stages.

pub(crate) mod inline; // all tasks in turn on one thread
pub(crate) mod thread; // one task on one thread

use std::rc::Rc;

use crate::error::StageError;
use crate::pool::{Block, Blocked, HeadPort, MiddlePort, PortCore, PortError, Seat, TailPort};

use super::{
    Analyze, Fill, Head, HeadKind, HeadStage, InPlace, MiddleKind, MiddleStage, StageKind, Tail,
    TailKind, TailStage, Transform, Verdict,
};

/// One instance of one stage, ready to be moved to the thread where it will run.
pub(crate) enum Worker<'a> {
    /// It can be called step by step: thread or inline.
    Stepped(OnSeat<'a, Result<Box<dyn Task + 'a>, StageError>>),
    /// It is a loop of its own, and needs a thread.
    Looped(OnSeat<'a, Result<(), StageError>>),
}

/// What is done with the seat, on the thread where the instance runs.
type OnSeat<'a, T> = Box<dyn FnOnce(&Seat) -> T + Send + 'a>;

/// One running instance.
pub(crate) trait Task {
    /// Does one piece of work, without waiting for the pipe.
    fn step(&mut self) -> Result<Result<Step, Blocked>, StageError>;

    /// What it waits on when it is blocked.
    fn core(&self) -> &Rc<PortCore>;
}

/// What a step has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// A block was moved; there may be more.
    Moved,
    /// The stream has ended, and the instance with it.
    Ended,
}

/// Takes what an attempt got; ends the step if it got nothing.
macro_rules! ready {
    ($attempt:expr) => {
        match $attempt? {
            Ok(got) => got,
            Err(blocked) => return Ok(Err(blocked)),
        }
    };
}

impl<'a> HeadStage<'a> {
    pub(crate) fn worker(&mut self, instance: u32) -> Worker<'a> {
        match &mut self.work.0 {
            HeadKind::Fill(make) => {
                let head = make(instance);
                stepped(move |seat| {
                    Ok(HeadTask {
                        port: Some(seat.head()?),
                        head,
                    })
                })
            }
            HeadKind::Port(run) => {
                let run = run.take().expect("a loop has one instance");
                Worker::Looped(Box::new(move |seat| {
                    let port = seat.head()?;
                    run(&port)?;
                    Ok(port.finish()?)
                }))
            }
            HeadKind::Described(_) => no_code(),
        }
    }

    /// Which kind of work it is, for the process that runs it.
    pub(crate) fn work(&self) -> StageKind {
        match self.work.0 {
            HeadKind::Fill(_) => StageKind::Fill,
            HeadKind::Port(_) => StageKind::Loop,
            HeadKind::Described(work) => work,
        }
    }

    pub(crate) fn has_code(&self) -> bool {
        !matches!(self.work.0, HeadKind::Described(_))
    }
}

impl<'a> MiddleStage<'a> {
    pub(crate) fn worker(&mut self, instance: u32) -> Worker<'a> {
        match &mut self.work.0 {
            MiddleKind::Transform(make) => {
                let stage = make(instance);
                stepped(move |seat| {
                    Ok(TransformTask {
                        port: Some(seat.middle()?),
                        stage,
                        input: None,
                    })
                })
            }
            MiddleKind::InPlace(make) => {
                let stage = make(instance);
                stepped(move |seat| {
                    Ok(InPlaceTask {
                        port: Some(seat.middle()?),
                        stage,
                    })
                })
            }
            MiddleKind::Analyze(make) => {
                let stage = Looking(make(instance));
                stepped(move |seat| {
                    Ok(InPlaceTask {
                        port: Some(seat.middle()?),
                        stage: Box::new(stage),
                    })
                })
            }
            MiddleKind::Port(run) => {
                let run = run.take().expect("a loop has one instance");
                Worker::Looped(Box::new(move |seat| {
                    let port = seat.middle()?;
                    port.core().skip_vacant(true);
                    run(&port)?;
                    Ok(port.finish()?)
                }))
            }
            MiddleKind::Described(_) => no_code(),
        }
    }

    /// As [`worker`](Self::worker), for a process, which may be killed: what changes blocks in
    /// place gets copies.
    pub(crate) fn worker_on_copies(&mut self, instance: u32) -> Worker<'a> {
        let MiddleKind::InPlace(make) = &mut self.work.0 else {
            return self.worker(instance);
        };
        let stage = Box::new(OnCopies(make(instance)));
        stepped(move |seat| {
            Ok(TransformTask {
                port: Some(seat.middle()?),
                stage,
                input: None,
            })
        })
    }

    /// Which kind of work it is, for the process that runs it.
    pub(crate) fn work(&self) -> StageKind {
        match self.work.0 {
            MiddleKind::Transform(_) => StageKind::Transform,
            MiddleKind::InPlace(_) => StageKind::InPlace,
            MiddleKind::Analyze(_) => StageKind::Analyze,
            MiddleKind::Port(_) => StageKind::Loop,
            MiddleKind::Described(work) => work,
        }
    }

    pub(crate) fn has_code(&self) -> bool {
        !matches!(self.work.0, MiddleKind::Described(_))
    }
}

impl<'a> TailStage<'a> {
    pub(crate) fn worker(&mut self, instance: u32) -> Worker<'a> {
        match &mut self.work.0 {
            TailKind::Write(make) => {
                let tail = make(instance);
                stepped(move |seat| {
                    let port = seat.tail()?;
                    port.core().skip_vacant(true);
                    Ok(TailTask {
                        port: Some(port),
                        tail,
                        closed: false,
                    })
                })
            }
            TailKind::Port(run) => {
                let run = run.take().expect("a loop has one instance");
                Worker::Looped(Box::new(move |seat| {
                    let port = seat.tail()?;
                    port.core().skip_vacant(true);
                    run(&port)?;
                    Ok(port.finish()?)
                }))
            }
            TailKind::Described(_) => no_code(),
        }
    }

    /// Which kind of work it is, for the process that runs it.
    pub(crate) fn work(&self) -> StageKind {
        match self.work.0 {
            TailKind::Write(_) => StageKind::Write,
            TailKind::Port(_) => StageKind::Loop,
            TailKind::Described(work) => work,
        }
    }

    pub(crate) fn has_code(&self) -> bool {
        !matches!(self.work.0, TailKind::Described(_))
    }
}

/// The plan refuses to run such a stage here.
fn no_code<'a>() -> Worker<'a> {
    Worker::Looped(Box::new(|_| {
        Err(StageError::new(
            "this program does not have the stage's code",
        ))
    }))
}

fn stepped<'a, T: Task + 'a>(
    make: impl FnOnce(&Seat) -> Result<T, PortError> + Send + 'a,
) -> Worker<'a> {
    Worker::Stepped(Box::new(move |seat| {
        Ok(Box::new(make(seat)?) as Box<dyn Task + 'a>)
    }))
}

struct HeadTask<'a> {
    port: Option<HeadPort>,
    head: Box<dyn Head + 'a>,
}

impl Task for HeadTask<'_> {
    fn step(&mut self) -> Result<Result<Step, Blocked>, StageError> {
        let port = running(&self.port);
        let mut block = ready!(port.try_alloc());
        match self.head.fill(&mut block)? {
            Fill::Block => {
                port.send(block)?;
                Ok(Ok(Step::Moved))
            }
            Fill::End if !block.is_empty() => {
                let len = block.len();
                Err(StageError::new(format!(
                    "the head said that there is no more, with {len} bytes in the block; say Block, and then End"
                )))
            }
            Fill::End => {
                drop(block);
                end(self.port.take().map(HeadPort::finish))
            }
        }
    }

    fn core(&self) -> &Rc<PortCore> {
        running(&self.port).core()
    }
}

struct TransformTask<'a> {
    port: Option<MiddlePort>,
    stage: Box<dyn Transform + 'a>,
    /// An input for which there is no output buffer yet.
    input: Option<Block>,
}

impl Task for TransformTask<'_> {
    fn step(&mut self) -> Result<Result<Step, Blocked>, StageError> {
        let port = running(&self.port);
        let input = match self.input.take() {
            Some(input) => input,
            None => match ready!(port.try_receive()) {
                Some(input) if input.is_vacant() => {
                    self.stage.missed(input.number())?;
                    port.forward(input)?;
                    return Ok(Ok(Step::Moved));
                }
                Some(input) => input,
                None => return end(self.port.take().map(MiddlePort::finish)),
            },
        };
        let mut output = match port.try_alloc()? {
            Ok(output) => output,
            Err(blocked) => {
                self.input = Some(input);
                return Ok(Err(blocked));
            }
        };
        output.set_info(input.info());
        match self.stage.transform(&input, &mut output)? {
            Verdict::Send => port.send(output, &input)?,
            Verdict::SendInput => port.forward(input)?,
            Verdict::Drop => port.drop_input(input)?,
        }
        Ok(Ok(Step::Moved))
    }

    fn core(&self) -> &Rc<PortCore> {
        running(&self.port).core()
    }
}

/// A stage that works in place, run out of place.
struct OnCopies<'a>(Box<dyn InPlace + 'a>);

impl Transform for OnCopies<'_> {
    fn transform(&mut self, input: &Block, output: &mut Block) -> Result<Verdict, StageError> {
        output.copy_of(input);
        Ok(match self.0.transform(output)? {
            Verdict::Send | Verdict::SendInput => Verdict::Send,
            Verdict::Drop => Verdict::Drop,
        })
    }

    fn missed(&mut self, number: u64) -> Result<(), StageError> {
        self.0.missed(number)
    }
}

struct InPlaceTask<'a> {
    port: Option<MiddlePort>,
    stage: Box<dyn InPlace + 'a>,
}

impl Task for InPlaceTask<'_> {
    fn step(&mut self) -> Result<Result<Step, Blocked>, StageError> {
        let port = running(&self.port);
        let Some(mut block) = ready!(port.try_receive()) else {
            return end(self.port.take().map(MiddlePort::finish));
        };
        let verdict = if block.is_vacant() {
            self.stage.missed(block.number())?;
            Verdict::Send
        } else {
            self.stage.transform(&mut block)?
        };
        match verdict {
            Verdict::Send | Verdict::SendInput => port.forward(block)?,
            Verdict::Drop => port.drop_input(block)?,
        }
        Ok(Ok(Step::Moved))
    }

    fn core(&self) -> &Rc<PortCore> {
        running(&self.port).core()
    }
}

/// An analysis, run as a stage that leaves the data alone.
struct Looking<'a>(Box<dyn Analyze + 'a>);

impl InPlace for Looking<'_> {
    fn transform(&mut self, block: &mut Block) -> Result<Verdict, StageError> {
        let mut info = block.info();
        self.0.analyze(block.bytes(), &mut info)?;
        block.set_info(info);
        Ok(Verdict::Send)
    }
}

struct TailTask<'a> {
    port: Option<TailPort>,
    tail: Box<dyn Tail + 'a>,
    /// The stream has ended, and our part of it is written.
    closed: bool,
}

impl Task for TailTask<'_> {
    fn step(&mut self) -> Result<Result<Step, Blocked>, StageError> {
        let port = running(&self.port);
        if !self.closed {
            if let Some(block) = ready!(port.try_receive()) {
                self.tail.write(&block)?;
                return Ok(Ok(Step::Moved));
            }
            port.close()?;
            self.closed = true;
        }
        // The mark of a whole stream is set when all of it is written, by whichever instance.
        ready!(port.try_all_closed());
        self.tail.finish()?;
        self.port = None;
        Ok(Ok(Step::Ended))
    }

    fn core(&self) -> &Rc<PortCore> {
        running(&self.port).core()
    }
}

fn end(finished: Option<Result<(), PortError>>) -> Result<Result<Step, Blocked>, StageError> {
    finished.transpose()?;
    Ok(Ok(Step::Ended))
}

/// The port of a task that has not ended: nobody calls a task after that.
fn running<P>(port: &Option<P>) -> &P {
    port.as_ref().expect("an ended task is not called again")
}
