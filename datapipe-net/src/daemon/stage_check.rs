//! Permission for a requested stage: may this user have the module, in this role, with these
//! settings and paths.

use datapipe::Role;
use datapipe::stage::{CheckedPath, StageKind};

use super::module_user::ModuleUser;
use crate::config::{AllowedPath, Config, Module, PathError, User};
use crate::protocol::{PathAccess, Refusal, RefusalCode, StageRequest};
use crate::socket::Peer;

/// Stage that the daemon may start.
pub(super) struct AllowedStage<'c> {
    pub(super) module: &'c Module,
    pub(super) request: &'c StageRequest,
    pub(super) user: ModuleUser,
    /// Paths that its processes may read.
    pub(super) read: Vec<CheckedPath>,
    /// Paths that its processes may write.
    pub(super) write: Vec<CheckedPath>,
    /// Most private memory of each of its processes, in bytes.
    pub(super) memory_per_process: u64,
}

/// Checks a stage against the configuration. Returns `None` for an unbound seat.
pub(super) fn check_stage<'c>(
    config: &'c Config,
    peer: Peer,
    request: &'c StageRequest,
    role: Role,
) -> Result<Option<AllowedStage<'c>>, Refusal> {
    if let Some(machine) = &request.machine {
        let why =
            format!("a stage on another machine (\"{machine}\") is reserved for a later version");
        return Err(Refusal::new(RefusalCode::RESERVED, why));
    }
    let Some(name) = &request.module else {
        return check_unbound(request).map(|()| None);
    };
    let module = find_module(config, peer.user, name)?;
    check_settings(module, request, role)?;
    if let Err(error) = module.program.verify_unchanged() {
        let program = module.program.path().display();
        return Err(refusal(
            module,
            RefusalCode::MODULE,
            &format!("is not started: {program}: {error}"),
        ));
    }
    let user = ModuleUser::of(module, peer).map_err(|error| {
        let why = format!("is not started: cannot look up its user: {error}");
        refusal(module, RefusalCode::SYSTEM, &why)
    })?;
    // The user's own view decides: a refusal does not reveal what the user may not see.
    let paths = user.see(|| check_paths(module, request)).map_err(|error| {
        let why = format!("is not started: cannot become its user: {error}");
        refusal(module, RefusalCode::SYSTEM, &why)
    })?;
    let (read, write) = paths?;
    Ok(Some(AllowedStage {
        module,
        request,
        user,
        read,
        write,
        memory_per_process: config.limits.memory_per_process,
    }))
}

/// A refusal about a module; `why` follows its name.
fn refusal(module: &Module, code: RefusalCode, why: &str) -> Refusal {
    Refusal::new(code, format!("the module \"{}\" {why}", module.name))
}

/// Checks that the request for an unbound stage has nothing that only a module needs.
fn check_unbound(request: &StageRequest) -> Result<(), Refusal> {
    let mut plain = StageRequest::default();
    plain.name.clone_from(&request.name);
    plain.instances = request.instances;
    if *request != plain || request.instances.is_some_and(|instances| instances != 1) {
        let why = "an unbound stage has only a name and one instance: all else is for modules";
        return Err(Refusal::new(RefusalCode::IMPOSSIBLE, why));
    }
    Ok(())
}

/// Finds a module that `user` may use. A refusal does not reveal other modules.
fn find_module<'c>(config: &'c Config, user: User, name: &str) -> Result<&'c Module, Refusal> {
    if let Some(module) = config.module(name).filter(|module| module.allows(user)) {
        return Ok(module);
    }
    let known: Vec<_> = config
        .modules
        .iter()
        .filter(|module| module.allows(user))
        .map(|module| &*module.name)
        .collect();
    let known = known.join(", ");
    let why = format!("user {user} has no module \"{name}\" here, only: {known}");
    Err(Refusal::new(RefusalCode::NO_SUCH_MODULE, why))
}

/// Checks the role and the settings of a stage against its module.
fn check_settings(module: &Module, request: &StageRequest, role: Role) -> Result<(), Refusal> {
    let refused = |code, why: &str| Err(refusal(module, code, why));
    if module.role != role {
        let why = format!("is a {}, where the pipe needs a {role}", module.role);
        return refused(RefusalCode::MODULE, &why);
    }
    let (instances, most) = (request.instances.unwrap_or(1), module.max_instances);
    if instances > most {
        let why = format!("may have {most} instances, not {instances}");
        return refused(RefusalCode::LIMIT, &why);
    }
    let sets_holds = request.holds_in.is_some() || request.holds_out.is_some();
    if sets_holds && module.work != StageKind::Loop {
        let why = "is not a loop: its kind determines how many buffers it holds";
        return refused(RefusalCode::MODULE, why);
    }
    if request.stateful && role != Role::Middle {
        let why = format!("is a {role}, which is never replaced: remove the stateful flag");
        return refused(RefusalCode::MODULE, &why);
    }
    Ok(())
}

/// Resolves the paths that the module may read and write: those of the request, if the
/// configuration allows them, and those that it always allows.
fn check_paths(
    module: &Module,
    request: &StageRequest,
) -> Result<(Vec<CheckedPath>, Vec<CheckedPath>), Refusal> {
    let refused = |error: PathError| refusal(module, RefusalCode::PATH, &error.to_string());
    let always = |paths: &[AllowedPath]| {
        let paths = paths.iter().map(AllowedPath::checked);
        paths.collect::<Result<Vec<_>, _>>().map_err(refused)
    };
    let (mut read, mut write) = (always(&module.always.read)?, always(&module.always.write)?);
    for (access, path) in &request.paths {
        let allowed = module.paths.allow(*access, path).map_err(refused)?;
        match access {
            PathAccess::Read => read.push(allowed),
            PathAccess::Write => write.push(allowed),
        }
    }
    Ok((read, write))
}
