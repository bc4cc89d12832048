//! The modules of a host: names, and the functions that make stages.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use super::any_stage::AnyStage;
use super::launch_request::Job;
use super::message_sources::MessageSources;
use super::stage_args::StageArgs;
use crate::error::StageError;
#[cfg(feature = "deflate")]
use crate::limits::DEFLATE_LEVELS;
#[cfg(feature = "zstd")]
use crate::limits::ZSTD_LEVELS;
#[cfg(feature = "deflate")]
use crate::stage::deflate;
#[cfg(feature = "zstd")]
use crate::stage::zstd;
use crate::stage::{
    ANALYZE_MODULE, DECOMPRESS_MODULE, DEFLATE_MODULE, RESEQUENCE_MODULE, SALVAGE, SEQUENCE_MODULE,
    STREAM_HEAD_MODULE, STREAM_TAIL_MODULE, StreamHead, StreamTail, ZSTD_MODULE, analyze,
    decompress, decompress_salvaging, resequence, sequence,
};

/// Makes a stage from its arguments.
type Maker = Box<dyn Fn(&StageArgs<'_>) -> Result<AnyStage, StageError>>;

/// The modules of a host: names, and how each makes a stage from its arguments.
pub struct Modules(BTreeMap<String, Maker>);

impl Modules {
    /// No modules: for a host that makes only stages of its own.
    /// [`datapipe::modules`](crate::modules) has those of the library.
    pub fn empty() -> Self {
        Self(BTreeMap::new())
    }

    /// The modules of the stages in `stage/`. Archives and trees add theirs.
    pub(crate) fn of_plain_stages() -> Self {
        let modules = Self::empty();
        #[cfg(feature = "zstd")]
        let modules = modules.with(ZSTD_MODULE, |args| {
            let mut fields = args.fields()?;
            let level = fields.number_in("level", ZSTD_LEVELS)?;
            fields.end().map(|()| zstd(level))
        });
        #[cfg(feature = "deflate")]
        let modules = modules.with(DEFLATE_MODULE, |args| {
            let mut fields = args.fields()?;
            let level = fields.number_in("level", DEFLATE_LEVELS)?;
            fields.end().map(|()| deflate(level))
        });
        modules
            .with(DECOMPRESS_MODULE, |args| {
                let mut fields = args.fields()?;
                let salvages = fields.flag(SALVAGE)?;
                fields.end()?;
                Ok(if salvages {
                    decompress_salvaging(&args.damage_log())
                } else {
                    decompress()
                })
            })
            .with(SEQUENCE_MODULE, |args| {
                let mut fields = args.fields()?;
                let first = fields.number("first")?;
                fields.end().map(|()| sequence(first))
            })
            .with(RESEQUENCE_MODULE, |args| {
                let mut fields = args.fields()?;
                let (first, window) = (fields.number("first")?, fields.number("window")?);
                fields.end().map(|()| resequence(first, window))
            })
            .with(ANALYZE_MODULE, |args| {
                args.fields()?.end().map(|()| analyze())
            })
            .with(STREAM_HEAD_MODULE, |args| {
                let allow = |path: &Path| args.allow_read(path);
                StreamHead::from_fields(args.fields()?, allow, || args.descriptor(0))
            })
            .with(STREAM_TAIL_MODULE, |args| {
                let allow = |path: &Path| args.allow_write(path);
                StreamTail::from_fields(args.fields()?, allow, || args.descriptor(0))
            })
    }

    /// Adds a module, or replaces the one of the same name. `make` receives the arguments that the
    /// stage was described with ([`Stage::module`](crate::stage::Stage::module)), and makes the
    /// same stage as for threads.
    #[must_use]
    pub fn with<S: Into<AnyStage>>(
        mut self,
        name: impl Into<String>,
        make: impl Fn(&StageArgs<'_>) -> Result<S, StageError> + 'static,
    ) -> Self {
        self.0.insert(
            name.into(),
            Box::new(move |args| make(args).map(Into::into)),
        );
        self
    }

    /// Makes the stage that the module of `job` names.
    pub(super) fn make(
        &self,
        job: &Job,
        messages: &MessageSources,
    ) -> Result<AnyStage, StageError> {
        let module = &job.module;
        let Some(make) = self.0.get(&module.name) else {
            let known: Vec<_> = self.0.keys().map(String::as_str).collect();
            let name = module.name.escape_debug();
            let hint = match name.to_string().starts_with("datapipe.") {
                true => "; give datapipe::host::serve the library's modules, datapipe::modules()",
                false => "",
            };
            let known = match known.is_empty() {
                true => "none at all".to_owned(),
                false => format!("only {}", known.join(", ")),
            };
            return Err(StageError::new(format!(
                "the host has no module \"{name}\", {known}{hint}"
            )));
        };
        make(&StageArgs::new(job, messages))
    }
}

impl fmt::Debug for Modules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}
