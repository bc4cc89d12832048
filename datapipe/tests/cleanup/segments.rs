//! Named segments whose creators are killed are removed, and nothing else is.
//!
//! The test binary is also the creator that is killed, so its main is its own.

#![allow(
    clippy::disallowed_types,
    reason = "a flag of the test, not a shared word"
)]

use std::fs::{self, File, Permissions};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::panic::catch_unwind;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use datapipe::memory::{
    Backing, HugePages, PipeName, Segment, SegmentError, Shape, StageShape, sweep,
};
use datapipe::pool::Seat;
use datapipe::testkit::Random;
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};

#[path = "harness/mod.rs"]
mod harness; // what whoever calls a test binary expects of it

use harness::{Asked, last_line};

const TESTS: &[(&str, fn())] = &[
    (
        "what_a_killed_creator_leaves_is_swept",
        what_a_killed_creator_leaves_is_swept,
    ),
    (
        "making_a_named_segment_sweeps_first",
        making_a_named_segment_sweeps_first,
    ),
    (
        "a_creator_that_was_stopped_lives",
        a_creator_that_was_stopped_lives,
    ),
    (
        "what_is_not_a_segment_of_ours_stays",
        what_is_not_a_segment_of_ours_stays,
    ),
    (
        "one_that_is_being_made_is_not_swept",
        one_that_is_being_made_is_not_swept,
    ),
    ("killed_at_any_moment", killed_at_any_moment),
];

/// What a process is called with that is to make one named segment, and to be killed.
const CREATOR: &str = "--be-a-creator";
/// The same, but it makes one after the other, and lets go of each.
const MAKER: &str = "--make-one-after-the-other";

fn main() -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        Some(CREATOR) => be_a_creator(),
        Some(MAKER) => make_one_after_the_other(),
        _ => {}
    }
    let asked = |name: &str| Asked::of(name, std::env::args().skip(1));
    let list = TESTS
        .iter()
        .filter(|(name, _)| matches!(asked(name), Asked::List { ours: true }));
    list.for_each(|(name, _)| println!("{name}: test"));
    if matches!(asked(""), Asked::List { .. }) {
        return ExitCode::SUCCESS;
    }
    let (run, filtered): (Vec<_>, Vec<_>) = TESTS
        .iter()
        .partition(|(name, _)| matches!(asked(name), Asked::Run));
    println!("\nrunning {} tests", run.len());
    let start = Instant::now();
    let mut failed = 0;
    for (name, test) in &run {
        let good = catch_unwind(test).is_ok();
        failed += u32::from(!good);
        println!("test {name} ... {}", if good { "ok" } else { "FAILED" });
    }
    let verdict = if failed == 0 { "ok" } else { "FAILED" };
    let counts = [run.len() as u32 - failed, failed, filtered.len() as u32];
    println!("\n{}", last_line(verdict, counts, start.elapsed()));
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(101)
    }
}

fn make(name: &PipeName) -> Segment {
    let shape = Shape::new(
        2,
        4096,
        0,
        0,
        &[StageShape::new(1, 2), StageShape::new(1, 0)],
    )
    .unwrap();
    Segment::create(
        name,
        shape,
        &["head", "tail"],
        Backing::Named,
        HugePages::No,
    )
    .unwrap()
}

fn path(name: impl std::fmt::Display) -> PathBuf {
    PathBuf::from(format!("/dev/shm/datapipe-{name}"))
}

fn be_a_creator() -> ! {
    let name = PipeName::new();
    let _segment = make(&name);
    let _ = writeln!(std::io::stdout(), "{name}");
    end_with_the_test()
}

fn make_one_after_the_other() -> ! {
    std::thread::spawn(|| {
        let _ = writeln!(std::io::stdout(), "begun");
        loop {
            make(&PipeName::new());
        }
    });
    end_with_the_test()
}

/// Ends when nobody is left who would kill this process.
fn end_with_the_test() -> ! {
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
    std::process::exit(0)
}

/// A process of this program that is to be killed.
struct Victim {
    process: Child,
    _stdin: ChildStdin,
    /// What it said first.
    line: String,
}

impl Victim {
    fn start(role: &str) -> Self {
        let mut command = Command::new("/proc/self/exe");
        let mut process = command
            .arg(role)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        Self {
            _stdin: process.stdin.take().unwrap(),
            process,
            line: line.trim_end().to_owned(),
        }
    }

    /// One that has made a named segment, and the name of that.
    fn creator() -> (Self, PipeName) {
        let victim = Self::start(CREATOR);
        let name = victim.line.parse().unwrap();
        (victim, name)
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.process)
    }

    fn kill(mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

fn what_a_killed_creator_leaves_is_swept() {
    let (creator, name) = Victim::creator();
    let attached = Segment::attach_named(&name).unwrap();
    assert_eq!(
        (attached.name(), attached.backing()),
        (name.as_str(), Backing::Named)
    );
    assert!(
        !sweep().unwrap().contains(&name.to_string()),
        "its creator lives"
    );
    assert!(path(&name).exists());
    creator.kill();
    assert!(path(&name).exists(), "nothing else removes it");
    assert!(sweep().unwrap().contains(&name.to_string()));
    assert!(!path(&name).exists());
    assert!(!sweep().unwrap().contains(&name.to_string()), "once");
    assert!(matches!(
        Segment::attach_named(&name),
        Err(SegmentError::System {
            call: "shm_open",
            ..
        })
    ));
    // Who maps it keeps it.
    let mut block = Seat::new(&attached, 0, 0).head().unwrap().alloc().unwrap();
    block.put(&[7; 4096]).unwrap();
    assert_eq!(attached.free_buffers(), 1);
}

fn making_a_named_segment_sweeps_first() {
    let (creator, dead) = Victim::creator();
    creator.kill();
    let name = PipeName::new();
    let segment = make(&name);
    assert!(!path(&dead).exists());
    assert_eq!(segment.backing(), Backing::Named);
    assert!(path(&name).exists());
    drop(segment);
    assert!(!path(&name).exists());
}

fn a_creator_that_was_stopped_lives() {
    let (creator, name) = Victim::creator();
    kill_process(creator.pid(), Signal::STOP).unwrap();
    let (_, status) = waitpid(Some(creator.pid()), WaitOptions::UNTRACED)
        .unwrap()
        .unwrap();
    assert!(status.stopped());
    assert!(!sweep().unwrap().contains(&name.to_string()));
    assert!(Segment::attach_named(&name).is_ok());
    creator.kill();
    assert!(sweep().unwrap().contains(&name.to_string()));
}

/// What a test has put into the folder of shared memory; gone with the test.
#[derive(Default)]
struct Litter(Vec<PathBuf>);

impl Litter {
    /// A place for an object, which does not exist yet.
    fn at(&mut self, path: PathBuf) -> PathBuf {
        self.0.push(path.clone());
        path
    }

    /// A place whose name is that of a pipe's segment.
    fn segment(&mut self) -> PathBuf {
        self.at(path(PipeName::new()))
    }

    /// A file as a killed creator leaves it, but for what the arguments say.
    fn file(&mut self, path: PathBuf, mode: u32, start: &[u8]) -> PathBuf {
        let mut file = File::create_new(&path).unwrap();
        self.at(path.clone());
        file.write_all(start).unwrap();
        file.set_permissions(Permissions::from_mode(mode)).unwrap();
        path
    }
}

impl Drop for Litter {
    fn drop(&mut self) {
        for path in &self.0 {
            let _ = fs::remove_file(path).or_else(|_| fs::remove_dir(path));
        }
    }
}

fn what_is_not_a_segment_of_ours_stays() {
    #[allow(
        clippy::host_endian_bytes,
        reason = "a segment never leaves its machine"
    )]
    let mark = u64::from_le_bytes(*b"DataPipe").to_ne_bytes();
    let segment = || path(PipeName::new());
    let mut litter = Litter::default();
    // One that differs in nothing, so that it is the differences that keep the others.
    let like_ours = litter.file(segment(), 0o600, &mark);
    let mut foreign = vec![
        litter.file(path(format!("{}.x", PipeName::new())), 0o600, &mark),
        litter.file(
            PathBuf::from(format!("/dev/shm/other-{}", PipeName::new())),
            0o600,
            &mark,
        ),
        litter.file(segment(), 0o640, &mark),
        litter.file(segment(), 0o400, &mark),
        litter.file(segment(), 0o600, b"Datapipe"),
        litter.file(segment(), 0o600, &mark[..7]),
        litter.file(segment(), 0o600, b""),
    ];
    let (named_twice, again) = (litter.file(segment(), 0o600, &mark), litter.segment());
    fs::hard_link(&named_twice, &again).unwrap();
    let (link, folder, fifo) = (litter.segment(), litter.segment(), litter.segment());
    symlink(&foreign[0], &link).unwrap();
    fs::create_dir(&folder).unwrap();
    assert!(
        Command::new("mkfifo")
            .args(["-m", "600"])
            .arg(&fifo)
            .status()
            .unwrap()
            .success()
    );
    foreign.extend([named_twice, again, link, folder, fifo]);
    if rustix::process::geteuid().is_root() {
        let anothers = litter.file(segment(), 0o600, &mark);
        chown(&anothers, Some(65_534), None).unwrap();
        foreign.push(anothers);
    }
    sweep().unwrap();
    assert!(!like_ours.exists(), "{}", like_ours.display());
    for path in &foreign {
        assert!(
            fs::symlink_metadata(path).is_ok(),
            "{} was removed",
            path.display()
        );
    }
}

fn one_that_is_being_made_is_not_swept() {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(Ordering::SeqCst) {
                    sweep().unwrap();
                }
            });
        }
        let makers = [(); 2].map(|()| {
            scope.spawn(|| {
                for round in 0..1000 {
                    let name = PipeName::new();
                    let segment = make(&name);
                    let there = Segment::attach_named(&name);
                    assert!(there.is_ok(), "round {round}: {there:?}");
                    drop(segment);
                }
            })
        });
        let good = makers.map(|maker| maker.join().is_ok());
        done.store(true, Ordering::SeqCst);
        assert_eq!(good, [true; 2]);
    });
}

fn killed_at_any_moment() {
    let seed = std::env::var("DATAPIPE_SEED").map_or(1, |seed| seed.parse().unwrap());
    let mut random = Random::new(seed);
    for round in 0..40 {
        let maker = Victim::start(MAKER);
        assert_eq!(maker.line, "begun");
        std::thread::sleep(Duration::from_micros(random.below(3000)));
        let its = format!(".{}.", maker.process.id());
        maker.kill();
        sweep().unwrap();
        let left = fs::read_dir("/dev/shm").unwrap().flatten();
        let left: Vec<_> = left
            .filter(|entry| entry.file_name().to_string_lossy().contains(&its))
            .collect();
        assert!(left.is_empty(), "round {round}, seed {seed}: {left:?}");
    }
}
