//! Named segments: those of killed creators are removed, and nothing else is.

use std::fs::{self, File, Permissions};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use datapipe::memory::{
    Backing, HugePages, PipeName, Segment, SegmentError, Shape, StageId, StageShape, sweep,
};
use datapipe::pool::Seat;
use datapipe::testkit::Random;
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};

use crate::data::setting;

/// First argument of a process that creates one named segment and is then killed.
pub(crate) const CREATOR: &str = "--be-a-creator";
/// First argument of a process that creates and drops named segments one after the other.
pub(crate) const MAKER: &str = "--make-one-after-the-other";

fn make(name: &PipeName) -> Segment {
    let shape = Shape::builder(2, 4096)
        .stages([StageShape::new(1).share(2), StageShape::new(1)])
        .build()
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

pub(crate) fn be_a_creator() -> ! {
    let name = PipeName::new();
    let _segment = make(&name);
    let _ = writeln!(std::io::stdout(), "{name}");
    end_with_the_test()
}

pub(crate) fn make_one_after_the_other() -> ! {
    std::thread::spawn(|| {
        let _ = writeln!(std::io::stdout(), "begun");
        loop {
            make(&PipeName::new());
        }
    });
    end_with_the_test()
}

/// Ends this process when the test that would kill it has ended.
fn end_with_the_test() -> ! {
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
    std::process::exit(0)
}

/// A process of this program, started to be killed.
struct Victim {
    process: Child,
    _stdin: ChildStdin,
    /// First line of its output.
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

    /// Starts one that has created a named segment, and returns the name of the segment.
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

pub(crate) fn segment_of_a_killed_creator_is_swept() {
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
    // A mapping stays valid after the name is gone.
    let mut block = Seat::new(&attached, StageId::HEAD.instance(0))
        .head()
        .unwrap()
        .alloc()
        .unwrap();
    block.put(&[7; 4096]).unwrap();
    assert_eq!(attached.free_buffers(), 1);
}

pub(crate) fn creating_a_named_segment_sweeps_first() {
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

pub(crate) fn segment_of_a_stopped_creator_is_kept() {
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

/// Files that a test has put into `/dev/shm`. Dropping this removes them.
#[derive(Default)]
struct Litter(Vec<PathBuf>);

impl Litter {
    /// Registers the path of an object that does not exist yet.
    fn at(&mut self, path: PathBuf) -> PathBuf {
        self.0.push(path.clone());
        path
    }

    /// Registers a path with the name of a pipe's segment.
    fn segment(&mut self) -> PathBuf {
        self.at(path(PipeName::new()))
    }

    /// Creates a file as a killed creator leaves it, except for what the arguments change.
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

pub(crate) fn foreign_files_are_not_swept() {
    #[allow(
        clippy::host_endian_bytes,
        reason = "a segment never leaves its machine"
    )]
    let mark = u64::from_le_bytes(*b"DataPipe").to_ne_bytes();
    let segment = || path(PipeName::new());
    let mut litter = Litter::default();
    // One that differs in nothing. It shows that the differences protect the others.
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

pub(crate) fn segment_being_created_is_not_swept() {
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

pub(crate) fn creator_killed_at_any_moment_leaves_nothing() {
    let seed = setting("DATAPIPE_SEED", 1);
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
