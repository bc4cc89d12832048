//! A pipe of the history: how it ended.

use std::time::{Duration, SystemTime};

use datapipe::Direction;

use super::fields::{Body, DecodeError, Fields, required, truncated};
use super::numbers::{PipeState, decode_direction, direction_number};
use crate::limits::{MAX_BRIEF, MAX_HISTORY, MAX_LABEL, MAX_NAME};

/// Pipe that has ended, as the history keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PastPipe {
    /// Name of the pipe.
    pub name: String,
    /// Label that its initiator gave it.
    pub label: String,
    /// User id of its initiator.
    pub owner: u32,
    /// Direction of flow.
    pub direction: Direction,
    /// Outcome: a final state.
    pub state: PipeState,
    /// Time of its start on the clock of the machine, in milliseconds since 1970.
    pub started: u64,
    /// Time from its start until its end, in milliseconds.
    pub duration: u64,
    /// Number of bytes of its data: those that the head sent, and in a restore those that the tail
    /// received.
    pub bytes: u64,
    /// Number of problems that its modules have counted.
    pub problems: u64,
    /// Cause of its failure, truncated to [`MAX_BRIEF`] bytes; otherwise empty.
    pub cause: String,
}

impl PastPipe {
    /// A pipe that ended well, without data.
    pub(crate) fn new(name: impl Into<String>, owner: u32) -> Self {
        Self {
            name: name.into(),
            label: String::new(),
            owner,
            direction: Direction::default(),
            state: PipeState::ENDED,
            started: 0,
            duration: 0,
            bytes: 0,
            problems: 0,
            cause: String::new(),
        }
    }

    /// Time of its end, in milliseconds since 1970.
    pub fn ended(&self) -> u64 {
        self.started.saturating_add(self.duration)
    }

    /// Time of its start; `None` if the clock cannot represent it.
    pub fn start_time(&self) -> Option<SystemTime> {
        SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(self.started))
    }

    pub(super) fn body(&self) -> Body {
        let mut body = Body::new();
        body.put_text(1, truncated(&self.name, MAX_NAME));
        body.put_text(2, truncated(&self.label, MAX_LABEL));
        body.put_u32(3, self.owner);
        body.put_u8(4, direction_number(self.direction));
        body.put_u8(5, self.state.0);
        body.put_u64(6, self.started);
        body.put_u64(7, self.duration);
        body.put_u64(8, self.bytes);
        body.put_u64(9, self.problems);
        if !self.cause.is_empty() {
            body.put_text(10, truncated(&self.cause, MAX_BRIEF));
        }
        body
    }

    pub(super) fn decode_list(mut fields: Fields<'_>) -> Result<Vec<Self>, DecodeError> {
        let mut pipes = Vec::new();
        while let Some(field) = fields.next()? {
            match field.number {
                1 if pipes.len() >= MAX_HISTORY => {
                    return Err(field.error(&format!("occurs more than {MAX_HISTORY} times")));
                }
                1 => pipes.push(Self::decode(field.fields("a pipe of a history"))?),
                _ => field.skip()?,
            }
        }
        Ok(pipes)
    }

    fn decode(mut fields: Fields<'_>) -> Result<Self, DecodeError> {
        let what = "a pipe of a history";
        let (mut name, mut label, mut owner, mut direction) = (None, None, None, None);
        let (mut state, mut cause, mut numbers) = (None, None, [None; 4]);
        while let Some(field) = fields.next()? {
            let [started, duration, bytes, problems] = &mut numbers;
            match field.number {
                1 => field.set(&mut name, field.text(MAX_NAME)?)?,
                2 => field.set(&mut label, field.text(MAX_LABEL)?)?,
                3 => field.set(&mut owner, field.u32()?)?,
                4 => field.set(&mut direction, decode_direction(field)?)?,
                5 => field.set(&mut state, PipeState(field.u8()?))?,
                6 => field.set(started, field.u64()?)?,
                7 => field.set(duration, field.u64()?)?,
                8 => field.set(bytes, field.u64()?)?,
                9 => field.set(problems, field.u64()?)?,
                10 => field.set(&mut cause, field.text(MAX_BRIEF)?)?,
                _ => field.skip()?,
            }
        }
        let [started, duration, bytes, problems] = numbers.map(Option::unwrap_or_default);
        Ok(Self {
            name: required(what, 1, name)?,
            label: label.unwrap_or_default(),
            owner: required(what, 3, owner)?,
            direction: direction.unwrap_or_default(),
            state: required(what, 5, state)?,
            started,
            duration,
            bytes,
            problems,
            cause: cause.unwrap_or_default(),
        })
    }
}
