//! A destination for restores, and a canary beside it.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use datapipe::tree::{RestoreOptions, RestoreOutcome};

use super::pack::Pack;
use super::walk::{Seen, walk};
use crate::placement::Placement;

/// A destination, and a folder beside it that no restore may change.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) root: tempfile::TempDir,
    before: BTreeMap<String, Seen>,
    /// Placement of the tails that restore.
    placement: Placement,
}

impl Site {
    pub(crate) fn new(placement: Placement) -> Self {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("dest")).unwrap();
        fs::create_dir_all(root.path().join("outside/folder")).unwrap();
        fs::write(root.path().join("outside/canary"), "sings").unwrap();
        let before = walk(&root.path().join("outside"));
        Self {
            root,
            before,
            placement,
        }
    }

    /// Path of the destination.
    pub(crate) fn dest(&self) -> PathBuf {
        self.root.path().join("dest")
    }

    /// Restores, and asserts that nothing outside has changed.
    pub(crate) fn restore(&self, pack: Pack, options: RestoreOptions) -> RestoreOutcome {
        self.restore_paths(pack, options, &[])
    }

    /// Restores these paths only, and asserts that nothing outside has changed.
    pub(crate) fn restore_paths(
        &self,
        pack: Pack,
        options: RestoreOptions,
        paths: &[Vec<u8>],
    ) -> RestoreOutcome {
        let report = pack.restore_paths(&self.dest(), options, paths, self.placement);
        self.assert_untouched();
        report
    }

    /// Asserts that nothing outside of the destination has changed.
    pub(crate) fn assert_untouched(&self) {
        assert_eq!(
            walk(&self.root.path().join("outside")),
            self.before,
            "the canary"
        );
        assert_eq!(
            fs::read_dir(self.root.path()).unwrap().count(),
            2,
            "nothing new beside the destination"
        );
    }

    /// Restores with the default options.
    pub(crate) fn plain(&self, pack: Pack) -> RestoreOutcome {
        self.restore(pack, RestoreOptions::default())
    }

    /// Restores over existing objects.
    pub(crate) fn overwriting(&self, pack: Pack) -> RestoreOutcome {
        self.restore(pack, RestoreOptions::default().overwrite(true))
    }

    /// Returns the paths of all objects in the destination.
    pub(crate) fn names(&self) -> Vec<String> {
        walk(&self.dest()).into_keys().collect()
    }
}

/// Returns the paths of damaged objects.
pub(crate) fn damaged(report: &RestoreOutcome) -> Vec<String> {
    let paths = &report.damaged;
    assert_eq!(report.damaged_count, paths.len() as u64);
    paths
        .iter()
        .map(|path| String::from_utf8(path.clone()).unwrap())
        .collect()
}

/// Returns all problems as text.
pub(crate) fn problems(report: &RestoreOutcome) -> String {
    report
        .problems
        .iter()
        .map(|problem| format!("{problem}\n"))
        .collect()
}

/// True if this process may do what only root may.
pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
