//! `README.md`, from "tree" to "tree-borg", and "processes": the source of the Linux kernel.

use std::error::Error;
use std::path::Path;

use super::source_tree::SourceTree;
use super::{
    Bound, Comparison, ExpectedFiles, FileTotals, Measure, PAIRS, Task, Workload, programs,
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
    let kernel = unpack(1)?;
    Ok(Comparison {
        ours: kernel.back_up()?,
        peer: kernel.tar()?,
        _resources: Some(Box::new(kernel)),
    })
}

fn restore() -> Result<Comparison, Box<dyn Error>> {
    programs::require(&["tar", "zstd", "age"])?;
    let kernel = unpack(3)?;
    programs::run(&kernel.back_up()?)?;
    programs::run(&kernel.tar()?)?;
    let whole = kernel.totals()?;
    let (ours, theirs) = (kernel.join("ours"), kernel.join("theirs"));
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
    let kernel = unpack(2)?;
    programs::run(&kernel.back_up()?)?;
    let one = FileTotals::of(&kernel.join(ONE))?;
    let whole = kernel.totals()?;
    let (part, all) = (kernel.join("part"), kernel.join("all"));
    Ok(Comparison {
        ours: kernel.restore("tape_to_disk --path", &["--path", ONE], &part, one)?,
        peer: kernel.restore("tape_to_disk", &[], &all, whole)?,
        _resources: Some(Box::new(kernel)),
    })
}

fn processes() -> Result<Comparison, Box<dyn Error>> {
    let kernel = unpack(1)?;
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
    let kernel = unpack(1)?;
    let (empty, repository) = (kernel.join("empty"), kernel.theirs());
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
    let kernel = unpack(1)?;
    let (empty, base) = (kernel.join("empty"), kernel.theirs());
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

/// Unpacks the source. `trees` is the number of trees that exist at the same time; one or two
/// archives come in addition.
pub(super) fn unpack(trees: u64) -> Result<SourceTree, Box<dyn Error>> {
    programs::require(&["tar", "xz"])?;
    if !Path::new(TARBALL).exists() {
        return Err(format!("{TARBALL} does not exist: apt-get install linux-source-6.1").into());
    }
    let kernel = SourceTree::new(NAME, (trees + 1) * TREE_LEN, trees * TREE_FILES)?;
    programs::output(
        r#"tar xf "$1" -C "$2""#,
        &[Path::new(TARBALL), &kernel.parent()],
    )?;
    Ok(kernel)
}
