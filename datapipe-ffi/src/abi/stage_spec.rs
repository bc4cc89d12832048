//! A stage as it is described, by a struct or in JSON, and its check.

use std::path::PathBuf;
use std::time::Duration;

use datapipe::limits::MAX_FLAT_MAP_OUTPUTS;

use crate::boundary::duplicate;
use crate::failure::Failure;
use crate::pipe::{
    ForeignStage, PipeStage, PlacedStage, Placement, Processes, StageFunctions, UnboundStage,
};
use crate::status::{DP_ERR_ARGUMENT, DP_ERR_NULL};

use super::backup::level_of;
use super::secret::unknown;
use super::stage::*;

/// Time in which a process must attach if the caller sets no other.
const DEFAULT_PATIENCE: Duration = Duration::from_secs(60);

/// A stage as it is described. Numbers that are 0 have their default.
#[derive(Default)]
pub(super) struct StageSpec {
    /// Its description in messages: `stage`, `$.stages[2]`.
    pub(super) at: String,
    pub(super) kind: i32,
    pub(super) name: Option<String>,
    pub(super) functions: StageFunctions,
    pub(super) level: i32,
    pub(super) descriptor: i32,
    pub(super) instances: u32,
    pub(super) most_outputs: u32,
    pub(super) patience_ms: u32,
    pub(super) module: Option<String>,
    pub(super) arguments: Vec<u8>,
    pub(super) program: Option<PathBuf>,
    pub(super) run: u32,
    pub(super) work_limit_ms: u32,
}

impl StageSpec {
    /// Copies what a struct describes.
    pub(super) fn of(stage: &dp_stage) -> Result<Self, Failure> {
        let len = stage.module_arguments_len;
        Ok(Self {
            at: "stage".to_owned(),
            kind: stage.kind,
            name: stage.name.utf8("stage.name")?,
            functions: stage.into(),
            level: stage.level,
            descriptor: stage.descriptor,
            instances: stage.instances,
            most_outputs: stage.most_outputs,
            patience_ms: stage.patience_ms,
            module: stage.module.utf8("stage.module")?,
            arguments: stage.module_arguments.read(len, "stage.module_arguments")?,
            program: stage.program.path(),
            run: stage.run,
            work_limit_ms: stage.work_limit_ms,
        })
    }

    /// Checks the stage and its place.
    pub(super) fn placed(&self) -> Result<PlacedStage, Failure> {
        Ok(PlacedStage {
            stage: self.stage()?,
            placement: self.placement()?,
        })
    }

    /// Checks the stage. One of the program that runs in processes has its functions there.
    pub(super) fn stage(&self) -> Result<PipeStage, Failure> {
        let instances = self.instances.max(1);
        let level = |most, default| level_of(&self.field("level"), self.level, most, default);
        let descriptor = || {
            duplicate(self.descriptor)
                .map_err(|error| Failure::at(&self.field("descriptor"), error))
        };
        Ok(match self.kind {
            DP_STAGE_HEAD => PipeStage::Head(self.foreign("head")?),
            DP_STAGE_READ_DESCRIPTOR => PipeStage::ReadDescriptor(descriptor()?),
            DP_STAGE_UNBOUND_HEAD => PipeStage::UnboundHead(self.unbound("head")),
            DP_STAGE_TRANSFORM => PipeStage::Transform(self.foreign("transform")?),
            DP_STAGE_IN_PLACE => PipeStage::InPlace(self.foreign("change")?),
            DP_STAGE_INSPECT => PipeStage::Inspect(self.foreign("inspect")?),
            DP_STAGE_FLAT_MAP => PipeStage::FlatMap(self.foreign("flat map")?, self.outputs()?),
            DP_STAGE_ANALYZE => PipeStage::Analyze(self.foreign("analyze")?),
            DP_STAGE_ZSTD => PipeStage::Zstd(level(22, 3)?, instances),
            DP_STAGE_DEFLATE => PipeStage::Deflate(level(9, 6)?.unsigned_abs(), instances),
            DP_STAGE_DECOMPRESS => PipeStage::Decompress(instances),
            DP_STAGE_TAIL => PipeStage::Tail(self.foreign("tail")?),
            DP_STAGE_WRITE_DESCRIPTOR => PipeStage::WriteDescriptor(descriptor()?),
            DP_STAGE_UNBOUND_TAIL => PipeStage::UnboundTail(self.unbound("tail")),
            kind => return Err(unknown(&self.field("kind"), kind, "DP_STAGE_")),
        })
    }

    fn has(&self, flag: u32) -> bool {
        self.run & flag != 0
    }

    fn field(&self, name: &str) -> String {
        format!("{}.{name}", self.at)
    }

    fn refused(&self, name: &str, reason: &str) -> Failure {
        Failure::new(DP_ERR_ARGUMENT, format!("{} {reason}", self.field(name)))
    }

    /// A stage of the program.
    fn foreign(&self, default: &str) -> Result<ForeignStage, Failure> {
        let missing = match self.has(DP_RUN_IN_PROCESSES) {
            true => self.module.is_none().then_some("module"),
            false => self.functions.missing(self.kind),
        };
        if let Some(name) = missing {
            let text = format!(
                "{} is missing: this kind of stage needs it",
                self.field(name)
            );
            return Err(Failure::new(DP_ERR_NULL, text));
        }
        Ok(ForeignStage {
            name: self.name_or(default),
            functions: self.functions,
            instances: self.instances.max(1),
        })
    }

    fn unbound(&self, default: &str) -> UnboundStage {
        UnboundStage {
            name: self.name_or(default),
            patience: match self.patience_ms {
                0 => DEFAULT_PATIENCE,
                patience => Duration::from_millis(patience.into()),
            },
        }
    }

    fn name_or(&self, default: &str) -> String {
        self.name.clone().unwrap_or_else(|| default.to_owned())
    }

    /// Checks the number of blocks that the stage makes from one.
    fn outputs(&self) -> Result<u32, Failure> {
        match self.most_outputs {
            most @ 1..=MAX_FLAT_MAP_OUTPUTS => Ok(most),
            most => Err(self.refused(
                "most_outputs",
                &format!(
                    "is {most}, but a stage makes 1 to {MAX_FLAT_MAP_OUTPUTS} blocks from one"
                ),
            )),
        }
    }

    /// Checks the place.
    fn placement(&self) -> Result<Placement, Failure> {
        let unknown = self.run & !(DP_RUN_IN_PROCESSES | DP_RUN_STATEFUL | DP_RUN_TOGETHER);
        if unknown != 0 {
            return Err(self.refused("run", &format!("has the unknown bits {unknown:#x}")));
        }
        let is_unbound = [DP_STAGE_UNBOUND_HEAD, DP_STAGE_UNBOUND_TAIL].contains(&self.kind);
        if self.run != 0 && is_unbound {
            let reason = "is not 0, but a process that attaches takes the place of the stage";
            return Err(self.refused("run", reason));
        }
        let is_set = self.module.is_some() || self.program.is_some() || self.work_limit_ms != 0;
        if is_set && !self.has(DP_RUN_IN_PROCESSES) {
            let reason = "has no DP_RUN_IN_PROCESSES, which module, program and work_limit_ms need";
            return Err(self.refused("run", reason));
        }
        let limit = Some(self.work_limit_ms).filter(|limit| *limit > 0);
        let processes = self.has(DP_RUN_IN_PROCESSES).then(|| Processes {
            module: self
                .module
                .clone()
                .map(|name| (name, self.arguments.clone())),
            program: self.program.clone(),
            work_limit: limit.map(|limit| Duration::from_millis(limit.into())),
        });
        Ok(Placement {
            processes,
            is_stateful: self.has(DP_RUN_STATEFUL),
            is_together: self.has(DP_RUN_TOGETHER),
        })
    }
}
