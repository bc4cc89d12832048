//! Stages of the program that make several blocks from one.

use datapipe::prelude::*;

use crate::abi::{dp_block, dp_output};
use crate::boundary::{Handle, LentOutputs, divide, lend};
use crate::failure::Failure;
use crate::status::{DP_ANSWER_OK, DP_ERR_STAGE, DP_ERR_STATE};

use super::foreign::{ForeignInstance, in_stage};

/// The outputs of one input.
struct ForeignOutputs<'o, 'a> {
    outputs: &'o mut Outputs<'a>,
    /// Place of the block that was begun and not sent.
    begun: Option<dp_output>,
    /// First error of the pipe, which says more than the answer of the function.
    failure: Option<StageError>,
}

impl LentOutputs for ForeignOutputs<'_, '_> {
    fn begin(&mut self) -> Result<dp_output, Failure> {
        if self.begun.is_some() {
            return Err(Failure::new(
                DP_ERR_STATE,
                "a block was begun and not sent: send it first",
            ));
        }
        match self.outputs.next_block() {
            Ok(block) => {
                let place = dp_output::empty(block);
                self.begun = Some(place);
                Ok(place)
            }
            Err(error) => {
                let text = error.to_string();
                self.failure.get_or_insert(error);
                Err(Failure::new(DP_ERR_STAGE, text))
            }
        }
    }

    fn send(&mut self, output: &dp_output) -> Result<(), Failure> {
        let begun = self.begun;
        let (Some(place), Some(block)) = (begun, self.outputs.current_block()) else {
            return Err(Failure::new(
                DP_ERR_STATE,
                "no block was begun: begin one first",
            ));
        };
        output.put_on(block, &place)?;
        self.begun = None;
        Ok(())
    }
}

impl FlatMap for ForeignInstance {
    fn flat_map(&mut self, input: &Block, outputs: &mut Outputs<'_>) -> Result<(), StageError> {
        let function = self.function(self.functions.flat_map, "flat_map")?;
        let mut lent = ForeignOutputs {
            outputs,
            begun: None,
            failure: None,
        };
        let block = dp_block::of(input);
        let answer = lend(&mut lent, |handle| {
            in_stage(|| divide(function, self.state, &block, Handle::from_bits(handle)))
        });
        if let Some(failure) = lent.failure {
            return Err(failure);
        }
        Self::checked(answer, "flat_map", &[DP_ANSWER_OK])?;
        match lent.begun {
            None => Ok(()),
            Some(_) => Err(StageError::new(
                "its flat_map has begun a block and not sent it: call dp_outputs_send",
            )),
        }
    }
}
