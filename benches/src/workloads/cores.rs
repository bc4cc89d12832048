//! `README.md`, "tree-2-cores" to "tree-16-cores": a backup on more and more processors.

use std::error::Error;

use rustix::thread::{CpuSet, sched_getaffinity};

use super::kernel_tree;
use super::{Comparison, RunSpec, Task, Workload, programs};

pub(super) const TWO: Workload = workload("tree-2-cores", || prepare(2));
pub(super) const FOUR: Workload = workload("tree-4-cores", || prepare(4));
pub(super) const EIGHT: Workload = workload("tree-8-cores", || prepare(8));
pub(super) const SIXTEEN: Workload = workload("tree-16-cores", || prepare(16));

const fn workload(
    name: &'static str,
    prepare: fn() -> Result<Comparison, Box<dyn Error>>,
) -> Workload {
    Workload {
        name,
        task: Task::Pairs {
            pairs: 3,
            bounds: &[],
            prepare,
        },
    }
}

/// Compares a backup on `cores` processors with one on a single one.
fn prepare(cores: usize) -> Result<Comparison, Box<dyn Error>> {
    programs::require(&["taskset"])?;
    let set = sched_getaffinity(None)?;
    let all: Vec<usize> = (0..CpuSet::MAX_CPU)
        .filter(|&cpu| set.is_set(cpu))
        .collect();
    let Some(chosen) = all.get(..cores) else {
        return Err(format!("{cores} processors are needed, and there are {}", all.len()).into());
    };
    let tree = kernel_tree::unpack(1)?;
    Ok(Comparison {
        ours: pinned(tree.back_up()?, "many cores", chosen),
        peer: pinned(tree.back_up()?, "one core", &chosen[..1]),
        _resources: Some(Box::new(tree)),
    })
}

/// Returns the run on these processors only.
fn pinned(spec: RunSpec, name: &'static str, processors: &[usize]) -> RunSpec {
    let list: Vec<_> = processors.iter().map(usize::to_string).collect();
    let mut arguments = vec!["-c".into(), list.join(",").into(), spec.program];
    arguments.extend(spec.arguments);
    RunSpec::command(name, "taskset", arguments).expect_files(spec.files)
}
