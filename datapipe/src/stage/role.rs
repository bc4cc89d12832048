//! The place of a stage in the chain.

use std::fmt;

/// Role of a stage in the chain: first, last, or between the two. Prints in lower case: `head`.
///
/// Exhaustive: every stage of a chain is one of these three, and a `match` need not provide for
/// another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(clippy::exhaustive_enums, reason = "declared above")]
pub enum Role {
    /// The first stage, which allocates buffers and sends.
    Head,
    /// A stage between two queues, which receives and sends.
    Middle,
    /// The last stage, which receives and frees buffers.
    Tail,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Head => "head",
            Self::Middle => "middle",
            Self::Tail => "tail",
        })
    }
}
