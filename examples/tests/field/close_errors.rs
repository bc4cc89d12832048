//! Storage that fails late: a file system reports a failed write only when a file is synced or
//! closed, and the restore names the file and fails. Needs strace, which injects the errors.

use std::fs;
use std::process::Output;

use crate::fixture::{Fixture, failed, noise, ok};
use crate::shell::{can_trace, shell};

/// Runs a restore into which strace injects a fault. Returns `None` without strace.
fn with_fault(fixture: &Fixture, calls: &str, inject: &str, args: &str) -> Option<Output> {
    let script =
        format!("strace -f -qq -o /dev/null -e trace={calls} -e inject={inject} $R {args}");
    can_trace().then(|| shell(fixture, &script))
}

/// A quota is exceeded on a network file system, which says so when a file is synced or closed. The
/// restore reported success.
#[test]
fn failed_sync_of_restored_files_is_reported() {
    // A file system that is not known to report by syncfs syncs each file.
    let fixture = Fixture::with_blocks();
    ok(&fixture.back_up(&["--quiet", "src/data", "tape"]));
    for inject in [
        "syncfs:error=EIO:when=1",
        "syncfs:error=ENOSPC:when=2",
        "fsync:error=EDQUOT -e inject=fstatfs:retval=0",
    ] {
        let calls = "fsync,syncfs,fstatfs";
        let Some(output) = with_fault(&fixture, calls, inject, "tape out") else {
            return;
        };
        let text = failed(&output, 1);
        assert!(text.contains("stable storage"), "{inject}: {text}");
        let names = fixture.names("out");
        assert!(names.len() <= 1, "no hidden name is left: {names:?}");
        fixture.assert_no_damage_under_original_names();
        fixture.clear("out");
    }
}

/// The program that reads a stream's file after a loss of power found nothing in it.
#[test]
fn failed_sync_of_a_stream_is_reported() {
    let fixture = Fixture::new();
    fs::write(fixture.path("stream"), noise(100_000)).unwrap();
    let mut back_up = fixture.command(crate::fixture::DISK_TO_TAPE, &["--quiet", "-", "tape"]);
    ok(&back_up
        .stdin(fs::File::open(fixture.path("stream")).unwrap())
        .output()
        .unwrap());
    for args in ["tape - > copy", "tape new", "tape out"] {
        let inject = "fsync:error=EIO";
        let Some(output) = with_fault(&fixture, "fsync", inject, args) else {
            return;
        };
        let text = failed(&output, 1);
        assert!(
            text.contains("stable storage") || text.contains("os error 5"),
            "{args}: {text}"
        );
    }
    // A pipe cannot be synced, and need not be.
    let Some(output) = with_fault(&fixture, "fsync", "fsync:error=EIO", "tape - | cat > copy")
    else {
        return;
    };
    ok(&output);
}
