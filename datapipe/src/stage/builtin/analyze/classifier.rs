//! Content analysis as a stage.

use crate::error::StageError;
use crate::pool::BlockInfo;
use crate::stage::{Analyze, MiddleStage, Stage};

use super::classify::classify;

/// Name of the module that makes this stage in another process.
pub(crate) const ANALYZE_MODULE: &str = "datapipe.analyze";

/// A stage that records the [`ContentClass`](crate::pool::ContentClass) of each block.
pub fn analyze<'a>() -> MiddleStage<'a> {
    Stage::analyze("analyze", |_| Classifier).module(ANALYZE_MODULE, "")
}

struct Classifier;

impl Analyze for Classifier {
    fn analyze(&mut self, data: &[u8], info: &mut BlockInfo) -> Result<(), StageError> {
        info.class = classify(data);
        Ok(())
    }
}
