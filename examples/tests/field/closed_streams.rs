//! Standard streams that are closed (`<&-`, `>&-`, `2>&-`), as in some services and scripts: the
//! user is not sent away with exit code 0 and nothing.

use std::fs;

use crate::fixture::{Fixture, failed, ok};
use crate::shell::shell;

fn fixture() -> Fixture {
    let fixture = Fixture::new();
    fs::write(fixture.path("src/data/file"), "some data").unwrap();
    ok(&shell(&fixture, "$D --quiet - stream.tap < src/data/file"));
    ok(&fixture.back_up(&["--quiet", "src/data", "tree.tap"]));
    fixture
}

/// A backup of a closed standard input was an empty archive, with exit code 0.
#[test]
fn closed_standard_input_is_not_an_empty_stream() {
    let fixture = fixture();
    for options in ["", "--processes", "--overwrite --allow-empty"] {
        let output = shell(&fixture, &format!("$D {options} - new.tap <&-"));
        let text = failed(&output, 1);
        assert!(text.contains("standard input is closed"), "{text}");
        assert!(!fixture.path("new.tap").exists(), "{options}");
    }
    let output = shell(&fixture, "$D - new.tap < /dev/null");
    ok(&output);
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("standard input had no data"), "{text}");
    // A tree does not need it.
    ok(&shell(&fixture, "$D --quiet src/data other.tap <&-"));
}

/// A list, a stream or a JSON object was written to the null device that took the place of a closed
/// standard output.
#[test]
fn closed_standard_output_is_an_error_for_what_it_is_to_have() {
    let fixture = fixture();
    for command in [
        "$R --list tree.tap",
        "$R --list --json tree.tap",
        "$R --verify --json tree.tap",
        "$R --json tree.tap out",
        "$R --quiet stream.tap -",
        "$D --json --quiet src/data new.tap",
    ] {
        let text = failed(&shell(&fixture, &format!("{command} >&-")), 1);
        assert!(
            text.contains("standard output is closed"),
            "{command}: {text}"
        );
        assert!(!fixture.path("new.tap").exists(), "{command}");
        // The null device itself is a choice of the user.
        for null in [">/dev/null", "1<>/dev/null"] {
            ok(&shell(
                &fixture,
                &format!("{command} {null} && rm -rf new.tap out/data"),
            ));
        }
    }
}

/// A job whose messages have nowhere to go says so on the stream that is left, and no file of it
/// gets the number of a standard stream.
#[test]
fn job_with_closed_streams_is_done_and_its_files_are_clean() {
    let fixture = fixture();
    let output = shell(&fixture, "$D src/data a.tap >&-");
    ok(&output);
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("standard output is closed"), "{text}");
    let text = ok(&shell(&fixture, "$D src/data b.tap 2>&-"));
    assert!(text.contains("standard error is closed"), "{text}");
    let text = ok(&shell(&fixture, "$D --json src/data c.tap 2>&-"));
    assert!(text.contains("standard error is closed"), "{text}");
    ok(&shell(&fixture, "$D src/data d.tap <&- >&- 2>&-"));
    ok(&shell(
        &fixture,
        "$D --processes src/data e.tap <&- >&- 2>&-",
    ));
    for tape in ["a.tap", "b.tap", "c.tap", "d.tap", "e.tap"] {
        ok(&fixture.restore(&["--verify", "--quiet", tape]));
    }
}
