//! Escaped names and texts, and times.

use std::time::Duration;

/// Escapes a text for a terminal. Line breaks stay, and characters that are not printable are
/// escaped as in Rust: `\u{1b}`.
pub fn escaped(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\'' | '"' | '\\' => shown.push(c),
            _ if c.is_ascii() => shown.extend(c.escape_debug()),
            // `escape_debug` escapes a combining character at the beginning of a string, but not
            // after a letter.
            _ => shown.extend(format!("a{c}").escape_debug().skip(1)),
        }
    }
    shown
}

/// Escapes a text for one line of a terminal, line breaks included.
pub fn escaped_line(text: &str) -> String {
    escaped(text).replace('\n', "\\n")
}

/// First `columns` characters of a line.
pub(super) fn fitted(line: &str, columns: usize) -> String {
    line.chars().take(columns).collect()
}

/// Formats a time as `0:31` or `2:05:00`.
pub fn clock(time: Duration) -> String {
    let seconds = time.as_secs();
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 {
        format!("{hours}:{minutes:02}:{seconds:02}")
    } else {
        format!("{minutes}:{seconds:02}")
    }
}

/// Formats a time in milliseconds since 1970 as date and time in UTC: `2026-11-29T10:00:00Z`.
///
/// Years have 400 of a kind, and a year that begins in March has its leap day at its end.
pub(super) fn utc(milliseconds: u64) -> String {
    let seconds = milliseconds / 1000;
    // Days since 1 March of the year 0.
    let days = seconds / 86_400 + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let of_year = day - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    let year = era * 400 + year + next;
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped() {
        assert_eq!(
            escaped("a\n'b' \"c\" \\x\x1b[2J\r\u{202e}\u{9b} é"),
            "a\n'b' \"c\" \\x\\u{1b}[2J\\r\\u{202e}\\u{9b} é"
        );
        assert_eq!(escaped_line("two\nlines\t"), "two\\nlines\\t");
        assert_eq!(fitted("äöü", 2), "äö");
    }

    #[test]
    fn times_have_minutes_and_seconds() {
        for (seconds, shown) in [(0, "0:00"), (31, "0:31"), (7500, "2:05:00")] {
            assert_eq!(clock(Duration::from_secs(seconds)), shown);
        }
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (seconds, shown) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_868_800, "2000-03-01T00:00:00Z"),
            (1_709_164_800, "2024-02-29T00:00:00Z"),
            (1_735_689_599, "2024-12-31T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(utc(seconds * 1000 + 999), shown);
        }
        assert!(utc(u64::MAX).ends_with('Z'));
    }
}
