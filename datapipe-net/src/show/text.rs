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
}
