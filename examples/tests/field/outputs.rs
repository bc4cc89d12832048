//! Standard output that cannot be written, and a list of errors that two jobs write.

use std::fs;

use crate::fixture::{Fixture, failed, ok};
use crate::shell::shell;

/// A script opens standard output the wrong way round. The list went nowhere, with exit code 0.
#[test]
fn standard_output_that_can_only_be_read_is_an_error() {
    let fixture = Fixture::new();
    fs::write(fixture.path("src/data/file"), "1").unwrap();
    ok(&fixture.back_up(&["--quiet", "src/data", "tape"]));
    for job in ["--list", "--json --verify", "--json --list"] {
        let output = shell(&fixture, &format!("$R {job} tape 1</dev/null"));
        let text = failed(&output, 1);
        assert!(
            text.contains("standard output is open to be read only"),
            "{job}: {text}"
        );
    }
    let job = "$D --json --overwrite src/data tape 1</dev/null";
    failed(&shell(&fixture, job), 1);
    // Nothing but messages goes there.
    ok(&shell(&fixture, "$R --quiet tape out 1</dev/null"));
}

/// Two scheduled jobs have one file for their errors. The second emptied it while the first wrote.
#[test]
fn list_of_errors_of_another_job_is_not_emptied() {
    let fixture = Fixture::new();
    fs::write(fixture.path("src/data/file"), "1").unwrap();
    let script = "mkfifo feed; $D --quiet --errors-to list - tape <feed & exec 3>feed
        until [ -e tape ]; do sleep 0.01; done
        $D --quiet --errors-to list src/data other; code=$?
        echo >&3; exec 3>&-; wait $! || exit 9; exit $code";
    let text = failed(&shell(&fixture, script), 1);
    assert!(text.contains("another job is writing it"), "{text}");
    assert!(!fixture.path("other").exists());
    ok(&fixture.back_up(&["--quiet", "--errors-to", "list", "src/data", "other"]));
}
