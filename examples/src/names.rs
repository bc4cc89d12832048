//! Names, modes and times for people: nothing of them reaches a terminal as a command, and each
//! stays on one line.

use datapipe::wire::{ObjectKind, Time};

/// A name in any bytes as one line. What can be shown stays as it is; a backslash becomes two, a
/// control character what it is in Rust (`\n`, `\u{1b}`), and a byte that is no UTF-8 becomes
/// `\xff`.
pub fn escaped(name: &[u8]) -> String {
    let mut text = String::with_capacity(name.len());
    for chunk in name.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\\' => text.push_str("\\\\"),
                _ => push_shown(&mut text, c),
            }
        }
        for byte in chunk.invalid() {
            text += &format!("\\x{byte:02x}");
        }
    }
    text
}

/// A message that may hold names, for a terminal. Its lines stay lines, and what is escaped in it
/// stays that.
pub fn harmless(message: &str) -> String {
    let mut text = String::with_capacity(message.len());
    for c in message.chars() {
        match c {
            '\n' => text.push(c),
            _ => push_shown(&mut text, c),
        }
    }
    text
}

/// Escapes what cannot be shown: control characters, and those that change the direction or have no
/// width.
fn push_shown(text: &mut String, c: char) {
    match c {
        '\\' | '\'' | '"' => text.push(c),
        _ if c.is_ascii() => text.extend(c.escape_debug()),
        // An accent is shown if it has something to stand on.
        _ => text.extend(format!("a{c}").escape_debug().skip(1)),
    }
}

/// An object's kind and mode as `ls -l` prints them; a further name of a file begins with `h`, as
/// in tar.
pub fn mode_string(kind: ObjectKind, mode: u32) -> String {
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

/// A time to the minute, as UTC.
pub fn minute(time: Time) -> String {
    let (days, second) = (
        time.seconds.div_euclid(86_400),
        time.seconds.rem_euclid(86_400),
    );
    // Hinnant, "chrono-compatible low-level date algorithms", civil_from_days: years begin in
    // March, eras of 400 years with day 0 of the first on 0000-03-01.
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

/// A number of things: `1 file`, `2 files`.
pub fn counted(n: u64, one: &str, more: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { more })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_one_harmless_line() {
        for (name, shown) in [
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
            assert_eq!(escaped(name), shown);
        }
        assert_eq!(harmless("a\\xff\n  b\x1b[0m\r"), "a\\xff\n  b\\u{1b}[0m\\r");
    }

    #[test]
    fn modes() {
        for (kind, mode, text) in [
            (ObjectKind::File, 0o644, "-rw-r--r--"),
            (ObjectKind::Directory, 0o1777, "drwxrwxrwt"),
            (ObjectKind::File, 0o4755, "-rwsr-xr-x"),
            (ObjectKind::File, 0o7000, "---S--S--T"),
            (ObjectKind::Symlink, 0o777, "lrwxrwxrwx"),
            (ObjectKind::HardLink, 0o2710, "hrwx--s---"),
        ] {
            assert_eq!(mode_string(kind, mode), text);
        }
    }

    #[test]
    fn dates() {
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
                minute(Time {
                    seconds,
                    nanoseconds: 0
                }),
                text
            );
        }
        // Anything may stand on a medium.
        for seconds in [i64::MIN, i64::MAX] {
            assert!(
                !minute(Time {
                    seconds,
                    nanoseconds: 0
                })
                .is_empty()
            );
        }
    }
}
