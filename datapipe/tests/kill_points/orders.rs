//! Tells processes where to die, by files that they take, and learns from files whether they did.

#![allow(
    unsafe_code,
    reason = "sets variables of the environment that the processes of pipes inherit"
)]

use std::fs;
use std::path::PathBuf;

use datapipe::memory::points::DIRECTORY;
use tempfile::TempDir;

/// What temporary files of the library, if there were any, would be beside.
const TEMPORARY: &str = "TMPDIR";

/// Makes the directory in which orders lie, and an empty one for temporary files. Called while
/// there is one thread.
pub(crate) fn settle() -> TempDir {
    let home = tempfile::tempdir().unwrap();
    for (variable, name) in [(DIRECTORY, "orders"), (TEMPORARY, "temporary")] {
        let directory = home.path().join(name);
        fs::create_dir(&directory).unwrap();
        // SAFETY: no other thread reads or writes the environment, for there is none.
        unsafe { std::env::set_var(variable, directory) };
    }
    home
}

fn directory() -> PathBuf {
    std::env::var_os(DIRECTORY).unwrap().into()
}

/// Files in the directory for temporary files.
pub(crate) fn temporary_files() -> usize {
    fs::read_dir(std::env::temp_dir()).unwrap().count()
}

/// Orders for the first processes of one instance, one for each. They are withdrawn when this is
/// dropped.
pub(crate) struct Orders {
    who: String,
    count: u32,
}

impl Orders {
    /// `who`: `STAGE.INSTANCE`, or `controller`. Each text: `LABEL PASS kill|stop`.
    pub(crate) fn lay_down(who: String, texts: impl IntoIterator<Item = String>) -> Self {
        let mut count = 0;
        for text in texts {
            count += 1;
            fs::write(directory().join(format!("{who}.{count}")), text).unwrap();
        }
        Self { who, count }
    }

    /// The process that came to the point that the `nth` order names, if one did.
    pub(crate) fn reached(&self, nth: u32) -> Option<u32> {
        let file = |kind| directory().join(format!("{}.{nth}.{kind}", self.who));
        file("reached").exists().then(|| {
            fs::read_to_string(file("process"))
                .unwrap()
                .parse()
                .unwrap()
        })
    }

    /// How many were carried out.
    pub(crate) fn carried_out(&self) -> u32 {
        (1..=self.count)
            .filter(|&nth| self.reached(nth).is_some())
            .count() as u32
    }
}

impl Drop for Orders {
    fn drop(&mut self) {
        for entry in fs::read_dir(directory()).unwrap().flatten() {
            fs::remove_file(entry.path()).unwrap();
        }
    }
}
