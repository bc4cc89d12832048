//! Every bound of the daemon and its protocol, and the range of every limit that a configuration
//! sets.

use std::time::Duration;

/// Longest body of a message, in bytes.
pub const MAX_BODY: usize = 1 << 20;

/// Number of bytes of a body that are received before more memory is allocated for it: a length
/// that is only announced costs nothing.
pub const BODY_PIECE: usize = 64 << 10;

/// Longest name of a pipe, a stage, a module or a machine in a message, in bytes.
pub const MAX_NAME: usize = 255;

/// Longest label of a pipe in a message, in bytes.
pub const MAX_LABEL: usize = datapipe::limits::MAX_NAME;

/// Longest explanation in a message, in bytes: the reason of a refusal, or how a pipe ended.
pub const MAX_EXPLANATION: usize = 4096;

/// Longest explanation in an entry of a list, in bytes. It is shorter, because a whole list must
/// fit in a message.
pub const MAX_BRIEF: usize = 256;

/// Longest path in a message, in bytes: the kernel's own limit.
pub const MAX_PATH: usize = 4096;

/// Number of paths that a request may name for one stage.
pub const MAX_STAGE_PATHS: usize = 64;

/// Longest configuration, in bytes.
pub const MAX_CONFIG: u64 = 1 << 20;

/// Largest number of pipes at a time that a configuration may allow.
pub const MAX_PIPES: u32 = 1024;

/// Largest number of processes of pipes at a time that a configuration may allow.
pub const MAX_PROCESSES: u32 = 1 << 16;

/// Largest number of descriptors that a configuration may allow.
pub const MAX_DESCRIPTORS: u64 = 1 << 20;

/// Number of ended pipes whose outcome the daemon remembers.
pub const KEPT_ENDED: usize = 128;

/// Number of problems of a pipe whose texts the daemon keeps: the last ones.
pub const KEPT_PROBLEMS: usize = 100;

/// Longest text of a problem that the daemon keeps, in bytes.
pub const MAX_PROBLEM: usize = 1024;

/// Most bytes of the problems that the daemon keeps of one pipe, with the names of their stages.
pub const MAX_PROBLEM_BYTES: usize = 32 << 10;

/// Number of ended pipes in the history: the last ones. If there are more, the oldest pipe of the
/// user with the most pipes is removed.
pub const MAX_HISTORY: usize = 1000;

/// Longest line of the history's file, in bytes.
pub const MAX_HISTORY_LINE: usize = 4096;

/// Number of lines of the history's file at which it is written anew.
pub const MAX_HISTORY_LINES: usize = 4 * MAX_HISTORY;

/// Number of bytes of the history's file that the daemon reads: the last ones.
pub const MAX_HISTORY_FILE: u64 = (MAX_HISTORY_LINES * MAX_HISTORY_LINE) as u64;

/// Number of pipes that wait until they are written to the history's file. Further ones are counted
/// and not written.
pub const MAX_UNWRITTEN: usize = 256;

/// Time that a daemon that stops waits until the history and the metrics are written.
pub const FLUSH_PATIENCE: Duration = Duration::from_secs(5);

/// Number of labels whose last success is a metric: the latest ones, and of one user at most
/// [`MAX_METRIC_LABELS_PER_USER`].
pub const MAX_METRIC_LABELS: usize = 256;

/// Number of labels of one user whose last success is a metric.
pub const MAX_METRIC_LABELS_PER_USER: usize = 32;

/// Largest number of connections at a time that a configuration may allow.
pub const MAX_CONNECTIONS: u32 = 4096;

/// Number of connections beyond the limit that root and the daemon's own user may have, so that an
/// administrator can always stop a pipe.
pub const RESERVED_CONNECTIONS: u32 = 8;

/// Number of events that wait for one subscriber. Further events are counted and lost.
pub const MAX_WAITING_EVENTS: usize = 256;

/// Bytes of texts and data of the events that wait for one subscriber. Further events are counted
/// and lost.
pub const MAX_WAITING_EVENT_BYTES: usize = 1 << 20;

/// Number of users whose refused connections the daemon remembers, so that it refuses further ones
/// without asking the databases of users and groups again.
pub const MAX_REFUSED_USERS: usize = 256;

/// Time for which a user whose connection was refused is refused without asking again.
pub const REFUSED_TIME: Duration = Duration::from_secs(10);

/// Number of lines of the log that wait to be written. Further lines are counted and lost.
pub const LOG_LINES: usize = 1024;

/// Bytes of the lines of the log that wait to be written.
pub const LOG_BYTES: usize = 1 << 20;

/// Number of lines of one kind that one user may cause within [`LOG_FLOOD_WINDOW`]. Further ones
/// are counted, and the log gets their number.
pub const LOG_FLOOD_LINES: u32 = 10;

/// As [`LOG_FLOOD_LINES`], for the starts of pipes, and for their ends: an administrator wants to
/// see those of a night.
pub const LOG_PIPE_LINES: u32 = 100;

/// Time over which lines of one kind are counted.
pub const LOG_FLOOD_WINDOW: Duration = Duration::from_secs(10);

/// Number of kinds and users whose lines are counted separately.
pub const MAX_LOG_FLOODS: usize = 64;

/// Longest time that a daemon waits at its end for lines of its log to be written.
pub const LOG_PATIENCE: Duration = Duration::from_secs(1);

/// Number of descriptors of the process that pipes and connections of other users than root and
/// the daemon's own do not get.
pub const RESERVED_DESCRIPTORS: u64 = 64;

/// Descriptors that the daemon needs for a connection: its socket, its queue of events, and one
/// that is being received or sent.
pub const CONNECTION_DESCRIPTORS: u64 = 4;

/// Descriptors that the daemon needs for a pipe, besides those of its processes.
pub const PIPE_DESCRIPTORS: u64 = 8;

/// Descriptors that the daemon needs for a process of a pipe: its end, its messages, its standard
/// error, the arguments of its module, and two that are being sent.
pub const PROCESS_DESCRIPTORS: u64 = 6;

/// Time after which a child that is dead or traced is not one that its pipe is about to wait for.
pub const KEPT_PATIENCE: Duration = Duration::from_secs(5);

/// Longest time between two looks at processes that may still map the memory of a pipe that has
/// ended.
pub const LINGER_INTERVAL: Duration = Duration::from_secs(2);
/// Most problems of one pipe that count in the metrics of all users.
pub const MOST_PROBLEMS_OF_A_PIPE: u64 = 1 << 32;
/// Most bytes of one pipe that count in the metrics of all users: 1 PiB.
pub const MOST_BYTES_OF_A_PIPE: u64 = 1 << 50;
/// Mappings and descriptors of a user's processes in which the daemon looks for the memory of a
/// pipe.
pub(crate) const MAX_SEARCHED: u32 = 200_000;

/// Time that the daemon waits after it failed to accept a connection, for example because it has no
/// descriptor left.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Interval at which the thread that waits for a pipe's end wakes while the pipe does nothing.
pub const PIPE_WAKE_INTERVAL: Duration = Duration::from_secs(3600);

/// Time that a client waits for its connection, for the daemon's hello, and for the rest of a
/// message that has begun.
pub const CLIENT_PATIENCE: Duration = Duration::from_secs(30);

/// Most connections of a link between two halves of a pipe.
pub const MAX_LINK_CONNECTIONS: u16 = 16;

/// Longest body of a frame of the link that is skipped because its kind is unknown, in bytes.
pub const MAX_SKIPPED_BODY: u32 = 64 << 10;

/// Time without a sent frame after which a connection of a link sends a ping, unless set.
pub const LINK_PING: Duration = Duration::from_secs(2);

/// Time without a received byte after which a connection of a link is given up, unless set.
pub const LINK_SILENCE: Duration = Duration::from_secs(10);

/// Time without any connection after which a half of a pipe fails, unless set.
pub const LINK_WAIT: Duration = Duration::from_secs(60);

/// Time before a connection that was lost is dialled again, unless set. It doubles with each loss
/// up to [`LINK_REDIAL_MOST`], and is spread by a quarter in both directions.
pub const LINK_REDIAL: Duration = Duration::from_millis(100);

/// Longest time before a connection is dialled again, before it is spread.
pub const LINK_REDIAL_MOST: Duration = Duration::from_secs(5);

/// Shortest time that one connection may hold up the others, which wait for its block.
pub const LINK_HOLD_UP: Duration = Duration::from_secs(2);

/// Multiple of the time that an idle connection took for its last block, for which a slower
/// connection may hold it up.
pub const LINK_HOLD_UP_FACTOR: u64 = 10;

/// Time for which a half that has sent its last frame reads on, so that the frame is not lost with
/// a reset of the connection.
pub const LINK_DRAIN: Duration = Duration::from_secs(1);

/// Time that the sending half of a link waits for a connection to be made.
pub const LINK_CONNECT: Duration = Duration::from_secs(5);

/// Time that either half of a link waits for a TLS handshake.
pub const LINK_HANDSHAKE: Duration = Duration::from_secs(5);

/// Bytes of records that each direction of an encrypted connection seals, or receives, at a time.
pub(crate) const LINK_SCRATCH: usize = 256 << 10;

/// Lowest rate of a link, in bytes a second for each connection. Below that a healthy connection
/// could seem silent.
pub const MIN_LINK_RATE: u64 = 16 << 10;

/// Highest rate of a link in bytes a second: 1 TiB.
pub const MAX_LINK_RATE: u64 = 1 << 40;

/// Smallest piece of a block that a connection sends under a rate, in bytes.
pub const MIN_LINK_PIECE: u64 = 4 << 10;

/// Largest piece of a block that a connection sends under a rate, in bytes.
pub const MAX_LINK_PIECE: u64 = 256 << 10;

/// Most buffers that the receiving half of a link allocates ahead of the blocks that it waits for.
pub const MAX_LINK_AHEAD: u64 = 1 << 16;

/// Number of TLS records after which a connection is replaced by one with new keys: 2^24, which is
/// where rustls changes its keys, less a margin. It is 256 GiB of full records.
pub const TLS_RECORDS_BEFORE_REPLACING: u64 = (1 << 24) - (1 << 10);

/// Most TLS records that one key may seal or open: 2^24.5, the limit of AES-GCM in RFC 8446,
/// section 5.5.
pub const MAX_TLS_RECORDS: u64 = 23_726_566;

/// Most bytes that a peer may send in a TLS handshake.
pub const MAX_TLS_HANDSHAKE: usize = 64 << 10;

/// TLS handshakes at a time, unless set.
pub const TLS_HANDSHAKES: usize = 64;

/// TLS handshakes at a time of one address of IPv4, or one network of 64 bits of IPv6, unless set.
pub const TLS_HANDSHAKES_PER_ADDRESS: usize = 16;

/// TLS handshakes that begin in a second, unless set.
pub const TLS_HANDSHAKES_PER_SECOND: u32 = 200;

/// Time for a TLS handshake, unless set.
pub const TLS_HANDSHAKE_PATIENCE: Duration = Duration::from_secs(5);

/// Longest file of certificates or of a key, in bytes.
pub const MAX_CERTIFICATE_FILE: u64 = 1 << 20;

/// Longest file of revoked certificates, in bytes.
pub const MAX_REVOCATION_FILE: u64 = 16 << 20;

/// Longest register of an authority, in bytes: about 60,000 certificates. An entry is longer than
/// that of a list of revoked certificates.
pub const MAX_REGISTER_FILE: u64 = MAX_REVOCATION_FILE;

/// Most names of a server in its certificate.
pub const MAX_SERVER_NAMES: usize = 16;

/// Most days for which a certificate is valid.
pub const MAX_CERTIFICATE_DAYS: u32 = 3653;

/// Days for which a certificate is valid, unless set.
pub const CERTIFICATE_DAYS: u32 = 1096;

/// Days for which an authority is valid.
pub const AUTHORITY_DAYS: u32 = 7305;

/// Time before its making from which on a certificate is valid: clocks differ.
pub const CERTIFICATE_BACKDATING: Duration = Duration::from_secs(86_400);

/// Time that a command waits for another one in the directory of an authority.
pub const AUTHORITY_PATIENCE: Duration = Duration::from_secs(10);

const _: () = {
    // A pipe's name, its label, its explanation, and the numbers with the heads of their fields.
    let entry = 106 + MAX_LABEL + MAX_BRIEF + 174;
    assert!(
        (MAX_PIPES as usize + KEPT_ENDED) * entry <= MAX_BODY,
        "a whole list fits in a message"
    );
    // A pipe of the history has two numbers more.
    assert!(
        MAX_HISTORY * (entry + 28) <= MAX_BODY,
        "a whole history fits in a message"
    );
    assert!(
        MAX_HISTORY + MAX_PIPES as usize <= MAX_HISTORY_LINES / 4 * 3,
        "a file that was written anew has room for further lines"
    );
    assert!(
        KEPT_PROBLEMS * 64 + MAX_PROBLEM_BYTES <= MAX_BODY,
        "the problems of a pipe fit in a message"
    );
    assert!(
        MAX_BRIEF <= MAX_EXPLANATION,
        "a brief explanation is a prefix"
    );
    assert!(
        LINK_PING.as_nanos() * 2 < LINK_SILENCE.as_nanos()
            && LINK_SILENCE.as_nanos() < LINK_WAIT.as_nanos(),
        "a healthy connection is never silent, and one that was given up can be replaced in time"
    );
    assert!(
        TLS_RECORDS_BEFORE_REPLACING + 2 * (datapipe::limits::MAX_BUFFER_SIZE as u64 >> 12)
            < MAX_TLS_RECORDS,
        "the block that is being sent fits in the records that are left, also under a rate"
    );
    assert!(
        MIN_LINK_PIECE / MIN_LINK_RATE < LINK_PING.as_secs(),
        "a connection under the lowest rate sends a piece before it would send a ping"
    );
};
