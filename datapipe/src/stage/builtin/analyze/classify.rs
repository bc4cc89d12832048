//! Classification of data by its first bytes and a sample of the rest.

use crate::pool::ContentClass;

use super::signatures::by_signature;

/// Classifies data.
///
/// Known formats are recognised by their first bytes, all other data by a sample of at most 16 KiB
/// spread over the data: text by the values of its bytes, compressed or encrypted data by their
/// entropy.
///
/// Data of more than 64 KiB is classified as compressed or encrypted only if the sample confirms
/// it, regardless of its first bytes. So a large message in ASCII armor is text: it can be
/// compressed. A tar archive has no class of its own: the sample decides.
pub fn classify(data: &[u8]) -> ContentClass {
    if data.iter().all(|&byte| byte == 0) {
        return if data.is_empty() {
            ContentClass::OTHER
        } else {
            ContentClass::ZEROS
        };
    }
    let counts = sample(data);
    let signature = by_signature(data);
    // A class that stops compression needs confirmation in large data.
    let stops = matches!(
        signature,
        Some(ContentClass::COMPRESSED | ContentClass::ENCRYPTED)
    );
    let confirmed = !stops || data.len() <= ONE_FILE || entropy(&counts) > DENSE_WITH_SIGNATURE;
    if let Some(class) = signature.filter(|_| confirmed) {
        return class;
    }
    if is_text(&counts, data) {
        ContentClass::TEXT
    } else if is_dense(&counts) {
        ContentClass::COMPRESSED
    } else {
        ContentClass::OTHER
    }
}

/// Length in bytes up to which the signature alone decides.
const ONE_FILE: usize = 64 << 10;
/// Entropy in bits per byte of a sample that confirms a signature. Compression would gain less than
/// 1 % on data as dense as that.
const DENSE_WITH_SIGNATURE: f64 = 7.95;

/// Number of pieces in a sample, and bytes in each.
const PIECES: usize = 16;
const PIECE: usize = 1024;

/// Frequency of each byte value in a sample that is spread evenly over the data.
fn sample(data: &[u8]) -> [u32; 256] {
    let mut counts = [0; 256];
    let mut count = |bytes: &[u8]| {
        bytes
            .iter()
            .for_each(|&byte| counts[usize::from(byte)] += 1)
    };
    if data.len() <= PIECES * PIECE {
        count(data);
    } else {
        let stride = (data.len() - PIECE) / (PIECES - 1);
        (0..PIECES).for_each(|piece| count(&data[piece * stride..][..PIECE]));
    }
    counts
}

/// True if the sample looks like text: no zero bytes, and at most 2 % control characters other than
/// white space. Data with more than a third of its bytes beyond ASCII is text only if it is UTF-8.
fn is_text(counts: &[u32; 256], data: &[u8]) -> bool {
    let total: u32 = counts.iter().sum();
    let control: u32 =
        counts[..32].iter().sum::<u32>() - counts[9] - counts[10] - counts[12] - counts[13];
    let high: u32 = counts[128..].iter().sum();
    counts[0] == 0 && control * 50 <= total && (high * 3 <= total || begins_as_utf8(data))
}

/// True if the first 4 KiB are UTF-8, except for characters that are cut at either end.
fn begins_as_utf8(data: &[u8]) -> bool {
    // A character has at most three continuation bytes.
    let cut = data
        .iter()
        .take(3)
        .take_while(|&&byte| byte & 0xc0 == 0x80)
        .count();
    match std::str::from_utf8(&data[cut..data.len().min(4096)]) {
        Ok(_) => true,
        Err(error) => error.error_len().is_none(),
    }
}

/// True if the bytes are so evenly distributed that no algorithm can compress them.
fn is_dense(counts: &[u32; 256]) -> bool {
    let total = f64::from(counts.iter().sum::<u32>());
    // Random bytes have an entropy of 8 bits each, and a sample of n of them is expected to show
    // 255 / (2 n ln 2) bits less. Below 4096 bytes the sample is too small to decide.
    total >= 4096.0 && entropy(counts) > 8.0 - 2.0 * 255.0 / (2.0 * total * std::f64::consts::LN_2)
}

/// Entropy in bits per byte, computed from the frequencies of the byte values.
fn entropy(counts: &[u32; 256]) -> f64 {
    let total = f64::from(counts.iter().sum::<u32>());
    let present = counts.iter().filter(|&&count| count > 0);
    present
        .map(|&count| f64::from(count) / total)
        .map(|p| -p * p.log2())
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testkit::Random;
    use ContentClass as Is;

    /// A format's name, its class, and the parts of its first 4096 bytes that are not zero, each
    /// with its offset.
    type Line = (
        &'static str,
        ContentClass,
        &'static [(usize, &'static [u8])],
    );

    #[rustfmt::skip]
    const FORMATS: &[Line] = &[
        ("zeros", Is::ZEROS, &[]),
        ("tar", Is::OTHER, &[(0, b"name"), (257, b"ustar\x0000"), (512, b"content")]),
        ("pdf", Is::OTHER, &[(0, b"%PDF-1.7\n")]),
        ("elf", Is::EXECUTABLE, &[(0, b"\x7fELF\x02\x01\x01")]),
        ("pe", Is::EXECUTABLE, &[(0, b"MZ\x90"), (60, b"\x80"), (128, b"PE\0\0")]),
        ("ne", Is::EXECUTABLE, &[(0, b"MZ"), (60, b"\x80"), (128, b"NE\x05")]),
        ("MZ alone", Is::OTHER, &[(0, b"MZ"), (60, b"\xff\xff\xff\xff")]),
        ("mach-o 64", Is::EXECUTABLE, &[(0, b"\xcf\xfa\xed\xfe")]),
        ("mach-o 32 be", Is::EXECUTABLE, &[(0, b"\xfe\xed\xfa\xce")]),
        ("mach-o fat", Is::EXECUTABLE, &[(0, b"\xca\xfe\xba\xbe\0\0\0\x02")]),
        ("java class", Is::EXECUTABLE, &[(0, b"\xca\xfe\xba\xbe\0\0\0\x41")]),
        ("wasm", Is::EXECUTABLE, &[(0, b"\0asm\x01\0\0\0")]),
        ("dex", Is::EXECUTABLE, &[(0, b"dex\n035\0")]),
        ("png", Is::IMAGE, &[(0, b"\x89PNG\r\n\x1a\n")]),
        ("jpeg", Is::IMAGE, &[(0, b"\xff\xd8\xff\xe0")]),
        ("gif", Is::IMAGE, &[(0, b"GIF89a")]),
        ("tiff le", Is::IMAGE, &[(0, b"II*\0")]),
        ("tiff be", Is::IMAGE, &[(0, b"MM\0*")]),
        ("bigtiff", Is::IMAGE, &[(0, b"II+\0\x08\0\0\0")]),
        ("webp", Is::IMAGE, &[(0, b"RIFF\x10\0\0\0WEBPVP8 ")]),
        ("bmp", Is::IMAGE, &[(0, b"BM\x46\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0")]),
        ("ico", Is::IMAGE, &[(0, b"\0\0\x01\0\x01\0\x10\x10\0\0"), (18, b"\x16")]),
        ("psd", Is::IMAGE, &[(0, b"8BPS\0\x01")]),
        ("jpeg 2000", Is::IMAGE, &[(0, b"\0\0\0\x0cjP  \r\n\x87\n")]),
        ("jpeg xl", Is::IMAGE, &[(0, b"\0\0\0\x0cJXL \r\n\x87\n")]),
        ("heic", Is::IMAGE, &[(0, b"\0\0\0\x18ftypheic")]),
        ("avif", Is::IMAGE, &[(0, b"\0\0\0\x1cftypavif")]),
        ("wave", Is::AUDIO, &[(0, b"RIFF\x10\0\0\0WAVEfmt ")]),
        ("no RIFF", Is::OTHER, &[(0, b"xxxx\x10\0\0\0WAVEfmt ")]),
        ("mp3 with tag", Is::AUDIO, &[(0, b"ID3\x04\0\0")]),
        ("mp3", Is::AUDIO, &[(0, b"\xff\xfb\x90\x64"), (417, b"\xff\xfb\x90\x64")]),
        ("mp3, low rate", Is::AUDIO, &[(0, b"\xff\xf3\x80\xc4"), (208, b"\xff\xf3\x80\xc4")]),
        ("mp2", Is::AUDIO, &[(0, b"\xff\xfd\xa4\0"), (576, b"\xff\xfd\xa4\0")]),
        ("one mp3 header", Is::OTHER, &[(0, b"\xff\xfb\x90\x64"), (418, b"\xff\xfb")]),
        ("aac", Is::AUDIO,
            &[(0, b"\xff\xf1\x50\x80\x20\x1f\xfc"), (256, b"\xff\xf1\x50\x80\x20\x1f\xfc")]),
        ("m4a", Is::AUDIO, &[(0, b"\0\0\0\x20ftypM4A ")]),
        ("ogg", Is::AUDIO, &[(0, b"OggS\0\x02"), (28, b"OpusHead")]),
        ("flac", Is::AUDIO, &[(0, b"fLaC\0")]),
        ("aiff", Is::AUDIO, &[(0, b"FORM\0\0\x10\0AIFFCOMM")]),
        ("midi", Is::AUDIO, &[(0, b"MThd\0\0\0\x06")]),
        ("theora", Is::VIDEO, &[(0, b"OggS\0\x02"), (28, b"\x80theora")]),
        ("avi", Is::VIDEO, &[(0, b"RIFF\x10\0\0\0AVI LIST")]),
        ("mp4", Is::VIDEO, &[(0, b"\0\0\0\x20ftypisom")]),
        ("quicktime", Is::VIDEO, &[(0, b"\0\0\0\x14ftypqt  ")]),
        ("matroska", Is::VIDEO, &[(0, b"\x1a\x45\xdf\xa3")]),
        ("mpeg-ps", Is::VIDEO, &[(0, b"\0\0\x01\xba\x44")]),
        ("mpeg-ts", Is::VIDEO, &[(0, b"G"), (188, b"G"), (376, b"G"), (564, b"G")]),
        ("m2ts", Is::VIDEO, &[(4, b"G"), (196, b"G"), (388, b"G"), (580, b"G")]),
        ("flv", Is::VIDEO, &[(0, b"FLV\x01\x05")]),
        ("asf", Is::VIDEO, &[(0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11")]),
        ("gzip", Is::COMPRESSED, &[(0, b"\x1f\x8b\x08")]),
        ("zstd", Is::COMPRESSED, &[(0, b"\x28\xb5\x2f\xfd")]),
        ("xz", Is::COMPRESSED, &[(0, b"\xfd7zXZ\0")]),
        ("bzip2", Is::COMPRESSED, &[(0, b"BZh91AY&SY")]),
        ("lz4", Is::COMPRESSED, &[(0, b"\x04\x22\x4d\x18")]),
        ("zip", Is::COMPRESSED, &[(0, b"PK\x03\x04\x14\0")]),
        ("7z", Is::COMPRESSED, &[(0, b"7z\xbc\xaf\x27\x1c")]),
        ("rar", Is::COMPRESSED, &[(0, b"Rar!\x1a\x07\x01\0")]),
        ("lzip", Is::COMPRESSED, &[(0, b"LZIP\x01")]),
        ("lzma", Is::COMPRESSED, &[(0, b"\x5d\0\0\x80\0\xff\xff\xff\xff\xff\xff\xff\xff")]),
        ("git pack", Is::COMPRESSED, &[(0, b"PACK\0\0\0\x02")]),
        ("age", Is::ENCRYPTED, &[(0, b"age-encryption.org/v1\n-> X25519 ")]),
        ("age, armored", Is::ENCRYPTED, &[(0, b"-----BEGIN AGE ENCRYPTED FILE-----\n")]),
        ("pgp, armored", Is::ENCRYPTED, &[(0, b"-----BEGIN PGP MESSAGE-----\n\nhQEM\n")]),
        ("pgp, public key", Is::ENCRYPTED, &[(0, b"\x85\x01\x0c\x03abcdefgh\x01")]),
        ("pgp, curve", Is::ENCRYPTED, &[(0, b"\x84\x5e\x03abcdefgh\x12")]),
        ("pgp, new format", Is::ENCRYPTED, &[(0, b"\xc1\x5e\x03abcdefgh\x12")]),
        ("pgp, passphrase", Is::ENCRYPTED, &[(0, b"\x8c\x0d\x04\x09\x03\x02")]),
        ("pgp, no version", Is::OTHER, &[(0, b"\x85\x01\x0c\x09abcdefgh\x01")]),
        ("luks", Is::ENCRYPTED, &[(0, b"LUKS\xba\xbe\0\x02")]),
        ("openssl", Is::ENCRYPTED, &[(0, b"Salted__saltsalt")]),
        ("keepass", Is::ENCRYPTED, &[(0, b"\x03\xd9\xa2\x9a\x67\xfb\x4b\xb5")]),
    ];

    #[test]
    fn formats_are_classified_by_their_first_bytes() {
        for &(name, class, parts) in FORMATS {
            let mut data = vec![0; 4096];
            parts
                .iter()
                .for_each(|(at, bytes)| data[*at..at + bytes.len()].copy_from_slice(bytes));
            assert_eq!(classify(&data), class, "{name}");
            // No prefix of the data makes it panic.
            for len in 0..700 {
                classify(&data[..len]);
            }
        }
    }

    #[test]
    fn text_is_recognised_in_every_encoding() {
        let utf16 = |text: &str, mark: [u8; 2]| -> Vec<u8> {
            let little = mark == [0xff, 0xfe];
            let bytes = |unit: u16| if little { unit } else { unit.swap_bytes() }.to_le_bytes();
            mark.into_iter()
                .chain(text.encode_utf16().flat_map(bytes))
                .collect()
        };
        assert_eq!(classify(b""), Is::OTHER);
        for (name, data) in [
            ("source", b"fn main() {}\n".to_vec()),
            ("G, as in a transport stream", b"Good morning".to_vec()),
            ("shell script", b"#!/bin/sh\nexec true\n".to_vec()),
            ("utf-8", "Grüße aus Köln, naïve café".repeat(100).into()),
            ("utf-8 with mark", "\u{feff}plain".into()),
            ("cyrillic", "Резервная копия на ленту. ".repeat(300).into()),
            (
                "cut cyrillic",
                "копия".repeat(2000).as_bytes()[1..].to_vec(),
            ),
            ("chinese", "备份到磁带".repeat(1000).into()),
            ("latin-1", b"Gr\xfc\xdfe aus K\xf6ln ".repeat(40)),
            (
                "utf-16le",
                utf16(&"Zeile 1\r\n\u{1f600}".repeat(500), [0xff, 0xfe]),
            ),
            ("utf-16be", utf16(&"Zeile 1\r\n".repeat(500), [0xfe, 0xff])),
        ] {
            assert_eq!(classify(&data), Is::TEXT, "{name}");
        }
        assert_eq!(
            classify(&[&b"\xff\xfe"[..], &[1, 0, 2, 0, 3, 0].repeat(200)].concat()),
            Is::OTHER
        );
    }

    #[test]
    fn large_block_with_signature_is_dense_only_if_its_sample_is() {
        let mut noise = vec![0; 1 << 20];
        Random::new(7).fill(&mut noise);
        for (magic, class) in [
            (&b"PK\x03\x04"[..], Is::COMPRESSED),
            (b"Salted__", Is::ENCRYPTED),
        ] {
            let mut dense = noise.clone();
            dense[..magic.len()].copy_from_slice(magic);
            assert_eq!(classify(&dense), class);
            let mut mixed = dense;
            mixed[300_000..].fill(b'x');
            assert_eq!(classify(&mixed), Is::OTHER, "{class}");
            assert_eq!(classify(&mixed[..ONE_FILE]), class);
        }
        let armored = [
            &b"-----BEGIN PGP MESSAGE-----\n"[..],
            &b"YWJj\n".repeat(ONE_FILE / 5),
        ]
        .concat();
        assert_eq!(classify(&armored), Is::TEXT);
    }

    #[test]
    fn random_bytes_are_dense_and_machine_words_are_not() {
        let mut random = vec![0; 1 << 16];
        Random::new(1).fill(&mut random);
        assert_eq!(classify(&random), ContentClass::COMPRESSED);
        assert_eq!(classify(&random[..6000]), ContentClass::COMPRESSED);
        let words: Vec<u8> = (0..1u32 << 14)
            .flat_map(|i| (i * 3).to_le_bytes())
            .collect();
        assert_eq!(classify(&words), ContentClass::OTHER);
        // Half text, half noise is worth compressing.
        let mut mixed = random[..1 << 15].to_vec();
        mixed.extend(b"text ".iter().cycle().take(1 << 15));
        assert_eq!(classify(&mixed), ContentClass::OTHER);
    }
}
