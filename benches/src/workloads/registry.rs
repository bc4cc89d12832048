//! Names of all workloads, and of the programs that this executable runs in child processes.

use super::workload::{Program, Workload};
use super::{
    copy, cores, deaths, growth, hand_over, kernel_tree, net, raw_stream, stream_to_tape,
    tiny_files,
};

/// Every workload, in the order in which they run.
pub(crate) const ALL: &[Workload] = &[
    hand_over::CHANNEL,
    hand_over::THREADS,
    hand_over::PROCESSES,
    hand_over::KERNEL_PIPE,
    raw_stream::WORKLOAD,
    net::TWO,
    net::FOUR,
    stream_to_tape::LARGE,
    stream_to_tape::SMALL,
    copy::WORKLOAD,
    copy::DISK,
    kernel_tree::TREE,
    kernel_tree::RESTORE,
    kernel_tree::ONE_FILE,
    kernel_tree::RESTIC,
    kernel_tree::BORG,
    kernel_tree::PROCESSES,
    cores::TWO,
    cores::FOUR,
    cores::EIGHT,
    cores::SIXTEEN,
    tiny_files::WORKLOAD,
    deaths::WORKLOAD,
    growth::FILES,
    growth::MEMORY,
];

/// Finds a workload by its name.
pub(crate) fn find(name: &str) -> Option<&'static Workload> {
    ALL.iter().find(|workload| workload.name == name)
}

/// Finds a program by its name.
pub(crate) fn program(name: &str) -> Option<Program> {
    match name {
        "deaths-datapipe" => Some(deaths::datapipe),
        "net-datapipe" => Some(net::datapipe),
        "raw-stream-datapipe" => Some(raw_stream::datapipe),
        _ => hand_over::program(name),
    }
}

#[cfg(test)]
mod tests {
    use super::super::workload::Task;
    use super::*;

    #[test]
    fn readme_defines_every_workload() {
        let readme = include_str!("../../README.md");
        for workload in ALL {
            let heading = format!("\n## `{}`\n", workload.name);
            assert_eq!(readme.matches(&heading).count(), 1, "{}", workload.name);
        }
    }

    #[test]
    fn number_of_pairs_is_odd() {
        for workload in ALL {
            if let Task::Pairs { pairs, .. } = workload.task {
                assert_eq!(pairs % 2, 1, "{}", workload.name);
            }
        }
    }
}
