//! Memory that a pool may take: what the machine has available, and what the control groups of this
//! process leave of their limits.
//!
//! The kernel does not refuse a pool beyond a group's limit. It kills a process of the group while
//! the pool is reserved, or with `memory.high` slows all of them down. So the limits are compared
//! before. This module reads `/proc` and the control groups; what it cannot read does not limit.

use std::fs;
use std::path::{Path, PathBuf};

use super::segment_error::SegmentError;

/// Fails if a pool of `bytes` bytes is more than is available.
pub(super) fn check_memory(bytes: u64) -> Result<(), SegmentError> {
    check_at(Path::new("/"), bytes)
}

/// As [`check_memory`], with `proc` and the control groups below `root`.
fn check_at(root: &Path, bytes: u64) -> Result<(), SegmentError> {
    let machine = machine_available(root);
    if let Some(available) = machine
        && bytes > available
    {
        return Err(SegmentError::NotAvailable { bytes, available });
    }
    let tightest = groups(root).min_by_key(|group| group.available);
    match tightest {
        Some(group) if bytes > group.available => Err(SegmentError::ControlGroup {
            bytes,
            available: group.available,
            limit: group.limit,
            setting: group.setting,
            machine,
        }),
        _ => Ok(()),
    }
}

/// Returns the bytes that the machine has available.
fn machine_available(root: &Path) -> Option<u64> {
    let kib = field(&root.join("proc/meminfo"), "MemAvailable:")?;
    Some(kib.saturating_mul(1024))
}

/// A limit of a control group.
struct Limit {
    /// Bytes.
    limit: u64,
    /// Bytes that are left of it, with the file contents that the kernel would drop.
    available: u64,
    /// File that has the limit.
    setting: PathBuf,
}

/// A version of control groups: the files that have its limits, the use, and the pages of files
/// that can be dropped.
struct Version {
    limits: &'static [&'static str],
    usage: &'static str,
    droppable: [&'static str; 2],
}

const V1: Version = Version {
    limits: &["memory.limit_in_bytes"],
    usage: "memory.usage_in_bytes",
    droppable: ["total_inactive_file", "total_active_file"],
};
const V2: Version = Version {
    limits: &["memory.max", "memory.high"],
    usage: "memory.current",
    droppable: ["inactive_file", "active_file"],
};

/// Returns the limits of all control groups that this process is in.
fn groups(root: &Path) -> impl Iterator<Item = Limit> {
    let read = |name| fs::read_to_string(root.join(name)).unwrap_or_default();
    let (own, mounts) = (read("proc/self/cgroup"), read("proc/self/mountinfo"));
    let mut limits = Vec::new();
    for line in own.lines() {
        // hierarchy:controllers:path, where version 2 has no controllers
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else {
            continue;
        };
        let version = match controllers {
            "" => &V2,
            _ if controllers
                .split(',')
                .any(|controller| controller == "memory") =>
            {
                &V1
            }
            _ => continue,
        };
        let mounted = mounts
            .lines()
            .find_map(|mount| mount_point(mount, controllers, path));
        if let Some((top, below)) = mounted {
            let top = root.join(top.trim_start_matches('/'));
            let below = below.trim_start_matches('/');
            // The group itself, and all above it.
            for group in Path::new(below).ancestors() {
                version.read(&top.join(group), &mut limits);
            }
        }
    }
    limits.into_iter()
}

/// Returns the mount point of the hierarchy with these controllers and the path of the group below
/// it, if a line of `mountinfo` is that mount.
fn mount_point<'a>(mount: &'a str, controllers: &str, path: &'a str) -> Option<(&'a str, &'a str)> {
    // id parent device root mount-point options [tags] - type source options
    let (place, kind) = mount.split_once(" - ")?;
    let mut place = place.split(' ').skip(3);
    let (top, point) = (place.next()?, place.next()?);
    let mut kind = kind.split(' ');
    let (kind, options) = (kind.next()?, kind.nth(1)?);
    let is_it = match controllers {
        "" => kind == "cgroup2",
        _ => kind == "cgroup" && options.split(',').any(|option| option == "memory"),
    };
    // A group that the mount does not show is outside of a container, which has its own at the top.
    let below = path
        .strip_prefix(top.trim_end_matches('/'))
        .filter(|below| !below.contains(".."));
    is_it.then(|| (point, below.unwrap_or_default()))
}

impl Version {
    /// Adds the limits of a group.
    fn read(&self, group: &Path, limits: &mut Vec<Limit>) {
        let number = |name: &str| {
            let text = fs::read_to_string(group.join(name)).ok()?;
            text.trim().parse::<u64>().ok()
        };
        let Some(used) = number(self.usage) else {
            return;
        };
        let droppable = |name: &&str| field(&group.join("memory.stat"), name).unwrap_or(0);
        let droppable = self
            .droppable
            .iter()
            .map(droppable)
            .fold(0, u64::saturating_add);
        for name in self.limits {
            // Without a limit version 2 says "max", and version 1 a number near 2 to the 63rd.
            if let Some(limit) = number(name) {
                limits.push(Limit {
                    limit,
                    available: limit.saturating_sub(used.saturating_sub(droppable)),
                    setting: group.join(name),
                });
            }
        }
    }
}

/// Returns the first number after a name at the beginning of a line.
fn field(path: &Path, name: &str) -> Option<u64> {
    let text = fs::read_to_string(path).ok()?;
    text.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        (words.next() == Some(name)).then(|| words.next()?.parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    /// Writes files below a directory that is the root of a machine with 8 GiB.
    fn machine(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().expect("a directory");
        let all = [("proc/meminfo", "MemTotal: 9 kB\nMemAvailable: 8388608 kB\n")];
        for (name, text) in all.iter().chain(files) {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().expect("a parent")).expect("made");
            fs::write(path, text).expect("written");
        }
        root
    }

    /// Asserts that exactly so many MiB are accepted, and returns the error of one more.
    fn assert_limit(files: &[(&str, &str)], mib: u64) -> String {
        let root = machine(files);
        check_at(root.path(), mib * MIB).expect("accepted");
        let error = check_at(root.path(), mib * MIB + 1).expect_err("refused");
        error
            .to_string()
            .replace(&root.path().display().to_string(), "")
    }

    #[test]
    fn machine_without_control_groups_has_its_own_limit() {
        let error = assert_limit(&[], 8192);
        assert!(error.contains("only 8192 MiB are available"), "{error}");
        check_at(Path::new("/nowhere"), u64::MAX).expect("accepted: nothing is known");
    }

    #[test]
    fn tightest_group_of_version_2_limits() {
        let mounts = "31 23 0:28 / /sys/fs/cgroup rw,relatime shared:4 - cgroup2 cgroup2 rw\n";
        let mut files = vec![
            ("proc/self/cgroup", "0::/a/b\n"),
            ("proc/self/mountinfo", mounts),
            ("sys/fs/cgroup/a/memory.max", "536870912\n"),
            ("sys/fs/cgroup/a/memory.high", "268435456\n"),
            ("sys/fs/cgroup/a/memory.current", "209715200\n"),
            (
                "sys/fs/cgroup/a/memory.stat",
                "anon 9\ninactive_file 52428800\nactive_file 1048576\n",
            ),
            ("sys/fs/cgroup/a/b/memory.max", "max\n"),
            ("sys/fs/cgroup/a/b/memory.high", "max\n"),
            ("sys/fs/cgroup/a/b/memory.current", "0\n"),
        ];
        let error = assert_limit(&files, 256 - 200 + 51);
        for part in [
            "107 MiB",
            "of 256 MiB",
            "/sys/fs/cgroup/a/memory.high",
            "8192 MiB",
        ] {
            assert!(error.contains(part), "{part}: {error}");
        }
        // In a container the group is the top of what is mounted.
        if let Some(mountinfo) = files.get_mut(1) {
            mountinfo.1 = "31 23 0:28 /a /sys/fs/cgroup/a rw - cgroup2 cgroup2 rw\n";
        }
        assert_limit(&files, 256 - 200 + 51);
    }

    #[test]
    fn group_of_version_1_limits() {
        let mounts = "34 31 0:31 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
                      35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n";
        let none = "9223372036854771712\n";
        let error = assert_limit(
            &[
                ("proc/self/cgroup", "5:cpu:/\n4:memory:/job\n0::/\n"),
                ("proc/self/mountinfo", mounts),
                ("sys/fs/cgroup/memory/memory.limit_in_bytes", none),
                ("sys/fs/cgroup/memory/memory.usage_in_bytes", none),
                (
                    "sys/fs/cgroup/memory/memory.stat",
                    "total_inactive_file 9223372036854771712\n",
                ),
                (
                    "sys/fs/cgroup/memory/job/memory.limit_in_bytes",
                    "67108864\n",
                ),
                (
                    "sys/fs/cgroup/memory/job/memory.usage_in_bytes",
                    "1048576\n",
                ),
            ],
            63,
        );
        assert!(error.contains("job/memory.limit_in_bytes"), "{error}");
    }
}
