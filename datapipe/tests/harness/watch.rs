//! Counts what belongs to a process: children, descriptors, mapped segments, threads.

use std::fs;
use std::time::{Duration, Instant};

/// Returns the ids of a process's children.
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

/// Returns the ids of this process's children.
pub(crate) fn children() -> Vec<u32> {
    children_of(std::process::id())
}

/// Returns the numbers of children, open descriptors, sockets among them, mapped segments, threads
/// and named segments of this process.
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
        .filter(|line| line.contains("datapipe:") || line.contains("/dev/shm/datapipe-"))
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

/// Waits until `happened` returns true. Panics after a minute.
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
