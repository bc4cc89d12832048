//! Orders to processes to die at a point: files that the processes take, and files that report it.

#![allow(
    unsafe_code,
    reason = "sets variables of the environment that the processes of pipes inherit"
)]

use std::fs;
use std::path::PathBuf;

use datapipe::memory::points::DIRECTORY;
use tempfile::TempDir;

/// Environment variable with the directory of temporary files.
const TEMPORARY: &str = "TMPDIR";

/// Creates the directory of orders, and an empty one for temporary files. The process must have one
/// thread.
pub(crate) fn settle() -> TempDir {
    let home = tempfile::tempdir().unwrap();
    for (variable, name) in [(DIRECTORY, "orders"), (TEMPORARY, "temporary")] {
        let directory = home.path().join(name);
        fs::create_dir(&directory).unwrap();
        // SAFETY: no other thread reads or writes the environment, because there is none.
        unsafe { std::env::set_var(variable, directory) };
    }
    home
}

fn directory() -> PathBuf {
    std::env::var_os(DIRECTORY).unwrap().into()
}

/// Returns the number of temporary files.
pub(crate) fn temporary_files() -> usize {
    fs::read_dir(std::env::temp_dir()).unwrap().count()
}

/// Orders for the first processes of one instance, one for each. Dropping this withdraws them.
pub(crate) struct Orders {
    who: String,
    count: u32,
}

impl Orders {
    /// Gives orders to `who`, which is `STAGE.INSTANCE` or `controller`. Each text is `LABEL PASS
    /// kill|stop`.
    pub(crate) fn give(who: String, texts: impl IntoIterator<Item = String>) -> Self {
        let mut count = 0;
        for text in texts {
            count += 1;
            fs::write(directory().join(format!("{who}.{count}")), text).unwrap();
        }
        Self { who, count }
    }

    /// Returns the process that came to the point of the `nth` order, if one did.
    pub(crate) fn reached(&self, nth: u32) -> Option<u32> {
        let file = |kind| directory().join(format!("{}.{nth}.{kind}", self.who));
        file("reached").exists().then(|| {
            fs::read_to_string(file("process"))
                .unwrap()
                .parse()
                .unwrap()
        })
    }

    /// Returns the number of orders that were carried out.
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
