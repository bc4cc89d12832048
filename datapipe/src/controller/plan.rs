//! Checks a description, and works out every number of the pipe before anything is made.

use std::fmt;

use crate::error::Error;
use crate::host;
use crate::limits::{
    MAX_INSTANCES, MAX_MODULE_ARGUMENTS, MAX_MODULE_DESCRIPTORS, MAX_MODULE_NAME, MAX_NAME,
};
use crate::memory::{PipeName, Shape, StageShape};
use crate::pool::{Budget, Refusal, StageNeeds};
use crate::stage::{Module, Placement, Settings, StageKind};

use super::builder::PipeBuilder;

/// A pipe that can work, before it is started. Prints as the chain that it is:
/// `nightly  head > zstd x2 > tail`.
#[derive(Clone, Debug)]
pub struct Plan {
    pub(super) label: String,
    pub(super) name: PipeName,
    pub(super) shape: Shape,
    pub(super) stages: Vec<Settings>,
    pub(super) budget: Budget,
}

impl Plan {
    pub(super) fn of(builder: &PipeBuilder<'_>) -> Result<Self, Error> {
        let refused = |reason| Error::Refused {
            pipe: builder.label.clone(),
            reason,
        };
        let (Some(head), Some(tail)) = (&builder.head, &builder.tail) else {
            let missing = if builder.head.is_none() {
                "head"
            } else {
                "tail"
            };
            return Err(refused(Refusal::Stages(format!("it has no {missing}"))));
        };
        let mut stages = vec![Described::new(
            &head.settings,
            head.kind(),
            head.has_code(),
            false,
        )];
        // Any stage between head and tail may send on what it received.
        stages.extend(
            builder
                .middles
                .iter()
                .map(|stage| Described::new(&stage.settings, stage.kind(), stage.has_code(), true)),
        );
        stages.push(Described::new(
            &tail.settings,
            tail.kind(),
            tail.has_code(),
            false,
        ));
        check_names(&builder.label, &stages).map_err(refused)?;
        stages
            .iter()
            .try_for_each(Described::check)
            .map_err(refused)?;
        stages
            .iter()
            .try_for_each(|stage| check_process(stage.settings))
            .map_err(refused)?;
        let needs: Vec<_> = stages.iter().map(Described::needs).collect();
        let budget = Budget::new(&needs, builder.buffers).map_err(refused)?;
        let shapes: Vec<_> = stages
            .iter()
            .zip(&budget.shares)
            .map(|(stage, &share)| StageShape {
                instances: stage.settings.instances,
                share,
                numbered: stage.is_one_to_one(),
            })
            .collect();
        let shape = Shape::new(
            budget.buffers,
            builder.buffer_size,
            builder.headroom,
            builder.tailroom,
            &shapes,
        )
        .map_err(|error| refused(error.into()))?
        .flowing(builder.direction);
        // Who looks at a plan keeps it, and with it neither keys nor descriptors nor what a handler
        // holds.
        let described = |stage: &Described<'_>| Settings {
            module: None,
            message_handler: None,
            ..stage.as_run()
        };
        let stages = stages.iter().map(described).collect();
        Ok(Self {
            label: builder.label.clone(),
            name: PipeName::new(),
            shape,
            stages,
            budget,
        })
    }

    /// The pipe's name, different from every other pipe's.
    pub fn name(&self) -> &PipeName {
        &self.name
    }

    /// Stages, instances, quotas and sizes.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// How the pool is divided.
    pub fn budget(&self) -> &Budget {
        &self.budget
    }

    /// Bytes of shared memory that the buffers take.
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

/// What the plan needs to know of one stage.
struct Described<'s> {
    settings: &'s Settings,
    work: StageKind,
    has_code: bool,
    /// It stands between two queues.
    is_middle: bool,
}

impl<'s> Described<'s> {
    fn new(settings: &'s Settings, work: StageKind, has_code: bool, is_middle: bool) -> Self {
        Self {
            settings,
            work,
            has_code,
            is_middle,
        }
    }

    /// The settings as the stage is run: what changes blocks in place gets copies in a process, and
    /// so needs a buffer.
    fn as_run(&self) -> Settings {
        let mut settings = self.settings.clone();
        if self.work == StageKind::InPlace && matches!(settings.placement, Placement::Process(_)) {
            settings.hold_out = settings.hold_out.max(1);
        }
        settings
    }

    fn is_one_to_one(&self) -> bool {
        self.is_middle && self.work != StageKind::Loop
    }

    fn check(&self) -> Result<(), Refusal> {
        let Settings {
            name,
            instances,
            placement,
            single,
            ..
        } = self.settings;
        let refused = |what: String| Err(Refusal::Stages(what));
        if !(1..=MAX_INSTANCES).contains(instances) {
            return refused(format!(
                "the number of instances of stage \"{name}\" is {instances}, but must be between 1 and {MAX_INSTANCES}"
            ));
        }
        if let (Some(why), 2..) = (single, instances) {
            return refused(format!(
                "stage \"{name}\" can have one instance, not {instances}: it {why}"
            ));
        }
        if *placement == Placement::Inline && self.work == StageKind::Loop {
            return refused(format!(
                "stage \"{name}\" is a loop over its port and cannot run inline"
            ));
        }
        if !self.has_code && matches!(placement, Placement::Inline | Placement::Thread) {
            return refused(format!(
                "stage \"{name}\" was described without its code: say which program has it (in_processes_of)"
            ));
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
        } = self.as_run();
        StageNeeds {
            name,
            instances,
            hold_out,
            hold_in,
            passes_on: self.is_middle,
        }
    }
}

/// Whether a stage that is to run in processes can.
fn check_process(settings: &Settings) -> Result<(), Refusal> {
    let Settings {
        name,
        placement: Placement::Process(program),
        module,
        ..
    } = settings
    else {
        return Ok(());
    };
    let refused = |why: String| {
        Err(Refusal::Stages(format!(
            "stage \"{name}\" cannot run in processes: {why}"
        )))
    };
    let Some(Module {
        name: module,
        arguments,
        descriptors,
    }) = module
    else {
        let why = settings.local.as_deref();
        return refused(
            why.unwrap_or("no module is named that makes it there (Stage::module)")
                .to_owned(),
        );
    };
    let (name_len, len, files) = (module.len(), arguments.len(), descriptors.len());
    if name_len > MAX_MODULE_NAME || len > MAX_MODULE_ARGUMENTS || files > MAX_MODULE_DESCRIPTORS {
        return refused(format!(
            "its module's name and arguments have {name_len} and {len} bytes and {files} descriptors, \
             at most {MAX_MODULE_NAME}, {MAX_MODULE_ARGUMENTS} and {MAX_MODULE_DESCRIPTORS} are passed on"
        ));
    }
    let confined = settings
        .confinement
        .iter()
        .flat_map(|allowed| allowed.read.iter().chain(&allowed.write));
    let paths: usize = confined.map(|path| path.as_os_str().len() + 4).sum(); // each with its length
    if paths > MAX_MODULE_ARGUMENTS {
        return refused(format!(
            "the paths that it may touch have {paths} bytes, at most {MAX_MODULE_ARGUMENTS} are passed on"
        ));
    }
    if program.is_none() && !host::serves() {
        return refused(
            "this program does not call datapipe::host::serve first, and would start anew"
                .to_owned(),
        );
    }
    Ok(())
}

fn check_names(label: &str, stages: &[Described<'_>]) -> Result<(), Refusal> {
    let names = stages.iter().map(|stage| stage.settings.name.as_str());
    for name in names.chain([label]) {
        if name.is_empty() || name.len() > MAX_NAME || name.chars().any(char::is_control) {
            let what = "a name must have 1 to 64 bytes and no control characters";
            return Err(Refusal::Stages(format!(
                "{what}, but one is \"{}\"",
                name.escape_debug()
            )));
        }
    }
    Ok(())
}
