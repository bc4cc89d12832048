//! Messages that the daemon sends after its hello.

use super::event::PipeEvent;
use super::fields::{DecodeError, Fields};
use super::reply::Reply;

const EVENT: u16 = 0x4001;

/// Message that the daemon sends after its hello.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum ServerMessage {
    /// Reply to a request. Each request gets one.
    Reply(Reply),
    /// Event of a subscription.
    Event(PipeEvent),
}

impl ServerMessage {
    /// Number of the message's kind.
    pub fn kind(&self) -> u16 {
        match self {
            Self::Event(_) => EVENT,
            Self::Reply(reply) => reply.kind(),
        }
    }

    /// True if a descriptor accompanies the message.
    pub fn brings_descriptor(&self) -> bool {
        matches!(
            self,
            Self::Reply(Reply::Identified | Reply::Initiated { control: true, .. })
        )
    }

    /// Returns the bytes of the message's body. They may exceed
    /// [`MAX_BODY`](crate::limits::MAX_BODY): the sender has to check the length.
    pub fn encode(&self) -> Vec<u8> {
        let body = match self {
            Self::Event(event) => event.body(),
            Self::Reply(reply) => reply.body(),
        };
        body.into_bytes()
    }

    /// Decodes the body of a message of the kind `kind`.
    ///
    /// # Errors
    ///
    /// If the body is malformed, or the kind is unknown.
    pub fn decode(kind: u16, body: &[u8]) -> Result<Self, DecodeError> {
        if kind == EVENT {
            return PipeEvent::decode(Fields::new("an event", body)).map(Self::Event);
        }
        match Reply::decode(kind, body)? {
            Some(reply) => Ok(Self::Reply(reply)),
            None => Err(DecodeError::unknown(
                "a message of the daemon",
                format!("its kind, {kind:#x}, is unknown"),
            )),
        }
    }
}
