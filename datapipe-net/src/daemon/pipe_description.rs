//! From a request to the builder of a pipe: each stage is a module of the configuration, or an
//! unbound seat.

use std::path::Path;
use std::sync::Arc;

use datapipe::prelude::*;
use datapipe::stage::{Confinement, StageKind};
use datapipe::{PipeBuilder, Role};

use super::module_user::ModuleUser;
use super::stage_check::{AllowedStage, check_stage};
use super::temporary::{StageDirectory, Temporary};
use crate::config::{Config, Module};
use crate::protocol::{Initiate, Participation, Refusal, RefusalCode, StageRequest};
use crate::socket::Peer;

/// Function that gets the messages for programs that a stage's process sends: the name of the
/// stage, and the message.
pub(super) type DataHandler = Arc<dyn Fn(&str, &[u8]) + Send + Sync>;

/// Describes the pipe that `peer` requests.
pub(super) fn describe(
    config: &Config,
    temporary: &Temporary,
    peer: Peer,
    request: &Initiate,
    on_data: &DataHandler,
) -> Result<PipeBuilder<'static>, Refusal> {
    let [head, middles @ .., tail] = &request.stages[..] else {
        let count = request.stages.len();
        let why = format!("a pipe has at least two stages, a head and a tail; this has {count}");
        return Err(Refusal::new(RefusalCode::IMPOSSIBLE, why));
    };
    check_participation(request.participation, head, tail)?;
    let label = match &*request.label {
        "" => "pipe",
        label => label,
    };
    let mut builder = Pipe::builder()
        .label(label)
        .direction(request.direction)
        .stopped_limit(config.limits.stopped_limit);
    let patience = config.limits.unbound_patience;
    let site = Site {
        temporary,
        directory: &config.temporary_directory,
        on_data,
    };
    builder = builder.head(match check_stage(config, peer, head, Role::Head)? {
        Some(allowed) => bound_stage(allowed, &site, Stage::head_of_module)?,
        None => Stage::unbound_head(name_of(head, "head"), patience),
    });
    for request in middles {
        let Some(allowed) = check_stage(config, peer, request, Role::Middle)? else {
            let why = "only the first and the last stage may be unbound: name a module for the \
                       others";
            return Err(Refusal::new(RefusalCode::IMPOSSIBLE, why));
        };
        let stage: MiddleStage<'static> = bound_stage(allowed, &site, Stage::middle_of_module)?;
        builder = builder.stage(if request.stateful {
            stage.stateful()
        } else {
            stage
        });
    }
    builder = builder.tail(match check_stage(config, peer, tail, Role::Tail)? {
        Some(allowed) => bound_stage(allowed, &site, Stage::tail_of_module)?,
        None => Stage::unbound_tail(name_of(tail, "tail"), patience),
    });
    if let Some(buffers) = request.buffers {
        builder = builder.buffers(buffers);
    }
    if let Some(bytes) = request.buffer_size {
        builder = builder.buffer_size(bytes);
    }
    // What the processes of the modules report of an archive is not trusted.
    Ok(builder.check_archive())
}

/// Checks that the seat that the initiator takes is unbound.
fn check_participation(
    participation: Participation,
    head: &StageRequest,
    tail: &StageRequest,
) -> Result<(), Refusal> {
    let taken = match participation {
        Participation::None => None,
        Participation::Head => head.module.as_ref(),
        Participation::Tail => tail.module.as_ref(),
    };
    let Some(module) = taken else { return Ok(()) };
    let why = format!("the initiator cannot take a seat that the module \"{module}\" occupies");
    Err(Refusal::new(RefusalCode::BOUND, why))
}

fn name_of(unbound: &StageRequest, default: &str) -> String {
    unbound.name.clone().unwrap_or_else(|| default.to_owned())
}

/// Facts that all stages of a pipe share.
struct Site<'a> {
    temporary: &'a Temporary,
    /// Directory in which they get theirs for temporary files.
    directory: &'a Path,
    on_data: &'a DataHandler,
}

/// Describes a stage that a module runs, in any role.
fn bound_stage<W>(
    allowed: AllowedStage<'_>,
    site: &Site<'_>,
    of_module: fn(String, StageKind) -> Option<Stage<W>>,
) -> Result<Stage<W>, Refusal> {
    let AllowedStage {
        module,
        request,
        user,
        read,
        write,
        memory_per_process,
    } = allowed;
    let name = request.name.clone().unwrap_or_else(|| module.name.clone());
    let Some(mut stage) = of_module(name.clone(), module.work) else {
        let module = &module.name;
        let why = format!("the work of the module \"{module}\" does not fit its role");
        return Err(Refusal::new(RefusalCode::MODULE, why));
    };
    let directory = temporary_directory(module, &user, site)?.map(Arc::new);
    stage = stage
        .module(module.module.clone(), request.arguments.clone())
        .in_processes_of_file(module.program.file().clone())
        .on_message({
            let (on_data, directory) = (Arc::clone(site.on_data), directory.clone());
            // The handler lives as long as the processes of the stage may, and so does the
            // directory.
            move |data| {
                let _ = &directory;
                on_data(&name, data);
            }
        })
        .memory_limit(memory_per_process)
        .instances(request.instances.unwrap_or(1));
    if let Some(holds) = request.holds_in {
        stage = stage.holds_in(holds);
    }
    if let Some(holds) = request.holds_out {
        stage = stage.holds_out(holds);
    }
    if let Some(directory) = &directory {
        stage = stage.temporary_files_in(directory.path());
    }
    if let Some(user) = user.process {
        stage = stage.run_as(user);
    }
    if user.serves_other {
        stage = stage.restores_plainly();
    }
    Ok(if module.confined {
        let own = directory.iter().map(|own| own.path().to_owned());
        let allowed = Confinement::new().read_checked(read);
        stage.confined(allowed.write_checked(write).write(own))
    } else {
        stage
    })
}

/// Makes the stage's directory for temporary files, if its module has one.
fn temporary_directory(
    module: &Module,
    user: &ModuleUser,
    site: &Site<'_>,
) -> Result<Option<StageDirectory>, Refusal> {
    if !module.temporary {
        return Ok(None);
    }
    let made = site.temporary.make(site.directory, user.process.as_ref());
    made.map(Some).map_err(|error| {
        let (name, directory) = (&module.name, site.directory.display());
        let why = format!(
            "the module \"{name}\" is not started: cannot make its directory for temporary \
             files in {directory}: {error}"
        );
        Refusal::new(RefusalCode::SYSTEM, why)
    })
}
