//! `README.md`, "files" and "memory": our programs alone, with more and more objects.

use std::error::Error;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::scratch::Scratch;
use super::{
    Case, ExpectedFiles, ExpectedOutput, FileTotals, RunSpec, Step, Task, Workload, programs,
};

/// Number of instances that compress and encrypt: the number of processors of the machine on which
/// the bounds were set.
const INSTANCES: u64 = 2;

/// Largest resident set beyond the pool in bytes, for each program and for each instance that
/// compresses.
const PER_PROGRAM: u64 = 64 << 20;
const PER_COMPRESSOR: u64 = 8 << 20;

/// Number of files in one directory.
pub(super) const WIDTH: u64 = 1000;

/// Memory that a file takes in addition to its content, and the least that a content takes, in
/// bytes.
const INODE: u64 = 1 << 10;
const PAGE: u64 = 4 << 10;
pub(super) const PAGE_AND_INODE: u64 = PAGE + INODE;

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

/// A tree of `files` files with `len` bytes each.
fn files(files: u64, len: usize, runs: usize) -> Result<Case, Box<dyn Error>> {
    let page = if len == 0 { 0 } else { PAGE };
    let tree = NumberedTree::new(2 * files * (INODE + page), 2 * files)?;
    let content = vec![b'x'; len];
    fill(&tree.root, files, |_, path| fs::write(path, &content))?;
    tree.case(
        FileTotals {
            files,
            bytes: files * len as u64,
        },
        runs,
    )
}

/// A tree of `files` empty files with `names` names each. If there are many files, the names of a
/// file are far apart.
fn links(files: u64, names: u64) -> Result<Case, Box<dyn Error>> {
    // A name takes about as much memory as a file.
    let all = files * names;
    let tree = NumberedTree::new(2 * all * INODE, 2 * all)?;
    fill(&tree.root, all, |number, path| {
        match number.checked_sub(files) {
            None => fs::write(path, []),
            Some(_) => fs::hard_link(path_of(&tree.root, number % files), path),
        }
    })?;
    tree.case(
        FileTotals {
            files: all,
            bytes: 0,
        },
        1,
    )
}

/// A stream that compresses well, so that the archive fits in memory.
fn stream() -> Result<Case, Box<dyn Error>> {
    programs::require(&["yes", "head", "wc"])?;
    let job = ArchiveJob::new(Scratch::new(STREAM_LEN / 100, 1)?)?;
    let from = format!("< <(yes 'all work and no play' | head -c {STREAM_LEN})");
    let back_up = programs::redirect(
        job.back_up(&["--stdin-name", "stream"], Path::new("-")),
        &from,
    );
    let restore = programs::redirect(job.restore(Path::new("-")), "> >(wc -c)");
    Ok(Case {
        steps: job.steps(
            back_up,
            restore.expect_output(ExpectedOutput::Exactly(STREAM_LEN.to_string())),
            STREAM_LEN / GIB,
            1,
            1,
        ),
        _resources: Box::new(job),
    })
}

/// Runs of our programs on one archive.
struct ArchiveJob {
    disk_to_tape: PathBuf,
    tape_to_disk: PathBuf,
    scratch: Scratch,
}

impl ArchiveJob {
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

    /// Returns the steps of an archive: backup, list, verify and restore. The time of each is
    /// divided by `objects`. The list must have `lines` lines.
    fn steps(
        &self,
        back_up: RunSpec,
        restore: RunSpec,
        objects: u64,
        lines: u64,
        runs: usize,
    ) -> Vec<Step> {
        let list = programs::redirect(self.read("list", &["--list"]), "> >(wc -l)")
            .expect_output(ExpectedOutput::Exactly(lines.to_string()));
        let verify = self.read("verify", &["--verify", "--quiet"]);
        let step = |spec, beyond_pool| Step {
            spec,
            runs,
            objects,
            beyond_pool,
        };
        vec![
            step(
                back_up.expect_files(ExpectedFiles::Any(self.archive())),
                PER_PROGRAM + INSTANCES * PER_COMPRESSOR,
            ),
            step(list, PER_PROGRAM),
            step(verify, PER_PROGRAM),
            step(restore, PER_PROGRAM),
        ]
    }

    fn back_up(&self, options: &[&str], source: &Path) -> RunSpec {
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
        RunSpec::command("backup", &self.disk_to_tape, arguments)
    }

    fn restore(&self, to: &Path) -> RunSpec {
        let mut spec = self.read("restore", &["--quiet"]);
        spec.arguments.push(to.into());
        spec
    }

    /// A run of `tape_to_disk` on the archive, with the given options.
    fn read(&self, name: &'static str, options: &[&str]) -> RunSpec {
        let mut arguments: Vec<OsString> = options.iter().map(Into::into).collect();
        arguments.extend(["--key-file".into(), self.key(), self.archive()].map(Into::into));
        RunSpec::command(name, &self.tape_to_disk, arguments)
    }

    fn key(&self) -> PathBuf {
        self.scratch.join("key")
    }

    fn archive(&self) -> PathBuf {
        self.scratch.join("archive.tap")
    }
}

/// Returns the path in the tree `root` of the file with that number.
fn path_of(root: &Path, number: u64) -> PathBuf {
    root.join(format!("{}/{number}", number / WIDTH))
}

/// Makes a tree, and calls `make` for the number and the path of each file with a number below
/// `count`.
pub(super) fn fill(
    root: &Path,
    count: u64,
    make: impl Fn(u64, &Path) -> io::Result<()>,
) -> io::Result<()> {
    fs::create_dir(root)?;
    for number in 0..count {
        if number % WIDTH == 0 {
            fs::create_dir(root.join((number / WIDTH).to_string()))?;
        }
        make(number, &path_of(root, number))?;
    }
    Ok(())
}

/// A tree of files whose names are numbers.
struct NumberedTree {
    job: ArchiveJob,
    root: PathBuf,
}

impl NumberedTree {
    /// Makes an empty tree, after checking that `names` files with `bytes` bytes fit.
    fn new(bytes: u64, names: u64) -> Result<Self, Box<dyn Error>> {
        let job = ArchiveJob::new(Scratch::new(bytes, names + names / WIDTH)?)?;
        Ok(Self {
            root: job.scratch.join("tree"),
            job,
        })
    }

    /// Returns the case of a tree with the given totals.
    fn case(self, totals: FileTotals, runs: usize) -> Result<Case, Box<dyn Error>> {
        let restored = self.job.scratch.join("restored");
        let restore = self
            .job
            .restore(&restored)
            .expect_files(ExpectedFiles::Exactly(restored, totals));
        let directories = totals.files.div_ceil(WIDTH) + 1;
        let back_up = self.job.back_up(&[], &self.root);
        Ok(Case {
            steps: self.job.steps(
                back_up,
                restore,
                totals.files,
                totals.files + directories,
                runs,
            ),
            _resources: Box::new(self),
        })
    }
}
