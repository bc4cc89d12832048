//! What stands around messages: the hellos, and the head of each message.

use bytes::{Buf, BufMut};

use super::fields::DecodeError;
use crate::limits::MAX_BODY;

/// Version of the protocol that this library speaks: the lowest and the highest.
pub const VERSIONS: Versions = Versions {
    lowest: 1,
    highest: 1,
};

/// What both hellos begin with.
const MAGIC: &[u8; 8] = b"DATAPIPE";
/// Bytes of either hello.
pub const HELLO: usize = 24;
/// Bytes of a message's head.
pub const HEAD: usize = 12;

/// A range of versions, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Versions {
    /// The lowest.
    pub lowest: u16,
    /// The highest.
    pub highest: u16,
}

/// What a client says first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientHello {
    /// The versions that it speaks.
    pub versions: Versions,
    /// A bit for each extension that it would use. None is defined.
    pub features: u64,
}

/// What the daemon answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerHello {
    /// The version that is spoken from now on, or why nothing is.
    pub answer: Result<u16, Closed>,
    /// The versions that it speaks.
    pub versions: Versions,
    /// The extensions that are used: of those that the client has named.
    pub features: u64,
}

/// Why the daemon speaks no further to a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed(pub u16);

impl Closed {
    /// No version is spoken by both.
    pub const VERSION: Self = Self(1);
    /// There are too many connections.
    pub const BUSY: Self = Self(2);
    /// The client's user may not connect.
    pub const ACCESS: Self = Self(3);
    /// What the client has said is no hello.
    pub const NO_HELLO: Self = Self(4);
    /// The client has taken too long.
    pub const TOO_SLOW: Self = Self(5);
}

impl ClientHello {
    /// As bytes.
    pub fn encode(&self) -> [u8; HELLO] {
        hello(
            [self.versions.lowest, self.versions.highest, 0, 0],
            self.features,
        )
    }

    /// From bytes.
    ///
    /// # Errors
    ///
    /// If they do not begin as a hello does, or the range of versions is empty.
    pub fn decode(bytes: &[u8; HELLO]) -> Result<Self, DecodeError> {
        let ([lowest, highest, ..], features) = parts("a client's hello", bytes)?;
        if lowest == 0 || lowest > highest {
            let why = format!("names the versions {lowest} to {highest}");
            return Err(DecodeError::new("a client's hello", why));
        }
        Ok(Self {
            versions: Versions { lowest, highest },
            features,
        })
    }
}

impl ServerHello {
    /// The answer to `hello`: the highest version that both speak, and the features that both know,
    /// which is none.
    pub fn to(hello: &ClientHello) -> Self {
        let version = VERSIONS.highest.min(hello.versions.highest);
        let lowest = VERSIONS.lowest.max(hello.versions.lowest);
        Self::new(if version >= lowest {
            Ok(version)
        } else {
            Err(Closed::VERSION)
        })
    }

    /// The answer to those who are not spoken to.
    pub fn closed(why: Closed) -> Self {
        Self::new(Err(why))
    }

    fn new(answer: Result<u16, Closed>) -> Self {
        Self {
            answer,
            versions: VERSIONS,
            features: 0,
        }
    }

    /// As bytes.
    pub fn encode(&self) -> [u8; HELLO] {
        let Versions { lowest, highest } = self.versions;
        let (version, why) = match self.answer {
            Ok(version) => (version, 0),
            Err(Closed(why)) => (0, why),
        };
        hello([version, lowest, highest, why], self.features)
    }

    /// From bytes.
    ///
    /// # Errors
    ///
    /// If they do not begin as a hello does, or name neither a version nor a reason.
    pub fn decode(bytes: &[u8; HELLO]) -> Result<Self, DecodeError> {
        let ([version, lowest, highest, why], features) = parts("the daemon's hello", bytes)?;
        let answer = match (version, why) {
            (1.., 0) => Ok(version),
            (0, 1..) => Err(Closed(why)),
            _ => {
                let why = format!("has version {version} and reason {why}, one of which must be 0");
                return Err(DecodeError::new("the daemon's hello", why));
            }
        };
        Ok(Self {
            answer,
            versions: Versions { lowest, highest },
            features,
        })
    }
}

fn hello(numbers: [u16; 4], features: u64) -> [u8; HELLO] {
    let mut bytes = [0; HELLO];
    let mut rest = &mut bytes[..];
    rest.put_slice(MAGIC);
    numbers
        .into_iter()
        .for_each(|number| rest.put_u16_le(number));
    rest.put_u64_le(features);
    bytes
}

fn parts(what: &'static str, bytes: &[u8; HELLO]) -> Result<([u16; 4], u64), DecodeError> {
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

/// What stands before each message's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Bytes of the body, at most [`MAX_BODY`].
    pub len: usize,
    /// What kind of message it is.
    pub kind: u16,
    /// The number that the client has given its request. Replies and events carry it.
    pub request: u32,
}

impl Head {
    /// As bytes.
    pub fn encode(&self) -> [u8; HEAD] {
        let mut bytes = [0; HEAD];
        let mut rest = &mut bytes[..];
        rest.put_u32_le(u32::try_from(self.len).unwrap_or(u32::MAX));
        rest.put_u16_le(self.kind);
        rest.put_u16_le(0);
        rest.put_u32_le(self.request);
        bytes
    }

    /// From bytes.
    ///
    /// # Errors
    ///
    /// If the body would be longer than [`MAX_BODY`], or the reserved bytes are not 0.
    pub fn decode(bytes: &[u8; HEAD]) -> Result<Self, DecodeError> {
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
                format!("claims a body of {len} bytes, more than {MAX_BODY}"),
            ));
        }
        if reserved != 0 {
            return Err(DecodeError::new(what, "its reserved field is not 0"));
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
    fn hellos_are_what_the_page_says() {
        let bytes = client(1, 0x0203).encode();
        assert_eq!(bytes[..16], *b"DATAPIPE\x01\0\x03\x02\0\0\0\0");
        assert_eq!(bytes[16..], [5, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(ClientHello::decode(&bytes), Ok(client(1, 0x0203)));
        let answer = ServerHello::to(&client(1, 9));
        assert_eq!(
            answer.encode(),
            *b"DATAPIPE\x01\0\x01\0\x01\0\0\0\0\0\0\0\0\0\0\0"
        );
        assert_eq!(ServerHello::decode(&answer.encode()), Ok(answer));
    }

    #[test]
    fn versions_that_do_not_meet_are_refused_with_both_ranges() {
        assert_eq!(ServerHello::to(&client(1, 1)).answer, Ok(1));
        assert_eq!(ServerHello::to(&client(1, 9)).answer, Ok(1));
        let refused = ServerHello::to(&client(2, 9));
        assert_eq!(
            (refused.answer, refused.versions),
            (Err(Closed::VERSION), VERSIONS)
        );
        assert_eq!(ServerHello::decode(&refused.encode()), Ok(refused));
    }

    #[test]
    fn what_is_no_hello_is_refused() {
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
        // A version and a reason, or neither.
        for numbers in [[1, 1, 1, 1], [0, 1, 1, 0]] {
            assert!(ServerHello::decode(&hello(numbers, 0)).is_err());
        }
    }

    #[test]
    fn heads_are_what_the_page_says() {
        let head = Head {
            len: 0x01_0203,
            kind: 0x8006,
            request: 77,
        };
        assert_eq!(head.encode(), [3, 2, 1, 0, 6, 0x80, 0, 0, 77, 0, 0, 0]);
        assert_eq!(Head::decode(&head.encode()), Ok(head));
        let long = Head {
            len: MAX_BODY + 1,
            ..head
        }
        .encode();
        assert!(
            Head::decode(&long)
                .unwrap_err()
                .to_string()
                .contains("1048577 bytes, more than 1048576")
        );
        let mut reserved = head.encode();
        reserved[6] = 1;
        assert!(Head::decode(&reserved).is_err());
    }
}
