//! Names, modes, times and counts as text for people. Each of them is one line without control
//! characters, so that it cannot send commands to a terminal.

use datapipe::wire::{ObjectKind, Time};

/// Formats a name of arbitrary bytes as one line. Printable characters stay unchanged, a backslash
/// is doubled, a control character is escaped as in Rust (`\n`, `\u{1b}`), and a byte that is not
/// UTF-8 is written as `\xff`.
pub fn escape(name: &[u8]) -> String {
    let mut text = String::with_capacity(name.len());
    for chunk in name.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\\' => text.push_str("\\\\"),
                _ => push_printable(&mut text, c),
            }
        }
        for byte in chunk.invalid() {
            text += &format!("\\x{byte:02x}");
        }
    }
    text
}

/// Escapes the control characters of a message for a terminal. Line ends and backslashes stay
/// unchanged, so that names that are escaped already are not escaped again.
pub fn escape_controls(message: &str) -> String {
    let mut text = String::with_capacity(message.len());
    for c in message.chars() {
        match c {
            '\n' => text.push(c),
            _ => push_printable(&mut text, c),
        }
    }
    text
}

/// Appends a character, escaped if it is not printable: a control character, or one that has no
/// width or changes the direction of the text.
fn push_printable(text: &mut String, c: char) {
    match c {
        '\\' | '\'' | '"' => text.push(c),
        _ if c.is_ascii() => text.extend(c.escape_debug()),
        // A combining accent is printable only after a letter.
        _ => text.extend(format!("a{c}").escape_debug().skip(1)),
    }
}

/// Formats an object's kind and mode as `ls -l` does. A further name of a file begins with `h`, as
/// in tar.
pub fn format_mode(kind: ObjectKind, mode: u32) -> String {
    let kind = match kind {
        ObjectKind::File => '-',
        ObjectKind::Directory => 'd',
        ObjectKind::Symlink => 'l',
        ObjectKind::HardLink => 'h',
        ObjectKind::Fifo => 'p',
        ObjectKind::CharacterDevice => 'c',
        ObjectKind::BlockDevice => 'b',
    };
    let mut text = String::from(kind);
    for (shift, special, set, unset) in [
        (6, 0o4000, 's', 'S'),
        (3, 0o2000, 's', 'S'),
        (0, 0o1000, 't', 'T'),
    ] {
        let bit = |bit: u32, c| if mode >> shift & bit != 0 { c } else { '-' };
        text.push(bit(4, 'r'));
        text.push(bit(2, 'w'));
        text.push(match (mode & special != 0, mode >> shift & 1 != 0) {
            (false, _) => bit(1, 'x'),
            (true, true) => set,
            (true, false) => unset,
        });
    }
    text
}

/// Formats a time in UTC, to the minute.
pub fn format_minute(time: Time) -> String {
    let (days, second) = (
        time.seconds.div_euclid(86_400),
        time.seconds.rem_euclid(86_400),
    );
    // The algorithm is civil_from_days of Hinnant, "chrono-compatible low-level date algorithms".
    // Years begin in March, so that the leap day is the last day of a year. An era has 400 years,
    // and day 0 of era 0 is 0000-03-01.
    let days = days + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{day:02} {:02}:{:02}",
        second / 3600,
        second / 60 % 60
    )
}

/// Formats a count with its noun: `1 file`, `2 files`.
pub fn count_of(n: u64, singular: &str, plural: &str) -> String {
    format!("{n} {}", if n == 1 { singular } else { plural })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_one_line_without_control_characters() {
        for (name, expected) in [
            (
                &b"plain name, 'quoted' \"twice\""[..],
                "plain name, 'quoted' \"twice\"",
            ),
            ("Grüße e\u{301} 日本".as_bytes(), "Grüße e\u{301} 日本"),
            (b"two\nlines\t\x1b[31m\0", "two\\nlines\\t\\u{1b}[31m\\0"),
            (b"back\\slash", "back\\\\slash"),
            (b"\xff\xfe x", "\\xff\\xfe x"),
            (
                "\u{202e}gpj.exe\u{200b}\u{9b}".as_bytes(),
                "\\u{202e}gpj.exe\\u{200b}\\u{9b}",
            ),
        ] {
            assert_eq!(escape(name), expected);
        }
        assert_eq!(
            escape_controls("a\\xff\n  b\x1b[0m\r"),
            "a\\xff\n  b\\u{1b}[0m\\r"
        );
    }

    #[test]
    fn modes_are_formatted_like_ls() {
        for (kind, mode, text) in [
            (ObjectKind::File, 0o644, "-rw-r--r--"),
            (ObjectKind::Directory, 0o1777, "drwxrwxrwt"),
            (ObjectKind::File, 0o4755, "-rwsr-xr-x"),
            (ObjectKind::File, 0o7000, "---S--S--T"),
            (ObjectKind::Symlink, 0o777, "lrwxrwxrwx"),
            (ObjectKind::HardLink, 0o2710, "hrwx--s---"),
        ] {
            assert_eq!(format_mode(kind, mode), text);
        }
    }

    #[test]
    fn dates_are_formatted_in_utc() {
        for (seconds, text) in [
            (0, "1970-01-01 00:00"),
            (-1, "1969-12-31 23:59"),
            (951_782_399, "2000-02-28 23:59"),
            (951_782_400, "2000-02-29 00:00"),
            (951_868_800, "2000-03-01 00:00"),
            (4_107_542_400, "2100-03-01 00:00"),
            (1_795_208_640, "2026-11-20 21:04"),
            (-62_167_219_200, "0000-01-01 00:00"),
        ] {
            assert_eq!(
                format_minute(Time {
                    seconds,
                    nanoseconds: 0
                }),
                text
            );
        }
        // A medium may hold any time.
        for seconds in [i64::MIN, i64::MAX] {
            assert!(
                !format_minute(Time {
                    seconds,
                    nanoseconds: 0
                })
                .is_empty()
            );
        }
    }
}
