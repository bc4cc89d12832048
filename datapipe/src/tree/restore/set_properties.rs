//! Comparison of what was set with what a file system has kept: some cut times, or ignore modes and
//! owners, without an error.

use rustix::fs::Stat;

use super::report::RestoreReport;
use crate::wire::ObjectMeta;

/// Properties that were set without an error.
#[derive(Clone, Copy, Debug)]
pub(super) struct SetProperties {
    pub(super) owner: bool,
    pub(super) mode: Option<u32>,
    pub(super) modified: bool,
}

impl SetProperties {
    /// Reports each property that the object does not have although it was set.
    pub(super) fn check(self, stat: &Stat, object: &ObjectMeta<'_>, report: &RestoreReport) {
        let lost = |what: String| {
            let what = format!("{what}: the file system does not keep it");
            report.record_problem(object.path, what);
        };
        if self.owner && (stat.st_uid, stat.st_gid) != (object.uid, object.gid) {
            lost(format!(
                "its owner is {}:{} instead of {}:{}",
                stat.st_uid, stat.st_gid, object.uid, object.gid
            ));
        }
        let mode = stat.st_mode & 0o7777;
        if let Some(wanted) = self.mode
            && mode != wanted
        {
            lost(format!("its mode is {mode:o} instead of {wanted:o}"));
        }
        let modified = (stat.st_mtime, stat.st_mtime_nsec);
        let wanted = (
            object.modified.seconds,
            u64::from(object.modified.nanoseconds),
        );
        if self.modified && modified != wanted {
            lost(format!(
                "its modification time is {}.{:09} instead of {}.{:09} seconds since 1970",
                modified.0, modified.1, wanted.0, wanted.1
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use std::fs::File;

    use super::*;
    use crate::wire::{ObjectKind, Time};

    /// A new file has the properties of one on a file system that ignores what is set.
    #[test]
    fn properties_that_were_set_and_did_not_arrive_are_named() {
        let file: File = tempfile::tempfile().unwrap();
        let stat = rustix::fs::fstat(&file).unwrap();
        let object = ObjectMeta {
            mode: 0o4755,
            uid: 70_000,
            gid: 70_001,
            modified: Time {
                seconds: 1_000_000_000,
                nanoseconds: 5,
            },
            kind: ObjectKind::File,
            size: 0,
            device: (0, 0),
            link: 0,
            linked: false,
            path: b"x",
            target: b"",
        };
        let report = RestoreReport::default();
        let nothing = SetProperties {
            owner: false,
            mode: None,
            modified: false,
        };
        nothing.check(&stat, &object, &report);
        assert!(report.snapshot().is_whole());
        let all = SetProperties {
            owner: true,
            mode: Some(0o4755),
            modified: true,
        };
        all.check(&stat, &object, &report);
        let problems = report.snapshot().problems;
        let texts: Vec<_> = problems.into_iter().map(|problem| problem.what).collect();
        assert_eq!(texts.len(), 3, "{texts:?}");
        assert!(texts[0].contains(" instead of 70000:70001: "), "{texts:?}");
        assert!(texts[1].contains(" instead of 4755: "), "{texts:?}");
        assert!(
            texts[2].contains(" instead of 1000000000.000000005 "),
            "{texts:?}"
        );
    }
}
