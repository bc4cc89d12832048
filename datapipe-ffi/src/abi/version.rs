//! The version of the library, at compile time and at run time.

use std::ffi::c_char;

use crate::status::{DP_ERR_ARGUMENT, DP_OK, dp_status};

/// Major version of this header.
pub const DP_VERSION_MAJOR: u32 = 0;
/// Minor version of this header. Before 1.0 a new minor version may change the interface.
pub const DP_VERSION_MINOR: u32 = 1;
/// Patch version of this header.
pub const DP_VERSION_PATCH: u32 = 0;
/// The version of this header as one number: `0xMMmmpp`.
pub const DP_VERSION: u32 = (DP_VERSION_MAJOR << 16) | (DP_VERSION_MINOR << 8) | DP_VERSION_PATCH;

/// Returns the version of the library that runs, as `DP_VERSION` has that of the header.
///
/// Threads: any, also in a signal handler. Errors: none.
#[unsafe(no_mangle)]
pub extern "C" fn dp_version() -> u32 {
    DP_VERSION
}

/// Returns the version of the library that runs as a text, "0.1.0". The text is never freed.
///
/// Threads: any, also in a signal handler. Errors: none.
#[unsafe(no_mangle)]
pub extern "C" fn dp_version_text() -> *const c_char {
    const TEXT: &str = concat!(env!("CARGO_PKG_VERSION"), "\0");
    TEXT.as_ptr().cast()
}

/// Checks that the library that runs has all that a program uses which was compiled with the header
/// of version `header`: pass `DP_VERSION`.
///
/// Threads: any, also in a signal handler. Errors: `DP_ERR_ARGUMENT` if the library is older, or
/// has another major version, or, before 1.0, another minor version. The last error does not
/// change.
#[unsafe(no_mangle)]
pub extern "C" fn dp_version_check(header: u32) -> dp_status {
    let series = |version: u32| match version >> 16 {
        0 => version >> 8,
        major => major << 8,
    };
    match series(header) == series(DP_VERSION) && header <= DP_VERSION {
        true => DP_OK,
        false => DP_ERR_ARGUMENT,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_of_the_header_is_that_of_the_package() {
        let text = format!("{DP_VERSION_MAJOR}.{DP_VERSION_MINOR}.{DP_VERSION_PATCH}");
        assert_eq!(text, env!("CARGO_PKG_VERSION"));
        assert_eq!(dp_version_check(DP_VERSION), DP_OK);
        for other in [0, DP_VERSION + 1, DP_VERSION + 0x100, DP_VERSION + 0x1_0000] {
            assert_eq!(dp_version_check(other), DP_ERR_ARGUMENT, "{other:x}");
        }
    }
}
