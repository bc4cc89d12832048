//! Modules of the program: stages of its own that run in processes.

use datapipe::host::{self, AnyStage, StageArgs};
use datapipe::prelude::*;
use datapipe::stage::InspectionLog;

use crate::failure::Failure;
use crate::status::DP_ERR_UNSUPPORTED;

use super::entry::PipeStage;

/// Makes a stage from its arguments.
pub(crate) type ModuleMaker = Box<dyn Fn(&[u8]) -> Result<PipeStage, Failure>>;

/// Runs a stage and ends the process, if it was started for that. Otherwise returns.
pub(crate) fn serve(modules: Vec<(String, ModuleMaker)>) -> Result<(), Failure> {
    if std::env::args_os().len() == 0 {
        return Err(Failure::new(
            DP_ERR_UNSUPPORTED,
            "the C library of this system does not pass the arguments of the program to shared \
             libraries, so that a process cannot know that it runs a stage",
        ));
    }
    let mut all = datapipe::modules();
    for (name, maker) in modules {
        all = all.with(name, move |arguments| make(&maker, arguments));
    }
    host::serve(all);
    Ok(())
}

/// Makes the stage of a module.
fn make(maker: &ModuleMaker, arguments: &StageArgs<'_>) -> Result<AnyStage, StageError> {
    let made = maker(arguments.arguments());
    let stage = made.map_err(|failure| StageError::new(failure.text().to_owned()))?;
    // The log is copied to that of the pipe.
    let inspections = InspectionLog::new();
    Ok(match stage {
        PipeStage::Head(stage) => stage.head().into(),
        PipeStage::Transform(stage) => stage.transform().into(),
        PipeStage::InPlace(stage) => stage.in_place().into(),
        PipeStage::Inspect(stage) => stage.inspect(&inspections).into(),
        PipeStage::FlatMap(stage, most) => stage.flat_map(most).into(),
        PipeStage::Analyze(stage) => stage.analyze().into(),
        PipeStage::Tail(stage) => stage.tail().into(),
        _ => {
            return Err(StageError::new(
                "the module has made a stage of the library, which needs no module",
            ));
        }
    })
}
