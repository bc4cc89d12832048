//! Checks a description, and computes every number of the pipe before anything is made.

use std::fmt;

use crate::error::Error;
use crate::limits::{
    FIRST_BLOCK, MAX_FLAT_MAP_OUTPUTS, MAX_INSTANCES, MAX_MODULE_ARGUMENTS, MAX_MODULE_DESCRIPTORS,
    MAX_MODULE_NAME, MAX_NAME,
};
use crate::memory::{PipeName, Segment, Shape, StageShape};
use crate::pool::{Budget, Refusal, StageNeeds};
use crate::stage::{MessageHandler, Module, Placement, Role, Settings, StageKind};

use super::description::Description;
use super::processes;

/// A pipe that can work, before it is started. Prints as its chain of stages:
/// `nightly  head > zstd x2 > tail`.
#[derive(Clone, Debug)]
pub struct Plan {
    pub(super) label: String,
    pub(super) name: PipeName,
    pub(super) shape: Shape,
    pub(super) stages: Vec<Settings>,
    pub(super) budget: Budget,
    /// The head's last instance to end sends a last block, which the tail waits for.
    pub(super) sends_last_block: bool,
    /// Number of the head's first block in the archive that it is for.
    pub(super) first_block: u64,
    /// Bytes of data after which the head makes a checkpoint; `u64::MAX`: only when it decides to;
    /// 0: never.
    pub(super) checkpoint: u64,
    /// The head records checksums of its blocks.
    pub(super) wants_checksums: bool,
}

impl Plan {
    pub(super) fn of(description: &Description<'_>) -> Result<Self, Error> {
        Self::admit(description).map_err(|reason| Error::Refused {
            pipe: description.label.clone(),
            reason,
        })
    }

    /// Checks the stages one by one, then divides the pool among them, and then lays out the
    /// segment. Each step relies on those before it, and the first refusal is returned: the budget
    /// needs numbers of instances that are within their limits, and the shape needs the budget's
    /// shares.
    fn admit(description: &Description<'_>) -> Result<Self, Refusal> {
        let stages = PlannedStage::all_of(description)?;
        check_names(&description.label, &stages)?;
        check_inspection(&stages)?;
        check_archive(&stages)?;
        stages.iter().try_for_each(PlannedStage::check)?;
        stages
            .iter()
            .try_for_each(PlannedStage::check_replaceable)?;
        stages
            .iter()
            .try_for_each(|stage| check_process(stage.settings))?;
        let needs: Vec<_> = stages.iter().map(PlannedStage::needs).collect();
        let budget = Budget::new(&needs, description.buffers)?;
        let shape = shape_of(description, &stages, &budget)?;
        let before = |stage: &PlannedStage<'_>| stage.settings.sends_first;
        let (head, tail) = (stages.first(), stages.last());
        let is_replaceable = head.is_some_and(|head| head.settings.is_replaceable);
        let writes_archive = tail.is_some_and(|tail| tail.settings.wants_last_block());
        Ok(Self {
            label: description.label.clone(),
            name: PipeName::new(),
            shape,
            stages: stages.iter().map(PlannedStage::public_settings).collect(),
            budget,
            // A replaceable head sends it itself: it may be that of another pipe.
            sends_last_block: writes_archive && !is_replaceable,
            first_block: stages.iter().map(before).sum::<u64>()
                + if writes_archive { FIRST_BLOCK } else { 0 },
            checkpoint: checkpoint_interval(&stages),
            // With nothing between them the head's blocks are those of the archive: the tail takes
            // their checksums from the head, which has just read the data.
            wants_checksums: writes_archive && stages.len() == 2,
        })
    }

    /// The pipe's name, which no other pipe has.
    pub fn name(&self) -> &PipeName {
        &self.name
    }

    /// The segment's shape: stages, instances, quotas and sizes.
    #[doc(hidden)]
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// Division of the pool among the stages.
    #[doc(hidden)]
    pub fn budget(&self) -> &Budget {
        &self.budget
    }

    /// Bytes of shared memory that the pipe takes: its buffers in whole pages, and its tables.
    pub fn segment_bytes(&self) -> u64 {
        Segment::bytes_of(&self.shape)
    }

    /// True if a process may attach to the pipe.
    pub(super) fn has_unbound(&self) -> bool {
        let mut stages = self.stages.iter();
        stages.any(|stage| matches!(stage.placement, Placement::Unbound(_)))
    }

    /// Bytes of shared memory that the buffers occupy.
    pub fn pool_bytes(&self) -> u64 {
        let shape = &self.shape;
        let buffer =
            shape.headroom() as u64 + u64::from(shape.buffer_size()) + u64::from(shape.tailroom());
        buffer * u64::from(shape.buffers())
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.label)?;
        for (position, stage) in self.stages.iter().enumerate() {
            let arrow = if position > 0 { ">" } else { "" };
            write!(f, "{arrow} {}", stage.name)?;
            if stage.instances > 1 {
                write!(f, " x{}", stage.instances)?;
            }
            f.write_str(if position + 1 < self.stages.len() {
                " "
            } else {
                ""
            })?;
        }
        Ok(())
    }
}

/// A stage as the plan sees it: its settings, its kind and its role, without its code.
struct PlannedStage<'s> {
    settings: &'s Settings,
    kind: StageKind,
    has_code: bool,
    role: Role,
}

impl<'s> PlannedStage<'s> {
    /// Returns all stages of a description, head first.
    fn all_of(description: &'s Description<'_>) -> Result<Vec<Self>, Refusal> {
        let missing = |role: Role| Refusal::Stages(format!("it has no {role}"));
        let head = description.head.as_ref();
        let head = head.ok_or_else(|| missing(Role::Head))?;
        let tail = description.tail.as_ref();
        let tail = tail.ok_or_else(|| missing(Role::Tail))?;
        let mut stages = vec![Self {
            settings: &head.settings,
            kind: head.kind(),
            has_code: head.has_code(),
            role: Role::Head,
        }];
        stages.extend(description.middles().map(|stage| Self {
            settings: &stage.settings,
            kind: stage.kind(),
            has_code: stage.has_code(),
            role: Role::Middle,
        }));
        stages.push(Self {
            settings: &tail.settings,
            kind: tail.kind(),
            has_code: tail.has_code(),
            role: Role::Tail,
        });
        Ok(stages)
    }

    /// Returns the settings as the stage runs with them: a stage that changes blocks in place gets
    /// copies in a process, and so needs a buffer.
    fn effective_settings(&self) -> Settings {
        let mut settings = self.settings.clone();
        if self.kind == StageKind::InPlace && matches!(settings.placement, Placement::Process(_)) {
            settings.hold_out = settings.hold_out.max(1);
        }
        settings
    }

    /// Returns the effective settings without the module and the handler. The caller may keep a
    /// plan, and must not keep keys, descriptors, or what a handler holds with it.
    fn public_settings(&self) -> Settings {
        Settings {
            module: None,
            message_handler: MessageHandler::default(),
            ..self.effective_settings()
        }
    }

    /// True if the stage answers each block that it receives, so that the order follows from its
    /// number.
    fn is_numbered(&self) -> bool {
        self.role == Role::Middle && self.kind != StageKind::Loop
    }

    fn check(&self) -> Result<(), Refusal> {
        let Settings {
            name,
            instances,
            placement,
            single,
            outputs,
            ..
        } = self.settings;
        let refused = |what: String| Err(Refusal::Stages(what));
        if !(1..=MAX_INSTANCES).contains(instances) {
            return refused(format!(
                "the number of instances of stage \"{name}\" is {instances}, \
                 but must be between 1 and {MAX_INSTANCES}"
            ));
        }
        if let (Some(why), 2..) = (single, instances) {
            return refused(format!(
                "stage \"{name}\" can have one instance, not {instances}: it {why}"
            ));
        }
        if !(1..=MAX_FLAT_MAP_OUTPUTS).contains(outputs) {
            return refused(format!(
                "the number of outputs of stage \"{name}\" for each input is {outputs}, \
                 but must be between 1 and {MAX_FLAT_MAP_OUTPUTS}"
            ));
        }
        if *placement == Placement::Inline && self.kind == StageKind::FlatMap {
            return refused(format!(
                "stage \"{name}\" waits for the buffers of its outputs and cannot run inline"
            ));
        }
        if *placement == Placement::Inline && self.kind == StageKind::Loop {
            return refused(format!(
                "stage \"{name}\" is a loop over its port and cannot run inline"
            ));
        }
        if self.settings.work_limit.is_some() && !matches!(placement, Placement::Process(_)) {
            return refused(format!(
                "stage \"{name}\" has a work limit but does not run in processes that the \
                 controller starts, and a thread cannot be ended: use in_processes"
            ));
        }
        if self
            .settings
            .work_limit
            .is_some_and(|limit| limit.is_zero())
        {
            return refused(format!(
                "stage \"{name}\" has a work limit of 0 s, and every process would be killed: give \
                 it the longest time that a block may take"
            ));
        }
        if self.settings.memory_limit.is_some() && !matches!(placement, Placement::Process(_)) {
            return refused(format!(
                "stage \"{name}\" has a memory limit but does not run in processes that the \
                 controller starts: use in_processes"
            ));
        }
        if !self.has_code && matches!(placement, Placement::Inline | Placement::Thread) {
            return refused(format!(
                "stage \"{name}\" was described without its code: \
                 name the program that has it with in_processes_of"
            ));
        }
        Ok(())
    }

    /// Checks that a stage that is declared replaceable can be replaced.
    fn check_replaceable(&self) -> Result<(), Refusal> {
        let name = &self.settings.name;
        let describe = |why: &str| format!("stage \"{name}\" is declared replaceable but {why}");
        let refused = |why: &str| Err(Refusal::Stages(describe(why)));
        if !self.settings.is_replaceable {
            return Ok(());
        }
        if self.kind != StageKind::Loop {
            return refused(
                "is called for each block, and only a loop over its port can go on where a dead \
                 process has stopped: use head_port or tail_port",
            );
        }
        if matches!(self.settings.placement, Placement::Unbound(_)) {
            return refused(
                "is a process that attaches, which the controller cannot start again: use \
                 in_processes",
            );
        }
        Ok(())
    }

    fn needs(&self) -> StageNeeds {
        let Settings {
            name,
            instances,
            hold_in,
            hold_out,
            ..
        } = self.effective_settings();
        StageNeeds {
            name,
            instances,
            hold_out,
            hold_in,
            // Any stage between head and tail may send on what it received.
            passes_on: self.role == Role::Middle,
        }
    }
}

/// Returns the segment's shape, with each stage's share of the buffers.
fn shape_of(
    description: &Description<'_>,
    stages: &[PlannedStage<'_>],
    budget: &Budget,
) -> Result<Shape, Refusal> {
    let with_share = stages.iter().zip(&budget.shares);
    let shapes = with_share.map(|(stage, &share)| {
        let shape = StageShape::new(stage.settings.instances).share(share);
        if stage.is_numbered() {
            shape.numbered().parts(stage.settings.outputs)
        } else {
            shape
        }
    });
    let shape = Shape::builder(budget.buffers, description.buffer_size)
        .headroom(description.headroom)
        .tailroom(description.tailroom)
        .direction(description.direction)
        .stages(shapes)
        .build()?;
    Ok(shape)
}

/// Checks that a stage can run in processes, if that is its placement.
fn check_process(settings: &Settings) -> Result<(), Refusal> {
    let Placement::Process(program) = &settings.placement else {
        return Ok(());
    };
    let name = &settings.name;
    let describe = |why: &str| format!("stage \"{name}\" cannot run in processes: {why}");
    let refused = |why: &str| Err(Refusal::Stages(describe(why)));
    let Some(module) = &settings.module else {
        let why = settings.local.as_deref();
        let why = why.unwrap_or("no module is named that makes it there (Stage::module)");
        return match settings.is_at_limit {
            true => Err(Refusal::ProcessLimit(describe(why))),
            false => refused(why),
        };
    };
    if let Err(why) = check_request(module, settings) {
        return Err(Refusal::ProcessLimit(describe(&why)));
    }
    if program.is_none() && !processes::serves() {
        return refused(
            "this program does not call datapipe::host::serve first, \
             so each process would run its main again",
        );
    }
    Ok(())
}

/// Returns the bytes of data after which the head makes a checkpoint, or `u64::MAX` if it makes
/// them only when it decides to. It makes none unless the pipe ends with an archive and all stages
/// between keep nothing from block to block: what a stage has kept would be missing before the
/// checkpoint.
fn checkpoint_interval(stages: &[PlannedStage<'_>]) -> u64 {
    let [head, middles @ .., tail] = stages else {
        return 0;
    };
    let keeps_nothing = |stage: &PlannedStage<'_>| {
        let settings = stage.settings;
        let is_own = settings.keeps_blocks || settings.is_fixed;
        is_own || stage.is_numbered() && !settings.stateful
    };
    match tail.settings.wants_last_block() && middles.iter().all(keeps_nothing) {
        true => head.settings.checkpoint_every(),
        false => 0,
    }
}

/// Checks that no stage takes blocks of a tree away: with a block, innocent files would be lost.
fn check_inspection(stages: &[PlannedStage<'_>]) -> Result<(), Refusal> {
    let head = stages.iter().find(|stage| stage.settings.sends_tree);
    let inspection = stages.iter().find(|stage| stage.settings.rejects_blocks);
    let (Some(head), Some(inspection)) = (head, inspection) else {
        return Ok(());
    };
    let (head, inspection) = (&head.settings.name, &inspection.settings.name);
    Err(Refusal::Stages(format!(
        "stage \"{inspection}\" rejects blocks, but a block of \"{head}\" has several files, and \
         all of them would be lost: inspect file by file with TreeOptions::inspect"
    )))
}

/// Checks that blocks are sealed for the archive that they are written to. The tail does not have
/// the key, and could not notice.
fn check_archive(stages: &[PlannedStage<'_>]) -> Result<(), Refusal> {
    let of_archive = |stage: &&PlannedStage<'_>| stage.settings.archive.is_some();
    let mut stages = stages.iter().filter(of_archive);
    let Some(first) = stages.next() else {
        return Ok(());
    };
    let Some(other) = stages.find(|stage| stage.settings.archive != first.settings.archive) else {
        return Ok(());
    };
    let (first, other) = (&first.settings.name, &other.settings.name);
    Err(Refusal::Stages(format!(
        "stages \"{first}\" and \"{other}\" belong to different archives: add each archive to a \
         pipe of its own with PipeBuilder::archive"
    )))
}

/// Checks that a module and the paths that its process may open fit into a launch request.
fn check_request(module: &Module, settings: &Settings) -> Result<(), String> {
    let Module {
        name,
        arguments,
        descriptors,
    } = module;
    let (name_len, len, files) = (name.len(), arguments.len(), descriptors.len());
    if name_len > MAX_MODULE_NAME || len > MAX_MODULE_ARGUMENTS || files > MAX_MODULE_DESCRIPTORS {
        return Err(format!(
            "its module's name and arguments have {name_len} and {len} bytes \
             and {files} descriptors; the limits are \
             {MAX_MODULE_NAME}, {MAX_MODULE_ARGUMENTS} and {MAX_MODULE_DESCRIPTORS}; run it on \
             threads"
        ));
    }
    let confined = settings
        .confinement
        .iter()
        .flat_map(|allowed| allowed.read.iter().chain(&allowed.write));
    // Each path is preceded by its length, and followed by two numbers.
    let paths: usize = confined
        .map(|allowed| allowed.path.as_os_str().len() + 20)
        .sum();
    if paths > MAX_MODULE_ARGUMENTS {
        return Err(format!(
            "the paths that it may open have {paths} bytes; the limit is {MAX_MODULE_ARGUMENTS}"
        ));
    }
    Ok(())
}

fn check_names(label: &str, stages: &[PlannedStage<'_>]) -> Result<(), Refusal> {
    let names = stages.iter().map(|stage| stage.settings.name.as_str());
    for name in names.chain([label]) {
        if name.is_empty() || name.len() > MAX_NAME || name.chars().any(char::is_control) {
            return Err(Refusal::Stages(format!(
                "a name must have 1 to {MAX_NAME} bytes and no control characters, \
                 but one is \"{}\"",
                name.escape_debug()
            )));
        }
    }
    Ok(())
}
