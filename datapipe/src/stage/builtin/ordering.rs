//! The sequencer and the resequencer as stages, for plans that need them on their own.

use crate::error::StageError;
use crate::pool::{Block, MiddlePort};
use crate::sequence::{Resequencer, Sequencer};

use super::{Arguments, InPlace, MiddleStage, Stage, Verdict};

/// The modules' names, for hosts.
pub(crate) const SEQUENCE_MODULE: &str = "datapipe.sequence";
/// See [`SEQUENCE_MODULE`].
pub(crate) const RESEQUENCE_MODULE: &str = "datapipe.resequence";

/// A stage that writes a number into the information of each block, from `first` on.
pub fn sequence<'a>(first: u64) -> MiddleStage<'a> {
    let arguments = Arguments::new().with("first", first.to_string());
    let stage = Stage::in_place("sequence", move |_| Stamp(Sequencer::starting_at(first)));
    stage.stateful().module(SEQUENCE_MODULE, arguments)
}

/// A stage that sends blocks on in the order of the numbers that [`sequence`] gave them, from
/// `first` on, and keeps up to `window` of them while a predecessor is missing. A loop over a port
/// between the two must not drop any.
pub fn resequence<'a>(first: u64, window: u32) -> MiddleStage<'a> {
    let run = move |port: &MiddlePort| restore_order(port, first, window);
    let arguments = Arguments::new()
        .with("first", first.to_string())
        .with("window", window.to_string());
    Stage::port("resequence", run)
        .holds_in(window)
        .holds_out(0)
        .module(RESEQUENCE_MODULE, arguments)
}

struct Stamp(Sequencer);

impl InPlace for Stamp {
    fn transform(&mut self, block: &mut Block) -> Result<Verdict, StageError> {
        let mut info = block.info();
        info.sequence = Some(self.0.number());
        block.set_info(info);
        Ok(Verdict::Send)
    }
}

fn restore_order(port: &MiddlePort, first: u64, window: u32) -> Result<(), StageError> {
    port.core().skip_vacant(false);
    let mut order = Resequencer::new(first, window.max(1) as usize);
    while let Some(block) = port.receive()? {
        let Some(number) = block.info().sequence else {
            if block.is_vacant() {
                continue; // dropped before numbers were given
            }
            return Err(StageError::new(format!(
                "block {} has no number to put it in order by",
                block.number()
            )));
        };
        // A block that was dropped since still has its number, or all behind it would wait for
        // ever.
        order.push(number, block).map_err(|rejected| {
            StageError::new(format!(
                "block {number} cannot be put in order: {}",
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
                "block {next} is missing at the end of the stream, {held} came after it"
            )))
        }
    }
}
