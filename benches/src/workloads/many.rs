//! `README.md`, "files" and "memory": our programs alone, on more and more.

use std::error::Error;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::scratch::Scratch;
use super::{Case, Extent, Leaves, Prints, Side, Step, Task, Workload, programs};

/// Instances that compress and encrypt: as many as the processors of the machine on which the
/// bounds were set.
const INSTANCES: u64 = 2;

/// Largest resident set beyond the pool: of each program, and of each instance that compresses.
const PROGRAM: u64 = 64 << 20;
const COMPRESSING: u64 = 8 << 20;

/// Files in one directory.
const WIDTH: u64 = 1000;

/// What a file in memory takes beside its content, and what its content takes at least.
const INODE: u64 = 1 << 10;
const PAGE: u64 = 4 << 10;

const GIB: u64 = 1 << 30;
const STREAM_LEN: u64 = 50 * GIB;

pub(super) const FILES: Workload = Workload {
    name: "files",
    task: Task::Series {
        growth: Some(1.2),
        cases: &[
            ("10,000 files", || files(10_000, 100, 9)),
            ("100,000 files", || files(100_000, 100, 3)),
            ("1,000,000 files", || files(1_000_000, 100, 1)),
        ],
    },
};

pub(super) const MEMORY: Workload = Workload {
    name: "memory",
    task: Task::Series {
        growth: None,
        cases: &[
            ("10,000 empty files", || files(10_000, 0, 1)),
            ("1,000,000 empty files", || files(1_000_000, 0, 1)),
            ("20 files of 50,000 names", || links(20, 50_000)),
            ("500,000 files of 2 names", || links(500_000, 2)),
            ("a stream of 50 GiB", stream),
        ],
    },
};

/// So many files of so many bytes.
fn files(files: u64, len: usize, runs: usize) -> Result<Case, Box<dyn Error>> {
    let page = if len == 0 { 0 } else { PAGE };
    let tree = Tree::new(2 * files * (INODE + page), 2 * files)?;
    let content = vec![b'x'; len];
    tree.fill(files, |_, path| fs::write(path, &content))?;
    tree.case(
        Extent {
            files,
            bytes: files * len as u64,
        },
        runs,
    )
}

/// So many empty files, each with so many names, which are never beside each other if there are
/// many files.
fn links(files: u64, names: u64) -> Result<Case, Box<dyn Error>> {
    // A name takes about as much as a file.
    let all = files * names;
    let tree = Tree::new(2 * all * INODE, 2 * all)?;
    tree.fill(all, |number, path| match number.checked_sub(files) {
        None => fs::write(path, []),
        Some(_) => fs::hard_link(tree.path_of(number % files), path),
    })?;
    tree.case(
        Extent {
            files: all,
            bytes: 0,
        },
        1,
    )
}

/// A stream that compresses well, so that the archive has room.
fn stream() -> Result<Case, Box<dyn Error>> {
    programs::need(&["yes", "head", "wc"])?;
    let job = Job::new(Scratch::new(STREAM_LEN / 100, 1)?)?;
    let from = format!("< <(yes 'all work and no play' | head -c {STREAM_LEN})");
    let back_up = programs::redirected(
        job.back_up(&["--stdin-name", "stream"], Path::new("-")),
        &from,
    );
    let restore = programs::redirected(job.restore(Path::new("-")), "> >(wc -c)");
    Ok(Case {
        steps: job.steps(
            back_up,
            restore.printing(Prints::Exactly(STREAM_LEN.to_string())),
            STREAM_LEN / GIB,
            1,
            1,
        ),
        _material: Box::new(job),
    })
}

/// Our programs at work on one archive.
struct Job {
    disk_to_tape: PathBuf,
    tape_to_disk: PathBuf,
    scratch: Scratch,
}

impl Job {
    fn new(scratch: Scratch) -> Result<Self, Box<dyn Error>> {
        let (disk_to_tape, tape_to_disk) = (
            programs::ours("disk_to_tape")?,
            programs::ours("tape_to_disk")?,
        );
        let job = Self {
            disk_to_tape,
            tape_to_disk,
            scratch,
        };
        programs::make_key(&job.key())?;
        Ok(job)
    }

    /// What is done with an archive of so many `objects`, by which the time is divided. The list
    /// has `lines`.
    fn steps(
        &self,
        back_up: Side,
        restore: Side,
        objects: u64,
        lines: u64,
        runs: usize,
    ) -> Vec<Step> {
        let list = programs::redirected(self.read("list", &["--list"]), "> >(wc -l)")
            .printing(Prints::Exactly(lines.to_string()));
        let verify = self.read("verify", &["--verify", "--quiet"]);
        let step = |side, beyond_pool| Step {
            side,
            runs,
            objects,
            beyond_pool,
        };
        vec![
            step(
                back_up.leaving(Leaves::Some(self.archive())),
                PROGRAM + INSTANCES * COMPRESSING,
            ),
            step(list, PROGRAM),
            step(verify, PROGRAM),
            step(restore, PROGRAM),
        ]
    }

    fn back_up(&self, options: &[&str], source: &Path) -> Side {
        let instances = INSTANCES.to_string();
        let mut arguments: Vec<OsString> = ["--quiet", "--instances", &instances]
            .map(Into::into)
            .into();
        arguments.extend(options.iter().map(Into::into));
        let key = ["--key-file".into(), self.key()];
        arguments.extend(
            key.into_iter()
                .chain([source.to_owned(), self.archive()])
                .map(Into::into),
        );
        Side::other("backup", &self.disk_to_tape, arguments)
    }

    fn restore(&self, to: &Path) -> Side {
        let mut side = self.read("restore", &["--quiet"]);
        side.arguments.push(to.into());
        side
    }

    /// Our program that reads, with its options and its archive.
    fn read(&self, name: &'static str, options: &[&str]) -> Side {
        let mut arguments: Vec<OsString> = options.iter().map(Into::into).collect();
        arguments.extend(["--key-file".into(), self.key(), self.archive()].map(Into::into));
        Side::other(name, &self.tape_to_disk, arguments)
    }

    fn key(&self) -> PathBuf {
        self.scratch.join("key")
    }

    fn archive(&self) -> PathBuf {
        self.scratch.join("archive.tap")
    }
}

/// A tree of files with numbers for names.
struct Tree {
    job: Job,
    root: PathBuf,
}

impl Tree {
    /// A tree that has nothing in it yet, in which so many `bytes` and `names` have room.
    fn new(bytes: u64, names: u64) -> Result<Self, Box<dyn Error>> {
        let job = Job::new(Scratch::new(bytes, names + names / WIDTH)?)?;
        Ok(Self {
            root: job.scratch.join("tree"),
            job,
        })
    }

    /// Where the file with that number is.
    fn path_of(&self, number: u64) -> PathBuf {
        self.root.join(format!("{}/{number}", number / WIDTH))
    }

    /// Makes the files with the numbers below `count`.
    fn fill(&self, count: u64, make: impl Fn(u64, &Path) -> io::Result<()>) -> io::Result<()> {
        fs::create_dir(&self.root)?;
        for number in 0..count {
            if number % WIDTH == 0 {
                fs::create_dir(self.root.join((number / WIDTH).to_string()))?;
            }
            make(number, &self.path_of(number))?;
        }
        Ok(())
    }

    /// What is done with a tree that holds so much.
    fn case(self, extent: Extent, runs: usize) -> Result<Case, Box<dyn Error>> {
        let restored = self.job.scratch.join("restored");
        let restore = self
            .job
            .restore(&restored)
            .leaving(Leaves::Exactly(restored, extent));
        let directories = extent.files.div_ceil(WIDTH) + 1;
        let back_up = self.job.back_up(&[], &self.root);
        Ok(Case {
            steps: self.job.steps(
                back_up,
                restore,
                extent.files,
                extent.files + directories,
                runs,
            ),
            _material: Box::new(self),
        })
    }
}
