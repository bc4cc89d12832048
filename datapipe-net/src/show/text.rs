//! Escaped names and texts, their width on a terminal, and times.

use std::time::Duration;

use unicode_width::UnicodeWidthChar;

/// Largest number of characters without width that follow one with a width: two suffice for every
/// language, and a tower of them would cover other lines.
const MAX_MARKS: usize = 2;

/// Mark that ends a run of text from right to left, and has no width itself. Without it, a terminal
/// that orders both directions would move the columns after the text.
const LEFT_TO_RIGHT_MARK: char = '\u{200e}';

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

/// Number of columns that an escaped text takes on a terminal.
pub(super) fn width(text: &str) -> usize {
    text.chars().map(char_width).sum()
}

/// Width of one character. Each counts by itself: sequences whose parts a terminal may or may not
/// join are escaped.
fn char_width(c: char) -> usize {
    c.width().unwrap_or(0)
}

/// Escapes a name or label of another user for one cell of a line: [`escaped_line`], and no
/// character that changes the width of its neighbours.
pub(super) fn cell(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut marks = 0;
    for c in escaped_line(text).chars() {
        if matches!(c, '\u{fe00}'..='\u{fe0f}' | '\u{e0100}'..='\u{e01ef}') {
            shown.extend(c.escape_unicode());
            continue;
        }
        marks = if char_width(c) == 0 { marks + 1 } else { 0 };
        if marks <= MAX_MARKS {
            shown.push(c);
        }
    }
    shown
}

/// The part of a line that fits in `columns`.
pub(super) fn fitted(line: &str, columns: usize) -> String {
    let mut left = columns;
    let fits = |c: &char| {
        let fits = char_width(*c) <= left;
        left = left.saturating_sub(char_width(*c));
        fits
    };
    line.chars().take_while(fits).collect()
}

/// The text if it fits in `columns`; otherwise as much of it as fits before an ellipsis.
pub(super) fn clipped(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    match columns {
        0 => String::new(),
        _ => fitted(text, columns - 1) + "…",
    }
}

/// The text, clipped and filled with spaces to exactly `columns`.
pub(super) fn padded(text: &str, columns: usize) -> String {
    let mut shown = clipped(text, columns);
    let missing = columns.saturating_sub(width(&shown));
    if shown.chars().any(is_right_to_left) {
        shown.push(LEFT_TO_RIGHT_MARK);
    }
    shown + &" ".repeat(missing)
}

/// True for letters of scripts that are written from right to left.
fn is_right_to_left(c: char) -> bool {
    matches!(
        c,
        '\u{590}'..='\u{8ff}'
            | '\u{fb1d}'..='\u{fdff}'
            | '\u{fe70}'..='\u{feff}'
            | '\u{10800}'..='\u{10fff}'
            | '\u{1e800}'..='\u{1efff}'
    )
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
pub(crate) fn utc(milliseconds: u64) -> String {
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
    fn texts_are_measured_in_columns() {
        assert_eq!((width("äöü"), width("备份"), width("e\u{301}")), (3, 4, 1));
        assert_eq!(fitted("备份", 3), "备");
        assert_eq!(clipped("备份备份", 6), "备份…");
        assert_eq!(clipped("abc", 3), "abc");
        assert_eq!(
            (clipped("abc", 1), clipped("abc", 0)),
            ("…".into(), String::new())
        );
        assert_eq!(padded("备份", 6), "备份  ");
        assert_eq!(width(&padded("备份备份", 6)), 6);
    }

    #[test]
    fn text_from_right_to_left_ends_before_the_next_column() {
        assert_eq!(padded("\u{5d0}\u{5d1}", 4), "\u{5d0}\u{5d1}\u{200e}  ");
    }

    #[test]
    fn characters_that_change_the_width_of_others_are_harmless() {
        assert_eq!(cell("a\u{fe0f}b"), "a\\u{fe0f}b");
        assert_eq!(cell("x\u{200d}y\u{200b}z"), "x\\u{200d}y\\u{200b}z");
        let tower = format!("a{}b", "\u{301}".repeat(50));
        assert_eq!(cell(&tower), "a\u{301}\u{301}b");
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
