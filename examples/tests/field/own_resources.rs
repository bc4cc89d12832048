//! Limits of the process that backs up or restores: descriptors, memory, threads.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use rustix::fs::XattrFlags;

use crate::fixture::{Fixture, failed, ok};
use crate::shell::{can_trace, shell};
use crate::walk::assert_same;

/// 150 directories in one another with a file each, and 40 directories side by side with 20 each.
fn make_deep_and_wide(fixture: &Fixture) {
    let mut deep = fixture.path("src/data");
    for level in 0..150 {
        deep.push("d");
        fs::create_dir(&deep).unwrap();
        fs::write(deep.join("file"), format!("{level}")).unwrap();
    }
    for side in 0..40 {
        let wide = fixture.path(&format!("src/data/wide{side}"));
        fs::create_dir(&wide).unwrap();
        for file in 0..20 {
            fs::write(wide.join(format!("{file}")), format!("{side} {file}")).unwrap();
        }
    }
}

/// A service runs with `ulimit -n 64`. Two thirds of a deep tree were reported as unreadable, with
/// an exit code that says that the rest is a backup.
#[test]
fn tree_is_read_and_restored_with_few_descriptors() {
    let fixture = Fixture::new();
    make_deep_and_wide(&fixture);
    for options in ["", "--processes", "--readers 16 --buffers 64"] {
        let script = format!("ulimit -n 64; $D --quiet {options} --overwrite src/data tape");
        ok(&shell(&fixture, &script));
        ok(&shell(&fixture, "ulimit -n 64; $R --quiet tape out"));
        assert_same(&fixture.path("src/data"), &fixture.path("out/data"));
        fixture.clear("out");
    }
}

/// With still fewer the job is done, or it fails and says which limit to raise.
#[test]
fn too_few_descriptors_are_a_failure_of_the_job() {
    let fixture = Fixture::new();
    make_deep_and_wide(&fixture);
    ok(&fixture.back_up(&["--quiet", "src/data", "whole"]));
    let mut failures = 0;
    for limit in [6, 8, 10, 12, 14, 16, 20, 24, 28, 32, 40] {
        let script = format!("ulimit -n {limit}; $D --quiet --overwrite src/data tape");
        for script in [script, format!("ulimit -n {limit}; $R --quiet whole out")] {
            let output = shell(&fixture, &script);
            let text = String::from_utf8_lossy(&output.stderr);
            match output.status.code() {
                Some(0) => {}
                Some(1) => {
                    assert!(text.contains("Too many open files"), "{script}: {text}");
                    failures += 1;
                }
                _ => panic!("{script}: {}: {text}", output.status),
            }
            fixture.clear("out");
        }
    }
    assert!(failures > 0, "none of the limits was too low");
}

/// A service has a control group with a limit. Its job was killed in the middle, without a message.
#[test]
fn pool_beyond_the_limit_of_a_control_group_is_refused() {
    let fixture = Fixture::new();
    fs::write(fixture.path("src/data/file"), "x").unwrap();
    let name = format!("datapipe-test-{}", std::process::id());
    let version_1 = PathBuf::from("/sys/fs/cgroup/memory");
    let (parent, limit) = match version_1.join("memory.limit_in_bytes").exists() {
        true => (version_1, "memory.limit_in_bytes"),
        false => (PathBuf::from("/sys/fs/cgroup"), "memory.max"),
    };
    let group = Group(parent.join(name));
    let made = fs::create_dir(&group.0).and_then(|()| fs::write(group.0.join(limit), "67108864"));
    if let Err(error) = made {
        eprintln!("not tried: a control group cannot be made here: {error}");
        return;
    }
    let script = format!(
        "echo $$ > {}/cgroup.procs || exit 77; exec $D --quiet --buffers 64 src/data tape",
        group.0.display()
    );
    let output = shell(&fixture, &script);
    if output.status.code() == Some(77) {
        eprintln!("not tried: a process cannot join a control group here");
        return;
    }
    let text = failed(&output, 1);
    for part in ["are left of 64 MiB", limit, "the machine has "] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

/// A control group, which is removed at the end.
struct Group(PathBuf);

impl Drop for Group {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

/// With `ulimit -v` there is no address space for the pool.
#[test]
fn pool_beyond_the_address_space_is_an_error() {
    let fixture = Fixture::new();
    fs::write(fixture.path("src/data/file"), "x").unwrap();
    let script = "ulimit -v 400000; $D --quiet --buffers 128 src/data tape";
    let text = failed(&shell(&fixture, script), 1);
    assert!(text.contains("ulimit -v"), "{text}");
}

/// With `ulimit -u` there are no threads. No program may end with a panic or a signal.
#[test]
fn too_few_threads_are_an_error() {
    let fixture = Fixture::new();
    fs::write(fixture.path("src/data/file"), "x").unwrap();
    for folder in [".", "out"] {
        fs::set_permissions(fixture.path(folder), Permissions::from_mode(0o777)).unwrap();
    }
    ok(&fixture.back_up(&["--quiet", "src/data", "whole"]));
    fs::set_permissions(fixture.path("whole"), Permissions::from_mode(0o644)).unwrap();
    // Another user, since root has no limit.
    let user = "setpriv --reuid 54321 --regid 54321 --clear-groups";
    let tried = shell(&fixture, &format!("{user} $D --version"));
    if !tried.status.success() {
        eprintln!("not tried: another user cannot run the programs here");
        return;
    }
    for threads in [1, 2, 4, 6] {
        for job in ["$D --quiet src/data out/tape", "$R --quiet --verify whole"] {
            let script = format!("{user} bash -c 'ulimit -u {threads}; exec {job}'");
            let output = shell(&fixture, &script);
            let text = String::from_utf8_lossy(&output.stderr);
            if output.status.success() {
                continue;
            }
            assert_eq!(output.status.code(), Some(1), "{script}: {text}");
            assert!(
                text.contains("ulimit -u") && !text.contains("panicked"),
                "{text}"
            );
        }
    }
}

/// The machine has no memory for a moment, or for longer, while attributes are restored. The user
/// read that this file lacks them, and restored it again in vain.
#[test]
fn memory_that_is_short_is_not_a_property_of_an_attribute() {
    if !can_trace() {
        return;
    }
    let fixture = Fixture::new();
    let file = fixture.path("src/data/file");
    fs::write(&file, "x").unwrap();
    rustix::fs::setxattr(&file, "user.note", b"x", XattrFlags::empty()).unwrap();
    ok(&fixture.back_up(&["--quiet", "src/data", "tape"]));
    for (call, when, exit) in [
        ("fsetxattr", "when=1", 0),
        ("fsetxattr", "when=1+", 1),
        ("flistxattr", "when=1+", 1),
        ("fchmod", "when=2+", 1),
    ] {
        let script = format!(
            "strace -f -qq -o /dev/null -e trace={call} -e inject={call}:error=ENOMEM:{when} \
             $R --quiet tape out"
        );
        let output = shell(&fixture, &script);
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(exit), "{call} {when}: {text}");
        assert_eq!(exit == 1, text.contains("memory"), "{call} {when}: {text}");
        fixture.clear("out");
    }
}

/// `ulimit -n 6` with `--processes` ended as a usage error, and 12 without the advice to raise it.
#[test]
fn too_few_descriptors_for_processes_are_a_failure_with_advice() {
    let fixture = Fixture::new();
    fs::write(fixture.path("src/data/file"), "x").unwrap();
    ok(&fixture.back_up(&["--quiet", "src/data", "whole"]));
    for limit in [6, 9, 12, 15, 18, 21] {
        let script = format!("ulimit -n {limit}; $D --processes --quiet --overwrite src/data tape");
        for script in [
            script,
            format!("ulimit -n {limit}; $R --processes --quiet whole out"),
        ] {
            let output = shell(&fixture, &script);
            if !output.status.success() {
                let text = failed(&output, 1);
                assert!(text.contains("(ulimit -n)"), "{script}: {text}");
            }
            fixture.clear("out");
        }
    }
}

/// A script leaves out 40,000 names. With `--processes` that ended as a usage error.
#[test]
fn many_patterns_for_processes_are_a_failure_with_advice() {
    let fixture = Fixture::new();
    fs::write(fixture.path("src/data/file"), "x").unwrap();
    let excludes = "$(seq -f '--exclude=p%.0f' 40000)";
    let script = format!("$D --processes --quiet {excludes} src/data tape");
    let text = failed(&shell(&fixture, &script), 1);
    assert!(text.contains("run it on threads"), "{text}");
    let script = format!("$D --quiet {excludes} src/data tape");
    assert!(shell(&fixture, &script).status.success());
}

/// A limit of memory (`ulimit -d`) was explained as one of threads.
#[test]
fn memory_for_a_thread_that_is_short_is_not_a_limit_of_threads() {
    let fixture = Fixture::new();
    fs::write(fixture.path("src/data/file"), "x").unwrap();
    let mut tried = 0;
    for limit in (12_000..60_000).step_by(3000) {
        // The standard library waits for itself if memory ends while it prints a backtrace.
        let job = "RUST_BACKTRACE=0 timeout -s KILL 60 $D --quiet --overwrite src/data tape";
        let script = format!("ulimit -d {limit}; {job}");
        let output = shell(&fixture, &script);
        let text = String::from_utf8_lossy(&output.stderr);
        if text.contains("cannot start a thread") {
            assert!(text.contains("ulimit -d"), "{limit}: {text}");
            tried += 1;
        }
    }
    eprintln!("{tried} of the limits were too low for a thread");
}

/// The user has nearly as many threads as allowed. One thread too many failed the job, though the
/// other threads of its stage could have done the work.
#[test]
fn job_runs_with_the_threads_that_start() {
    if !can_trace() {
        return;
    }
    let fixture = Fixture::new();
    for n in 0..20 {
        fs::write(fixture.path(&format!("src/data/{n}")), format!("{n}")).unwrap();
    }
    ok(&fixture.back_up(&["--quiet", "src/data", "whole"]));
    let mut done = 0;
    for n in 1..32 {
        let trace = format!(
            "strace -f -qq -o /dev/null -e trace=clone3,clone \
             -e inject=clone3,clone:error=EAGAIN:when={n}"
        );
        let back_up = format!("{trace} $D --readers 6 --instances 4 --overwrite src/data tape");
        let restore = format!("{trace} $R --instances 4 whole out");
        for (script, is_backup) in [(back_up, true), (restore, false)] {
            let output = shell(&fixture, &script);
            let text = String::from_utf8_lossy(&output.stderr);
            if !output.status.success() {
                assert_eq!(output.status.code(), Some(1), "{n}: {text}");
                assert!(text.contains("ulimit -u"), "{n}: {text}");
            } else {
                if text.contains("runs with fewer threads") {
                    done += 1;
                }
                if is_backup {
                    ok(&fixture.restore(&["--quiet", "tape", "out"]));
                }
                fixture.assert_same();
            }
            fixture.clear("out");
        }
    }
    assert!(done >= 8, "only {done} jobs ran with fewer threads");
}
