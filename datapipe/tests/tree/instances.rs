//! Trees read by several instances of the head: their blocks are in order, and no instance waits
//! for ever.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use datapipe::prelude::*;
use datapipe::testkit::Random;
use datapipe::tree::{ProblemKind, TreeReport};
use datapipe::wire::{BlockKind, ObjectKind};

use crate::data::setting;
use crate::entries::{BlockSet, Collect, assert_same_objects, blocks_of, parse};
use crate::fixture::{head, nest_directories};
use crate::placement::Placement;

in_both_placements! {
    number_of_instances_does_not_change_the_tree
    single_instance_reads_the_same_blocks
    tree_read_by_several_instances_is_restored
    blocks_are_filled_by_several_batches
    pipe_ends_at_any_moment_of_its_instances
    instance_ending_early_is_named_in_the_error
    changing_tree_is_read_as_far_as_possible
}

fn seed() -> u64 {
    let seed = setting("DATAPIPE_SEED", 7);
    println!("DATAPIPE_SEED={seed}");
    seed
}

/// Creates a tree with everything that instances have to agree about.
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
            // Another name, mostly of a file in another directory.
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
    // More levels than stay open.
    nest_directories(&root.join("d10"), &"n".repeat(60), 100);
    fs::write(root.join("d11/closed"), b"x").unwrap();
    fs::set_permissions(root.join("d11/closed"), fs::Permissions::from_mode(0o000)).unwrap();
    (dir, root)
}

fn problems(report: &TreeReport) -> Vec<String> {
    let mut problems: Vec<String> = report
        .snapshot()
        .problems
        .iter()
        .map(ToString::to_string)
        .collect();
    problems.sort();
    problems
}

fn number_of_instances_does_not_change_the_tree(placement: Placement) {
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
                .head(placement.place(head.instances(n)));
            pipe.tail(collect.clone()).run().unwrap();
            assert_same_objects(&wanted, &parse(&collect.0.lock().unwrap()));
            assert_eq!(report.counts(), alone.counts(), "{n} instances");
            assert_eq!(problems(&report), problems(&alone));
        }
    }
}

fn single_instance_reads_the_same_blocks(placement: Placement) {
    let (_dir, root) = plant(3);
    assert!(
        blocks_of(head(&root), 64 << 10)
            == blocks_of(placement.place(head(&root).instances(1)), 64 << 10)
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

fn tree_read_by_several_instances_is_restored(placement: Placement) {
    let (dir, root) = plant(seed());
    // Only root can read it, and an object that is left out has a number, too.
    fs::remove_file(root.join("d11/closed")).unwrap();
    let dest = dir.path().join("dest");
    fs::create_dir(&dest).unwrap();
    let restore = TreeRestore::new(&dest, RestoreOptions::default()).unwrap();
    let verify = TreeVerify::new();
    let reports = [restore.report(), verify.report()];
    let pipe = || {
        Pipe::builder()
            .buffer_size(64 << 10)
            .head(placement.place(head(&root).instances(4)))
    };
    pipe().tail(placement.place(verify)).run().unwrap();
    pipe().tail(placement.place(restore)).run().unwrap();
    for report in reports {
        let restored = report.snapshot();
        assert!(restored.is_whole(), "{restored:?}");
    }
    let read = |path: &Path| parse(&blocks_of(head(path), 64 << 10));
    assert_same_objects(&read(&root), &read(&dest.join("data")));
}

fn blocks_are_filled_by_several_batches(placement: Placement) {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("data");
    // Small directories: a batch ends before it has much data, because it keeps them open.
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
        let blocks = blocks_of(placement.place(head(&root).instances(n)), 128 << 10);
        assert!(full(&blocks) >= 90, "{n} instances: {} %", full(&blocks));
        assert_eq!(parse(&blocks).len(), 2501);
    }
}

/// A way in which a tail ends its pipe.
enum Ender {
    Cancel(Canceller),
    Fail,
    Panic,
}

/// A tail that ends its pipe after a number of blocks.
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

/// Returns the result of `run`. Panics if it takes two minutes.
fn in_time<T: Send + 'static>(run: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || sender.send(run()));
    receiver
        .recv_timeout(Duration::from_secs(120))
        .expect("the pipe ends")
}

fn pipe_ends_at_any_moment_of_its_instances(placement: Placement) {
    let mut random = Random::new(seed());
    let (_dir, root) = plant(5);
    for round in 0..40 {
        let n = 1 + random.below(5) as u32;
        let (blocks, nap) = (random.below(60), random.below(20_000));
        let size = 4800 + random.below(60_000) as u32;
        let head = placement.place(head(&root).instances(n));
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

fn instance_ending_early_is_named_in_the_error(placement: Placement) {
    // An instance that may not wait for buffers fails as soon as the tail is slower.
    struct Slow;
    impl Tail for Slow {
        fn write(&mut self, _: &Block) -> Result<(), StageError> {
            thread::sleep(Duration::from_millis(2));
            Ok(())
        }
    }
    let (_dir, root) = plant(5);
    let head = placement.place(head(&root).instances(3));
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

fn changing_tree_is_read_as_far_as_possible(placement: Placement) {
    let mut random = Random::new(seed());
    for _ in 0..3 {
        let (_dir, root) = plant(random.bits());
        let (stop, stopped) = mpsc::channel::<()>();
        let meddler = {
            let (root, mut random) = (root.clone(), random.clone());
            thread::spawn(move || {
                // Files become directories, directories become files, names vanish.
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
        let seen = parse(&blocks_of(placement.place(head.instances(4)), 64 << 10));
        stop.send(()).unwrap();
        meddler.join().unwrap();
        let outcome = report.snapshot();
        assert_eq!(
            seen.len() as u64,
            outcome.files + outcome.directories + outcome.others
        );
        let known =
            |kind: &ProblemKind| !matches!(kind, ProblemKind::TooLong(_) | ProblemKind::Medium);
        assert!(
            report
                .snapshot()
                .problems
                .iter()
                .all(|problem| known(&problem.kind))
        );
    }
}
