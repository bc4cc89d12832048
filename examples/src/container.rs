//! The blocks of a pipe in a file: the virtual tape in its first form.
//!
//! ```text
//!   header | block header, payload | block header, payload | ... | end mark
//!
//!   header        magic "DPFRAMES"  version u16  flags u16  buffer size u32  salt [32]  CRC32 of all before
//!   block header  payload length u32  plain length u32  codec u8  sealed u8  class u8  0 u8  number u64
//!                 CRC32 of all before  CRC32 of the payload
//!   end mark      0xffff_ffff u32  number of blocks u64  CRC32 of all before
//! ```
//!
//! All numbers are little endian. The checksums find damage, not malice. The end mark is not authenticated, so
//! somebody who cuts an encrypted archive short and writes a new one is not found out here: what reads the content
//! has to know where that ends. No other reader of this form is foreseen.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, ErrorKind, Read, Write};
use std::path::Path;

use datapipe::limits::{MAX_BUFFER_SIZE, MIN_BUFFER_SIZE};
use datapipe::prelude::*;
use datapipe::stage::SALT_LEN;

const MAGIC: [u8; 8] = *b"DPFRAMES";
const VERSION: u16 = 1;
/// Flag: every block is sealed, with a key derived from the salt.
const ENCRYPTED: u16 = 1;
const HEADER_LEN: usize = 8 + 2 + 2 + 4 + SALT_LEN + 4;
const BLOCK_HEADER_LEN: usize = 28;
const END_MARK_LEN: usize = 16;
/// Stands where a block's header has its payload length.
const END: u32 = u32::MAX;
/// What sealing adds to a block.
const TAG_LEN: u32 = 16;

/// What is true of a whole archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Payload of the writer's buffers; a reader's must not be smaller.
    pub buffer_size: u32,
    /// The salt of the key, if the blocks are encrypted.
    pub salt: Option<[u8; SALT_LEN]>,
}

impl Header {
    fn to_bytes(self) -> Vec<u8> {
        let flags = if self.salt.is_some() { ENCRYPTED } else { 0 };
        let mut bytes = Vec::with_capacity(HEADER_LEN);
        bytes.extend(MAGIC);
        bytes.extend(VERSION.to_le_bytes());
        bytes.extend(flags.to_le_bytes());
        bytes.extend(self.buffer_size.to_le_bytes());
        bytes.extend(self.salt.unwrap_or_default());
        checked(bytes)
    }

    fn parse(bytes: [u8; HEADER_LEN]) -> Result<Self, String> {
        let mut fields = Fields(&bytes);
        if fields.take() != MAGIC {
            return Err("is not an archive of disk_to_tape".to_owned());
        }
        if !is_whole(&bytes) {
            return Err("has a damaged header".to_owned());
        }
        let (version, flags) = (u16::from_le_bytes(fields.take()), u16::from_le_bytes(fields.take()));
        if version != VERSION || flags & !ENCRYPTED != 0 {
            return Err(format!(
                "has version {version} and flags {flags:#x}, which this program does not know"
            ));
        }
        let buffer_size = u32::from_le_bytes(fields.take());
        if !(MIN_BUFFER_SIZE..=MAX_BUFFER_SIZE).contains(&buffer_size) {
            let legal = format!("{MIN_BUFFER_SIZE} to {MAX_BUFFER_SIZE}");
            return Err(format!("says that its blocks have {buffer_size} bytes, but {legal} are possible"));
        }
        let salt = fields.take();
        Ok(Self { buffer_size, salt: (flags & ENCRYPTED != 0).then_some(salt) })
    }
}

/// What stands before each payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct BlockHeader {
    payload_len: u32,
    plain_len: u32,
    codec: Codec,
    sealed: bool,
    class: ContentClass,
    number: u64,
    payload_crc: u32,
}

impl BlockHeader {
    fn to_bytes(self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(BLOCK_HEADER_LEN);
        bytes.extend(self.payload_len.to_le_bytes());
        bytes.extend(self.plain_len.to_le_bytes());
        bytes.extend([self.codec.0, self.sealed.into(), self.class.0, 0]);
        bytes.extend(self.number.to_le_bytes());
        let mut bytes = checked(bytes);
        bytes.extend(self.payload_crc.to_le_bytes());
        bytes
    }

    /// Checks everything that can be told without the payload: nothing is read or kept because of a wrong length.
    fn parse(bytes: [u8; BLOCK_HEADER_LEN], header: &Header, expected: u64) -> Result<Self, String> {
        let (checked, payload_crc) = bytes.split_at(BLOCK_HEADER_LEN - 4);
        if !is_whole(checked) {
            return Err("its header is damaged".to_owned());
        }
        let mut fields = Fields(checked);
        let (payload_len, plain_len) = (u32::from_le_bytes(fields.take()), u32::from_le_bytes(fields.take()));
        let [codec, sealed, class, _] = fields.take();
        let number = u64::from_le_bytes(fields.take());
        let payload_crc = u32::from_le_bytes(Fields(payload_crc).take());
        if number != expected {
            return Err(format!("block {number} stands in its place"));
        }
        if (sealed != 0) != header.salt.is_some() {
            return Err("it is encrypted and the archive is not, or the other way round".to_owned());
        }
        let longest = header.buffer_size + if sealed != 0 { TAG_LEN } else { 0 };
        if payload_len == 0 || payload_len > longest || plain_len > header.buffer_size {
            return Err(format!(
                "it has {payload_len} bytes, {plain_len} uncompressed, but buffers of {} bytes were used",
                header.buffer_size
            ));
        }
        let (codec, class, sealed) = (Codec(codec), ContentClass(class), sealed != 0);
        Ok(Self { payload_len, plain_len, codec, sealed, class, number, payload_crc })
    }
}

/// Writes blocks to a file, and at the end of the stream what makes it a whole archive.
#[derive(Debug)]
pub struct Writer {
    file: BufWriter<File>,
    header: Header,
    position: u64,
    blocks: u64,
}

impl Writer {
    /// Writes the header to an empty file.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    pub fn new(file: File, header: Header) -> Result<Self, StageError> {
        let mut writer = Self { file: BufWriter::new(file), header, position: 0, blocks: 0 };
        writer.append(&header.to_bytes())?;
        Ok(writer)
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), StageError> {
        self.file.write_all(bytes).map_err(|error| self.failed(&error))?;
        self.position += bytes.len() as u64;
        Ok(())
    }

    fn failed(&self, error: &io::Error) -> StageError {
        StageError::new(format!("cannot write block {} at byte {}: {error}", self.blocks, self.position))
    }
}

impl Tail for Writer {
    fn name(&self) -> &str {
        "file-tail"
    }

    fn write(&mut self, block: &Block) -> Result<(), StageError> {
        let info = block.info();
        let header = BlockHeader {
            payload_len: u32::try_from(block.len())?,
            plain_len: info.plain_len,
            codec: info.codec,
            sealed: info.sealed,
            class: info.class,
            number: block.number(),
            payload_crc: crc32fast::hash(block.bytes()),
        };
        // What is written here must be what a reader accepts, or the backup is none.
        let mut bytes = [0; BLOCK_HEADER_LEN];
        bytes.copy_from_slice(&header.to_bytes());
        BlockHeader::parse(bytes, &self.header, self.blocks)
            .map_err(|what| StageError::new(format!("block {} cannot be stored: {what}", self.blocks)))?;
        self.append(&bytes)?;
        self.append(block.bytes())?;
        self.blocks += 1;
        Ok(())
    }

    fn finish(&mut self) -> Result<(), StageError> {
        let mut mark = END.to_le_bytes().to_vec();
        mark.extend(self.blocks.to_le_bytes());
        self.append(&checked(mark))?;
        let stored = self.file.flush().and_then(|()| self.file.get_ref().sync_all());
        stored.map_err(|error| self.failed(&error))
    }
}

/// Reads the blocks of an archive.
#[derive(Debug)]
pub struct Reader {
    file: BufReader<File>,
    header: Header,
    position: u64,
    blocks: u64,
}

impl Reader {
    /// Opens an archive and reads its header.
    ///
    /// # Errors
    ///
    /// If it cannot be read, or is none.
    pub fn open(path: &Path) -> Result<Self, StageError> {
        let about = |what: String| StageError::new(format!("{path:?} {what}"));
        let file = File::open(path).map_err(|error| about(format!("cannot be opened: {error}")))?;
        let mut file = BufReader::new(file);
        let mut bytes = [0; HEADER_LEN];
        file.read_exact(&mut bytes).map_err(|error| match error.kind() {
            ErrorKind::UnexpectedEof => about("is too short to be an archive".to_owned()),
            _ => about(format!("cannot be read: {error}")),
        })?;
        let header = Header::parse(bytes).map_err(about)?;
        Ok(Self { file, header, position: HEADER_LEN as u64, blocks: 0 })
    }

    /// What is true of the whole archive.
    pub fn header(&self) -> Header {
        self.header
    }

    /// The header of the next block; `None` behind the last.
    fn next_header(&mut self) -> Result<Option<BlockHeader>, StageError> {
        let mut bytes = [0; BLOCK_HEADER_LEN];
        read(&mut self.file, &mut bytes[..4]).map_err(|error| self.failed(&error))?;
        if u32::from_le_bytes(Fields(&bytes).take()) == END {
            read(&mut self.file, &mut bytes[4..END_MARK_LEN]).map_err(|error| self.failed(&error))?;
            self.check_end(&bytes[..END_MARK_LEN])?;
            return Ok(None);
        }
        read(&mut self.file, &mut bytes[4..]).map_err(|error| self.failed(&error))?;
        let header = BlockHeader::parse(bytes, &self.header, self.blocks);
        Ok(Some(header.map_err(|what| self.damaged(&what))?))
    }

    fn check_end(&mut self, mark: &[u8]) -> Result<(), StageError> {
        let count = u64::from_le_bytes(Fields(&mark[4..]).take());
        if !is_whole(mark) {
            return Err(self.damaged("its header is damaged"));
        }
        if count != self.blocks {
            return Err(self.damaged(&format!("the archive should end behind block {count}")));
        }
        match self.file.read(&mut [0]) {
            Ok(0) => Ok(()),
            Ok(_) => Err(self.damaged("there is more behind the archive's end")),
            Err(error) => Err(self.failed(&error)),
        }
    }

    fn damaged(&self, what: &str) -> StageError {
        StageError::new(format!("damaged: block {} at byte {}: {what}", self.blocks, self.position))
    }

    fn failed(&self, error: &io::Error) -> StageError {
        StageError::new(match error.kind() {
            ErrorKind::UnexpectedEof => {
                format!("cut off: {} blocks read, the archive is incomplete", self.blocks)
            }
            _ => format!("cannot read block {} at byte {}: {error}", self.blocks, self.position),
        })
    }
}

impl Head for Reader {
    fn name(&self) -> &str {
        "file-head"
    }

    fn fill(&mut self, block: &mut Block) -> Result<Fill, StageError> {
        let Some(header) = self.next_header()? else {
            return Ok(Fill::End);
        };
        let payload = block.grow(header.payload_len as usize)?;
        read(&mut self.file, payload).map_err(|error| self.failed(&error))?;
        if crc32fast::hash(payload) != header.payload_crc {
            return Err(self.damaged("its checksum is wrong"));
        }
        let mut info = block.info();
        info.plain_len = header.plain_len;
        info.codec = header.codec;
        info.sealed = header.sealed;
        info.class = header.class;
        block.set_info(info);
        self.position += BLOCK_HEADER_LEN as u64 + u64::from(header.payload_len);
        self.blocks += 1;
        Ok(Fill::Block)
    }
}

fn read(file: &mut BufReader<File>, bytes: &mut [u8]) -> io::Result<()> {
    file.read_exact(bytes)
}

/// Appends the checksum of what is there.
fn checked(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.extend(crc32fast::hash(&bytes).to_le_bytes());
    bytes
}

/// Whether the last four bytes are the checksum of those before.
fn is_whole(bytes: &[u8]) -> bool {
    bytes.split_last_chunk().is_some_and(|(before, crc)| crc32fast::hash(before) == u32::from_le_bytes(*crc))
}

/// Bytes of a header, taken from the front.
struct Fields<'b>(&'b [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let (field, rest) = self.0.split_first_chunk().expect("the fields of a header add up to its length");
        self.0 = rest;
        *field
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: Header = Header { buffer_size: 4096, salt: None };

    fn block(payload_len: u32, plain_len: u32) -> BlockHeader {
        let (codec, class) = (Codec::ZSTD, ContentClass::TEXT);
        BlockHeader { payload_len, plain_len, codec, sealed: false, class, number: 3, payload_crc: 9 }
    }

    fn parse(block: BlockHeader, header: Header) -> Result<BlockHeader, String> {
        BlockHeader::parse(block.to_bytes().try_into().unwrap(), &header, 3)
    }

    #[test]
    fn headers_come_back() {
        for header in [HEADER, Header { salt: Some([7; SALT_LEN]), ..HEADER }] {
            assert_eq!(Header::parse(header.to_bytes().try_into().unwrap()), Ok(header));
        }
        assert_eq!(parse(block(4096, 4096), HEADER), Ok(block(4096, 4096)));
    }

    #[test]
    fn lengths_that_do_not_fit_a_buffer_are_refused() {
        let sealed = Header { salt: Some([0; SALT_LEN]), ..HEADER };
        assert!(parse(block(4097, 0), HEADER).is_err());
        assert!(parse(block(1, 4097), HEADER).is_err());
        assert!(parse(block(0, 0), HEADER).is_err());
        assert!(parse(BlockHeader { sealed: true, ..block(4112, 0) }, sealed).is_ok());
        assert!(parse(BlockHeader { sealed: true, ..block(4113, 0) }, sealed).is_err());
        for buffer_size in [MIN_BUFFER_SIZE - 1, MAX_BUFFER_SIZE + 1] {
            let bytes = Header { buffer_size, salt: None }.to_bytes();
            assert!(Header::parse(bytes.try_into().unwrap()).is_err());
        }
    }
}
