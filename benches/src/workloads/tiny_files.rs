//! `README.md`, "tiny-files": a million files with less content than metadata.

use std::error::Error;
use std::fs;

use super::growth::{PAGE_AND_INODE, WIDTH, fill};
use super::source_tree::SourceTree;
use super::{Bound, Comparison, Measure, Task, Workload, programs};

const FILES: u64 = 1_000_000;

/// Memory for both archives, in bytes.
const ARCHIVES_LEN: u64 = 256 << 20;

pub(super) const WORKLOAD: Workload = Workload {
    name: "tiny-files",
    task: Task::Pairs {
        pairs: 3,
        bounds: &[
            Bound {
                measure: Measure::Wall,
                at_most: 0.45,
            },
            Bound {
                measure: Measure::Size,
                at_most: 3.0,
            },
        ],
        prepare,
    },
};

fn prepare() -> Result<Comparison, Box<dyn Error>> {
    programs::require(&["tar", "zstd", "age"])?;
    let bytes = FILES * PAGE_AND_INODE + ARCHIVES_LEN;
    let tree = SourceTree::new("tiny", bytes, FILES + FILES / WIDTH)?;
    fill(&tree.root(), FILES, |number, path| {
        fs::write(path, format!("the content of file {number:10}"))
    })?;
    Ok(Comparison {
        ours: tree.back_up()?,
        peer: tree.tar()?,
        _resources: Some(Box::new(tree)),
    })
}
