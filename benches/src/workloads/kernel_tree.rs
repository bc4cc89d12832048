//! `README.md`, from "tree" to "tree-borg", and "processes": the source of the Linux kernel.

use std::error::Error;
use std::path::{Path, PathBuf};

use super::scratch::Scratch;
use super::{
    Bound, Comparison, ExpectedFiles, FileTotals, Measure, PAIRS, RunSpec, Task, Workload, programs,
};

const TARBALL: &str = "/usr/src/linux-source-6.1.tar.xz";

/// Directory in the tarball, and so in an archive of it.
const NAME: &str = "linux-source-6.1";

/// A file in the middle of the tree, by name.
const ONE: &str = "linux-source-6.1/drivers/md/raid5.c";

/// Bytes and files of a tree, rounded up generously. Each workload knows how many trees it keeps.
const TREE_LEN: u64 = 3 << 29;
const TREE_FILES: u64 = 90_000;

/// Number of pairs with a slow peer.
const FEW_PAIRS: usize = 3;

pub(super) const TREE: Workload = Workload {
    name: "tree",
    task: Task::Pairs {
        pairs: PAIRS,
        bounds: &[
            Bound {
                measure: Measure::Wall,
                at_most: 0.85,
            },
            Bound {
                measure: Measure::Size,
                at_most: 1.03,
            },
        ],
        prepare: tree,
    },
};

pub(super) const RESTORE: Workload = Workload {
    name: "restore",
    task: Task::Pairs {
        pairs: PAIRS,
        bounds: &[Bound {
            measure: Measure::Wall,
            at_most: 0.85,
        }],
        prepare: restore,
    },
};

pub(super) const ONE_FILE: Workload = Workload {
    name: "one-file",
    task: Task::Pairs {
        pairs: PAIRS,
        bounds: &[Bound {
            measure: Measure::Wall,
            at_most: 0.05,
        }],
        prepare: one_file,
    },
};

pub(super) const RESTIC: Workload = Workload {
    name: "tree-restic",
    task: Task::Pairs {
        pairs: FEW_PAIRS,
        bounds: &[],
        prepare: restic,
    },
};

pub(super) const BORG: Workload = Workload {
    name: "tree-borg",
    task: Task::Pairs {
        pairs: FEW_PAIRS,
        bounds: &[],
        prepare: borg,
    },
};

pub(super) const PROCESSES: Workload = Workload {
    name: "processes",
    task: Task::Pairs {
        pairs: PAIRS,
        bounds: &[Bound {
            measure: Measure::Wall,
            at_most: 1.1,
        }],
        prepare: processes,
    },
};

fn tree() -> Result<Comparison, Box<dyn Error>> {
    programs::require(&["tar", "zstd", "age"])?;
    let kernel = KernelTree::new(1)?;
    Ok(Comparison {
        ours: kernel.back_up()?,
        peer: kernel.tar()?,
        _resources: Some(Box::new(kernel)),
    })
}

fn restore() -> Result<Comparison, Box<dyn Error>> {
    programs::require(&["tar", "zstd", "age"])?;
    let kernel = KernelTree::new(3)?;
    programs::run(&kernel.back_up()?)?;
    programs::run(&kernel.tar()?)?;
    let whole = kernel.totals()?;
    let (ours, theirs) = (kernel.scratch.join("ours"), kernel.scratch.join("theirs"));
    Ok(Comparison {
        ours: kernel.restore("tape_to_disk", &[], &ours, whole)?,
        peer: programs::shell(
            "age | zstd | tar",
            r#"mkdir "$3" && age -d -i "$1" "$2" | zstd -q -d | tar x -C "$3""#,
            &[&kernel.identity(), &kernel.theirs(), &theirs],
        )
        .expect_files(ExpectedFiles::Exactly(theirs, whole)),
        _resources: Some(Box::new(kernel)),
    })
}

fn one_file() -> Result<Comparison, Box<dyn Error>> {
    let kernel = KernelTree::new(2)?;
    programs::run(&kernel.back_up()?)?;
    let one = FileTotals::of(&kernel.scratch.join(ONE))?;
    let whole = kernel.totals()?;
    let (part, all) = (kernel.scratch.join("part"), kernel.scratch.join("all"));
    Ok(Comparison {
        ours: kernel.restore("tape_to_disk --path", &["--path", ONE], &part, one)?,
        peer: kernel.restore("tape_to_disk", &[], &all, whole)?,
        _resources: Some(Box::new(kernel)),
    })
}

fn processes() -> Result<Comparison, Box<dyn Error>> {
    let kernel = KernelTree::new(1)?;
    let threads = kernel.back_up()?;
    let mut processes = kernel.back_up()?;
    processes.name = "disk_to_tape --processes";
    processes.arguments.insert(0, "--processes".into());
    Ok(Comparison {
        ours: processes,
        peer: threads,
        _resources: Some(Box::new(kernel)),
    })
}

/// Each run of the peer starts with a copy of an empty repository: the creation of a repository is
/// not part of the comparison. The same holds for [`borg`].
fn restic() -> Result<Comparison, Box<dyn Error>> {
    programs::require(&["restic"])?;
    let kernel = KernelTree::new(1)?;
    let (empty, repository) = (kernel.scratch.join("empty"), kernel.theirs());
    programs::output(
        "RESTIC_PASSWORD=password restic -q --no-cache -r \"$1\" init",
        &[&empty],
    )?;
    Ok(Comparison {
        ours: kernel.back_up()?,
        peer: programs::shell(
            "restic",
            r#"cp -a "$1" "$2" && cd "$3" && export RESTIC_PASSWORD=password
               exec restic -q --no-cache -r "$2" backup "$4""#,
            &[
                empty.as_os_str(),
                repository.as_ref(),
                kernel.parent().as_ref(),
                NAME.as_ref(),
            ],
        )
        .expect_files(ExpectedFiles::Any(repository)),
        _resources: Some(Box::new(kernel)),
    })
}

fn borg() -> Result<Comparison, Box<dyn Error>> {
    programs::require(&["borg"])?;
    let kernel = KernelTree::new(1)?;
    let (empty, base) = (kernel.scratch.join("empty"), kernel.theirs());
    // Borg remembers the path and the content of a repository. All of that is below its base
    // directory, which is copied as a whole.
    programs::output(
        r#"mkdir "$2"; export BORG_BASE_DIR="$2" BORG_PASSPHRASE=password
           borg init -e repokey-blake2 "$2/repository" && mv "$2" "$1""#,
        &[&empty, &base],
    )?;
    Ok(Comparison {
        ours: kernel.back_up()?,
        peer: programs::shell(
            "borg",
            r#"cp -a "$1" "$2" && cd "$3" && export BORG_BASE_DIR="$2" BORG_PASSPHRASE=password
               exec borg create -C zstd,3 "$2/repository::tree" "$4""#,
            &[
                empty.as_os_str(),
                base.as_ref(),
                kernel.parent().as_ref(),
                NAME.as_ref(),
            ],
        )
        .expect_files(ExpectedFiles::Any(base)),
        _resources: Some(Box::new(kernel)),
    })
}

/// The source, unpacked in memory, with the paths of keys and archives.
struct KernelTree {
    scratch: Scratch,
}

impl KernelTree {
    /// Unpacks the source. `trees` is the number of trees that exist at the same time; one or two
    /// archives come in addition.
    fn new(trees: u64) -> Result<Self, Box<dyn Error>> {
        programs::require(&["tar", "xz"])?;
        if !Path::new(TARBALL).exists() {
            return Err(
                format!("{TARBALL} does not exist: apt-get install linux-source-6.1").into(),
            );
        }
        let scratch = Scratch::new((trees + 1) * TREE_LEN, trees * TREE_FILES)?;
        let kernel = Self { scratch };
        programs::output(
            r#"tar xf "$1" -C "$2""#,
            &[Path::new(TARBALL), &kernel.parent()],
        )?;
        programs::make_key(&kernel.key())?;
        Ok(kernel)
    }

    /// Counts the files of the tree.
    fn totals(&self) -> Result<FileTotals, Box<dyn Error>> {
        Ok(FileTotals::of(&self.scratch.join(NAME))?)
    }

    /// Returns our backup of the tree.
    fn back_up(&self) -> Result<RunSpec, Box<dyn Error>> {
        let mut arguments = ["--compress", "zstd:3", "--quiet", "--key-file"]
            .map(Into::into)
            .to_vec();
        arguments.extend([self.key(), self.scratch.join(NAME), self.ours()].map(Into::into));
        let spec = RunSpec::command("disk_to_tape", programs::ours("disk_to_tape")?, arguments);
        Ok(spec.expect_files(ExpectedFiles::Any(self.ours())))
    }

    /// Returns the peer's backup: a pipeline of programs that do one thing each.
    fn tar(&self) -> Result<RunSpec, Box<dyn Error>> {
        let recipient = programs::output(
            r#"age-keygen -o "$1" 2> /dev/null && age-keygen -y "$1""#,
            &[self.identity()],
        )?;
        let spec = programs::shell(
            "tar | zstd | age",
            r#"tar c -C "$1" "$2" | zstd -q -3 -T2 | age -r "$3" -o "$4""#,
            &[
                self.parent().as_os_str(),
                NAME.as_ref(),
                recipient.as_ref(),
                self.theirs().as_ref(),
            ],
        );
        Ok(spec.expect_files(ExpectedFiles::Any(self.theirs())))
    }

    /// Returns our restore of the archive to `to`, which must leave `whole`.
    fn restore(
        &self,
        name: &'static str,
        options: &[&str],
        to: &Path,
        whole: FileTotals,
    ) -> Result<RunSpec, Box<dyn Error>> {
        let mut arguments: Vec<_> = options.iter().map(Into::into).collect();
        arguments.extend(["--quiet", "--key-file"].map(Into::into));
        arguments.extend([self.key(), self.ours(), to.to_owned()].map(Into::into));
        let spec = RunSpec::command(name, programs::ours("tape_to_disk")?, arguments);
        Ok(spec.expect_files(ExpectedFiles::Exactly(to.to_owned(), whole)))
    }

    fn parent(&self) -> PathBuf {
        self.scratch.join("")
    }

    fn key(&self) -> PathBuf {
        self.scratch.join("key")
    }

    fn identity(&self) -> PathBuf {
        self.scratch.join("identity")
    }

    fn ours(&self) -> PathBuf {
        self.scratch.join("ours.tap")
    }

    fn theirs(&self) -> PathBuf {
        self.scratch.join("theirs.tap")
    }
}
