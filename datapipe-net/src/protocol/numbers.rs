//! What is a number on the wire, and has a name. A later version may add some: where one that is
//! unknown can be shown as a number, it stays one.

use std::fmt;

use datapipe::Direction;

use super::fields::{DecodeError, Field};

/// Which end of a pipe somebody takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The first stage: it allocates and sends.
    Head,
    /// The last stage: it receives and frees.
    Tail,
    /// A network agent. It can be asked for, and is always refused.
    NetworkAgent,
}

/// How the one that initiates a pipe takes part in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Seat {
    /// Not at all.
    #[default]
    None,
    /// As its head.
    Head,
    /// As its tail.
    Tail,
}

impl Role {
    pub(super) fn number(self) -> u8 {
        match self {
            Self::Head => 1,
            Self::Tail => 2,
            Self::NetworkAgent => 3,
        }
    }

    pub(super) fn of(field: Field<'_>) -> Result<Self, DecodeError> {
        match field.u8()? {
            1 => Ok(Self::Head),
            2 => Ok(Self::Tail),
            3 => Ok(Self::NetworkAgent),
            other => Err(field.wrong(&format!("is {other}, which is no role"))),
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Head => "head",
            Self::Tail => "tail",
            Self::NetworkAgent => "network agent",
        })
    }
}

impl Seat {
    pub(super) fn number(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Head => 1,
            Self::Tail => 2,
        }
    }

    pub(super) fn of(field: Field<'_>) -> Result<Self, DecodeError> {
        match field.u8()? {
            0 => Ok(Self::None),
            1 => Ok(Self::Head),
            2 => Ok(Self::Tail),
            other => Err(field.wrong(&format!("is {other}, which is no way to take part"))),
        }
    }

    /// The role of somebody who takes part.
    pub fn role(self) -> Option<Role> {
        match self {
            Self::None => None,
            Self::Head => Some(Role::Head),
            Self::Tail => Some(Role::Tail),
        }
    }
}

pub(super) fn direction_number(direction: Direction) -> u8 {
    match direction {
        Direction::Archive => 0,
        Direction::Restore => 1,
    }
}

pub(super) fn direction_of(field: Field<'_>) -> Result<Direction, DecodeError> {
    match field.u8()? {
        0 => Ok(Direction::Archive),
        1 => Ok(Direction::Restore),
        other => Err(field.wrong(&format!("is {other}, which is no direction"))),
    }
}

/// Numbers with names. Prints the name, or `unknown (9)`.
macro_rules! open_enum {
    ($(#[$doc:meta])* $type:ident($repr:ty) { $($(#[$each:meta])* $name:ident = $number:literal $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $type(pub $repr);

        impl $type {
            $($(#[$each])* pub const $name: Self = Self($number);)*

            /// Its name, if it has one in this version.
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
    /// How far a pipe is.
    PipeState(u8) {
        /// It works.
        RUNNING = 1 "running",
        /// An unbound head or tail has not come yet.
        WAITING = 2 "waiting",
        /// It was told to stop, and has not ended.
        STOPPING = 3 "stopping",
        /// It has ended well.
        ENDED = 4 "ended",
        /// It has failed.
        FAILED = 5 "failed",
        /// Somebody has stopped it.
        STOPPED = 6 "stopped",
    }
}

impl PipeState {
    /// Whether the pipe is over.
    pub fn is_over(self) -> bool {
        matches!(self, Self::ENDED | Self::FAILED | Self::STOPPED)
    }
}

open_enum! {
    /// What an instance is doing.
    Activity(u8) {
        /// It has not begun.
        IDLE = 0 "idle",
        /// It works.
        WORKING = 1 "working",
        /// It sleeps until it may have a buffer.
        WAITING_FOR_BUFFER = 2 "waiting for a buffer",
        /// It sleeps until there is input.
        WAITING_FOR_INPUT = 3 "waiting for input",
        /// It has ended.
        ENDED = 4 "ended",
        /// It is an unbound seat that nobody has taken.
        UNATTACHED = 5 "unattached",
    }
}

open_enum! {
    /// What has happened.
    EventKind(u16) {
        /// The pipe was initiated.
        INITIATED = 1 "initiated",
        /// An instance has started.
        STARTED = 2 "started",
        /// An instance's process has died.
        DIED = 3 "died",
        /// A process has taken an unbound seat.
        ATTACHED = 4 "attached",
        /// A module has told something of its work.
        NOTE = 5 "note",
        /// Somebody has told the pipe to stop.
        STOPPING = 6 "stopping",
        /// The pipe is over: the state says how.
        OVER = 7 "over",
        /// Events were lost, because the subscriber did not read: so many.
        LOST = 8 "lost",
        /// Something else has happened: the text says what.
        OTHER = 9 "other",
    }
}

open_enum! {
    /// Why something was refused.
    RefusalCode(u16) {
        /// The request's bytes are not as they should be.
        MALFORMED = 1 "malformed",
        /// The kind of request, or a field that must be known, is unknown to the daemon.
        UNSUPPORTED = 2 "unsupported",
        /// It is reserved for what does not exist yet.
        RESERVED = 3 "reserved",
        /// The user may not do that.
        NOT_ALLOWED = 4 "not allowed",
        /// There is no pipe of that name.
        NO_SUCH_PIPE = 5 "no such pipe",
        /// The pipe's seat is not for others: a module has it.
        BOUND = 6 "bound",
        /// Somebody else has taken the seat.
        TAKEN = 7 "taken",
        /// A network agent never attaches like that.
        NETWORK_AGENT = 8 "network agent",
        /// The pipe is over.
        OVER = 9 "over",
        /// The daemon's configuration names no such module.
        NO_SUCH_MODULE = 10 "no such module",
        /// The module cannot be used in that way.
        MODULE = 11 "module",
        /// A path lies outside of what the configuration allows.
        PATH = 12 "path",
        /// A limit of the configuration is reached.
        LIMIT = 13 "limit",
        /// The pipe as it was described cannot work.
        IMPOSSIBLE = 14 "impossible",
        /// The machine did not give what is needed.
        SYSTEM = 15 "system",
        /// The daemon is stopping.
        STOPPING = 16 "stopping",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_names_or_stay_numbers() {
        assert_eq!(PipeState::RUNNING.to_string(), "running");
        assert_eq!(format!("{:>10}", PipeState::ENDED), "     ended");
        assert_eq!(RefusalCode(999).to_string(), "unknown (999)");
        assert_eq!(EventKind(0).name(), None);
    }
}
