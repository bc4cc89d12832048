//! Stages of the program in processes of their own.

use datapipe::limits::MAX_MODULE_NAME;

use crate::boundary::{InArray, Text, User, call_before_fork, convert, empty, versioned};
use crate::failure::Failure;
use crate::library::prepare;
use crate::pipe::{ModuleMaker, PipeStage, serve};
use crate::status::{DP_ANSWER_OK, DP_ERR_ARGUMENT, DP_ERR_NULL, DP_OK, dp_status};

use super::stage::dp_stage;
use super::stage_spec::StageSpec;

/// Prefix of the library's own modules.
const OF_LIBRARY: &str = "datapipe.";

/// Arguments of a module, as the stage was added with them.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct dp_module_arguments {
    /// Size of this struct in the library that runs. Fields after it do not exist.
    pub size: usize,
    /// The bytes of `module_arguments`.
    pub bytes: *const u8,
    /// Number of these bytes.
    pub len: usize,
}

versioned!(dp_module_arguments, first: 24, { size, bytes, len });

/// Makes the stage of a module in a process that runs it: sets the kind and the functions in
/// `stage`, which is empty, as they would be for `dp_pipe_add` in threads. Texts that it sets stay
/// valid until the process ends. Returns `DP_ANSWER_OK` or a negative error number: the pipe then
/// fails.
///
/// Threads: the one that has called `dp_serve`, before the functions of the stage.
pub type dp_module_function = Option<
    unsafe extern "C" fn(
        user: User,
        arguments: *const dp_module_arguments,
        stage: *mut dp_stage,
    ) -> i32,
>;

/// A stage of the program that can run in processes, by its name.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct dp_module {
    /// `sizeof(dp_module)`.
    pub size: usize,
    /// Name in UTF-8, at most 255 bytes, which does not begin with `datapipe.`.
    pub name: Text,
    /// Makes the stage.
    pub make: dp_module_function,
    /// Pointer that is passed to `make`.
    pub user: User,
}

versioned!(dp_module, first: 32, { size, name, make, user });

/// Runs a stage of a pipe and ends the process, if this process was started for that; `exit` runs
/// as at the end of `main`. Otherwise it returns at once, and pipes of this program can have stages
/// in processes (`DP_RUN_IN_PROCESSES`), which start the program again.
///
/// Call it first in `main`, before threads are started, arguments are read and output is written. A
/// program for which it fails ends. `modules` is an array of `count` structs, and is copied; it is
/// NULL for stages of the library only. A program that calls nothing else before it forks may use
/// the library in both processes.
///
/// Threads: the first one, while it is the only one. Errors: `DP_ERR_NULL`, `DP_ERR_ARGUMENT` for a
/// name that is empty, taken or not UTF-8, `DP_ERR_UNSUPPORTED` on a system whose C library does
/// not pass the program's arguments on.
#[unsafe(no_mangle)]
pub extern "C" fn dp_serve(modules: InArray<dp_module>, count: usize) -> dp_status {
    call_before_fork(|| {
        serve(modules_of(modules, count)?)?;
        Ok(DP_OK)
    })
}

/// Copies and checks modules. A message names the one that is wrong.
pub(super) fn modules_of(
    modules: InArray<dp_module>,
    count: usize,
) -> Result<Vec<(String, ModuleMaker)>, Failure> {
    let mut checked: Vec<(String, ModuleMaker)> = Vec::new();
    for (index, module) in modules.read(count)?.iter().enumerate() {
        let at = format!("modules[{index}]");
        let (name, maker) = module_of(module).map_err(|failure| failure.named(&at))?;
        let is_taken = checked.iter().any(|(other, _)| *other == name);
        if is_taken || name.starts_with(OF_LIBRARY) || !(1..=MAX_MODULE_NAME).contains(&name.len())
        {
            return Err(Failure::new(
                DP_ERR_ARGUMENT,
                format!(
                    "{at} has the name \"{name}\", which is taken, empty or too long: give each \
                     its own name of at most {MAX_MODULE_NAME} bytes, which does not begin with \
                     \"{OF_LIBRARY}\""
                ),
            ));
        }
        checked.push((name, maker));
    }
    Ok(checked)
}

/// Checks a module.
fn module_of(module: &dp_module) -> Result<(String, ModuleMaker), Failure> {
    let null = |name| Failure::new(DP_ERR_NULL, format!("dp_module.{name} is NULL"));
    let name = module.name.utf8("dp_module.name")?;
    let make = module.make.ok_or_else(|| null("make"))?;
    let user = module.user;
    let maker = move |arguments: &[u8]| {
        // The process is an instance, and does not fork.
        prepare()?;
        let arguments = dp_module_arguments {
            size: size_of::<dp_module_arguments>(),
            bytes: arguments.as_ptr(),
            len: arguments.len(),
        };
        let mut stage = empty();
        match convert(make, user, &arguments, &mut stage) {
            DP_ANSWER_OK => stage_of_module(&stage),
            answer => Err(Failure::new(
                DP_ERR_ARGUMENT,
                format!("the module has returned {answer}"),
            )),
        }
    };
    Ok((name.ok_or_else(|| null("name"))?, Box::new(maker)))
}

/// Checks the stage that a module has made.
fn stage_of_module(stage: &dp_stage) -> Result<PipeStage, Failure> {
    match stage.run {
        0 => StageSpec::of(stage)?.stage(),
        run => Err(Failure::new(
            DP_ERR_ARGUMENT,
            format!("the module has set stage.run to {run}, which is for dp_pipe_add"),
        )),
    }
}
