//! File trees read by several instances of the head: what they send is in order, and nobody waits
//! for ever.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use datapipe::prelude::*;
use datapipe::testkit::Random;
use datapipe::tree::{ProblemKind, TreeHead, TreeOptions, TreeReport};
use datapipe::wire::{BlockKind, ObjectKind};
use rustix::fs::{Mode, OFlags};

use entries::{BlockSet, Collect, assert_same, blocks_of, parse};
use placed::placed;

mod entries;
mod placed;

fn head(source: &Path) -> TreeHead {
    TreeHead::new(&[source], TreeOptions::default()).unwrap()
}

fn seed() -> u64 {
    let seed = std::env::var("SEED").map_or(7, |seed| seed.parse().unwrap());
    println!("SEED={seed}");
    seed
}

/// A tree in which everything comes that instances have to agree about.
fn plant(seed: u64) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("data");
    let mut random = Random::new(seed);
    let mut names = Vec::new();
    for d in 0..30 {
        let below = root.join(format!("d{:02}", d % 25)).join(format!("e{d}"));
        fs::create_dir_all(&below).unwrap();
        for f in 0..random.below(40) {
            let len = match random.below(40) {
                0 => 300_000,
                1..5 => random.below(40_000),
                5..10 => 0,
                _ => random.below(3000),
            };
            let mut content = vec![0; len as usize];
            random.fill(&mut content);
            let name = below.join(format!("f{f}"));
            fs::write(&name, content).unwrap();
            if random.below(5) == 0 {
                names.push(name.clone());
            }
            // Another name, mostly of what stands in another directory.
            if let (0, false) = (random.below(4), names.is_empty()) {
                let first = &names[random.below(names.len() as u64) as usize];
                fs::hard_link(first, below.join(format!("g{f}"))).unwrap();
            }
        }
        symlink("nowhere", below.join("link")).unwrap();
    }
    let sparse = File::create(root.join("d03/sparse")).unwrap();
    sparse.set_len(1 << 33).unwrap();
    sparse.write_all_at(&[1; 100_000], 1 << 30).unwrap();
    fs::hard_link(
        root.join("d03/sparse"),
        root.join("d20/other name of sparse"),
    )
    .unwrap();
    deepen(&root.join("d10"), 100);
    fs::write(root.join("d11/closed"), b"x").unwrap();
    fs::set_permissions(root.join("d11/closed"), fs::Permissions::from_mode(0o000)).unwrap();
    (dir, root)
}

/// Directories in each other, more than stay open, with a file in front of the next one and one
/// behind it.
fn deepen(path: &Path, levels: usize) {
    let flags = OFlags::PATH | OFlags::DIRECTORY;
    let mut fd = rustix::fs::open(path, flags, Mode::empty()).unwrap();
    for _ in 0..levels {
        let name = "n".repeat(60);
        rustix::fs::mkdirat(&fd, &name, Mode::RWXU).unwrap();
        for file in ["before", "z behind"] {
            let create = OFlags::CREATE | OFlags::WRONLY;
            let file = rustix::fs::openat(&fd, file, create, Mode::RUSR | Mode::WUSR).unwrap();
            rustix::io::write(file, b"some data").unwrap();
        }
        fd = rustix::fs::openat(&fd, &name, flags, Mode::empty()).unwrap();
    }
}

fn problems(report: &TreeReport) -> Vec<String> {
    let mut problems: Vec<String> = report.problems().iter().map(ToString::to_string).collect();
    problems.sort();
    problems
}

#[test]
fn number_of_instances_does_not_change_the_tree() {
    let seed = seed();
    let (_dir, root) = plant(seed);
    for size in [64 << 10, 4800] {
        let one = head(&root);
        let alone = one.report();
        let wanted = parse(&blocks_of(one, size));
        assert!(
            wanted
                .values()
                .any(|object| object.kind == ObjectKind::HardLink)
        );
        assert!(wanted.len() > 600);
        for n in [2, 3, 4, 64] {
            let head = head(&root);
            let report = head.report();
            let collect = Collect::default();
            // The smallest pool that such a pipe can have.
            let buffers = n.max(2);
            let pipe = Pipe::builder()
                .buffer_size(size)
                .buffers(buffers)
                .head(placed(head.instances(n)));
            pipe.tail(collect.clone()).run().unwrap();
            assert_same(&wanted, &parse(&collect.0.lock().unwrap()));
            assert_eq!(report.outcome(), alone.outcome(), "{n} instances");
            assert_eq!(problems(&report), problems(&alone));
        }
    }
}

#[test]
fn single_instance_reads_the_same_blocks() {
    let (_dir, root) = plant(3);
    assert!(
        blocks_of(head(&root), 64 << 10) == blocks_of(placed(head(&root).instances(1)), 64 << 10)
    );
}

#[test]
fn inline_instances_do_not_deadlock() {
    let (_dir, root) = plant(3);
    let collect = Collect::default();
    let (stage, kept) = (head(&root).instances(3).inline(), collect.clone());
    let tail = Stage::tail("collect", move |_| kept.clone()).inline();
    in_time(|| {
        Pipe::builder()
            .buffer_size(64 << 10)
            .head(stage)
            .tail(tail)
            .run()
            .unwrap()
    });
    assert!(*collect.0.lock().unwrap() == blocks_of(head(&root), 64 << 10));
}

#[test]
fn tree_read_by_several_instances_is_restored() {
    let (dir, root) = plant(seed());
    // Who is not root cannot read it, and what is left out has a number too.
    fs::remove_file(root.join("d11/closed")).unwrap();
    let dest = dir.path().join("dest");
    fs::create_dir(&dest).unwrap();
    let restore = TreeRestore::new(&dest, RestoreOptions::default()).unwrap();
    let verify = TreeVerify::new();
    let reports = [restore.report(), verify.report()];
    let pipe = || {
        Pipe::builder()
            .buffer_size(64 << 10)
            .head(placed(head(&root).instances(4)))
    };
    pipe().tail(placed(verify)).run().unwrap();
    pipe().tail(placed(restore)).run().unwrap();
    for report in reports {
        assert!(
            report.is_whole(),
            "{:?} {:?}",
            report.problems(),
            report.damaged()
        );
    }
    let read = |path: &Path| parse(&blocks_of(head(path), 64 << 10));
    assert_same(&read(&root), &read(&dest.join("data")));
}

#[test]
fn blocks_are_filled_by_several_batches() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("data");
    // Directories with little in them: a batch ends before it has much, for it keeps them open.
    for d in 0..500 {
        let below = root.join(format!("{d:03}"));
        fs::create_dir_all(&below).unwrap();
        for f in 0..4 {
            fs::write(below.join(format!("{f}")), vec![0; 1500]).unwrap();
        }
    }
    let full = |blocks: &BlockSet| {
        let data = blocks
            .iter()
            .filter(|(kind, ..)| *kind == BlockKind::Data.code());
        let lens: Vec<usize> = data.map(|(_, _, data)| data.len()).collect();
        lens.iter().sum::<usize>() * 100 / (lens.len() * (128 << 10))
    };
    for n in [1, 4] {
        let blocks = blocks_of(placed(head(&root).instances(n)), 128 << 10);
        assert!(full(&blocks) >= 90, "{n} instances: {} %", full(&blocks));
        assert_eq!(parse(&blocks).len(), 2501);
    }
}

/// Ends the pipe when it has seen so many blocks.
enum Ender {
    Cancel(Canceller),
    Fail,
    Panic,
}

struct Ending(u64, Ender);

impl Tail for Ending {
    fn write(&mut self, _: &Block) -> Result<(), StageError> {
        self.0 = match self.0.checked_sub(1) {
            Some(left) => left,
            None => match &self.1 {
                Ender::Cancel(canceller) => {
                    canceller.cancel();
                    0
                }
                Ender::Fail => return Err(StageError::new("enough")),
                Ender::Panic => panic!("enough"),
            },
        };
        Ok(())
    }
}

/// What `run` returns; a pipe that hangs ends the test.
fn in_time<T: Send + 'static>(run: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || sender.send(run()));
    receiver
        .recv_timeout(Duration::from_secs(120))
        .expect("the pipe ends")
}

#[test]
fn pipe_ends_at_any_moment_of_its_instances() {
    let mut random = Random::new(seed());
    let (_dir, root) = plant(5);
    for round in 0..40 {
        let n = 1 + random.below(5) as u32;
        let (blocks, nap) = (random.below(60), random.below(20_000));
        let size = 4800 + random.below(60_000) as u32;
        let head = placed(head(&root).instances(n));
        let how = round % 4;
        let result = in_time(move || {
            let pipe = Pipe::builder()
                .buffer_size(size)
                .buffers(2 * n + 2)
                .head(head);
            let canceller = pipe.canceller();
            match how {
                0 => pipe.tail(Ending(blocks, Ender::Cancel(canceller))).run(),
                1 => pipe.tail(Ending(blocks, Ender::Fail)).run(),
                2 => pipe.tail(Ending(blocks, Ender::Panic)).run(),
                _ => {
                    // At any moment, from outside.
                    let late = thread::spawn(move || {
                        thread::sleep(Duration::from_micros(nap));
                        canceller.cancel();
                    });
                    let result = pipe.tail(Collect::default()).run();
                    late.join().unwrap();
                    result
                }
            }
        });
        match result {
            Ok(_) => assert_eq!(how, 3, "the tree has more blocks"),
            Err(Error::Cancelled) => assert!(how == 0 || how == 3),
            Err(Error::Stage(failure)) => {
                assert!(
                    failure.stage == "tail" && failure.error.to_string().contains("enough"),
                    "{failure}"
                );
            }
            Err(other) => panic!("{other}"),
        }
    }
}

#[test]
fn instance_ending_early_is_named_in_the_error() {
    // Whoever may not wait for buffers ends with an error as soon as the tail is slower.
    struct Slow;
    impl Tail for Slow {
        fn write(&mut self, _: &Block) -> Result<(), StageError> {
            thread::sleep(Duration::from_millis(2));
            Ok(())
        }
    }
    let (_dir, root) = plant(5);
    let head = placed(head(&root).instances(3));
    let result = in_time(move || {
        let pipe = Pipe::builder()
            .buffer_size(4800)
            .buffers(8)
            .at_limit(AtLimit::Terminate);
        pipe.head(head).tail(Slow).run()
    });
    let Err(Error::Stage(failure)) = result else {
        panic!("{result:?}")
    };
    assert_eq!(failure.stage, "tree-head");
    assert!(
        failure.error.to_string().contains("outstanding"),
        "{failure}"
    );
}

#[test]
fn changing_tree_is_read_as_far_as_possible() {
    let mut random = Random::new(seed());
    for _ in 0..3 {
        let (_dir, root) = plant(random.bits());
        let (stop, stopped) = mpsc::channel::<()>();
        let meddler = {
            let (root, mut random) = (root.clone(), random.clone());
            thread::spawn(move || {
                // Files become directories, directories files, names vanish.
                while stopped.try_recv().is_err() {
                    let below = root.join(format!("d{:02}", random.below(25)));
                    let Ok(entries) = fs::read_dir(&below) else {
                        continue;
                    };
                    for path in entries.map_while(Result::ok).map(|entry| entry.path()) {
                        let _ = match random.below(6) {
                            0 => fs::rename(&path, root.join(format!("moved{}", random.below(50)))),
                            1 => fs::remove_file(&path).and_then(|()| fs::create_dir(&path)),
                            2 => fs::remove_dir(&path).and_then(|()| fs::write(&path, b"x")),
                            _ => Ok(()),
                        };
                    }
                }
            })
        };
        let head = head(&root);
        let report = head.report();
        let seen = parse(&blocks_of(placed(head.instances(4)), 64 << 10));
        stop.send(()).unwrap();
        meddler.join().unwrap();
        let outcome = report.outcome();
        assert_eq!(
            seen.len() as u64,
            outcome.files + outcome.directories + outcome.others
        );
        let known =
            |kind: &ProblemKind| !matches!(kind, ProblemKind::TooLong(_) | ProblemKind::Medium);
        assert!(report.problems().iter().all(|problem| known(&problem.kind)));
    }
}
