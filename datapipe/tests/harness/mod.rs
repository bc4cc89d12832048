//! What whoever calls a test binary expects of it: for tests whose main is their own.

use std::time::Duration;

/// The line that every test binary ends with.
pub(crate) fn last_line(
    verdict: &str,
    [passed, failed, filtered]: [u32; 3],
    took: Duration,
) -> String {
    format!(
        "test result: {verdict}. {passed} passed; {failed} failed; 0 ignored; 0 measured; {filtered} filtered out; \
         finished in {:.2}s\n",
        took.as_secs_f64()
    )
}

/// What whoever called the test binary wants.
pub(crate) enum Asked {
    /// The names of the tests that match.
    List { ours: bool },
    /// Some other test.
    Nothing,
    /// This one.
    Run,
}

impl Asked {
    /// Reads the arguments that every test binary takes, and ignores those that change nothing
    /// here.
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
