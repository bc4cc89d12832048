//! Stages whose work are functions of the program.

use std::cell::Cell;
use std::io;

use datapipe::InstanceId;
use datapipe::pool::ContentClass;
use datapipe::prelude::*;
use datapipe::stage::InspectionLog;

use crate::abi::{
    DP_CLASS_OTHER, DP_STAGE_ANALYZE, DP_STAGE_FLAT_MAP, DP_STAGE_HEAD, DP_STAGE_IN_PLACE,
    DP_STAGE_INSPECT, DP_STAGE_TAIL, DP_STAGE_TRANSFORM, dp_analysis, dp_analyze_function,
    dp_block, dp_block_function, dp_change_function, dp_end_function, dp_fill_function,
    dp_flat_map_function, dp_make_function, dp_output, dp_stage, dp_transform_function,
};
use crate::boundary::{User, change, convert, make, notify, show};
use crate::failure::Failure;
use crate::status::{
    DP_ANSWER_DROP, DP_ANSWER_END, DP_ANSWER_MARK, DP_ANSWER_OK, DP_ANSWER_REJECT,
    DP_ANSWER_SEND_INPUT, DP_ERR_REENTRANT,
};

/// The functions of a stage, and the program's pointer. Its texts are not among them: they are
/// valid for the call that adds the stage only.
#[derive(Clone, Copy, Default)]
pub(crate) struct StageFunctions {
    user: User,
    make: dp_make_function,
    fill: dp_fill_function,
    transform: dp_transform_function,
    change: dp_change_function,
    inspect: dp_block_function,
    pub(super) flat_map: dp_flat_map_function,
    analyze: dp_analyze_function,
    write: dp_block_function,
    finish: dp_end_function,
    drop: dp_end_function,
}

impl From<&dp_stage> for StageFunctions {
    fn from(stage: &dp_stage) -> Self {
        Self {
            user: stage.user,
            make: stage.make,
            fill: stage.fill,
            transform: stage.transform,
            change: stage.change,
            inspect: stage.inspect,
            flat_map: stage.flat_map,
            analyze: stage.analyze,
            write: stage.write,
            finish: stage.finish,
            drop: stage.drop,
        }
    }
}

impl StageFunctions {
    /// Name of the function that a stage of a kind needs, if it is not there.
    pub(crate) fn missing(&self, kind: i32) -> Option<&'static str> {
        let (is_missing, name) = match kind {
            DP_STAGE_HEAD => (self.fill.is_none(), "fill"),
            DP_STAGE_TRANSFORM => (self.transform.is_none(), "transform"),
            DP_STAGE_IN_PLACE => (self.change.is_none(), "change"),
            DP_STAGE_INSPECT => (self.inspect.is_none(), "inspect"),
            DP_STAGE_FLAT_MAP => (self.flat_map.is_none(), "flat_map"),
            DP_STAGE_ANALYZE => (self.analyze.is_none(), "analyze"),
            DP_STAGE_TAIL => (self.write.is_none(), "write"),
            _ => return None,
        };
        is_missing.then_some(name)
    }
}

/// A stage whose work are functions of the program.
#[derive(Clone)]
pub(crate) struct ForeignStage {
    pub(crate) name: String,
    pub(crate) functions: StageFunctions,
    pub(crate) instances: u32,
}

impl ForeignStage {
    pub(super) fn head(self) -> HeadStage<'static> {
        let Self {
            name, instances, ..
        } = self.clone();
        Stage::head(name, move |id| self.instance(id)).instances(instances)
    }

    pub(super) fn transform(self) -> MiddleStage<'static> {
        let Self {
            name, instances, ..
        } = self.clone();
        Stage::transform(name, move |id| self.instance(id)).instances(instances)
    }

    pub(super) fn in_place(self) -> MiddleStage<'static> {
        let Self {
            name, instances, ..
        } = self.clone();
        Stage::in_place(name, move |id| self.instance(id)).instances(instances)
    }

    pub(super) fn inspect(self, log: &InspectionLog) -> MiddleStage<'static> {
        let Self {
            name, instances, ..
        } = self.clone();
        Stage::inspect(name, log, move |id| self.instance(id)).instances(instances)
    }

    pub(super) fn flat_map(self, most: u32) -> MiddleStage<'static> {
        let Self {
            name, instances, ..
        } = self.clone();
        Stage::flat_map(name, most, move |id| self.instance(id)).instances(instances)
    }

    pub(super) fn analyze(self) -> MiddleStage<'static> {
        let Self {
            name, instances, ..
        } = self.clone();
        Stage::analyze(name, move |id| self.instance(id)).instances(instances)
    }

    pub(super) fn tail(self) -> TailStage<'static> {
        let Self {
            name, instances, ..
        } = self.clone();
        Stage::tail(name, move |id| self.instance(id)).instances(instances)
    }

    /// Lets the program make the state of an instance. An error is that of its first block.
    fn instance(&self, id: InstanceId) -> ForeignInstance {
        let mut state = User::NULL;
        let answer = match self.functions.make {
            Some(function) => {
                in_stage(|| make(function, self.functions.user, id.index(), &mut state))
            }
            None => {
                state = self.functions.user;
                0
            }
        };
        ForeignInstance {
            functions: self.functions,
            state,
            made: answer,
        }
    }
}

thread_local! {
    /// True while this thread is in a function of a stage. Has no destructor.
    static IS_IN_STAGE: Cell<bool> = const { Cell::new(false) };
}

/// Calls a function of the program that its pipe waits for.
pub(crate) fn in_stage(function: impl FnOnce() -> i32) -> i32 {
    let before = IS_IN_STAGE.replace(true);
    let answer = function();
    IS_IN_STAGE.set(before);
    answer
}

/// Refuses a call that waits for a pipe, in a function of a stage: the pipe would wait for itself.
pub(crate) fn check_not_in_stage() -> Result<(), Failure> {
    match IS_IN_STAGE.get() {
        true => Err(Failure::new(
            DP_ERR_REENTRANT,
            "a function of a stage cannot wait for a pipe, which may wait for the function",
        )),
        false => Ok(()),
    }
}

/// An instance: the program's state, and the functions that use it.
pub(super) struct ForeignInstance {
    pub(super) functions: StageFunctions,
    pub(super) state: User,
    /// Answer of the function that has made the state.
    made: i32,
}

impl ForeignInstance {
    /// Checks that the state was made, and that a function is there. Admission has checked that a
    /// stage has the function of its kind.
    pub(super) fn function<F>(&self, function: Option<F>, name: &str) -> Result<F, StageError> {
        Self::checked(self.made, "make", &[DP_ANSWER_OK])?;
        function.ok_or_else(|| StageError::new(format!("the stage has no {name}")))
    }

    /// Checks the answer of a function: one of `allowed`, or a negative error number.
    pub(super) fn checked(answer: i32, function: &str, allowed: &[i32]) -> Result<i32, StageError> {
        // The pipe adds the name of the stage.
        match answer {
            answer if allowed.contains(&answer) => Ok(answer),
            -4095..=-1 => Err(StageError::with_source(
                format!("its {function} has failed"),
                io::Error::from_raw_os_error(-answer),
            )),
            answer => Err(StageError::new(format!(
                "its {function} has returned {answer}, which is neither one of its answers nor a \
                 negative error number"
            ))),
        }
    }

    /// Takes the length that a function has set.
    fn take_output(output: &dp_output, block: &mut Block) -> Result<(), StageError> {
        if output.len > output.capacity {
            let (len, capacity) = (output.len, output.capacity);
            return Err(StageError::new(format!(
                "it has set a length of {len} bytes, but the block has {capacity}"
            )));
        }
        Ok(output.set_on(block)?)
    }

    fn finish(&self) -> Result<(), StageError> {
        let Some(function) = self.functions.finish else {
            return Ok(());
        };
        let answer = in_stage(|| notify(function, self.state));
        Self::checked(answer, "finish", &[DP_ANSWER_OK]).map(drop)
    }
}

impl Drop for ForeignInstance {
    fn drop(&mut self) {
        if let Some(function) = self.functions.drop.filter(|_| self.made == DP_ANSWER_OK) {
            in_stage(|| notify(function, self.state));
        }
    }
}

/// Answers of functions that send a block on.
const SENDS: [i32; 3] = [DP_ANSWER_OK, DP_ANSWER_SEND_INPUT, DP_ANSWER_DROP];

fn verdict_of(answer: i32) -> Verdict {
    match answer {
        DP_ANSWER_SEND_INPUT => Verdict::SendInput,
        DP_ANSWER_DROP => Verdict::Drop,
        _ => Verdict::Send,
    }
}

impl Head for ForeignInstance {
    fn fill(&mut self, block: &mut Block) -> Result<Fill, StageError> {
        let function = self.function(self.functions.fill, "fill")?;
        let mut output = dp_output::empty(block);
        let answer = in_stage(|| change(function, self.state, &mut output));
        let answer = Self::checked(answer, "fill", &[DP_ANSWER_OK, DP_ANSWER_END])?;
        if answer == DP_ANSWER_END {
            return Ok(Fill::End);
        }
        Self::take_output(&output, block)?;
        Ok(Fill::Block)
    }
}

impl Transform for ForeignInstance {
    fn transform(&mut self, input: &Block, output: &mut Block) -> Result<Verdict, StageError> {
        let function = self.function(self.functions.transform, "transform")?;
        let mut written = dp_output::empty(output);
        let answer = in_stage(|| convert(function, self.state, &dp_block::of(input), &mut written));
        let answer = Self::checked(answer, "transform", &SENDS)?;
        if answer == DP_ANSWER_OK {
            Self::take_output(&written, output)?;
        }
        Ok(verdict_of(answer))
    }

    fn finish(&mut self) -> Result<(), StageError> {
        Self::finish(self)
    }
}

impl InPlace for ForeignInstance {
    fn transform(&mut self, block: &mut Block) -> Result<Verdict, StageError> {
        let function = self.function(self.functions.change, "change")?;
        let mut changed = dp_output::full(block);
        let answer = in_stage(|| change(function, self.state, &mut changed));
        let answer = Self::checked(answer, "change", &SENDS)?;
        if answer != DP_ANSWER_DROP {
            Self::take_output(&changed, block)?;
        }
        Ok(verdict_of(answer))
    }

    fn finish(&mut self) -> Result<(), StageError> {
        Self::finish(self)
    }
}

impl Inspect for ForeignInstance {
    fn inspect(&mut self, data: &[u8], info: &BlockInfo) -> Result<Finding, StageError> {
        let function = self.function(self.functions.inspect, "inspect")?;
        let answer = in_stage(|| show(function, self.state, &dp_block::with(data, info)));
        let answers = [DP_ANSWER_OK, DP_ANSWER_MARK, DP_ANSWER_REJECT];
        Ok(match Self::checked(answer, "inspect", &answers)? {
            DP_ANSWER_MARK => Finding::Mark,
            DP_ANSWER_REJECT => Finding::Reject,
            _ => Finding::Pass,
        })
    }
}

impl Analyze for ForeignInstance {
    fn analyze(&mut self, data: &[u8], info: &mut BlockInfo) -> Result<(), StageError> {
        let function = self.function(self.functions.analyze, "analyze")?;
        let mut found = dp_analysis::of(info);
        let block = dp_block::with(data, info);
        let answer = in_stage(|| convert(function, self.state, &block, &mut found));
        Self::checked(answer, "analyze", &[DP_ANSWER_OK])?;
        let class = u8::try_from(found.content_class).ok();
        let class = class.filter(|class| u32::from(*class) <= DP_CLASS_OTHER);
        let Some(class) = class else {
            let class = found.content_class;
            return Err(StageError::new(format!(
                "it has set the content class {class}, but there are 0 to \
                 {DP_CLASS_OTHER}"
            )));
        };
        (info.class, info.user) = (ContentClass(class), found.user);
        Ok(())
    }
}

impl Tail for ForeignInstance {
    fn write(&mut self, block: &Block) -> Result<(), StageError> {
        let function = self.function(self.functions.write, "write")?;
        let answer = in_stage(|| show(function, self.state, &dp_block::of(block)));
        Self::checked(answer, "write", &[DP_ANSWER_OK]).map(drop)
    }

    fn finish(&mut self) -> Result<(), StageError> {
        Self::finish(self)
    }
}
