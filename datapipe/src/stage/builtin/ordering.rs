//! The sequencer and the resequencer as stages, for pipes that need them on their own.

use crate::error::StageError;
use crate::pool::{Block, MiddlePort};
use crate::sequence::{Resequencer, Sequencer};

use crate::stage::{Arguments, InPlace, MiddleStage, Stage, Verdict};

/// Name of the sequencer's module.
pub(crate) const SEQUENCE_MODULE: &str = "datapipe.sequence";
/// Name of the resequencer's module.
pub(crate) const RESEQUENCE_MODULE: &str = "datapipe.resequence";

/// A stage that numbers the blocks: it stores a sequence number in the information of each block,
/// starting with `first`.
pub fn sequence<'a>(first: u64) -> MiddleStage<'a> {
    let arguments = Arguments::new().with("first", first.to_string());
    let stage = Stage::in_place("sequence", move |_| {
        AssignSequence(Sequencer::starting_at(first))
    });
    let stage = stage.stateful().keep_blocks();
    stage.module(SEQUENCE_MODULE, arguments)
}

/// A stage that sends blocks on in the order of the numbers that [`sequence`] assigned, starting
/// with `first`, and holds up to `window` of them while a predecessor is missing. A loop over a
/// port between the two stages must not drop any block.
pub fn resequence<'a>(first: u64, window: u32) -> MiddleStage<'a> {
    let run = move |port: &MiddlePort| resequence_blocks(port, first, window);
    let arguments = Arguments::new()
        .with("first", first.to_string())
        .with("window", window.to_string());
    Stage::port("resequence", run)
        .holds_in(window)
        .holds_out(0)
        .keep_blocks()
        .module(RESEQUENCE_MODULE, arguments)
}

struct AssignSequence(Sequencer);

impl InPlace for AssignSequence {
    fn transform(&mut self, block: &mut Block) -> Result<Verdict, StageError> {
        let mut info = block.info();
        info.sequence = Some(self.0.number());
        block.set_info(info);
        Ok(Verdict::Send)
    }
}

/// The resequencer's loop. It asks its port for vacant blocks too: a dropped block still carries
/// its number, and its successors wait for that.
fn resequence_blocks(port: &MiddlePort, first: u64, window: u32) -> Result<(), StageError> {
    port.core().skip_vacant(false);
    let mut order = Resequencer::new(first, window.max(1) as usize);
    while let Some(block) = port.receive()? {
        let Some(number) = block.info().sequence else {
            if block.is_vacant() {
                continue; // dropped before it was numbered
            }
            return Err(StageError::new(format!(
                "block {} has no sequence number",
                block.number()
            )));
        };
        // A block that was dropped after it was numbered still has its number; otherwise all of its
        // successors would wait forever.
        order.push(number, block).map_err(|rejected| {
            StageError::new(format!(
                "cannot put block {number} in order: {}",
                rejected.rejection
            ))
        })?;
        while let Some((_, block)) = order.pop() {
            port.forward(block)?;
        }
    }
    match order.len() {
        0 => Ok(()),
        held => {
            let next = order.next();
            Err(StageError::new(format!(
                "block {next} is missing at the end of the stream; {held} later blocks wait for it"
            )))
        }
    }
}
