//! `README.md`, from "tree" to "tree-borg", and "processes": the kernel's source.

use std::error::Error;
use std::path::{Path, PathBuf};

use super::scratch::Scratch;
use super::{Bound, Contest, Extent, Leaves, Measure, PAIRS, Side, Task, Workload, programs};

const TARBALL: &str = "/usr/src/linux-source-6.1.tar.xz";

/// What the tarball holds, and what is therefore restored.
const NAME: &str = "linux-source-6.1";

/// A file in the middle, by name.
const ONE: &str = "linux-source-6.1/drivers/md/raid5.c";

/// Bytes and files of a tree, with room to spare. Each workload says how many trees it keeps.
const TREE_LEN: u64 = 3 << 29;
const TREE_FILES: u64 = 90_000;

/// Pairs with a peer that is slow.
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

fn tree() -> Result<Contest, Box<dyn Error>> {
    programs::need(&["tar", "zstd", "age"])?;
    let kernel = Kernel::new(1)?;
    Ok(Contest {
        ours: kernel.back_up()?,
        peer: kernel.tar()?,
        _material: Some(Box::new(kernel)),
    })
}

fn restore() -> Result<Contest, Box<dyn Error>> {
    programs::need(&["tar", "zstd", "age"])?;
    let kernel = Kernel::new(3)?;
    programs::run(&kernel.back_up()?)?;
    programs::run(&kernel.tar()?)?;
    let whole = kernel.extent()?;
    let (ours, theirs) = (kernel.scratch.join("ours"), kernel.scratch.join("theirs"));
    Ok(Contest {
        ours: kernel.restore("tape_to_disk", &[], &ours, whole)?,
        peer: programs::shell(
            "age | zstd | tar",
            r#"mkdir "$3" && age -d -i "$1" "$2" | zstd -q -d | tar x -C "$3""#,
            &[&kernel.identity(), &kernel.theirs(), &theirs],
        )
        .leaving(Leaves::Exactly(theirs, whole)),
        _material: Some(Box::new(kernel)),
    })
}

fn one_file() -> Result<Contest, Box<dyn Error>> {
    let kernel = Kernel::new(2)?;
    programs::run(&kernel.back_up()?)?;
    let one = Extent::of(&kernel.scratch.join(ONE))?;
    let whole = kernel.extent()?;
    let (part, all) = (kernel.scratch.join("part"), kernel.scratch.join("all"));
    Ok(Contest {
        ours: kernel.restore("tape_to_disk --path", &["--path", ONE], &part, one)?,
        peer: kernel.restore("tape_to_disk", &[], &all, whole)?,
        _material: Some(Box::new(kernel)),
    })
}

fn processes() -> Result<Contest, Box<dyn Error>> {
    let kernel = Kernel::new(1)?;
    let threads = kernel.back_up()?;
    let mut processes = kernel.back_up()?;
    processes.name = "disk_to_tape --processes";
    processes.arguments.insert(0, "--processes".into());
    Ok(Contest {
        ours: processes,
        peer: threads,
        _material: Some(Box::new(kernel)),
    })
}

/// Both have a repository that is made anew by copying an empty one: the making of it is not their
/// work here.
fn restic() -> Result<Contest, Box<dyn Error>> {
    programs::need(&["restic"])?;
    let kernel = Kernel::new(1)?;
    let (empty, repository) = (kernel.scratch.join("empty"), kernel.theirs());
    programs::output(
        "RESTIC_PASSWORD=password restic -q --no-cache -r \"$1\" init",
        &[&empty],
    )?;
    Ok(Contest {
        ours: kernel.back_up()?,
        peer: programs::shell(
            "restic",
            r#"cp -a "$1" "$2" && cd "$3" && RESTIC_PASSWORD=password exec restic -q --no-cache -r "$2" backup "$4""#,
            &[empty.as_os_str(), repository.as_ref(), kernel.parent().as_ref(), NAME.as_ref()],
        )
        .leaving(Leaves::Some(repository)),
        _material: Some(Box::new(kernel)),
    })
}

fn borg() -> Result<Contest, Box<dyn Error>> {
    programs::need(&["borg"])?;
    let kernel = Kernel::new(1)?;
    let (empty, base) = (kernel.scratch.join("empty"), kernel.theirs());
    // It remembers where a repository was, and what was in it: all of that is below its base.
    programs::output(
        r#"mkdir "$2"; export BORG_BASE_DIR="$2" BORG_PASSPHRASE=password
           borg init -e repokey-blake2 "$2/repository" && mv "$2" "$1""#,
        &[&empty, &base],
    )?;
    Ok(Contest {
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
        .leaving(Leaves::Some(base)),
        _material: Some(Box::new(kernel)),
    })
}

/// The source, unpacked in memory, and where the rest is.
struct Kernel {
    scratch: Scratch,
}

impl Kernel {
    /// Unpacks it. There will be so many trees at a time, and an archive or two.
    fn new(trees: u64) -> Result<Self, Box<dyn Error>> {
        programs::need(&["tar", "xz"])?;
        if !Path::new(TARBALL).exists() {
            return Err(format!("{TARBALL} is not there: apt-get install linux-source-6.1").into());
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

    /// How much the tree holds.
    fn extent(&self) -> Result<Extent, Box<dyn Error>> {
        Ok(Extent::of(&self.scratch.join(NAME))?)
    }

    /// Our backup of the tree.
    fn back_up(&self) -> Result<Side, Box<dyn Error>> {
        let mut arguments = ["--compress", "zstd:3", "--quiet", "--key-file"]
            .map(Into::into)
            .to_vec();
        arguments.extend([self.key(), self.scratch.join(NAME), self.ours()].map(Into::into));
        let side = Side::other("disk_to_tape", programs::ours("disk_to_tape")?, arguments);
        Ok(side.leaving(Leaves::Some(self.ours())))
    }

    /// The backup of those who join the programs that do one thing each.
    fn tar(&self) -> Result<Side, Box<dyn Error>> {
        let recipient = programs::output(
            r#"age-keygen -o "$1" 2> /dev/null && age-keygen -y "$1""#,
            &[self.identity()],
        )?;
        let side = programs::shell(
            "tar | zstd | age",
            r#"tar c -C "$1" "$2" | zstd -q -3 -T2 | age -r "$3" -o "$4""#,
            &[
                self.parent().as_os_str(),
                NAME.as_ref(),
                recipient.as_ref(),
                self.theirs().as_ref(),
            ],
        );
        Ok(side.leaving(Leaves::Some(self.theirs())))
    }

    /// Our restore of that archive.
    fn restore(
        &self,
        name: &'static str,
        options: &[&str],
        to: &Path,
        whole: Extent,
    ) -> Result<Side, Box<dyn Error>> {
        let mut arguments: Vec<_> = options.iter().map(Into::into).collect();
        arguments.extend(["--quiet", "--key-file"].map(Into::into));
        arguments.extend([self.key(), self.ours(), to.to_owned()].map(Into::into));
        let side = Side::other(name, programs::ours("tape_to_disk")?, arguments);
        Ok(side.leaving(Leaves::Exactly(to.to_owned(), whole)))
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
