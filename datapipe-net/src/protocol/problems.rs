//! The last problems of a pipe, as the daemon keeps them for clients that were not subscribed.

use super::fields::{Body, DecodeError, Fields, required, truncated};
use crate::limits::{KEPT_PROBLEMS, MAX_NAME, MAX_PROBLEM};

/// Problems of a pipe.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PipeProblems {
    /// Number of problems that its modules have counted so far, with those that are not listed.
    pub count: u64,
    /// The last problems, the oldest first: at most [`KEPT_PROBLEMS`].
    pub last: Vec<PipeProblem>,
}

/// One problem of a pipe.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PipeProblem {
    /// Name of the stage that reported it.
    pub stage: String,
    /// Number of the instance, from 0.
    pub instance: u32,
    /// Description of the problem, truncated to [`MAX_PROBLEM`] bytes. It may contain any
    /// characters, because it names files.
    pub text: String,
}

impl PipeProblems {
    pub(super) fn body(&self) -> Body {
        let mut body = Body::new();
        body.put_u64(1, self.count);
        self.last
            .iter()
            .for_each(|problem| body.put_fields(2, &problem.body()));
        body
    }

    pub(super) fn decode(mut fields: Fields<'_>) -> Result<Self, DecodeError> {
        let (mut count, mut last) = (None, Vec::new());
        while let Some(field) = fields.next()? {
            match field.number {
                1 => field.set(&mut count, field.u64()?)?,
                2 if last.len() >= KEPT_PROBLEMS => {
                    return Err(field.error(&format!("occurs more than {KEPT_PROBLEMS} times")));
                }
                2 => last.push(PipeProblem::decode(field.fields("a problem"))?),
                _ => field.skip()?,
            }
        }
        Ok(Self {
            count: required("problems", 1, count)?,
            last,
        })
    }
}

impl PipeProblem {
    /// A problem of an instance.
    pub(crate) fn new(stage: &str, instance: u32, text: &str) -> Self {
        Self {
            stage: stage.to_owned(),
            instance,
            text: truncated(text, MAX_PROBLEM).to_owned(),
        }
    }

    /// Number of bytes of its texts.
    pub(crate) fn len(&self) -> usize {
        self.stage.len() + self.text.len()
    }

    fn body(&self) -> Body {
        let mut body = Body::new();
        body.put_text(1, truncated(&self.stage, MAX_NAME));
        body.put_u32(2, self.instance);
        body.put_text(3, truncated(&self.text, MAX_PROBLEM));
        body
    }

    fn decode(mut fields: Fields<'_>) -> Result<Self, DecodeError> {
        let (mut stage, mut instance, mut text) = (None, None, None);
        while let Some(field) = fields.next()? {
            match field.number {
                1 => field.set(&mut stage, field.text(MAX_NAME)?)?,
                2 => field.set(&mut instance, field.u32()?)?,
                3 => field.set(&mut text, field.text(MAX_PROBLEM)?)?,
                _ => field.skip()?,
            }
        }
        Ok(Self {
            stage: required("a problem", 1, stage)?,
            instance: instance.unwrap_or_default(),
            text: text.unwrap_or_default(),
        })
    }
}
