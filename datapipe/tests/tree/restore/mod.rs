//! Trees put back from entries made by hand: everything as it was, nothing of what is damaged under
//! its name, and nothing outside of the destination, whatever the archive says.

mod damage;
mod hostile;
mod measure;
mod pack;
#[path = "../placed/mod.rs"]
mod placed;
mod walk;
mod whole;

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use datapipe::tree::{RestoreOptions, RestoreReport};

use pack::Pack;
use walk::{Seen, walk};

/// A destination with something beside it that nobody may touch.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) root: tempfile::TempDir,
    before: BTreeMap<String, Seen>,
}

impl Site {
    pub(crate) fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("dest")).unwrap();
        fs::create_dir_all(root.path().join("outside/folder")).unwrap();
        fs::write(root.path().join("outside/canary"), "sings").unwrap();
        let before = walk(&root.path().join("outside"));
        Self { root, before }
    }

    pub(crate) fn dest(&self) -> PathBuf {
        self.root.path().join("dest")
    }

    /// Restores, and sees that nothing outside has changed.
    pub(crate) fn restore(&self, pack: Pack, options: RestoreOptions) -> RestoreReport {
        let report = pack.restore(&self.dest(), options);
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
        report
    }

    pub(crate) fn plain(&self, pack: Pack) -> RestoreReport {
        self.restore(pack, RestoreOptions::default())
    }

    pub(crate) fn overwriting(&self, pack: Pack) -> RestoreReport {
        self.restore(
            pack,
            RestoreOptions {
                overwrite: true,
                ..RestoreOptions::default()
            },
        )
    }

    pub(crate) fn names(&self) -> Vec<String> {
        walk(&self.dest()).into_keys().collect()
    }
}

/// The paths of damaged objects.
pub(crate) fn damaged(report: &RestoreReport) -> Vec<String> {
    let paths = report.damaged();
    assert_eq!(report.damaged_count(), paths.len() as u64);
    paths
        .into_iter()
        .map(|path| String::from_utf8(path).unwrap())
        .collect()
}

/// All problems as text.
pub(crate) fn problems(report: &RestoreReport) -> String {
    report
        .problems()
        .iter()
        .map(|problem| format!("{problem}\n"))
        .collect()
}

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
