//! Two jobs on one medium.

use std::fs;
use std::io::Write;
use std::process::{Child, Stdio};
use std::thread;
use std::time::Duration;

use datapipe::media::{Writer, find_writer};

use crate::fixture::{DISK_TO_TAPE, Fixture, failed, noise, ok};
use crate::shell::can_trace;

/// Starts a backup of a stream that the test feeds, and waits until it has the medium.
fn start(fixture: &Fixture, args: &[&str], medium: &str) -> (Child, Writer) {
    let mut command = fixture.command(DISK_TO_TAPE, &[args, &["--quiet", "-", medium]].concat());
    let child = command
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    loop {
        match find_writer(fixture.path(medium)).unwrap() {
            Some(writer) => return (child, writer),
            None => thread::sleep(Duration::from_millis(5)),
        }
    }
}

/// Starts a job, and waits until all its stages run: it reads more than a pipe holds only then.
fn start_to_read(fixture: &Fixture, args: &[&str], medium: &str) -> Child {
    let (mut child, _) = start(fixture, args, medium);
    let stdin = child.stdin.as_mut().unwrap();
    stdin.write_all(&[7; 1 << 20]).unwrap();
    child
}

/// Gives the job its data, and returns its outcome.
fn finish(mut child: Child, data: &[u8]) -> std::process::Output {
    child.stdin.take().unwrap().write_all(data).unwrap();
    child.wait_with_output().unwrap()
}

const MEDIA: [&str; 2] = ["tape", "volumes/"];

/// Two scheduled backups overlap. Both ended with exit code 0, and one archive, or both, were
/// gone.
#[test]
fn second_job_is_refused_and_the_first_is_whole() {
    for medium in MEDIA {
        for (first, second) in [
            (&[][..], &[][..]),
            (&[], &["--overwrite"]),
            (&["--overwrite"], &["--overwrite", "--in-place"]),
            (&["--processes"], &["--overwrite", "--processes"]),
        ] {
            let fixture = Fixture::new();
            if first.contains(&"--overwrite") {
                ok(&fixture.back_up(&["--quiet", "src/data", medium]));
            }
            let (job, writer) = start(&fixture, first, medium);
            assert_eq!(writer.process, Some(job.id()));
            let refused = fixture.back_up(&[second, &["src/data", medium]].concat());
            let text = failed(&refused, 1);
            let holder = format!("{medium} is being written by process {}, since ", job.id());
            assert!(text.contains(&holder), "{text}");
            let data = noise(3 << 20);
            ok(&finish(job, &data));
            ok(&fixture.restore(&["--quiet", medium, "out"]));
            assert!(fs::read(fixture.path("out/stdin")).unwrap() == data);
            assert_eq!(find_writer(fixture.path(medium)).unwrap(), None);
        }
    }
}

/// The machine kills a backup that has too little memory. The next one must not find the medium
/// locked, and must not find an old archive damaged.
#[test]
fn killed_job_does_not_block_the_next_one() {
    for medium in MEDIA {
        for options in [&["--overwrite"][..], &["--overwrite", "--processes"]] {
            let fixture = Fixture::new();
            fs::write(fixture.path("src/data/file"), "the only copy").unwrap();
            ok(&fixture.back_up(&["--quiet", "src/data", medium]));
            let (mut job, _) = start(&fixture, options, medium);
            // Kept open: at its end the processes would finish the archive, if they read it before
            // they learn of the death.
            let mut stream = job.stdin.take().unwrap();
            stream.write_all(&noise(1 << 20)).unwrap();
            job.kill().unwrap();
            job.wait().unwrap();
            ok(&fixture.restore(&["--quiet", medium, "out"]));
            assert_eq!(
                fs::read(fixture.path("out/data/file")).unwrap(),
                b"the only copy"
            );
            // Processes of the dead job end within a second, and hold the lock until then.
            while find_writer(fixture.path(medium)).unwrap().is_some() {
                thread::sleep(Duration::from_millis(5));
            }
            ok(&fixture.back_up(&["--quiet", "--overwrite", "src/data", medium]));
            ok(&fixture.restore(&["--quiet", "--verify", medium]));
            let others = fixture.names(".");
            assert_eq!(
                others.len(),
                7,
                "no more than fixture and medium: {others:?}"
            );
        }
    }
}

/// A user lists a tape while tonight's backup writes it, and takes the incomplete list for the
/// archive.
#[test]
fn reader_of_a_medium_that_is_written_gets_a_note() {
    for medium in MEDIA {
        let fixture = Fixture::new();
        ok(&fixture.back_up(&["--quiet", "src/data", medium]));
        let (job, writer) = start(&fixture, &["--overwrite"], medium);
        let listed = fixture.restore(&["--list", medium]);
        let text = String::from_utf8_lossy(&listed.stderr);
        assert!(
            text.contains(&format!("{medium} is being written by {writer}: ")),
            "{text}"
        );
        ok(&finish(job, b"new"));
        let listed = fixture.restore(&["--list", medium]);
        assert!(listed.stderr.is_empty());
    }
}

/// A script cleans up old tapes, and removes the one that is being written. The backup
/// ended with exit code 0, and its archive had no name.
#[test]
fn tape_that_is_removed_while_it_is_written_is_an_error() {
    for (options, medium, file) in [
        (&[][..], "tape", "tape"),
        (&["--processes"], "tape", "tape"),
        (&[], "volumes/", "volumes/000001.tap"),
        (&["--overwrite"], "tape", ".tape.datapipe-new"),
        (
            &["--overwrite", "--processes"],
            "volumes/",
            "volumes/000001.tap.new",
        ),
    ] {
        let fixture = Fixture::new();
        if options.contains(&"--overwrite") {
            ok(&fixture.back_up(&["--quiet", "src/data", medium]));
        }
        let job = start_to_read(&fixture, options, medium);
        while !fixture.path(file).exists() {
            thread::sleep(Duration::from_millis(5));
        }
        fs::remove_file(fixture.path(file)).unwrap();
        let text = failed(&finish(job, b"data"), 1);
        assert!(
            text.contains("was removed or replaced by another program"),
            "{text}"
        );
    }
}

/// A user takes a volume of a directory for a tape while the directory is written. Both jobs ended
/// with exit code 0, and the volume held neither archive.
#[test]
fn volume_of_a_directory_that_is_written_is_not_a_tape() {
    for options in [&[][..], &["--processes"]] {
        let fixture = Fixture::new();
        let (job, writer) = start(&fixture, options, "volumes/");
        std::os::unix::fs::symlink("volumes/000001.tap", fixture.path("link")).unwrap();
        for tape in ["volumes/000001.tap", "link", "volumes/000002.tap"] {
            for more in [&[][..], &["--overwrite"], &["--overwrite", "--in-place"]] {
                let refused = fixture.back_up(&[more, &["src/data", tape]].concat());
                let text = failed(&refused, 1);
                let holder = format!("{tape} is being written by {writer}");
                assert!(text.contains(&holder), "{text}");
            }
        }
        let data = noise(1 << 20);
        ok(&finish(job, &data));
        ok(&fixture.restore(&["--quiet", "volumes/", "out"]));
        assert!(fs::read(fixture.path("out/stdin")).unwrap() == data);
    }
}

/// A script moves the directory of a medium while it is written. The job in processes ended with
/// exit code 0, and there was no archive where the user looks for it.
#[test]
fn directory_that_is_moved_while_its_medium_is_written_is_an_error() {
    for options in [&[][..], &["--processes"]] {
        for medium in ["place/volumes/", "place/tape"] {
            let fixture = Fixture::new();
            fs::create_dir(fixture.path("place")).unwrap();
            let job = start_to_read(&fixture, options, medium);
            fs::rename(fixture.path("place"), fixture.path("elsewhere")).unwrap();
            failed(&finish(job, b"data"), 1);
        }
    }
}

/// A network file system without locks: two jobs would destroy each other's archive.
#[test]
fn file_system_without_locks_is_named() {
    if !can_trace() {
        return;
    }
    let fixture = Fixture::new();
    for medium in MEDIA {
        let trace = ["-f", "-qq", "-o", "/dev/null", "-e", "trace=fcntl"];
        let inject = ["-e", "inject=fcntl:error=ENOLCK:when=1+", DISK_TO_TAPE];
        let args = [&trace[..], &inject, &["--quiet", "src/data", medium]].concat();
        let text = failed(&fixture.command("strace", &args).output().unwrap(), 1);
        assert!(
            text.contains("cannot lock it against other writers: mount it with locks"),
            "{text}"
        );
    }
}
