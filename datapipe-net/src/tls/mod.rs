//! TLS 1.3 between two machines: rustls authenticates both and makes keys; records are sealed from
//! the buffers of a pipe, and opened into them.
//!
//! ```text
//!   files -> MachineIdentity -> Handshake (rustls) -> Secured: PeerMachine,
//!                                   |                          TrafficKeys of each direction
//!                            one socket, one record              |
//!                            at a time                   TlsWriter, TlsReader: on any
//!                                                        thread, or in another process
//! ```
//!
//! Both machines have a certificate. A client is known by the one DNS name in its own. A connection
//! keeps its keys: instead of new keys there is a new connection, and the certificates are checked
//! again. `SECURITY.md` has the reasons for this record layer, and what it relies on.
//!
//! This module does not decide what a machine may do, and does not dial or listen. The daemon does
//! not use it yet.

mod alert; // reasons for which a peer ends a connection
mod handshake; // the handshake over a socket
mod identity; // certificate, key, authorities, revoked certificates
mod keys; // keys of one direction
mod record; // records, sealed and opened
mod verify; // certificates of other machines, and their names

pub use alert::Alert;
pub use handshake::{Handshake, HandshakeError, HandshakeProgress, Secured};
pub use identity::{MachineIdentity, MachineIdentityError};
pub(crate) use identity::{provider, read, read_key, sections};
pub use keys::{KeyLengthError, TlsCipher, TrafficKeys};
pub use record::{
    MAX_RECORD_DATA, MAX_RECORD_LEN, Opened, RECORD_OVERHEAD, Sealed, TlsReader, TlsRecordError,
    TlsWriter,
};
pub use verify::{CertificateRefusal, NamesError, PeerMachine};
