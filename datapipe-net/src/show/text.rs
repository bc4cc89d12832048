//! Names and times for people: each stays on its line.

use std::time::Duration;

/// A text for a terminal: its lines stay lines, and what cannot be shown is escaped as in Rust,
/// `\u{1b}`.
pub fn harmless(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\'' | '"' | '\\' => shown.push(c),
            _ if c.is_ascii() => shown.extend(c.escape_debug()),
            // An accent is shown if it has something to stand on.
            _ => shown.extend(format!("a{c}").escape_debug().skip(1)),
        }
    }
    shown
}

/// A text for a terminal, on one line.
pub fn line(text: &str) -> String {
    harmless(text).replace('\n', "\\n")
}

/// As much of a line as fits in `columns`, in characters.
pub(super) fn fit(line: &str, columns: usize) -> String {
    line.chars().take(columns).collect()
}

/// A time as `0:31` or `2:05:00`.
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
    fn nothing_commands_a_terminal() {
        assert_eq!(
            harmless("a\n'b' \"c\" \\x\x1b[2J\r\u{202e}\u{9b} é"),
            "a\n'b' \"c\" \\x\\u{1b}[2J\\r\\u{202e}\\u{9b} é"
        );
        assert_eq!(line("two\nlines\t"), "two\\nlines\\t");
        assert_eq!(fit("äöü", 2), "äö");
    }

    #[test]
    fn clocks() {
        for (seconds, shown) in [(0, "0:00"), (31, "0:31"), (7500, "2:05:00")] {
            assert_eq!(clock(Duration::from_secs(seconds)), shown);
        }
    }
}
