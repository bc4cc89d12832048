//! From a request to a pipe's description: each stage is a module that the configuration names, or
//! an unbound seat.

use std::path::PathBuf;
use std::sync::Arc;

use datapipe::PipeBuilder;
use datapipe::prelude::*;
use datapipe::stage::{Confinement, StageKind};

use crate::config::{Config, Module, Place, User};
use crate::protocol::{Initiate, PathAccess, Refusal, RefusalCode, Seat, StageRequest};

/// Told of the data that a stage's process says about its work: the stage's name, and the data.
pub(super) type NoteTaker = Arc<dyn Fn(&str, &[u8]) + Send + Sync>;

/// Describes the pipe that `user` asks for.
pub(super) fn pipe(
    config: &Config,
    user: User,
    ask: &Initiate,
    notes: &NoteTaker,
) -> Result<PipeBuilder<'static>, Refusal> {
    let [head, middles @ .., tail] = &ask.stages[..] else {
        let why = format!(
            "a pipe has two stages or more, a head and a tail; this has {}",
            ask.stages.len()
        );
        return Err(Refusal::new(RefusalCode::IMPOSSIBLE, why));
    };
    for (seat, stage) in [(Seat::Head, head), (Seat::Tail, tail)] {
        if let Some(module) = stage.module.as_ref().filter(|_| ask.seat == seat) {
            let why = format!("its initiator cannot take a seat that the module \"{module}\" has");
            return Err(Refusal::new(RefusalCode::BOUND, why));
        }
    }
    let mut builder = Pipe::builder()
        .label(if ask.label.is_empty() {
            "pipe"
        } else {
            &ask.label
        })
        .direction(ask.direction)
        .stopped_limit(config.limits.stopped_limit);
    builder = match described(config, user, head, Place::Head)? {
        Some(module) => builder.head(finish(module, notes, Stage::head_of_module)?),
        None => builder.head(Stage::unbound_head(
            seat_name(head, "head"),
            config.limits.unbound_patience,
        )),
    };
    for stage in middles {
        let Some(module) = described(config, user, stage, Place::Middle)? else {
            let why =
                "only the first and the last stage can be unbound: name a module for those between";
            return Err(Refusal::new(RefusalCode::IMPOSSIBLE, why));
        };
        let stateful = stage.stateful;
        let made: MiddleStage<'static> = finish(module, notes, Stage::middle_of_module)?;
        builder = builder.stage(if stateful { made.stateful() } else { made });
    }
    builder = match described(config, user, tail, Place::Tail)? {
        Some(module) => builder.tail(finish(module, notes, Stage::tail_of_module)?),
        None => builder.tail(Stage::unbound_tail(
            seat_name(tail, "tail"),
            config.limits.unbound_patience,
        )),
    };
    if let Some(buffers) = ask.buffers {
        builder = builder.buffers(buffers);
    }
    if let Some(bytes) = ask.buffer_size {
        builder = builder.buffer_size(bytes);
    }
    Ok(builder)
}

fn seat_name(stage: &StageRequest, otherwise: &str) -> String {
    stage.name.clone().unwrap_or_else(|| otherwise.to_owned())
}

/// A stage that may be started: by whom, from what, and with which paths.
struct Described<'c> {
    module: &'c Module,
    stage: &'c StageRequest,
    read: Vec<PathBuf>,
    write: Vec<PathBuf>,
}

/// Checks a stage against the configuration. Nothing for an unbound seat.
fn described<'c>(
    config: &'c Config,
    user: User,
    stage: &'c StageRequest,
    place: Place,
) -> Result<Option<Described<'c>>, Refusal> {
    if let Some(machine) = &stage.machine {
        let why =
            format!("a stage on another machine (\"{machine}\") is reserved for a later version");
        return Err(Refusal::new(RefusalCode::RESERVED, why));
    }
    let Some(name) = &stage.module else {
        return unbound(stage);
    };
    let Some(module) = config.module(name).filter(|module| module.is_for(user)) else {
        let names = config
            .modules
            .iter()
            .filter(|module| module.is_for(user))
            .map(|module| &*module.name);
        let known = names.collect::<Vec<_>>().join(", ");
        let why = format!("user {user} has no module \"{name}\" here, only: {known}");
        return Err(Refusal::new(RefusalCode::NO_SUCH_MODULE, why));
    };
    let wrong = |code, why: String| Err(Refusal::new(code, format!("the module \"{name}\" {why}")));
    if module.place != place {
        return wrong(
            RefusalCode::MODULE,
            format!("is a {}, and stands where a {place} belongs", module.place),
        );
    }
    let (instances, max) = (stage.instances.unwrap_or(1), module.max_instances);
    if instances > max {
        return wrong(
            RefusalCode::LIMIT,
            format!("may have {max} instances, not {instances}"),
        );
    }
    if (stage.holds_in.is_some() || stage.holds_out.is_some()) && module.work != StageKind::Loop {
        return wrong(
            RefusalCode::MODULE,
            "is no loop: what it holds is known, and cannot be set".to_owned(),
        );
    }
    if stage.stateful && place != Place::Middle {
        return wrong(
            RefusalCode::MODULE,
            format!("is a {place}, which is never replaced: leave stateful out"),
        );
    }
    if let Err(error) = module.program.is_unchanged() {
        return wrong(
            RefusalCode::MODULE,
            format!(
                "is not started: {}: {error}",
                module.program.path().display()
            ),
        );
    }
    let (mut read, mut write) = (module.always.read.clone(), module.always.write.clone());
    for (access, path) in &stage.paths {
        match (access, module.paths.allow(*access, path)) {
            (PathAccess::Read, Ok(path)) => read.push(path),
            (PathAccess::Write, Ok(path)) => write.push(existing(path)),
            (_, Err(why)) => return wrong(RefusalCode::PATH, why),
        }
    }
    Ok(Some(Described {
        module,
        stage,
        read,
        write,
    }))
}

/// What is to be made is allowed by the directory that it will be in, which lies beneath an allowed
/// one, too.
fn existing(path: PathBuf) -> PathBuf {
    match path.parent() {
        Some(folder) if !path.exists() => folder.to_owned(),
        _ => path,
    }
}

fn unbound(stage: &StageRequest) -> Result<Option<Described<'static>>, Refusal> {
    let plain = StageRequest {
        name: stage.name.clone(),
        instances: stage.instances,
        ..StageRequest::default()
    };
    if *stage != plain || stage.instances.is_some_and(|instances| instances != 1) {
        let why = "an unbound stage has a name and one instance, and nothing else: all else is for modules";
        return Err(Refusal::new(RefusalCode::IMPOSSIBLE, why));
    }
    Ok(None)
}

/// Makes the description, in any role.
fn finish<W>(
    described: Described<'_>,
    notes: &NoteTaker,
    of_module: fn(String, StageKind) -> Option<Stage<W>>,
) -> Result<Stage<W>, Refusal> {
    let Described {
        module,
        stage,
        read,
        write,
    } = described;
    let name = stage.name.clone().unwrap_or_else(|| module.name.clone());
    let Some(mut made) = of_module(name.clone(), module.work) else {
        let why = format!(
            "the module \"{}\" does not do what its place needs",
            module.name
        );
        return Err(Refusal::new(RefusalCode::MODULE, why));
    };
    made = made
        .module(module.module.clone(), stage.arguments.clone())
        .in_processes_of(module.program.path())
        .on_message({
            let notes = Arc::clone(notes);
            move |data| notes(&name, data)
        })
        .instances(stage.instances.unwrap_or(1));
    if let Some(holds) = stage.holds_in {
        made = made.holds_in(holds);
    }
    if let Some(holds) = stage.holds_out {
        made = made.holds_out(holds);
    }
    Ok(if module.confined {
        made.confined(Confinement::new().read(read).write(write))
    } else {
        made
    })
}
