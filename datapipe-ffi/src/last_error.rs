//! The last failure of each thread.

use std::cell::RefCell;
use std::ffi::{CString, c_char};
use std::ptr;

use crate::failure::Failure;
use crate::status::{DP_OK, dp_status};

/// A failure as C reads it.
#[derive(Default)]
struct LastError {
    status: dp_status,
    errno: i32,
    chain: Vec<CString>,
}

thread_local! {
    static LAST: RefCell<LastError> = RefCell::default();
}

/// Keeps a failure as the last one of this thread. Does nothing on a thread that is ending, whose
/// value has been dropped already.
pub(crate) fn set(failure: Failure) {
    let error = LastError {
        status: failure.status(),
        errno: failure.errno(),
        chain: failure
            .into_chain()
            .iter()
            .map(|text| line_of(text))
            .collect(),
    };
    let _ = LAST.try_with(|last| last.replace(error));
}

/// A text for C. A zero byte in it, which no path and no message has, is left out.
pub(crate) fn text_of(text: impl AsRef<[u8]>) -> CString {
    let bytes = text.as_ref().iter().copied().filter(|byte| *byte != 0);
    CString::new(bytes.collect::<Vec<_>>()).unwrap_or_default()
}

/// A message for C, as one line that sends no commands to a terminal. A control character, also a
/// line end, is escaped as in Rust (`\n`, `\u{1b}`), and so is a character without a width, or one
/// that changes the direction of the text. A backslash stays, because names may be escaped already.
pub(crate) fn line_of(message: &str) -> CString {
    let mut line = String::with_capacity(message.len());
    for c in message.chars() {
        match c {
            '\\' | '\'' | '"' => line.push(c),
            _ if c.is_ascii() => line.extend(c.escape_debug()),
            // A combining accent is printable only after a letter.
            _ => line.extend(format!("a{c}").escape_debug().skip(1)),
        }
    }
    text_of(line)
}

/// Reads the last failure of this thread. Returns `none` on a thread that is ending.
fn read<R>(none: R, read: impl FnOnce(&LastError) -> R) -> R {
    LAST.try_with(|last| read(&last.borrow())).unwrap_or(none)
}

/// Status of the last failure; `DP_OK` if there was none.
pub(crate) fn status() -> dp_status {
    read(DP_OK, |last| last.status)
}

/// Error number of the system of the last failure; 0 if it has none.
pub(crate) fn errno() -> i32 {
    read(0, |last| last.errno)
}

/// Number of texts of the last failure.
pub(crate) fn len() -> usize {
    read(0, |last| last.chain.len())
}

/// A text of the last failure, or null. Valid until the next failure of this thread.
pub(crate) fn text(index: usize) -> *const c_char {
    let at = |last: &LastError| {
        last.chain
            .get(index)
            .map_or(ptr::null(), |text| text.as_ptr())
    };
    read(ptr::null(), at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::DP_ERR_ARGUMENT;

    #[test]
    fn messages_are_one_line_without_control_characters() {
        let names =
            "two\nlines\t\u{1b}[31m, \u{202e}gpj.exe\u{9b}\0, back\\slash, 'Grüße e\u{301} 日本'";
        let line = "two\\nlines\\t\\u{1b}[31m, \\u{202e}gpj.exe\\u{9b}\\0, back\\slash, \
                    'Grüße e\u{301} 日本'";
        assert_eq!(line_of(names).to_str(), Ok(line));
        set(Failure::new(DP_ERR_ARGUMENT, names));
        let kept = LAST.with(|last| last.borrow().chain.clone());
        assert_eq!(kept, [line_of(names)]);
    }
}
