//! What belongs to a process: children, descriptors, mapped segments, threads.

use std::fs;
use std::time::{Duration, Instant};

/// The children of a process, by their ids.
pub(crate) fn children_of(process: u32) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{process}/task"))
        .into_iter()
        .flatten()
        .flatten();
    let lists = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    lists
        .flat_map(|list| {
            list.split_whitespace()
                .map(|id| id.parse().unwrap())
                .collect::<Vec<_>>()
        })
        .collect()
}

pub(crate) fn children() -> Vec<u32> {
    children_of(std::process::id())
}

/// Children, open descriptors, the sockets among them, mappings of segments, threads, and named
/// segments.
pub(crate) fn belongings() -> [usize; 6] {
    let count = |path: &str| fs::read_dir(path).unwrap().count();
    let descriptors = fs::read_dir("/proc/self/fd").unwrap().flatten();
    let is_socket = |path: &std::path::PathBuf| path.to_string_lossy().starts_with("socket:");
    let sockets = descriptors
        .filter_map(|entry| fs::read_link(entry.path()).ok())
        .filter(is_socket)
        .count();
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let segments = maps
        .lines()
        .filter(|line| line.contains("datapipe:"))
        .count();
    let ours = format!(".{}.", std::process::id());
    let names = fs::read_dir("/dev/shm").unwrap().flatten();
    let named = names
        .filter(|entry| entry.file_name().to_string_lossy().contains(&ours))
        .count();
    [
        children().len(),
        count("/proc/self/fd"),
        sockets,
        segments,
        count("/proc/self/task"),
        named,
    ]
}

/// Waits for what has to happen; that it does not is a failure.
pub(crate) fn wait_until(what: &str, mut happened: impl FnMut() -> bool) {
    let start = Instant::now();
    while !happened() {
        assert!(
            start.elapsed() < Duration::from_secs(60),
            "waited in vain until {what}"
        );
        std::thread::sleep(Duration::from_millis(2));
    }
}
