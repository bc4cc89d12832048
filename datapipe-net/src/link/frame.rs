//! Frames of a data connection: bytes to values and back, by one walk over the fields for both
//! directions.

use bytes::{Buf, BufMut};

use super::violation::Violation;
use crate::limits::{MAX_EXPLANATION, MAX_SKIPPED_BODY};

/// Length of a frame's head, in bytes.
pub const FRAME_HEAD_LEN: usize = 16;
/// Length of the block information in a DATA frame, in bytes: the 8 words of a block's info.
pub const INFO_LEN: usize = 64;
/// Bit of a kind that forbids to skip a frame whose kind is unknown.
const MUST_UNDERSTAND: u8 = 0x80;

const HELLO: u8 = 1;
const WELCOME: u8 = 2;
const DATA: u8 = 3;
const ACK: u8 = 4;
const END: u8 = 5;
const PING: u8 = 6;
const PONG: u8 = 7;
const STOP: u8 = 8;
const RATE: u8 = 9;
const BYE: u8 = 10;

const DATA_VACANT: u8 = 1;
const DATA_INFO: u8 = 2;

/// Frame of a data connection. The number of blocks, and block numbers, count from 0.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Frame {
    /// First frame of the sending half.
    Hello {
        /// Lowest number that the sending half still holds.
        lowest: u64,
        /// Incarnation of the sending half's parent: a replacement has a higher one.
        incarnation: u64,
    },
    /// First frame of the receiving half.
    Welcome {
        /// State of the receiving half.
        receipt: Receipt,
        /// Incarnation of the receiving half's parent: a replacement has a higher one.
        incarnation: u64,
    },
    /// A block, from the sending half. Its data follow the frame's head and information.
    Data(DataHead),
    /// State of the receiving half, after it changed.
    Ack(Receipt),
    /// Number of blocks of the whole stream, from the sending half.
    End {
        /// The number.
        total: u64,
    },
    /// Request for a [`Frame::Pong`].
    Ping {
        /// Clock of the half that asks.
        clock: u64,
    },
    /// Answer to a [`Frame::Ping`].
    Pong {
        /// Clock of the request.
        clock: u64,
    },
    /// End of the pipe without success.
    Stop(StopReason),
    /// Rate that the receiving half allows.
    Rate {
        /// Bytes a second; 0 if there is no limit.
        rate: u64,
    },
    /// Last frame on the connection.
    Bye {
        /// True if the half that sends it knows that the whole stream has been handed over.
        over: bool,
    },
}

/// State of a receiving half.
///
/// Exhaustive: its layout is fixed for the version of the protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Receipt {
    /// Number of blocks that the receiving half has sent on. The sending half may free them.
    pub next: u64,
    /// Number below which the receiving half has a buffer for each block.
    pub limit: u64,
    /// Number of blocks on stable storage, in the numbers of the head.
    pub safe: u64,
    /// True if the total is known and every block was sent on.
    pub ended: bool,
}

/// Head of a block on the wire.
///
/// Exhaustive: its layout is fixed for the version of the protocol.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DataHead {
    /// Number of the block.
    pub number: u64,
    /// True if the block is vacant: it travels for its number and has no data.
    pub vacant: bool,
    /// The 8 words of the block's information, little endian.
    pub info: Option<[u8; INFO_LEN]>,
    /// Length of the data that follow, in bytes.
    pub len: u32,
}

/// Reason of a STOP.
///
/// Exhaustive: its layout is fixed for the version of the protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StopReason {
    /// Cause, for programs.
    pub code: StopCode,
    /// Cause, for people; at most [`MAX_EXPLANATION`] bytes.
    pub text: String,
}

/// Cause of a STOP. A later version may add causes.
///
/// Exhaustive: it is a number of the protocol, and every number is a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StopCode(pub u16);

impl StopCode {
    /// A stage failed.
    pub const FAILED: Self = Self(1);
    /// A person or a program asked for it.
    pub const CANCELLED: Self = Self(2);
    /// The other half broke the protocol.
    pub const VIOLATION: Self = Self(3);
    /// Neither half holds the block that is next.
    pub const HOLE: Self = Self(4);
}

impl StopReason {
    /// Makes a reason. A text that is too long is cut at the last character that fits.
    pub fn new(code: StopCode, text: impl Into<String>) -> Self {
        let mut text = text.into();
        text.truncate(text.floor_char_boundary(MAX_EXPLANATION));
        Self { code, text }
    }
}

impl Frame {
    /// Number of the frame's kind.
    pub fn kind(&self) -> u8 {
        match self {
            Self::Hello { .. } => HELLO,
            Self::Welcome { .. } => WELCOME,
            Self::Data(_) => DATA,
            Self::Ack(_) => ACK,
            Self::End { .. } => END,
            Self::Ping { .. } => PING,
            Self::Pong { .. } => PONG,
            Self::Stop(_) => STOP,
            Self::Rate { .. } => RATE,
            Self::Bye { .. } => BYE,
        }
    }

    /// Appends the bytes of the frame to `bytes`. Those of a DATA frame end where its data begin.
    ///
    /// # Panics
    ///
    /// If the text of a STOP has more than [`MAX_EXPLANATION`] bytes, or the data of a block more
    /// than `u32::MAX - 64`.
    pub fn encode(&self, bytes: &mut Vec<u8>) {
        let start = bytes.len();
        bytes.resize(start + FRAME_HEAD_LEN, 0);
        let mut head = Head::default();
        let walked = self.clone().walk(&mut head, &mut Cursor::Write(bytes));
        walked.expect("values of a frame are encoded");
        let mut body = u32::try_from(bytes.len() - start - FRAME_HEAD_LEN).expect("a short body");
        if let Self::Data(data) = self {
            body = body.checked_add(data.len).expect("data of at most 4 GiB");
        }
        let mut out = &mut bytes[start..start + FRAME_HEAD_LEN];
        out.put_u8(self.kind());
        out.put_u8(head.flags);
        out.put_u16_le(0);
        out.put_u32_le(body);
        out.put_u64_le(head.number);
    }

    /// An empty frame of a kind, to be filled by [`Frame::walk`].
    fn blank(kind: u8) -> Option<Self> {
        let incarnation = 0;
        Some(match kind {
            HELLO => Self::Hello {
                lowest: 0,
                incarnation,
            },
            WELCOME => Self::Welcome {
                receipt: Receipt::default(),
                incarnation,
            },
            DATA => Self::Data(DataHead::default()),
            ACK => Self::Ack(Receipt::default()),
            END => Self::End { total: 0 },
            PING => Self::Ping { clock: 0 },
            PONG => Self::Pong { clock: 0 },
            STOP => Self::Stop(StopReason::new(StopCode(0), "")),
            RATE => Self::Rate { rate: 0 },
            BYE => Self::Bye { over: false },
            _ => return None,
        })
    }

    /// Walks over the frame's fields: writes them to `head` and `body`, or reads them from there.
    fn walk(&mut self, head: &mut Head, body: &mut Cursor<'_>) -> Result<(), Violation> {
        let reading = matches!(body, Cursor::Read(_));
        match self {
            Self::Hello {
                lowest,
                incarnation,
            } => {
                head.number(reading, lowest);
                body.u64(incarnation);
            }
            Self::Welcome {
                receipt,
                incarnation,
            } => {
                head.number(reading, &mut receipt.next);
                head.flag(reading, 1, &mut receipt.ended);
                body.u64(incarnation);
                body.u64(&mut receipt.limit);
                body.u64(&mut receipt.safe);
            }
            Self::Data(data) => {
                head.number(reading, &mut data.number);
                head.flag(reading, DATA_VACANT, &mut data.vacant);
                let mut has_info = data.info.is_some();
                head.flag(reading, DATA_INFO, &mut has_info);
                if has_info {
                    body.array(data.info.get_or_insert([0; INFO_LEN]));
                }
            }
            Self::Ack(receipt) => {
                head.number(reading, &mut receipt.next);
                head.flag(reading, 1, &mut receipt.ended);
                body.u64(&mut receipt.limit);
                body.u64(&mut receipt.safe);
            }
            Self::End { total: number }
            | Self::Ping { clock: number }
            | Self::Pong { clock: number }
            | Self::Rate { rate: number } => head.number(reading, number),
            Self::Stop(reason) => {
                body.u16(&mut reason.code.0);
                body.text(&mut reason.text)?;
            }
            Self::Bye { over } => head.flag(reading, 1, over),
        }
        Ok(())
    }
}

/// Number and flags of a frame's head.
#[derive(Default)]
struct Head {
    number: u64,
    flags: u8,
}

impl Head {
    fn number(&mut self, reading: bool, value: &mut u64) {
        let (to, from) = if reading {
            (value, self.number)
        } else {
            (&mut self.number, *value)
        };
        *to = from;
    }

    fn flag(&mut self, reading: bool, bit: u8, value: &mut bool) {
        if reading {
            *value = self.flags & bit != 0;
        } else if *value {
            self.flags |= bit;
        }
    }
}

/// Position in the body of a frame that is written, or read. A body that is read has the length
/// that its kind has: [`Layout::check`] comes first.
enum Cursor<'a> {
    Read(&'a [u8]),
    Write(&'a mut Vec<u8>),
}

impl Cursor<'_> {
    fn u16(&mut self, value: &mut u16) {
        match self {
            Self::Read(bytes) => *value = bytes.get_u16_le(),
            Self::Write(bytes) => bytes.put_u16_le(*value),
        }
    }

    fn u64(&mut self, value: &mut u64) {
        match self {
            Self::Read(bytes) => *value = bytes.get_u64_le(),
            Self::Write(bytes) => bytes.put_u64_le(*value),
        }
    }

    fn array(&mut self, value: &mut [u8]) {
        match self {
            Self::Read(bytes) => bytes.copy_to_slice(value),
            Self::Write(bytes) => bytes.put_slice(value),
        }
    }

    /// The rest of the body as text.
    fn text(&mut self, value: &mut String) -> Result<(), Violation> {
        match self {
            Self::Read(bytes) => {
                *value = String::from_utf8(bytes.to_vec()).map_err(|_| Violation::Text)?;
                bytes.advance(bytes.len());
            }
            Self::Write(bytes) => {
                assert!(
                    value.len() <= MAX_EXPLANATION,
                    "the text of a STOP is short"
                );
                bytes.put_slice(value.as_bytes());
            }
        }
        Ok(())
    }
}

/// Layout of a kind: its flags, whether it has a number, and the range of its body's length.
struct Layout {
    flags: u8,
    numbered: bool,
    least: u32,
    most: u32,
}

impl Layout {
    fn of(kind: u8, flags: u8) -> Option<Self> {
        const STOP_MOST: u32 = 2 + MAX_EXPLANATION as u32;
        let info = if flags & DATA_INFO == 0 {
            0
        } else {
            INFO_LEN as u32
        };
        let (flags, numbered, least, most) = match kind {
            HELLO => (0, true, 8, 8),
            WELCOME => (1, true, 24, 24),
            DATA => (DATA_VACANT | DATA_INFO, true, info, u32::MAX),
            ACK => (1, true, 16, 16),
            END | PING | PONG | RATE => (0, true, 0, 0),
            STOP => (0, false, 2, STOP_MOST),
            BYE => (1, false, 0, 0),
            _ => return None,
        };
        Some(Self {
            flags,
            numbered,
            least,
            most,
        })
    }

    /// Checks a head against the layout.
    fn check(&self, kind: u8, head: &Head, len: u32) -> Result<(), Violation> {
        let (flags, known) = (head.flags, self.flags);
        if flags & !known != 0 {
            return Err(Violation::Flags { kind, flags, known });
        }
        if !self.numbered && head.number != 0 {
            return Err(Violation::Number {
                kind,
                number: head.number,
            });
        }
        let (least, most) = (self.least, self.most);
        if len < least || len > most {
            return Err(Violation::BodyLength {
                kind,
                len,
                least,
                most,
            });
        }
        Ok(())
    }
}

/// Decoder of the frames of one direction of a connection. It keeps at most one frame without
/// data, which is less than 5 KiB.
///
/// ```
/// use datapipe_net::link::{Frame, FrameDecoder};
///
/// let mut bytes = Vec::new();
/// Frame::End { total: 7 }.encode(&mut bytes);
/// let mut decoder = FrameDecoder::default();
/// let (mut first, mut second) = bytes.split_at(5);
/// assert_eq!(decoder.take(&mut first).unwrap(), None);
/// assert_eq!(decoder.take(&mut second).unwrap(), Some(Frame::End { total: 7 }));
/// ```
#[derive(Debug, Default)]
pub struct FrameDecoder {
    /// The beginning of a frame: its head, then its body without data.
    held: Vec<u8>,
    /// Bytes of a body of unknown kind that are still to come.
    skipped: usize,
}

impl FrameDecoder {
    /// Takes bytes from the front of `bytes`, up to the end of a frame, and returns the frame.
    /// Returns `None` when it has taken all bytes and needs more.
    ///
    /// After a [`Frame::Data`] the block's data follow. The caller takes them itself, so that they
    /// can be received where they belong, and then calls again.
    ///
    /// # Errors
    ///
    /// If the bytes are not a frame. The decoder is not to be used after that.
    pub fn take(&mut self, bytes: &mut &[u8]) -> Result<Option<Frame>, Violation> {
        loop {
            let len = bytes.len().min(self.wanted()?);
            let (taken, rest) = bytes.split_at(len);
            *bytes = rest;
            if self.skipped > 0 {
                self.skipped -= len;
            } else {
                self.held.extend_from_slice(taken);
            }
            if self.skipped == 0
                && self.held.len() >= FRAME_HEAD_LEN
                && let Some(frame) = self.finish()?
            {
                return Ok(Some(frame));
            }
            if bytes.is_empty() {
                return Ok(None);
            }
        }
    }

    /// Number of bytes that the decoder needs before the next frame or the next step towards it. A
    /// caller that reads exactly that many never reads data of a block by accident.
    ///
    /// # Errors
    ///
    /// If the bytes so far are not the head of a frame.
    pub fn wanted(&self) -> Result<usize, Violation> {
        if self.skipped > 0 {
            return Ok(self.skipped);
        }
        match self.held.first_chunk() {
            None => Ok(FRAME_HEAD_LEN - self.held.len()),
            Some(head) => Ok(FRAME_HEAD_LEN + Parsed::read(head)?.here - self.held.len()),
        }
    }

    /// True if the bytes so far end with a whole frame.
    pub fn is_between_frames(&self) -> bool {
        self.held.is_empty() && self.skipped == 0
    }

    /// Returns the frame if all of it is there. A frame of unknown kind is forgotten.
    fn finish(&mut self) -> Result<Option<Frame>, Violation> {
        let (head, body) = self.held.split_first_chunk().expect("a whole head");
        let parsed = Parsed::read(head)?;
        let Some(mut frame) = Frame::blank(parsed.kind) else {
            self.held.clear();
            self.skipped = parsed.len as usize;
            return Ok(None);
        };
        if body.len() < parsed.here {
            return Ok(None);
        }
        let mut head = parsed.head;
        frame.walk(&mut head, &mut Cursor::Read(body))?;
        if let Frame::Data(data) = &mut frame {
            data.len = parsed.len - parsed.here as u32;
        }
        self.held.clear();
        Ok(Some(frame))
    }
}

/// A frame's head after its checks.
struct Parsed {
    kind: u8,
    head: Head,
    /// Length of the body, in bytes.
    len: u32,
    /// Bytes of the body that the decoder takes: all of it, except for the data of a block.
    here: usize,
}

impl Parsed {
    fn read(bytes: &[u8; FRAME_HEAD_LEN]) -> Result<Self, Violation> {
        let mut bytes = &bytes[..];
        let (kind, flags) = (bytes.get_u8(), bytes.get_u8());
        let (found, len, number) = (bytes.get_u16_le(), bytes.get_u32_le(), bytes.get_u64_le());
        let head = Head { number, flags };
        if found != 0 {
            return Err(Violation::Reserved { kind, found });
        }
        let Some(layout) = Layout::of(kind, flags) else {
            if kind & MUST_UNDERSTAND != 0 {
                return Err(Violation::UnknownKind { kind });
            }
            if len > MAX_SKIPPED_BODY {
                let (least, most) = (0, MAX_SKIPPED_BODY);
                return Err(Violation::BodyLength {
                    kind,
                    len,
                    least,
                    most,
                });
            }
            return Ok(Self {
                kind,
                head,
                len,
                here: 0,
            });
        };
        layout.check(kind, &head, len)?;
        let here = if kind == DATA { layout.least } else { len } as usize;
        Ok(Self {
            kind,
            head,
            len,
            here,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frames() -> impl Strategy<Value = Frame> {
        let receipt =
            any::<(u64, u64, u64, bool)>().prop_map(|(next, limit, safe, ended)| Receipt {
                next,
                limit,
                safe,
                ended,
            });
        let info = proptest::option::of(any::<[u8; 32]>())
            .prop_map(|half| half.map(|half| [half, half].concat().try_into().unwrap()));
        let data = (any::<u64>(), any::<bool>(), info, 0..u32::MAX - 64).prop_map(
            |(number, vacant, info, len)| DataHead {
                number,
                vacant,
                info,
                len,
            },
        );
        prop_oneof![
            any::<(u64, u64)>().prop_map(|(lowest, incarnation)| Frame::Hello {
                lowest,
                incarnation
            }),
            (receipt.clone(), any::<u64>()).prop_map(|(receipt, incarnation)| Frame::Welcome {
                receipt,
                incarnation
            }),
            data.prop_map(Frame::Data),
            receipt.prop_map(Frame::Ack),
            any::<u64>().prop_map(|total| Frame::End { total }),
            any::<u64>().prop_map(|clock| Frame::Ping { clock }),
            any::<u64>().prop_map(|clock| Frame::Pong { clock }),
            (any::<u16>(), ".{0,40}")
                .prop_map(|(code, text)| Frame::Stop(StopReason::new(StopCode(code), text))),
            any::<u64>().prop_map(|rate| Frame::Rate { rate }),
            any::<bool>().prop_map(|over| Frame::Bye { over }),
        ]
    }

    /// The frames in `bytes`, which are given to a decoder in pieces that end at `cuts`.
    fn decode(bytes: &[u8], cuts: &[usize]) -> Result<Vec<Frame>, Violation> {
        let (mut decoder, mut found, mut from) = (FrameDecoder::default(), Vec::new(), 0);
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).collect();
        cuts.push(bytes.len());
        cuts.sort_unstable();
        for cut in cuts {
            let mut piece = &bytes[from..cut];
            while let Some(frame) = decoder.take(&mut piece)? {
                found.push(frame);
            }
            from = cut;
        }
        assert!(decoder.is_between_frames());
        Ok(found)
    }

    proptest! {
        #[test]
        fn frames_survive_any_cuts(
            all in proptest::collection::vec(frames(), 1..6),
            cuts in proptest::collection::vec(any::<usize>(), 0..6),
        ) {
            let mut bytes = Vec::new();
            all.iter().for_each(|frame| frame.encode(&mut bytes));
            prop_assert_eq!(decode(&bytes, &cuts), Ok(all));
        }

        #[test]
        fn arbitrary_bytes_are_frames_that_encode_to_themselves_or_violations(
            bytes in proptest::collection::vec(prop_oneof![0..11_u8, any::<u8>()], 0..64),
        ) {
            let mut decoder = FrameDecoder::default();
            let mut rest = &bytes[..];
            while let Ok(Some(frame)) = decoder.take(&mut rest) {
                let mut again = Vec::new();
                frame.encode(&mut again);
                prop_assert_eq!(FrameDecoder::default().take(&mut &again[..]), Ok(Some(frame)));
            }
        }
    }

    /// The bytes of a frame, with one byte of its head changed.
    fn changed(frame: &Frame, at: usize, value: u8) -> Result<Vec<Frame>, Violation> {
        let mut bytes = Vec::new();
        frame.encode(&mut bytes);
        bytes[at] = value;
        decode(&bytes, &[])
    }

    #[test]
    fn heads_that_break_the_layout_are_violations_with_their_values() {
        let (end, bye) = (Frame::End { total: 3 }, Frame::Bye { over: true });
        let cases = [
            (changed(&end, 2, 7), "reserved bytes are 0x7"),
            (changed(&end, 0, 0x8b), "unknown kind 0x8b"),
            (changed(&end, 1, 4), "flags 0x4, of which only 0x0"),
            (changed(&end, 4, 9), "body has 9 bytes, not 0 to 0"),
            (changed(&end, 0, 1), "body has 0 bytes, not 8 to 8"),
            (changed(&bye, 8, 5), "number is 5, not 0"),
            (changed(&bye, 0, 8), "flags 0x1, of which only 0x0"),
        ];
        for (result, text) in cases {
            let error = result.unwrap_err().to_string();
            assert!(error.contains(text), "{error}");
        }
        let mut stop = Vec::new();
        Frame::Stop(StopReason::new(StopCode::FAILED, "x")).encode(&mut stop);
        *stop.last_mut().unwrap() = 0xff;
        assert_eq!(decode(&stop, &[]), Err(Violation::Text));
    }

    #[test]
    fn frames_of_unknown_kinds_are_skipped_up_to_a_length() {
        let mut bytes = vec![0x7f, 0xff, 0, 0, 5, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];
        bytes.extend([9; 5]);
        Frame::End { total: 1 }.encode(&mut bytes);
        for cut in 0..bytes.len() {
            assert_eq!(decode(&bytes, &[cut]), Ok(vec![Frame::End { total: 1 }]));
        }
        bytes[4..8].copy_from_slice(&(MAX_SKIPPED_BODY + 1).to_le_bytes());
        let error = decode(&bytes, &[]).unwrap_err().to_string();
        assert!(error.contains("65537 bytes, not 0 to 65536"), "{error}");
    }

    #[test]
    fn long_reason_is_cut_at_a_character() {
        let reason = StopReason::new(StopCode::FAILED, "ü".repeat(MAX_EXPLANATION));
        assert_eq!(reason.text.len(), MAX_EXPLANATION);
        let odd = StopReason::new(
            StopCode::FAILED,
            format!("x{}", "ü".repeat(MAX_EXPLANATION)),
        );
        assert_eq!(odd.text.len(), MAX_EXPLANATION - 1);
    }
}
