//! Every bound of the daemon and its protocol. What a configuration may set has its range here,
//! too.

use std::time::Duration;

/// Longest body of a message, in bytes.
pub const MAX_BODY: usize = 1 << 20;

/// Bytes that are read of a body before more memory is taken for it: a length that is only claimed
/// costs nothing.
pub const BODY_PIECE: usize = 64 << 10;

/// Longest name of a pipe, a stage, a module or a machine in a message, in bytes.
pub const MAX_NAME: usize = 255;

/// Longest label of a pipe in a message, in bytes.
pub const MAX_LABEL: usize = datapipe::limits::MAX_NAME;

/// Longest explanation in a message, in bytes: why something was refused, how a pipe ended.
pub const MAX_EXPLANATION: usize = 4096;

/// Longest explanation in an entry of a list, in bytes: a whole list has to fit a message.
pub const MAX_BRIEF: usize = 256;

/// Longest path in a message, in bytes: the kernel's own bound.
pub const MAX_PATH: usize = 4096;

/// Paths that one stage may name.
pub const MAX_STAGE_PATHS: usize = 64;

/// Longest configuration, in bytes.
pub const MAX_CONFIG: u64 = 1 << 20;

/// Pipes at once that a configuration may allow.
pub const MAX_PIPES: u32 = 1024;

/// Pipes that have ended and whose outcome is still known.
pub const KEPT_ENDED: usize = 128;

/// Connections at once that a configuration may allow.
pub const MAX_CONNECTIONS: u32 = 4096;

/// Connections beyond the limit that root and the daemon's own user may have: who has to stop
/// something gets in.
pub const RESERVED_CONNECTIONS: u32 = 8;

/// Events that wait for one subscriber. What is more is counted, and lost.
pub const MAX_WAITING_EVENTS: usize = 256;

/// How long the daemon waits after it could not accept a connection, for want of descriptors, say.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long a client waits for its connection, for the daemon's hello and for the rest of a message
/// that has begun.
pub const CLIENT_PATIENCE: Duration = Duration::from_secs(30);

const _: () = {
    // A pipe's name, its label, and the numbers with the heads of their fields.
    let entry = 106 + MAX_LABEL + MAX_BRIEF + 160;
    assert!(
        (MAX_PIPES as usize + KEPT_ENDED) * entry <= MAX_BODY,
        "a whole list fits a message"
    );
    assert!(MAX_BRIEF <= MAX_EXPLANATION, "what is brief is a part");
};
