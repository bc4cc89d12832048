//! What a host can make, by name.

use std::collections::BTreeMap;
use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use parking_lot::Mutex;

use super::report::{self, StageMessage};
use crate::error::StageError;
use crate::stage::runner::Worker;
use crate::stage::runner::thread::caught;
use crate::stage::{
    ANALYZE_MODULE, DECOMPRESS_MODULE, DEFLATE_MODULE, DamageLog, Deflate, Fields, HeadStage,
    MiddleStage, Module, RESEQUENCE_MODULE, SALVAGE, SEQUENCE_MODULE, STREAM_HEAD_MODULE,
    STREAM_TAIL_MODULE, StageKind, StreamHead, StreamTail, TailStage, ZSTD_MODULE, Zstd, analyze,
    decompress, decompress_salvaging, resequence, sequence,
};

/// Makes a stage from what stands in its description.
type Maker = Box<dyn Fn(&StageArgs<'_>) -> Result<AnyStage, StageError>>;
/// Asked now and then for what there is to say.
type Source = Box<dyn FnMut() -> Vec<StageMessage> + Send>;

/// The modules of a host: names, and how each makes a stage from its arguments.
pub struct Modules(BTreeMap<String, Maker>);

/// What a module gets to make a stage from.
#[derive(Debug)]
pub struct StageArgs<'c> {
    module: &'c Module,
    notes: &'c Notes,
}

/// A stage in any role, as a module makes it. Each of the three converts into it.
#[derive(Debug)]
pub struct AnyStage(Role);

#[derive(Debug)]
enum Role {
    Head(HeadStage<'static>),
    Middle(MiddleStage<'static>),
    Tail(TailStage<'static>),
}

impl Modules {
    /// The library's own modules, but for those of archives and of trees:
    /// [`datapipe::modules`](crate::modules) has these, too.
    pub fn new() -> Self {
        Self(BTreeMap::new())
            .with(ZSTD_MODULE, |call| {
                let mut fields = call.fields()?;
                let level = fields.number("level")?;
                fields.end().map(|()| Zstd::level(level))
            })
            .with(DEFLATE_MODULE, |call| {
                let mut fields = call.fields()?;
                let level = fields.number("level")?;
                fields.end().map(|()| Deflate::level(level))
            })
            .with(DECOMPRESS_MODULE, |call| {
                let mut fields = call.fields()?;
                let salvages = fields.flag(SALVAGE)?;
                fields.end()?;
                Ok(if salvages {
                    decompress_salvaging(&call.damage())
                } else {
                    decompress()
                })
            })
            .with(SEQUENCE_MODULE, |call| {
                let mut fields = call.fields()?;
                let first = fields.number("first")?;
                fields.end().map(|()| sequence(first))
            })
            .with(RESEQUENCE_MODULE, |call| {
                let mut fields = call.fields()?;
                let (first, window) = (fields.number("first")?, fields.number("window")?);
                fields.end().map(|()| resequence(first, window))
            })
            .with(ANALYZE_MODULE, |call| {
                call.fields()?.end().map(|()| analyze())
            })
            .with(STREAM_HEAD_MODULE, |call| {
                StreamHead::of_fields(call.fields()?, || call.descriptor(0))
            })
            .with(STREAM_TAIL_MODULE, |call| {
                StreamTail::of_fields(call.fields()?, || call.descriptor(0))
            })
    }

    /// Adds a module, or takes the place of one: `make` gets the arguments of a stage's
    /// description, and makes the same stage as it was described for threads
    /// ([`Stage::module`](crate::stage::Stage::module)).
    #[must_use]
    pub fn with<S: Into<AnyStage>>(
        mut self,
        name: impl Into<String>,
        make: impl Fn(&StageArgs<'_>) -> Result<S, StageError> + 'static,
    ) -> Self {
        self.0.insert(
            name.into(),
            Box::new(move |call| make(call).map(Into::into)),
        );
        self
    }

    pub(super) fn make(&self, module: &Module, notes: &Notes) -> Result<AnyStage, StageError> {
        let Some(make) = self.0.get(&module.name) else {
            let known: Vec<_> = self.0.keys().map(String::as_str).collect();
            let name = module.name.escape_debug();
            return Err(StageError::new(format!(
                "the host has no module \"{name}\", only {}",
                known.join(", ")
            )));
        };
        make(&StageArgs { module, notes })
    }
}

impl Default for Modules {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Modules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl StageArgs<'_> {
    /// The arguments, as [`Stage::module`](crate::stage::Stage::module) got them.
    pub fn arguments(&self) -> &[u8] {
        &self.module.arguments
    }

    /// The arguments as the fields that [`Arguments`](crate::stage::Arguments) wrote.
    ///
    /// # Errors
    ///
    /// If that is not what they are.
    pub fn fields(&self) -> Result<Fields<'_>, StageError> {
        Fields::read(&self.module.arguments)
    }

    /// The arguments as text.
    ///
    /// # Errors
    ///
    /// If they are not UTF-8.
    pub fn text(&self) -> Result<&str, StageError> {
        Ok(str::from_utf8(&self.module.arguments)?)
    }

    /// The descriptor that [`Stage::descriptor`](crate::stage::Stage::descriptor) gave as number
    /// `n`, counted from 0.
    ///
    /// # Errors
    ///
    /// If there are fewer.
    pub fn descriptor(&self, n: usize) -> Result<OwnedFd, StageError> {
        let given = &self.module.descriptors;
        let none = || {
            StageError::new(format!(
                "the module got {} descriptors, and no number {n}",
                given.len()
            ))
        };
        Ok(given.get(n).ok_or_else(none)?.try_clone()?)
    }

    /// A log of damage whose news get to the stage's handler, which hears them.
    pub(crate) fn damage(&self) -> DamageLog {
        let log = DamageLog::of_process();
        let told = log.clone();
        let telling = self.notes(move || {
            let news = told.news().into_iter();
            // Each was made to fit.
            news.filter_map(|(text, data)| StageMessage::new(text, data).ok())
                .collect()
        });
        // A block goes on only when what is wrong with it has been told: so a replacement need not
        // find it again.
        log.when_reported(move || {
            let _ = telling.tell(); // if another source of the module panicked, that one says so
        });
        log
    }

    /// From now on asks `source` ten times a second, and once after the stage has ended, for what
    /// it has to say that it has not said yet; each [`StageMessage`] gets to the stage's handler in the
    /// controller ([`Stage::notes`](crate::stage::Stage::notes)), in order. What a process that is
    /// killed had not been asked for is lost, unless it was [told at once](Notifier::tell). A panic
    /// of `source` fails the stage.
    pub fn notes(&self, source: impl FnMut() -> Vec<StageMessage> + Send + 'static) -> Notifier {
        self.notes.sources.lock().push(Box::new(source));
        Notifier(self.notes.clone())
    }
}

/// Tells the controller what there is to say, out of turn. Made by [`StageArgs::notes`].
#[derive(Clone, Debug)]
pub struct Notifier(Notes);

impl Notifier {
    /// Asks all sources now. What they say has left this process when this returns, and gets to the
    /// controller however the process ends. A source must not call it.
    ///
    /// # Errors
    ///
    /// If a source panicked: return it, it is the stage's.
    pub fn tell(&self) -> Result<(), StageError> {
        self.0.pass_on()
    }
}

/// What a process has to say about its work, and to whom.
#[derive(Clone)]
pub(super) struct Notes {
    sources: Arc<Mutex<Vec<Source>>>,
    control: Arc<OwnedFd>,
}

impl Notes {
    /// Nothing yet.
    pub(super) fn new(control: OwnedFd) -> Self {
        Self {
            sources: Arc::default(),
            control: Arc::new(control),
        }
    }

    /// Asks everybody, and passes on what they say. After a panic of one, which comes back, nobody
    /// is asked again.
    pub(super) fn pass_on(&self) -> Result<(), StageError> {
        // Under the lock, so that notes of two callers do not overtake each other.
        let mut sources = self.sources.lock();
        let passed = caught(|| {
            let notes = sources.iter_mut().flat_map(|source| source());
            notes.for_each(|note| report::note(&self.control, &note));
            Ok(())
        });
        if passed.is_err() {
            sources.clear();
        }
        passed
    }

    /// Says that an instance has failed, for a reason of the process.
    pub(super) fn tell_failure(&self, error: StageError) {
        report::tell(&self.control, 0, &Err(error));
    }
}

impl fmt::Debug for Notes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Notes")
    }
}

impl AnyStage {
    pub(super) fn work(&self) -> StageKind {
        match &self.0 {
            Role::Head(stage) => stage.work(),
            Role::Middle(stage) => stage.work(),
            Role::Tail(stage) => stage.work(),
        }
    }

    /// Whether it can stand at place `stage` of `stages`.
    pub(super) fn fits(&self, stage: u32, stages: u32) -> bool {
        match &self.0 {
            Role::Head(_) => stage == 0,
            Role::Tail(_) => stage.checked_add(1) == Some(stages),
            Role::Middle(_) => stage > 0 && stage < stages.saturating_sub(1),
        }
    }

    pub(super) fn worker(&mut self, instance: u32) -> Worker<'static> {
        match &mut self.0 {
            Role::Head(stage) => stage.worker(instance),
            Role::Middle(stage) => stage.worker_on_copies(instance),
            Role::Tail(stage) => stage.worker(instance),
        }
    }
}

impl From<HeadStage<'static>> for AnyStage {
    fn from(stage: HeadStage<'static>) -> Self {
        Self(Role::Head(stage))
    }
}

impl From<MiddleStage<'static>> for AnyStage {
    fn from(stage: MiddleStage<'static>) -> Self {
        Self(Role::Middle(stage))
    }
}

impl From<TailStage<'static>> for AnyStage {
    fn from(stage: TailStage<'static>) -> Self {
        Self(Role::Tail(stage))
    }
}
