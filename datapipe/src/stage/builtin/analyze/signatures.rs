//! First bytes of formats, from the formats' own specifications.

use crate::pool::ContentClass;

const EXECUTABLE: ContentClass = ContentClass::EXECUTABLE;
const IMAGE: ContentClass = ContentClass::IMAGE;
const AUDIO: ContentClass = ContentClass::AUDIO;
const VIDEO: ContentClass = ContentClass::VIDEO;
const COMPRESSED: ContentClass = ContentClass::COMPRESSED;
const ENCRYPTED: ContentClass = ContentClass::ENCRYPTED;

/// A format's class, and the byte strings that must all be present, each with its offset.
type Signature = (ContentClass, &'static [(usize, &'static [u8])]);

/// Formats recognised by fixed bytes. The first match counts.
const SIGNATURES: &[Signature] = &[
    (EXECUTABLE, &[(0, b"\x7fELF")]),
    (EXECUTABLE, &[(0, b"\xce\xfa\xed\xfe")]), // Mach-O, 32 bits, little-endian
    (EXECUTABLE, &[(0, b"\xcf\xfa\xed\xfe")]), // Mach-O, 64 bits, little-endian
    (EXECUTABLE, &[(0, b"\xfe\xed\xfa\xce")]), // Mach-O, 32 bits, big-endian
    (EXECUTABLE, &[(0, b"\xfe\xed\xfa\xcf")]), // Mach-O, 64 bits, big-endian
    (EXECUTABLE, &[(0, b"\0asm"), (5, b"\0\0\0")]), // WebAssembly
    (EXECUTABLE, &[(0, b"dex\n03"), (7, b"\0")]), // Dalvik
    (EXECUTABLE, &[(0, b"BC\xc0\xde")]),       // LLVM bitcode
    (IMAGE, &[(0, b"\x89PNG\r\n\x1a\n")]),
    (IMAGE, &[(0, b"\xff\xd8\xff")]), // JPEG
    (IMAGE, &[(0, b"GIF87a")]),
    (IMAGE, &[(0, b"GIF89a")]),
    (IMAGE, &[(0, b"II*\0")]), // TIFF
    (IMAGE, &[(0, b"MM\0*")]),
    (IMAGE, &[(0, b"II+\0\x08\0\0\0")]), // BigTIFF
    (IMAGE, &[(0, b"MM\0+\0\x08\0\0")]),
    (IMAGE, &[(0, b"RIFF"), (8, b"WEBP")]),
    // BMP: the reserved field, and the size of the next header.
    (IMAGE, &[(0, b"BM"), (6, b"\0\0\0\0"), (15, b"\0\0\0")]),
    (IMAGE, &[(0, b"8BPS\0")]),                   // Photoshop
    (IMAGE, &[(0, b"\0\0\0\x0cjP  \r\n\x87\n")]), // JPEG 2000
    (IMAGE, &[(0, b"\0\0\0\x0cJXL \r\n\x87\n")]),
    (IMAGE, &[(0, b"v/1\x01")]), // OpenEXR
    (IMAGE, &[(0, b"qoif")]),
    (IMAGE, &[(0, b"gimp xcf ")]),
    (IMAGE, &[(0, b"AT&TFORM"), (12, b"DJV")]),
    (IMAGE, &[(0, b"DDS \x7c\0\0\0")]),
    (AUDIO, &[(0, b"RIFF"), (8, b"WAVE")]),
    (AUDIO, &[(0, b"RF64"), (8, b"WAVE")]),
    (AUDIO, &[(0, b"ID3"), (5, b"\0")]), // MP3 with a tag in front
    (VIDEO, &[(0, b"OggS"), (28, b"\x80theora")]),
    (AUDIO, &[(0, b"OggS\0")]),
    (AUDIO, &[(0, b"fLaC")]),
    (AUDIO, &[(0, b"FORM"), (8, b"AIFF")]),
    (AUDIO, &[(0, b"FORM"), (8, b"AIFC")]),
    (AUDIO, &[(0, b"MThd\0\0\0\x06")]), // MIDI
    (AUDIO, &[(0, b".snd\0\0")]),
    (AUDIO, &[(0, b"caff\0\x01")]),
    (AUDIO, &[(0, b"#!AMR")]),
    (AUDIO, &[(0, b"wvpk")]),
    (AUDIO, &[(0, b"MAC \x96\x0f")]), // Monkey's Audio 3.99
    (AUDIO, &[(0, b"DSD \x1c\0\0\0")]),
    (VIDEO, &[(0, b"RIFF"), (8, b"AVI ")]),
    (VIDEO, &[(0, b"\x1a\x45\xdf\xa3")]), // Matroska, WebM
    (VIDEO, &[(0, b"\0\0\x01\xba")]),     // MPEG program stream
    (VIDEO, &[(0, b"\0\0\x01\xb3")]),     // MPEG video sequence
    (VIDEO, &[(0, b"FLV\x01")]),
    (VIDEO, &[(0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11")]), // ASF: WMV, WMA
    (VIDEO, &[(4, b"moov")]),                             // QuickTime before brands
    (VIDEO, &[(4, b"mdat")]),
    (COMPRESSED, &[(0, b"\x1f\x8b\x08")]),     // gzip
    (COMPRESSED, &[(0, b"\x28\xb5\x2f\xfd")]), // zstd
    (COMPRESSED, &[(0, b"\xfd7zXZ\0")]),
    (COMPRESSED, &[(0, b"BZh"), (4, b"1AY&SY")]),
    (COMPRESSED, &[(0, b"\x04\x22\x4d\x18")]), // lz4 frame
    (COMPRESSED, &[(0, b"\x02\x21\x4c\x18")]), // lz4, before frames
    (COMPRESSED, &[(0, b"PK\x03\x04")]),       // zip, docx, jar
    (COMPRESSED, &[(0, b"7z\xbc\xaf\x27\x1c")]),
    (COMPRESSED, &[(0, b"Rar!\x1a\x07")]),
    (COMPRESSED, &[(0, b"LZIP\x01")]),
    (
        COMPRESSED,
        &[(0, b"\x5d\0\0"), (5, b"\xff\xff\xff\xff\xff\xff\xff\xff")],
    ), // LZMA of unknown length
    (COMPRESSED, &[(0, b"\x89LZO\0\r\n\x1a\n")]),
    (COMPRESSED, &[(0, b"\x1f\x9d\x90")]), // compress
    (COMPRESSED, &[(0, b"\xff\x06\0\0sNaPpY")]),
    (COMPRESSED, &[(0, b"MSCF\0\0\0\0")]), // cabinet
    (COMPRESSED, &[(0, b"hsqs")]),         // squashfs
    (COMPRESSED, &[(0, b"wOFF")]),
    (COMPRESSED, &[(0, b"wOF2")]),
    (COMPRESSED, &[(0, b"PACK\0\0\0\x02")]), // git
    (ENCRYPTED, &[(0, b"age-encryption.org/v1\n")]),
    (ENCRYPTED, &[(0, b"-----BEGIN AGE ENCRYPTED FILE-----")]),
    (ENCRYPTED, &[(0, b"-----BEGIN PGP MESSAGE-----")]),
    (ENCRYPTED, &[(0, b"LUKS\xba\xbe")]),
    (ENCRYPTED, &[(0, b"SKUL\xba\xbe")]), // the second header of LUKS2
    (ENCRYPTED, &[(0, b"Salted__")]),     // openssl enc
    (ENCRYPTED, &[(0, b"\x03\xd9\xa2\x9a"), (5, b"\xfb\x4b\xb5")]), // KeePass
    (ENCRYPTED, &[(3, b"-FVE-FS-")]),     // BitLocker
];

/// A function that recognises a format by more than fixed bytes.
type Recogniser = fn(&[u8]) -> Option<ContentClass>;

/// Formats that need a recogniser.
const RECOGNISERS: &[Recogniser] = &[
    utf16,
    portable_executable,
    fat_or_java,
    branded,
    openpgp,
    transport_stream,
    frame_sync,
    icon,
];

/// Class that the first bytes of `data` indicate, if any.
pub(super) fn by_signature(data: &[u8]) -> Option<ContentClass> {
    let there =
        |&(at, bytes): &(usize, &[u8])| data.get(at..).is_some_and(|rest| rest.starts_with(bytes));
    let known = SIGNATURES
        .iter()
        .find(|(_, parts)| parts.iter().all(there))
        .map(|&(class, _)| class);
    known.or_else(|| RECOGNISERS.iter().find_map(|recognise| recognise(data)))
}

/// UTF-16 after a byte order mark, if its first units are text.
fn utf16(data: &[u8]) -> Option<ContentClass> {
    let unit: fn([u8; 2]) -> u16 = match data.first_chunk()? {
        [0xff, 0xfe] => u16::from_le_bytes,
        // This mark means big endian on every machine.
        [0xfe, 0xff] => |[high, low]| u16::from_le_bytes([low, high]),
        _ => return None,
    };
    let (pairs, _) = data[2..data.len().min(1026)].as_chunks();
    let (last, whole) = (
        pairs.len().checked_sub(1)?,
        pairs.iter().map(|&pair| unit(pair)),
    );
    // The last unit may be the first half of a pair.
    char::decode_utf16(whole)
        .enumerate()
        .all(|(n, unit)| unit.map_or(n >= last / 2, |c| !c.is_control() || c.is_whitespace()))
        .then_some(ContentClass::TEXT)
}

/// PE, and its ancestors NE and LE: the DOS header has the offset of their own header.
fn portable_executable(data: &[u8]) -> Option<ContentClass> {
    let at = data.strip_prefix(b"MZ")?.get(58..)?.first_chunk()?;
    let header = data.get(u32::from_le_bytes(*at) as usize..)?;
    [&b"PE\0\0"[..], b"NE", b"LE"]
        .iter()
        .any(|magic| header.starts_with(magic))
        .then_some(EXECUTABLE)
}

/// A Mach-O file for several processors, or a Java class. They begin alike; the number that follows
/// is the count of processors, at most a few, or the class version, at least 45.
fn fat_or_java(data: &[u8]) -> Option<ContentClass> {
    let [_, _, _, count] = data.strip_prefix(b"\xca\xfe\xba\xbe")?.first_chunk()?;
    (*count > 0).then_some(EXECUTABLE)
}

/// ISO base media files, classified by their brand.
fn branded(data: &[u8]) -> Option<ContentClass> {
    let brand: &[u8; 4] = data.get(4..)?.strip_prefix(b"ftyp")?.first_chunk()?;
    Some(match brand {
        b"heic" | b"heix" | b"heim" | b"heis" | b"hevc" | b"hevx" | b"mif1" | b"msf1" | b"avif"
        | b"avis" | b"crx " => IMAGE,
        b"M4A " | b"M4B " | b"M4P " | b"F4A " | b"F4B " => AUDIO,
        _ => VIDEO,
    })
}

/// An OpenPGP message (RFC 9580). It begins with a packet that has the session key, encrypted for a
/// public key (tag 1) or with a passphrase (tag 3).
fn openpgp(data: &[u8]) -> Option<ContentClass> {
    let (tag, body) = match *data.first_chunk::<4>()? {
        [first @ 0x84..=0x8f, ..] if first & 3 < 3 => {
            ((first >> 2) & 15, data.get(1 + (1 << (first & 3))..)?)
        }
        [first @ 0xc1..=0xc3, 0..=191, ..] => (first & 63, &data[2..]),
        [first @ 0xc1..=0xc3, 192..=223, ..] => (first & 63, &data[3..]),
        _ => return None,
    };
    let known = match (tag, body) {
        // Version 3, key id, algorithm.
        (1, [3, _, _, _, _, _, _, _, _, 1 | 2 | 16 | 18 | 25 | 26, ..]) => true,
        (1, [6, 0 | 21 | 33, ..]) => true,
        // Version 4, cipher, key derivation (string-to-key), hash.
        (3, [4, 1..=13, 0 | 1 | 3, 1..=14, ..] | [4, 1..=13, 4, ..]) => true,
        (3, [5 | 6, _, 1..=13, 1..=3, ..]) => true,
        _ => false,
    };
    known.then_some(ENCRYPTED)
}

/// MPEG transport streams: a packet begins every 188 bytes, or every 192 with four bytes before
/// each.
fn transport_stream(data: &[u8]) -> Option<ContentClass> {
    let every =
        |first: usize, step: usize| (0..4).all(|n| data.get(first + n * step) == Some(&0x47));
    (every(0, 188) || every(4, 192)).then_some(VIDEO)
}

/// MPEG audio and AAC in ADTS: a frame header, and another one at the offset at which, according to
/// the first, the next frame begins.
fn frame_sync(data: &[u8]) -> Option<ContentClass> {
    let len = frame_len(data)?;
    frame_len(data.get(len..)?)?;
    Some(AUDIO)
}

/// Length in bytes of the frame of MPEG audio (layers 1 to 3) or ADTS at the start of `data`.
///
/// The tables have bit rates in kbit/s, indexed by the high four bits of the header's third byte:
/// one table per layer for MPEG 1, and two for MPEG 2 and 2.5 (`LOW_1` for layer 1, `LOW_2` for
/// layers 2 and 3). The length of a frame follows from its number of samples, the bit rate and the
/// sample rate.
fn frame_len(data: &[u8]) -> Option<usize> {
    const LAYER_1: [usize; 15] = [
        0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448,
    ];
    const LAYER_2: [usize; 15] = [
        0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384,
    ];
    const LAYER_3: [usize; 15] = [
        0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320,
    ];
    const LOW_1: [usize; 15] = [
        0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256,
    ];
    const LOW_2: [usize; 15] = [0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160];
    let &[0xff, kind, rates, extra] = data.first_chunk()? else {
        return None;
    };
    if kind & 0xf6 == 0xf0 {
        let [high, low] = data.get(4..)?.first_chunk()?;
        let len = usize::from(extra & 3) << 11 | usize::from(*high) << 3 | usize::from(*low >> 5);
        return (rates >> 2 & 15 < 13 && len > 7).then_some(len);
    }
    // In these fields version 3 means MPEG 1, and layer 3 means layer 1.
    let (version, layer) = (kind >> 3 & 3, kind >> 1 & 3);
    if kind & 0xe0 != 0xe0 || version == 1 || layer == 0 {
        return None;
    }
    let first = version == 3;
    let table = match (first, layer) {
        (true, 3) => &LAYER_1,
        (true, 2) => &LAYER_2,
        (true, _) => &LAYER_3,
        (false, 3) => &LOW_1,
        (false, _) => &LOW_2,
    };
    let bits = 1000
        * *table
            .get(usize::from(rates >> 4))
            .filter(|&&rate| rate > 0)?;
    let full = *[44_100, 48_000, 32_000].get(usize::from(rates >> 2 & 3))?;
    let samples_per_second = [full / 4, full, full / 2, full][usize::from(version)];
    let padding = usize::from(rates >> 1 & 1);
    Some(match (layer, first) {
        (3, _) => (12 * bits / samples_per_second + padding) * 4,
        (1, false) => 72 * bits / samples_per_second + padding,
        _ => 144 * bits / samples_per_second + padding,
    })
}

/// An icon or a cursor: the number of pictures, and the first entry of its directory, which has a
/// reserved zero byte and whose picture begins directly after the directory.
fn icon(data: &[u8]) -> Option<ContentClass> {
    let ([0, 0, 1 | 2, 0, count @ 1..=64, 0], entry) = data.split_first_chunk()? else {
        return None;
    };
    let at = u32::from_le_bytes(*entry.get(12..)?.first_chunk()?);
    (entry[3] == 0 && at == 6 + 16 * u32::from(*count)).then_some(IMAGE)
}
