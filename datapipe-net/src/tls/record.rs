//! Records of TLS 1.3 after the handshake (RFC 8446, section 5): sealed from the caller's buffers
//! and opened into them. The two directions share nothing.

use std::fmt;

use aws_lc_rs::aead::{Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use zeroize::Zeroizing;

use super::alert::Alert;
use super::keys::TrafficKeys;
use crate::limits::{MAX_TLS_RECORDS, TLS_RECORDS_BEFORE_REPLACING};

/// Length of a record's header, in bytes.
const HEADER_LEN: usize = 5;
/// Length of the authentication tag, in bytes: the same for all ciphers.
const TAG_LEN: usize = 16;
/// Most data of one record, in bytes.
pub const MAX_RECORD_DATA: usize = 1 << 14;
/// Most bytes that a record has besides its data: header, type of the data, and tag.
pub const RECORD_OVERHEAD: usize = HEADER_LEN + 1 + TAG_LEN;
/// Length of the longest record, in bytes. The padding of a record counts as its data.
pub const MAX_RECORD_LEN: usize = MAX_RECORD_DATA + RECORD_OVERHEAD;

/// Types of records.
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const DATA: u8 = 23;
/// Type of the handshake message KeyUpdate.
const KEY_UPDATE: u8 = 24;
/// Version in the header of each record.
const LEGACY_VERSION: [u8; 2] = [3, 3];
/// Level of an alert that ends the connection.
const FATAL: u8 = 2;

/// Sealing direction of a connection.
pub struct TlsWriter(SequencedKey);

/// Opening direction of a connection.
pub struct TlsReader {
    direction: SequencedKey,
    /// True after an error or the peer's end: nothing is opened after it.
    has_ended: bool,
}

/// Bytes that a call of [`TlsWriter::seal`] took and wrote.
///
/// Exhaustive: it is the result of one function.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sealed {
    /// Number of bytes of the data that are in the records.
    pub taken: usize,
    /// Length of the records, in bytes.
    pub written: usize,
}

/// Result of opening the record at the beginning of received bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Opened {
    /// The record has not arrived whole. Nothing has changed.
    Incomplete {
        /// Length up to which bytes must be received before the next call, in bytes from the
        /// beginning of the record; at most [`MAX_RECORD_LEN`].
        needed: usize,
    },
    /// The output is too short for the record. Nothing has changed: the caller opens it into
    /// memory of its own and copies the data from there.
    NeedsRoom {
        /// Length of output that suffices: at most [`MAX_RECORD_DATA`] and 1.
        room: usize,
    },
    /// The record had data.
    Data {
        /// Length of the record, in bytes.
        consumed: usize,
        /// Length of the data at the beginning of the output. It is 0 for an empty record,
        /// which counts as a record and is not a sign of life.
        len: usize,
    },
    /// The peer sends no more. If its last frame was not BYE, the connection is lost.
    Closed {
        /// Length of the record, in bytes.
        consumed: usize,
    },
}

/// Failure of a record, after which the connection has to be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TlsRecordError {
    /// The record is of a type that is not allowed after the handshake.
    UnexpectedType {
        /// Number of the record in its direction.
        record: u64,
        /// The type.
        kind: u8,
    },
    /// The length in the header cannot be that of a record.
    Length {
        /// Number of the record in its direction.
        record: u64,
        /// The length in the header, in bytes.
        len: usize,
    },
    /// The record is not the one that the peer sealed at this place with this key.
    Forged {
        /// Number of the record in its direction.
        record: u64,
    },
    /// The record has no type, or an alert of a wrong length.
    Malformed {
        /// Number of the record in its direction.
        record: u64,
    },
    /// A message of the handshake arrived after its end.
    Handshake {
        /// Number of the record in its direction.
        record: u64,
        /// Type of the message.
        message: u8,
    },
    /// The peer ended the connection.
    Alert(Alert),
    /// The key has been used for [`MAX_TLS_RECORDS`] records.
    Exhausted,
    /// The direction had ended before, by an error or by the peer.
    Ended,
}

/// Key and counter of one direction.
struct SequencedKey {
    key: LessSafeKey,
    iv: Zeroizing<[u8; NONCE_LEN]>,
    /// Number of the record that is next.
    sequence: u64,
}

impl SequencedKey {
    fn new(keys: TrafficKeys) -> Self {
        let key = UnboundKey::new(keys.cipher().algorithm(), keys.key());
        Self {
            key: LessSafeKey::new(key.expect("the length of a key is checked")),
            iv: keys.iv.clone(),
            sequence: keys.sequence,
        }
    }

    /// Takes the next number, and makes its nonce. No number is returned twice: also not if what
    /// the caller does with it fails.
    fn next(&mut self) -> Result<(u64, Nonce), TlsRecordError> {
        let record = self.sequence;
        if record >= MAX_TLS_RECORDS {
            return Err(TlsRecordError::Exhausted);
        }
        self.sequence += 1;
        let mut nonce = *self.iv;
        let (_, low) = nonce.split_at_mut(NONCE_LEN - 8);
        low.iter_mut()
            .zip(network_order(record))
            .for_each(|(byte, number)| *byte ^= number);
        Ok((record, Nonce::assume_unique_for_key(nonce)))
    }

    fn needs_replacing(&self) -> bool {
        self.sequence >= TLS_RECORDS_BEFORE_REPLACING
    }
}

/// The bytes of a number, highest first, as TLS has them.
fn network_order(number: u64) -> [u8; 8] {
    let mut bytes = number.to_le_bytes();
    bytes.reverse();
    bytes
}

/// Header of a record whose sealed part has `len` bytes.
fn header(len: usize) -> [u8; HEADER_LEN] {
    let [low, high, ..] = (len as u64).to_le_bytes();
    let [major, minor] = LEGACY_VERSION;
    [DATA, major, minor, high, low]
}

impl TlsWriter {
    /// A writer that continues where the handshake has stopped.
    pub fn new(keys: TrafficKeys) -> Self {
        Self(SequencedKey::new(keys))
    }

    /// Seals `data` into records at the beginning of `out`, until one of the two is used up. A
    /// record is full, or ends with `data`. No data make no record.
    ///
    /// All records in `out` have to be sent, in this order: their numbers are not used again.
    ///
    /// # Errors
    ///
    /// [`TlsRecordError::Exhausted`] if the key may seal no further record. What was sealed before
    /// that is lost, and so is the connection.
    ///
    /// # Panics
    ///
    /// If `out` is shorter than [`MAX_RECORD_LEN`].
    ///
    /// # Examples
    ///
    /// ```
    /// use datapipe_net::tls::{
    ///     TlsCipher, MAX_RECORD_LEN, Opened, TlsReader, TlsWriter, TrafficKeys,
    /// };
    ///
    /// let keys = || TrafficKeys::new(TlsCipher::Aes256Gcm, &[7; 32], [1; 12], 0);
    /// let (mut writer, mut reader) = (TlsWriter::new(keys()?), TlsReader::new(keys()?));
    /// let mut scratch = [0; MAX_RECORD_LEN];
    /// let sealed = writer.seal(b"a block", &mut scratch)?;
    ///
    /// let mut buffer = [0; 64];
    /// let opened = reader.open(&scratch[..sealed.written], &mut buffer)?;
    /// assert_eq!(opened, Opened::Data { consumed: sealed.written, len: 7 });
    /// assert_eq!(&buffer[..7], b"a block");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn seal(&mut self, data: &[u8], out: &mut [u8]) -> Result<Sealed, TlsRecordError> {
        assert!(
            out.len() >= MAX_RECORD_LEN,
            "an output of {} bytes is shorter than a record",
            out.len()
        );
        let mut sealed = Sealed::default();
        while let Some(piece) = data.get(sealed.taken..).filter(|rest| !rest.is_empty()) {
            let piece = &piece[..piece.len().min(MAX_RECORD_DATA)];
            let out = &mut out[sealed.written..];
            if out.len() < piece.len() + RECORD_OVERHEAD {
                break;
            }
            sealed.written += self.record(DATA, piece, out)?;
            sealed.taken += piece.len();
        }
        Ok(sealed)
    }

    /// Seals an alert at the beginning of `out`, and returns the length of the record in bytes:
    /// the last record of this direction.
    ///
    /// # Errors
    ///
    /// [`TlsRecordError::Exhausted`] if the key may seal no further record.
    ///
    /// # Panics
    ///
    /// If `out` is shorter than [`MAX_RECORD_LEN`].
    pub fn alert(mut self, alert: Alert, out: &mut [u8]) -> Result<usize, TlsRecordError> {
        assert!(out.len() >= MAX_RECORD_LEN, "an output for a record");
        self.record(ALERT, &[FATAL, alert.0], out)
    }

    /// True if the connection should be replaced by another with new keys, after the block that
    /// is being sent: [`TLS_RECORDS_BEFORE_REPLACING`] records were sealed.
    pub fn needs_replacing(&self) -> bool {
        self.0.needs_replacing()
    }

    /// Seals one record at the beginning of `out`, which has room for it.
    fn record(&mut self, kind: u8, data: &[u8], out: &mut [u8]) -> Result<usize, TlsRecordError> {
        let (_, nonce) = self.0.next()?;
        let len = data.len() + RECORD_OVERHEAD;
        let (head, rest) = out[..len].split_at_mut(HEADER_LEN);
        let (sealed, type_and_tag) = rest.split_at_mut(data.len());
        let header = header(len - HEADER_LEN);
        head.copy_from_slice(&header);
        self.0
            .key
            .seal_out_of_place_scatter(
                nonce,
                Aad::from(header),
                data,
                sealed,
                &[kind],
                type_and_tag,
            )
            .expect("the lengths match");
        Ok(len)
    }
}

impl TlsReader {
    /// A reader that continues where the handshake has stopped.
    pub fn new(keys: TrafficKeys) -> Self {
        Self {
            direction: SequencedKey::new(keys),
            has_ended: false,
        }
    }

    /// Opens the record at the beginning of `received`, into the beginning of `out`.
    ///
    /// The record's type and its padding follow the data in `out`: it needs room for one byte more
    /// than the data, and what is in it after the data is undefined, as all of it is after an
    /// error. If another process can write to `out`, it decides, as everywhere in shared memory,
    /// what the data are; here also where they end, and whether they are an alert.
    ///
    /// # Errors
    ///
    /// If the record is not the one that the peer sealed at this place, is not allowed after the
    /// handshake, or is an alert. The connection has to be closed, after the alert of
    /// [`TlsRecordError::alert`]; each later call returns [`TlsRecordError::Ended`].
    pub fn open(&mut self, received: &[u8], out: &mut [u8]) -> Result<Opened, TlsRecordError> {
        if self.has_ended {
            return Err(TlsRecordError::Ended);
        }
        let opened = self.open_next(received, out);
        self.has_ended = matches!(opened, Err(_) | Ok(Opened::Closed { .. }));
        opened
    }

    /// True if the connection should be replaced by another with new keys: the peer has sealed
    /// [`TLS_RECORDS_BEFORE_REPLACING`] records.
    pub fn needs_replacing(&self) -> bool {
        self.direction.needs_replacing()
    }

    fn open_next(&mut self, received: &[u8], out: &mut [u8]) -> Result<Opened, TlsRecordError> {
        let record = self.direction.sequence;
        let Some((head, rest)) = received.split_first_chunk::<HEADER_LEN>() else {
            return Ok(Opened::Incomplete { needed: HEADER_LEN });
        };
        let [kind, _, _, high, low] = *head;
        if kind != DATA {
            return Err(TlsRecordError::UnexpectedType { record, kind });
        }
        let len = usize::from(high) << 8 | usize::from(low);
        let consumed = HEADER_LEN + len;
        let Some(inner) = len.checked_sub(TAG_LEN).filter(|inner| *inner > 0) else {
            return Err(TlsRecordError::Length { record, len });
        };
        // The tag has one length, so a longer record would have more than 2^14 bytes of data, or
        // of data with padding, which is not allowed, either.
        if consumed > MAX_RECORD_LEN {
            return Err(TlsRecordError::Length { record, len });
        }
        let Some(sealed) = rest.get(..len) else {
            return Ok(Opened::Incomplete { needed: consumed });
        };
        let Some(out) = out.get_mut(..inner) else {
            return Ok(Opened::NeedsRoom { room: inner });
        };
        let (record, nonce) = self.direction.next()?;
        let (sealed, tag) = sealed.split_at(inner);
        self.direction
            .key
            .open_separate_gather(nonce, Aad::from(head), sealed, tag, out)
            .map_err(|_| TlsRecordError::Forged { record })?;
        judge(record, consumed, out)
    }
}

/// Finds the type of a record that was opened, which follows its data, before its padding of zeros.
fn judge(record: u64, consumed: usize, inner: &[u8]) -> Result<Opened, TlsRecordError> {
    let typed = inner.iter().rposition(|byte| *byte != 0);
    // The type is decided on one read: the memory can be that of other processes, too.
    let Some((len, kind)) = typed.map(|at| (at, inner[at])) else {
        return Err(TlsRecordError::Malformed { record });
    };
    match (kind, &inner[..len]) {
        (DATA, _) => Ok(Opened::Data { consumed, len }),
        // The level of an alert has no meaning in TLS 1.3.
        (ALERT, &[_, alert]) => match Alert(alert) {
            Alert::CLOSE_NOTIFY => Ok(Opened::Closed { consumed }),
            alert => Err(TlsRecordError::Alert(alert)),
        },
        (HANDSHAKE, &[message, ..]) => Err(TlsRecordError::Handshake { record, message }),
        (ALERT | HANDSHAKE, _) => Err(TlsRecordError::Malformed { record }),
        (kind, _) => Err(TlsRecordError::UnexpectedType { record, kind }),
    }
}

impl TlsRecordError {
    /// Alert that explains this failure to the peer. `None` if nothing is to be sent, because the
    /// peer has ended the connection itself.
    pub fn alert(self) -> Option<Alert> {
        match self {
            Self::UnexpectedType { .. } | Self::Handshake { .. } | Self::Malformed { .. } => {
                Some(Alert::UNEXPECTED_MESSAGE)
            }
            Self::Length { len, .. } if len > TAG_LEN => Some(Alert::RECORD_OVERFLOW),
            Self::Length { .. } => Some(Alert::DECODE_ERROR),
            Self::Forged { .. } => Some(Alert::BAD_RECORD_MAC),
            Self::Exhausted => Some(Alert::CLOSE_NOTIFY),
            Self::Alert(_) | Self::Ended => None,
        }
    }
}

impl fmt::Display for TlsRecordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::UnexpectedType { record, kind } => {
                write!(
                    f,
                    "TLS record {record} is of type {kind}; only data and alerts may come"
                )
            }
            Self::Length { record, len } => write!(
                f,
                "TLS record {record} announces {len} bytes, but has {} to {}",
                TAG_LEN + 1,
                MAX_RECORD_LEN - HEADER_LEN
            ),
            Self::Forged { record } => {
                write!(
                    f,
                    "TLS record {record} was changed, moved or repeated on its way"
                )
            }
            Self::Malformed { record } => write!(f, "TLS record {record} has no valid content"),
            Self::Handshake { record, message } => match message {
                KEY_UPDATE => write!(
                    f,
                    "TLS record {record} changes the key (KeyUpdate); a connection for data keeps \
                     its key and is replaced"
                ),
                _ => write!(f, "TLS record {record} has the handshake message {message}"),
            },
            Self::Alert(alert) => write!(f, "the other machine has ended the connection: {alert}"),
            Self::Exhausted => {
                write!(
                    f,
                    "the connection has used its key for {MAX_TLS_RECORDS} TLS records"
                )
            }
            Self::Ended => f.write_str("the TLS connection has ended"),
        }
    }
}

impl std::error::Error for TlsRecordError {}

impl fmt::Debug for TlsWriter {
    /// Prints no key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sequence = self.0.sequence;
        f.debug_struct("TlsWriter")
            .field("sequence", &sequence)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for TlsReader {
    /// Prints no key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsReader")
            .field("sequence", &self.direction.sequence)
            .field("has_ended", &self.has_ended)
            .finish_non_exhaustive()
    }
}
