//! Tasks: one running instance each, called one step at a time.

use std::rc::Rc;

use crate::error::StageError;
use crate::memory::Number;
use crate::pool::{
    Block, Blocked, HeadPort, Marks, MiddlePort, PortCore, PortError, TailPort, TryError,
};
use crate::stage::Following;
use crate::stage::traits::{Analyze, Fill, Head, InPlace, Tail, Transform, Verdict};

/// One running instance.
pub(crate) trait Task {
    /// Moves or processes one block, without waiting for the pipe.
    fn step(&mut self) -> Result<Step, StageError>;

    /// Port on which the task waits when it is blocked.
    fn core(&self) -> &Rc<PortCore>;
}

/// Outcome of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// A block was moved; there may be more.
    Moved,
    /// The stream has ended, and the instance with it.
    Ended,
    /// The step would have to wait, and has done nothing.
    Blocked(Blocked),
}

/// Unwraps the result of an attempt; ends the step if the attempt would have to wait.
macro_rules! ready {
    ($attempt:expr) => {
        match $attempt {
            Ok(got) => got,
            Err(TryError::Blocked(blocked)) => return Ok(Step::Blocked(blocked)),
            Err(error) => return Err(error.into()),
        }
    };
}

/// Fills and sends blocks. As in every task, the port is `None` once the task has ended.
pub(super) struct HeadTask<'a> {
    port: Option<HeadPort>,
    head: Box<dyn Head + 'a>,
}

impl<'a> HeadTask<'a> {
    pub(super) fn new(port: HeadPort, head: Box<dyn Head + 'a>) -> Self {
        Self {
            port: Some(port),
            head,
        }
    }
}

impl Task for HeadTask<'_> {
    fn step(&mut self) -> Result<Step, StageError> {
        let port = running(&self.port);
        let mut block = ready!(port.try_alloc());
        match self.head.fill(&mut block)? {
            Fill::Block => {
                port.send(block)?;
                Ok(Step::Moved)
            }
            Fill::End if !block.is_empty() => {
                let len = block.len();
                Err(StageError::new(format!(
                    "the head returned Fill::End with {len} bytes in the block; return Fill::Block \
                     first, and Fill::End for the next block"
                )))
            }
            Fill::End => {
                let port = self.port.take();
                end(port.map(|port| port.finish_with(block)))
            }
        }
    }

    fn core(&self) -> &Rc<PortCore> {
        running(&self.port).core()
    }
}

/// Makes one block from one block.
pub(super) struct TransformTask<'a> {
    port: Option<MiddlePort>,
    stage: Box<dyn Transform + 'a>,
    takes_control: bool,
    /// An input for which there is no output buffer yet.
    input: Option<Block>,
}

impl<'a> TransformTask<'a> {
    pub(super) fn new(port: MiddlePort, stage: Box<dyn Transform + 'a>) -> Self {
        Self {
            port: Some(port),
            takes_control: stage.takes_control_blocks(),
            stage,
            input: None,
        }
    }
}

impl Task for TransformTask<'_> {
    /// The stage is called only with both blocks at hand: if no buffer is free, the input waits in
    /// `self.input` for the next step. A vacant input is forwarded and needs no output buffer.
    fn step(&mut self) -> Result<Step, StageError> {
        let port = running(&self.port);
        let input = match self.input.take() {
            Some(input) => input,
            None => match ready!(port.try_receive()) {
                Some(input) if input.passes(self.takes_control) => {
                    if input.is_vacant() {
                        self.stage.on_vacant(input.number())?;
                    }
                    port.forward(input)?;
                    return Ok(Step::Moved);
                }
                Some(input) => input,
                None => {
                    self.stage.finish()?;
                    return end(self.port.take().map(MiddlePort::finish));
                }
            },
        };
        let output = port.try_alloc();
        if let Err(TryError::Blocked(blocked)) = output {
            self.input = Some(input);
            return Ok(Step::Blocked(blocked));
        }
        let mut output = output?;
        output.set_info(input.info());
        match self.stage.transform(&input, &mut output)? {
            Verdict::Send => port.send(output, &input)?,
            Verdict::SendInput => port.forward(input)?,
            Verdict::Drop if is_last(&input) => port.forward(input)?,
            Verdict::Drop => port.drop_input(input)?,
        }
        Ok(Step::Moved)
    }

    fn core(&self) -> &Rc<PortCore> {
        running(&self.port).core()
    }
}

/// Runs a stage that works in place on a copy of its input.
pub(super) struct CopyThenInPlace<'a>(pub(super) Box<dyn InPlace + 'a>);

impl Transform for CopyThenInPlace<'_> {
    fn transform(&mut self, input: &Block, output: &mut Block) -> Result<Verdict, StageError> {
        output.copy_of(input);
        Ok(match self.0.transform(output)? {
            Verdict::Send | Verdict::SendInput => Verdict::Send,
            Verdict::Drop => Verdict::Drop,
        })
    }

    fn on_vacant(&mut self, number: Number) -> Result<(), StageError> {
        self.0.on_vacant(number)
    }

    fn takes_control_blocks(&self) -> bool {
        self.0.takes_control_blocks()
    }

    fn finish(&mut self) -> Result<(), StageError> {
        self.0.finish()
    }
}

/// Changes blocks in place.
pub(super) struct InPlaceTask<'a> {
    port: Option<MiddlePort>,
    stage: Box<dyn InPlace + 'a>,
    takes_control: bool,
}

impl<'a> InPlaceTask<'a> {
    pub(super) fn new(port: MiddlePort, stage: Box<dyn InPlace + 'a>) -> Self {
        Self {
            port: Some(port),
            takes_control: stage.takes_control_blocks(),
            stage,
        }
    }
}

impl Task for InPlaceTask<'_> {
    fn step(&mut self) -> Result<Step, StageError> {
        let port = running(&self.port);
        let Some(mut block) = ready!(port.try_receive()) else {
            self.stage.finish()?;
            return end(self.port.take().map(MiddlePort::finish));
        };
        let verdict = if block.passes(self.takes_control) {
            if block.is_vacant() {
                self.stage.on_vacant(block.number())?;
            }
            Verdict::Send
        } else {
            self.stage.transform(&mut block)?
        };
        match verdict {
            Verdict::Send | Verdict::SendInput => port.forward(block)?,
            Verdict::Drop if is_last(&block) => port.forward(block)?,
            Verdict::Drop => port.drop_input(block)?,
        }
        Ok(Step::Moved)
    }

    fn core(&self) -> &Rc<PortCore> {
        running(&self.port).core()
    }
}

/// Runs an analysis as a stage that works in place and leaves the data unchanged.
pub(super) struct AnalyzeInPlace<'a>(pub(super) Box<dyn Analyze + 'a>);

impl InPlace for AnalyzeInPlace<'_> {
    fn transform(&mut self, block: &mut Block) -> Result<Verdict, StageError> {
        let mut info = block.info();
        self.0.analyze(block.bytes(), &mut info)?;
        block.set_info(info);
        Ok(Verdict::Send)
    }
}

/// Receives and writes blocks.
pub(super) struct TailTask<'a> {
    port: Option<TailPort>,
    tail: Box<dyn Tail + 'a>,
    /// The stream has ended, and this instance's part of it is written.
    closed: bool,
}

impl<'a> TailTask<'a> {
    pub(super) fn new(port: TailPort, tail: Box<dyn Tail + 'a>) -> Self {
        Self {
            port: Some(port),
            tail,
            closed: false,
        }
    }
}

impl Task for TailTask<'_> {
    fn step(&mut self) -> Result<Step, StageError> {
        let port = running(&self.port);
        if !self.closed {
            if let Some(block) = ready!(port.try_receive()) {
                self.tail.write_ahead(block, &Following::of(port))?;
                return Ok(Step::Moved);
            }
            port.close()?;
            self.closed = true;
        }
        // The tail marks the stream as complete only when every instance has written its part.
        ready!(port.try_all_closed());
        self.tail.finish()?;
        self.port = None;
        Ok(Step::Ended)
    }

    fn core(&self) -> &Rc<PortCore> {
        running(&self.port).core()
    }
}

/// True if the block is the last one of the pipe's archive, which no stage drops. The last block of
/// an archive that is read has a number.
fn is_last(block: &Block) -> bool {
    let info = block.info();
    info.marks.contains(Marks::LAST) && info.sequence.is_none()
}

/// Ends a task whose port has finished.
fn end(finished: Option<Result<(), PortError>>) -> Result<Step, StageError> {
    finished.transpose()?;
    Ok(Step::Ended)
}

/// Port of a task that has not ended. No runner steps a task after its end.
fn running<P>(port: &Option<P>) -> &P {
    port.as_ref().expect("an ended task is not called again")
}
