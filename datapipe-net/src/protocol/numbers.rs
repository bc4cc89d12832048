//! Numbers of the protocol that have names. Later versions may add some. An unknown number that can
//! be displayed as such is not an error.

use std::fmt;

use datapipe::Direction;

use super::fields::{DecodeError, Field};

pub(super) fn direction_number(direction: Direction) -> u8 {
    match direction {
        Direction::Archive => 0,
        Direction::Restore => 1,
    }
}

pub(super) fn decode_direction(field: Field<'_>) -> Result<Direction, DecodeError> {
    match field.u8()? {
        0 => Ok(Direction::Archive),
        1 => Ok(Direction::Restore),
        other => Err(field.error(&format!("is {other}, which is not a direction"))),
    }
}

/// Defines a type of numbers with names. It prints the name, or `unknown (9)`.
macro_rules! open_enum {
    ($(#[$doc:meta])* $type:ident($repr:ty) {
        $($(#[$each:meta])* $name:ident = $number:literal $text:literal,)*
    }) => {
        $(#[$doc])*
        ///
        /// Exhaustive: it is a number of the protocol, and every number is a value.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $type(pub $repr);

        impl $type {
            $($(#[$each])* pub const $name: Self = Self($number);)*

            /// Name of the number, if it has one in this version.
            pub fn name(self) -> Option<&'static str> {
                match self {
                    $(Self::$name => Some($text),)*
                    _ => None,
                }
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self.name() {
                    Some(name) => f.pad(name),
                    None => f.pad(&format!("unknown ({})", self.0)),
                }
            }
        }
    };
}

open_enum! {
    /// State of a pipe.
    PipeState(u8) {
        /// All its stages are present.
        RUNNING = 1 "running",
        /// No process has attached yet as its unbound head or tail.
        WAITING = 2 "waiting",
        /// It is being stopped.
        STOPPING = 3 "stopping",
        /// It ended after its last block.
        ENDED = 4 "ended",
        /// It has failed.
        FAILED = 5 "failed",
        /// A client or the daemon stopped it.
        STOPPED = 6 "stopped",
        /// It ended after its last block, and its modules have counted problems: files that were
        /// not read, damaged blocks, names that were not restored.
        INCOMPLETE = 7 "incomplete",
    }
}

impl PipeState {
    /// True if the pipe has ended, in any way.
    pub fn is_final(self) -> bool {
        matches!(
            self,
            Self::ENDED | Self::FAILED | Self::STOPPED | Self::INCOMPLETE
        )
    }
}

open_enum! {
    /// Activity of an instance.
    Activity(u8) {
        /// It has not begun.
        IDLE = 0 "idle",
        /// It processes a block.
        WORKING = 1 "working",
        /// It sleeps until it gets a buffer.
        WAITING_FOR_BUFFER = 2 "waiting for a buffer",
        /// It sleeps until there is input.
        WAITING_FOR_INPUT = 3 "waiting for input",
        /// It has ended.
        ENDED = 4 "ended",
        /// It is an unbound seat to which no process has attached.
        UNATTACHED = 5 "unattached",
        /// It waits for something outside of the pipe.
        WAITING_OUTSIDE = 6 "waiting outside of the pipe",
    }
}

open_enum! {
    /// Kind of an event.
    EventKind(u16) {
        /// The pipe was initiated.
        INITIATED = 1 "initiated",
        /// A process of an instance has started.
        STARTED = 2 "started",
        /// A process of an instance died.
        DIED = 3 "died",
        /// A process has attached to an unbound seat.
        ATTACHED = 4 "attached",
        /// A module sent a message about its work.
        NOTE = 5 "note",
        /// A client or the daemon began to stop the pipe.
        STOPPING = 6 "stopping",
        /// The pipe has ended; the event has its state.
        OVER = 7 "over",
        /// Events were lost because the subscriber did not read; the event has their number.
        LOST = 8 "lost",
        /// Another event, which the text describes.
        OTHER = 9 "other",
    }
}

open_enum! {
    /// Reason of a refusal.
    RefusalCode(u16) {
        /// The bytes of the request violate the protocol.
        MALFORMED = 1 "malformed",
        /// The daemon does not know the kind of the request, or a field that it must know.
        UNSUPPORTED = 2 "unsupported",
        /// The request is reserved for a part that does not exist yet.
        RESERVED = 3 "reserved",
        /// The pipe belongs to another user.
        NOT_ALLOWED = 4 "not allowed",
        /// There is no pipe of this name.
        NO_SUCH_PIPE = 5 "no such pipe",
        /// A module occupies the seat.
        BOUND = 6 "bound",
        /// Another process has attached to the seat.
        TAKEN = 7 "taken",
        /// A network agent never attaches by `identify`.
        NETWORK_AGENT = 8 "network agent",
        /// The pipe has ended.
        OVER = 9 "over",
        /// The configuration has no such module, or not for this user.
        NO_SUCH_MODULE = 10 "no such module",
        /// The module cannot be used in this way.
        MODULE = 11 "module",
        /// A path is outside of those that the configuration allows.
        PATH = 12 "path",
        /// A limit of the configuration is reached.
        LIMIT = 13 "limit",
        /// The pipe cannot work as the client described it.
        IMPOSSIBLE = 14 "impossible",
        /// The machine did not give what is required.
        SYSTEM = 15 "system",
        /// The daemon is stopping.
        STOPPING = 16 "stopping",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_print_their_name_or_their_value() {
        assert_eq!(PipeState::RUNNING.to_string(), "running");
        assert_eq!(format!("{:>10}", PipeState::ENDED), "     ended");
        assert_eq!(RefusalCode(999).to_string(), "unknown (999)");
        assert_eq!(EventKind(0).name(), None);
    }
}
