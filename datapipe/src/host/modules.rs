//! What a host can make, by name.

use std::collections::BTreeMap;
use std::fmt;

use crate::error::StageError;
use crate::stage::{
    ANALYZE_MODULE, DECOMPRESS_MODULE, DEFLATE_MODULE, Deflate, MiddleStage, Module, ZSTD_MODULE, Zstd,
    analyze, decompress,
};

/// Makes a stage from what stands in its description.
type Maker = Box<dyn Fn(&[u8]) -> Result<MiddleStage<'static>, StageError>>;

/// The modules of a host: names, and how each makes a stage from its arguments.
pub struct Modules(BTreeMap<String, Maker>);

impl Modules {
    /// The library's own modules: compression, decompression and analysis.
    pub fn new() -> Self {
        Self(BTreeMap::new())
            .with(ZSTD_MODULE, |arguments| Ok(Zstd::level(str::from_utf8(arguments)?.parse()?)))
            .with(DEFLATE_MODULE, |arguments| Ok(Deflate::level(str::from_utf8(arguments)?.parse()?)))
            .with(DECOMPRESS_MODULE, |_| Ok(decompress()))
            .with(ANALYZE_MODULE, |_| Ok(analyze()))
    }

    /// Adds a module, or takes the place of one: `make` gets the arguments of a stage's description, and makes the
    /// same stage as it was described for threads ([`Stage::module`](crate::stage::Stage::module)).
    #[must_use]
    pub fn with(
        mut self,
        name: impl Into<String>,
        make: impl Fn(&[u8]) -> Result<MiddleStage<'static>, StageError> + 'static,
    ) -> Self {
        self.0.insert(name.into(), Box::new(make));
        self
    }

    pub(super) fn make(&self, module: &Module) -> Result<MiddleStage<'static>, StageError> {
        let Some(make) = self.0.get(&module.name) else {
            let known: Vec<_> = self.0.keys().map(String::as_str).collect();
            let name = module.name.escape_debug();
            return Err(StageError::new(format!(
                "the host has no module \"{name}\", only {}",
                known.join(", ")
            )));
        };
        make(&module.arguments)
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
