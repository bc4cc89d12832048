//! The command line and the output of a test binary, for targets whose `main` is their own.

use std::time::Duration;

/// Returns the last line that every test binary prints.
pub(crate) fn last_line(
    verdict: &str,
    [passed, failed, filtered]: [u32; 3],
    took: Duration,
) -> String {
    format!(
        "test result: {verdict}. {passed} passed; {failed} failed; 0 ignored; 0 measured; \
         {filtered} filtered out; finished in {:.2}s\n",
        took.as_secs_f64()
    )
}

/// A request on the command line, as it concerns one test.
pub(crate) enum Asked {
    /// List the names of the matching tests. `ours`: this test matches.
    List { ours: bool },
    /// Run other tests.
    Nothing,
    /// Run this test.
    Run,
}

impl Asked {
    /// Parses the arguments that every test binary takes, for the test `name`. Ignores those that
    /// have no effect here.
    pub(crate) fn of(name: &str, mut arguments: impl Iterator<Item = String>) -> Self {
        let (mut list, mut exact, mut ignored) = (false, false, false);
        let (mut filters, mut skips) = (Vec::new(), Vec::new());
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--list" => list = true,
                "--exact" => exact = true,
                "--ignored" => ignored = true,
                "--skip" => skips.extend(arguments.next()),
                "--test-threads" | "--format" | "--color" | "--logfile" | "--shuffle-seed"
                | "-Z" => {
                    arguments.next();
                }
                option if option.starts_with('-') => {}
                _ => filters.push(argument),
            }
        }
        let matches = |filter: &String| {
            if exact {
                filter == name
            } else {
                name.contains(filter.as_str())
            }
        };
        let ours = !ignored
            && (filters.is_empty() || filters.iter().any(matches))
            && !skips.iter().any(matches);
        match (list, ours) {
            (true, ours) => Self::List { ours },
            (false, true) => Self::Run,
            (false, false) => Self::Nothing,
        }
    }
}
