//! Pipes from a description in JSON.

use serde_json::{Map, Value};

use crate::boundary::{Bytes, Handle, In, InArray, OutHandle, User, call, versioned};
use crate::failure::Failure;
use crate::pipe::{ModuleMaker, PIPES, PipeEntry, PipeSettings, StageFunctions};
use crate::status::{DP_ERR_ARGUMENT, DP_OK, dp_status};

use super::cancel::{dp_cancel, token_of};
use super::event::{dp_event_function, event_sink};
use super::json::parse;
use super::pipe::dp_pipe;
use super::serve::{dp_module, modules_of};
use super::stage::*;
use super::stage_spec::StageSpec;

/// Names of the kinds of stages.
const KINDS: [(&str, i32); 14] = [
    ("head", DP_STAGE_HEAD),
    ("read_descriptor", DP_STAGE_READ_DESCRIPTOR),
    ("unbound_head", DP_STAGE_UNBOUND_HEAD),
    ("transform", DP_STAGE_TRANSFORM),
    ("in_place", DP_STAGE_IN_PLACE),
    ("inspect", DP_STAGE_INSPECT),
    ("flat_map", DP_STAGE_FLAT_MAP),
    ("analyze", DP_STAGE_ANALYZE),
    ("zstd", DP_STAGE_ZSTD),
    ("deflate", DP_STAGE_DEFLATE),
    ("decompress", DP_STAGE_DECOMPRESS),
    ("tail", DP_STAGE_TAIL),
    ("write_descriptor", DP_STAGE_WRITE_DESCRIPTOR),
    ("unbound_tail", DP_STAGE_UNBOUND_TAIL),
];

/// A description of a pipe in JSON, with what JSON cannot have.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct dp_pipe_json {
    /// `sizeof(dp_pipe_json)`.
    pub size: usize,
    /// The text in UTF-8.
    pub text: Bytes,
    /// Length of the text in bytes, at most 16 MiB.
    pub text_len: usize,
    /// Modules of the stages with functions of the program that run in threads, or NULL. Those of
    /// stages in processes come from `dp_serve`.
    pub modules: InArray<dp_module>,
    /// Number of modules.
    pub module_count: usize,
    /// Token that cancels the pipe while a thread waits for it, or NULL.
    pub cancel: Handle<dp_cancel>,
    /// Receives the events of the pipe, or NULL.
    pub event: dp_event_function,
    /// Pointer that is passed to `event`.
    pub event_user: User,
}

versioned!(dp_pipe_json, first: 64, {
    size, text, text_len, modules, module_count, cancel, event, event_user
});

/// Makes a pipe with all of its stages from a description in JSON, as `dp_pipe_new` and
/// `dp_pipe_add` do. The pipe is then started. docs/c-abi.md has the members of the description.
///
/// The functions of modules are called before the function returns. `description` is copied, but
/// the functions of the stages that the modules have made are used until the pipe is freed.
/// Ownership: free the pipe with `dp_pipe_free`.
///
/// Threads: any. Errors: `DP_ERR_NULL`, `DP_ERR_ARGUMENT`, `DP_ERR_STATE` for stages that cannot
/// come in this order, `DP_ERR_LIMIT`, and those of a token. The message begins with the member:
/// `$.stages[2].level`.
#[unsafe(no_mangle)]
pub extern "C" fn dp_pipe_from_json(
    description: In<dp_pipe_json>,
    pipe: OutHandle<dp_pipe>,
) -> dp_status {
    call(|| {
        pipe.check("pipe")?;
        let description = description.read_needed()?;
        let text = description.text.read(description.text_len, "text")?;
        let modules = modules_of(description.modules, description.module_count)?;
        let mut object = Object::new("$", parse(&text)?)?;
        let settings = PipeSettings {
            label: object.text("label")?,
            buffers: object.positive("buffers")?,
            buffer_size: object.positive("buffer_size")?,
            token: token_of(description.cancel)?,
        };
        let stages = object.list("stages")?;
        object.end()?;
        let event = event_sink(description.event, description.event_user);
        let entry = PipeEntry::new(settings, event);
        for (index, stage) in stages.into_iter().enumerate() {
            let at = format!("$.stages[{index}]");
            let placed = spec_of(&at, stage, &modules)?.placed()?;
            entry.add(placed).map_err(|failure| failure.named(&at))?;
        }
        pipe.write(PIPES.insert(entry)?);
        Ok(DP_OK)
    })
}

/// Reads the description of a stage.
fn spec_of(
    at: &str,
    value: Value,
    modules: &[(String, ModuleMaker)],
) -> Result<StageSpec, Failure> {
    let mut object = Object::new(at, value)?;
    let kind = kind_of(&mut object)?;
    check_members(&object, kind)?;
    let mut spec = StageSpec {
        at: at.to_owned(),
        kind,
        name: object.text("name")?,
        level: object.number("level")?.unwrap_or_default(),
        descriptor: object.number("descriptor")?.unwrap_or_default(),
        instances: object.number("instances")?.unwrap_or_default(),
        most_outputs: object.number("most_outputs")?.unwrap_or_default(),
        patience_ms: object.number("patience_ms")?.unwrap_or_default(),
        module: object.text("module")?,
        arguments: object.any_text("arguments")?.unwrap_or_default().into(),
        program: object.text("program")?.map(Into::into),
        work_limit_ms: object.number("work_limit_ms")?.unwrap_or_default(),
        run: run_of(&mut object)?,
        ..StageSpec::default()
    };
    let module = spec.module.take_if(|_| spec.run & DP_RUN_IN_PROCESSES == 0);
    if let Some(name) = module {
        spec.functions = functions_of(&object, &name, &spec.arguments, modules)?;
    }
    object.end()?;
    Ok(spec)
}

/// Reads the kind of a stage.
fn kind_of(object: &mut Object) -> Result<i32, Failure> {
    let name = object.text("kind")?.unwrap_or_default();
    let found = KINDS.iter().find(|(known, _)| *known == name);
    found.map(|(_, kind)| *kind).ok_or_else(|| {
        let names: Vec<_> = KINDS.iter().map(|(name, _)| *name).collect();
        object.wrong("kind", &format!("is not one of {}", names.join(", ")))
    })
}

/// Reads the place of a stage as `DP_RUN_...`.
fn run_of(object: &mut Object) -> Result<u32, Failure> {
    let mut run = 0;
    for (name, flag) in [
        ("in_processes", DP_RUN_IN_PROCESSES),
        ("stateful", DP_RUN_STATEFUL),
        ("together", DP_RUN_TOGETHER),
    ] {
        if object.flag(name)? {
            run |= flag;
        }
    }
    Ok(run)
}

/// Checks that a stage has the members that its kind needs, and none that it does not use.
fn check_members(object: &Object, kind: i32) -> Result<(), Failure> {
    let is_of_program = StageFunctions::default().missing(kind).is_some();
    let is_unbound = [DP_STAGE_UNBOUND_HEAD, DP_STAGE_UNBOUND_TAIL].contains(&kind);
    let has_descriptor = [DP_STAGE_READ_DESCRIPTOR, DP_STAGE_WRITE_DESCRIPTOR].contains(&kind);
    let has_level = [DP_STAGE_ZSTD, DP_STAGE_DEFLATE].contains(&kind);
    let used = [
        ("name", is_of_program || is_unbound),
        ("module", is_of_program),
        ("arguments", is_of_program),
        ("instances", !is_unbound && !has_descriptor),
        ("descriptor", has_descriptor),
        ("level", has_level),
        ("most_outputs", kind == DP_STAGE_FLAT_MAP),
        ("patience_ms", is_unbound),
        ("in_processes", !is_unbound),
        ("stateful", !is_unbound),
        ("together", !is_unbound),
    ];
    let unused = used
        .iter()
        .find(|(name, is_used)| !is_used && object.has(name));
    if let Some((name, _)) = unused {
        return Err(object.wrong(name, "is not for this kind of stage"));
    }
    for (name, is_needed) in [("module", is_of_program), ("descriptor", has_descriptor)] {
        if is_needed && !object.has(name) {
            return Err(object.wrong(name, "is missing: this kind of stage needs it"));
        }
    }
    let for_processes = ["program", "work_limit_ms"];
    let of_processes = for_processes.iter().find(|name| object.has(name));
    match of_processes.filter(|_| object.members.get("in_processes") != Some(&Value::Bool(true))) {
        Some(name) => Err(object.wrong(name, "needs in_processes, which is not true")),
        None => Ok(()),
    }
}

/// Lets a module make the functions of a stage in threads.
fn functions_of(
    object: &Object,
    name: &str,
    arguments: &[u8],
    modules: &[(String, ModuleMaker)],
) -> Result<StageFunctions, Failure> {
    let found = modules.iter().find(|(module, _)| *module == name);
    let Some((_, make)) = found else {
        let reason = format!("is \"{name}\", which dp_pipe_json.modules does not have");
        return Err(object.wrong("module", &reason));
    };
    let made = make(arguments).map_err(|failure| failure.named(&object.at))?;
    let functions = made.functions();
    functions.ok_or_else(|| object.wrong("module", "has made a stage of the library"))
}

/// An object of JSON, of which each member is taken once.
struct Object {
    /// Its path: `$.stages[2]`.
    at: String,
    members: Map<String, Value>,
}

impl Object {
    fn new(at: &str, value: Value) -> Result<Self, Failure> {
        match value {
            Value::Object(members) => Ok(Self {
                at: at.to_owned(),
                members,
            }),
            _ => Err(Failure::new(
                DP_ERR_ARGUMENT,
                format!("{at} is not an object: {{...}}"),
            )),
        }
    }

    fn has(&self, name: &str) -> bool {
        self.members.contains_key(name)
    }

    fn wrong(&self, name: &str, reason: &str) -> Failure {
        Failure::new(DP_ERR_ARGUMENT, format!("{}.{name} {reason}", self.at))
    }

    /// Takes a text that C can have. `None` if it is not there.
    fn text(&mut self, name: &str) -> Result<Option<String>, Failure> {
        match self.any_text(name)? {
            Some(text) if text.contains('\0') => {
                Err(self.wrong(name, "has a zero byte (\\u0000), which ends a text"))
            }
            text => Ok(text),
        }
    }

    /// Takes a text, also one with zero bytes. `None` if it is not there.
    fn any_text(&mut self, name: &str) -> Result<Option<String>, Failure> {
        match self.members.remove(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(self.wrong(name, "is not a text: \"...\"")),
        }
    }

    /// Takes a whole number in the range of its type. `None` if it is not there.
    fn number<N: TryFrom<i64>>(&mut self, name: &str) -> Result<Option<N>, Failure> {
        let Some(value) = self.members.remove(name) else {
            return Ok(None);
        };
        let number = value.as_i64().and_then(|number| N::try_from(number).ok());
        let reason = format!("is {value}, which is not a whole number in the range of its field");
        number.map(Some).ok_or_else(|| self.wrong(name, &reason))
    }

    /// Takes a number that is not 0.
    fn positive(&mut self, name: &str) -> Result<Option<u32>, Failure> {
        Ok(self.number(name)?.filter(|number| *number > 0))
    }

    /// Takes a flag; false if it is not there.
    fn flag(&mut self, name: &str) -> Result<bool, Failure> {
        match self.members.remove(name) {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(flag),
            Some(_) => Err(self.wrong(name, "is neither true nor false")),
        }
    }

    /// Takes a list, which is needed.
    fn list(&mut self, name: &str) -> Result<Vec<Value>, Failure> {
        match self.members.remove(name) {
            Some(Value::Array(list)) => Ok(list),
            _ => Err(self.wrong(name, "is not a list: [...]")),
        }
    }

    /// Refuses members that are not known.
    fn end(self) -> Result<(), Failure> {
        match self.members.keys().next() {
            None => Ok(()),
            Some(name) => Err(self.wrong(name, "is not a member that this library knows")),
        }
    }
}
