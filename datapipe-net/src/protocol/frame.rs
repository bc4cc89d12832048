//! The hellos of a connection, and the head that precedes the body of each message.

use bytes::{Buf, BufMut};

use super::fields::DecodeError;
use crate::limits::MAX_BODY;

/// Versions of the protocol that this library supports.
pub const VERSIONS: Versions = Versions {
    lowest: 1,
    highest: 1,
};

/// First bytes of both hellos.
const MAGIC: &[u8; 8] = b"DATAPIPE";
/// Length of either hello, in bytes.
pub const HELLO_LEN: usize = 24;
/// Length of a message's head, in bytes.
pub const HEAD_LEN: usize = 12;

/// Range of protocol versions, both ends included.
///
/// Exhaustive: the layout of the hellos is fixed for all versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Versions {
    /// Lowest supported version.
    pub lowest: u16,
    /// Highest supported version.
    pub highest: u16,
}

/// First message of a client.
///
/// Exhaustive: its layout is fixed for all versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientHello {
    /// Versions that the client supports.
    pub versions: Versions,
    /// One bit for each extension that the client would use; no extension is defined.
    pub features: u64,
}

/// The daemon's answer to a [`ClientHello`].
///
/// Exhaustive: its layout is fixed for all versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerHello {
    /// Version of all that follows, or the reason for which the daemon closes the connection.
    pub version: Result<u16, CloseReason>,
    /// Versions that the daemon supports.
    pub versions: Versions,
    /// Extensions in use, a subset of those that the client named.
    pub features: u64,
}

/// Reason for which the daemon closes a connection instead of accepting it. A later version may
/// add reasons.
///
/// Exhaustive: it is a number of the protocol, and every number is a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CloseReason(pub u16);

impl CloseReason {
    /// The client and the daemon have no version in common.
    pub const VERSION: Self = Self(1);
    /// The limit of connections is reached.
    pub const BUSY: Self = Self(2);
    /// The client's user may not connect.
    pub const ACCESS: Self = Self(3);
    /// The bytes that the client sent are not a hello.
    pub const NO_HELLO: Self = Self(4);
    /// The client did not send its hello in time.
    pub const TOO_SLOW: Self = Self(5);
    /// The machine cannot tell now if the client's user may connect.
    pub const SYSTEM: Self = Self(6);
}

impl ClientHello {
    /// Returns the bytes of the hello.
    pub fn encode(&self) -> [u8; HELLO_LEN] {
        encode_hello(
            [self.versions.lowest, self.versions.highest, 0, 0],
            self.features,
        )
    }

    /// Decodes a hello.
    ///
    /// # Errors
    ///
    /// If the bytes do not begin with the magic number, or the range of versions is empty.
    pub fn decode(bytes: &[u8; HELLO_LEN]) -> Result<Self, DecodeError> {
        let ([lowest, highest, ..], features) = decode_hello("a client's hello", bytes)?;
        if lowest == 0 || lowest > highest {
            let why =
                format!("versions {lowest} to {highest} are not a range that begins at 1 or more");
            return Err(DecodeError::new("a client's hello", why));
        }
        Ok(Self {
            versions: Versions { lowest, highest },
            features,
        })
    }
}

impl ServerHello {
    /// Answers `hello` with the highest version that both sides support. The features are 0,
    /// because this version knows none.
    pub fn answer(hello: &ClientHello) -> Self {
        let version = VERSIONS.highest.min(hello.versions.highest);
        let lowest = VERSIONS.lowest.max(hello.versions.lowest);
        Self::new(if version >= lowest {
            Ok(version)
        } else {
            Err(CloseReason::VERSION)
        })
    }

    /// Refuses the connection.
    pub fn closing(reason: CloseReason) -> Self {
        Self::new(Err(reason))
    }

    fn new(version: Result<u16, CloseReason>) -> Self {
        Self {
            version,
            versions: VERSIONS,
            features: 0,
        }
    }

    /// Returns the bytes of the hello.
    pub fn encode(&self) -> [u8; HELLO_LEN] {
        let Versions { lowest, highest } = self.versions;
        let (version, reason) = match self.version {
            Ok(version) => (version, 0),
            Err(CloseReason(reason)) => (0, reason),
        };
        encode_hello([version, lowest, highest, reason], self.features)
    }

    /// Decodes a hello.
    ///
    /// # Errors
    ///
    /// If the bytes do not begin with the magic number, or they have both a version and a reason,
    /// or neither.
    pub fn decode(bytes: &[u8; HELLO_LEN]) -> Result<Self, DecodeError> {
        let ([version, lowest, highest, reason], features) =
            decode_hello("the daemon's hello", bytes)?;
        let version = match (version, reason) {
            (1.., 0) => Ok(version),
            (0, 1..) => Err(CloseReason(reason)),
            _ => {
                let why =
                    format!("has version {version} and reason {reason}; exactly one must be 0");
                return Err(DecodeError::new("the daemon's hello", why));
            }
        };
        Ok(Self {
            version,
            versions: Versions { lowest, highest },
            features,
        })
    }
}

/// Lays out either hello: the magic number, four numbers of two bytes, and the features.
fn encode_hello(numbers: [u16; 4], features: u64) -> [u8; HELLO_LEN] {
    let mut bytes = [0; HELLO_LEN];
    let mut rest = &mut bytes[..];
    rest.put_slice(MAGIC);
    numbers
        .into_iter()
        .for_each(|number| rest.put_u16_le(number));
    rest.put_u64_le(features);
    bytes
}

/// Reads what [`encode_hello`] writes; `what` names the hello in errors.
fn decode_hello(
    what: &'static str,
    bytes: &[u8; HELLO_LEN],
) -> Result<([u16; 4], u64), DecodeError> {
    let mut rest = &bytes[..];
    let mut magic = [0; MAGIC.len()];
    let short = |_| DecodeError::new(what, "is too short");
    rest.try_copy_to_slice(&mut magic).map_err(short)?;
    if magic != *MAGIC {
        return Err(DecodeError::new(what, "does not begin with DATAPIPE"));
    }
    let mut numbers = [0; 4];
    for number in &mut numbers {
        *number = rest.try_get_u16_le().map_err(short)?;
    }
    Ok((numbers, rest.try_get_u64_le().map_err(short)?))
}

/// Head of a message, which precedes its body.
///
/// Exhaustive: its layout is fixed for version 1 of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessageHead {
    /// Length of the body in bytes, at most [`MAX_BODY`].
    pub len: usize,
    /// Kind of the message.
    pub kind: u16,
    /// Number that the client gave its request. Replies and events carry it.
    pub request: u32,
}

impl MessageHead {
    /// Returns the bytes of the head.
    pub fn encode(&self) -> [u8; HEAD_LEN] {
        let mut bytes = [0; HEAD_LEN];
        let mut rest = &mut bytes[..];
        rest.put_u32_le(u32::try_from(self.len).unwrap_or(u32::MAX));
        rest.put_u16_le(self.kind);
        rest.put_u16_le(0);
        rest.put_u32_le(self.request);
        bytes
    }

    /// Decodes a head.
    ///
    /// # Errors
    ///
    /// If the body would be longer than [`MAX_BODY`], or the reserved bytes are not 0.
    pub fn decode(bytes: &[u8; HEAD_LEN]) -> Result<Self, DecodeError> {
        let what = "the head of a message";
        let mut rest = &bytes[..];
        let short = |_| DecodeError::new(what, "is too short");
        let len = rest.try_get_u32_le().map_err(short)?;
        let kind = rest.try_get_u16_le().map_err(short)?;
        let reserved = rest.try_get_u16_le().map_err(short)?;
        let request = rest.try_get_u32_le().map_err(short)?;
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        if len > MAX_BODY {
            return Err(DecodeError::new(
                what,
                format!("announces a body of {len} bytes, more than {MAX_BODY}"),
            ));
        }
        if reserved != 0 {
            return Err(DecodeError::new(what, "the reserved field is not 0"));
        }
        Ok(Self { len, kind, request })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(lowest: u16, highest: u16) -> ClientHello {
        ClientHello {
            versions: Versions { lowest, highest },
            features: 5,
        }
    }

    #[test]
    fn hellos_have_the_documented_bytes() {
        let bytes = client(1, 0x0203).encode();
        assert_eq!(bytes[..16], *b"DATAPIPE\x01\0\x03\x02\0\0\0\0");
        assert_eq!(bytes[16..], [5, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(ClientHello::decode(&bytes), Ok(client(1, 0x0203)));
        let answer = ServerHello::answer(&client(1, 9));
        assert_eq!(
            answer.encode(),
            *b"DATAPIPE\x01\0\x01\0\x01\0\0\0\0\0\0\0\0\0\0\0"
        );
        assert_eq!(ServerHello::decode(&answer.encode()), Ok(answer));
    }

    #[test]
    fn versions_without_overlap_are_refused_with_the_daemons_range() {
        assert_eq!(ServerHello::answer(&client(1, 1)).version, Ok(1));
        assert_eq!(ServerHello::answer(&client(1, 9)).version, Ok(1));
        let refused = ServerHello::answer(&client(2, 9));
        assert_eq!(
            (refused.version, refused.versions),
            (Err(CloseReason::VERSION), VERSIONS)
        );
        assert_eq!(ServerHello::decode(&refused.encode()), Ok(refused));
    }

    #[test]
    fn hellos_with_an_empty_range_or_wrong_magic_are_rejected() {
        for (lowest, highest) in [(0, 1), (2, 1)] {
            assert!(ClientHello::decode(&client(lowest, highest).encode()).is_err());
        }
        let mut bytes = client(1, 1).encode();
        bytes[0] = b'X';
        assert!(
            ClientHello::decode(&bytes)
                .unwrap_err()
                .to_string()
                .contains("DATAPIPE")
        );
        assert!(ServerHello::decode(&bytes).is_err());
        // Both a version and a reason, and neither of them.
        for numbers in [[1, 1, 1, 1], [0, 1, 1, 0]] {
            assert!(ServerHello::decode(&encode_hello(numbers, 0)).is_err());
        }
    }

    #[test]
    fn heads_have_the_documented_bytes() {
        let head = MessageHead {
            len: 0x01_0203,
            kind: 0x8006,
            request: 77,
        };
        assert_eq!(head.encode(), [3, 2, 1, 0, 6, 0x80, 0, 0, 77, 0, 0, 0]);
        assert_eq!(MessageHead::decode(&head.encode()), Ok(head));
        let long = MessageHead {
            len: MAX_BODY + 1,
            ..head
        }
        .encode();
        assert!(
            MessageHead::decode(&long)
                .unwrap_err()
                .to_string()
                .contains("1048577 bytes, more than 1048576")
        );
        let mut reserved = head.encode();
        reserved[6] = 1;
        assert!(MessageHead::decode(&reserved).is_err());
    }
}
