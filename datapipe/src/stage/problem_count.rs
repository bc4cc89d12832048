//! Number of problems of a pipe: the one definition of a pipe that ended well and is incomplete.

use std::collections::BTreeSet;

use super::mirror::Mirrors;

/// Number of problems that the reports of a pipe's stages count. Clones count the same.
///
/// A pipe with problems is incomplete: an object was not read as it was, a block is damaged or
/// missing, a name was not restored. Everything that is left out or kept on purpose is none.
#[derive(Clone, Debug, Default)]
pub(crate) struct ProblemCount {
    stages: Vec<Mirrors>,
    /// Problems from before the pipe, in logs that served another one.
    before: u64,
    /// Problems that no stage can report.
    more: u64,
}

impl ProblemCount {
    /// Counts the problems of these stages from now on.
    pub(crate) fn new(stages: Vec<Mirrors>) -> Self {
        let mut count = Self {
            stages,
            ..Self::default()
        };
        count.before = count.get();
        count
    }

    /// Counts a further problem if `is_unchecked`: the pipe reads an archive, and no stage compares
    /// the blocks that come with those that must.
    pub(crate) fn unless_checked(mut self, is_unchecked: bool) -> Self {
        self.more = u64::from(is_unchecked);
        self
    }

    /// Number of problems so far. It is final when the pipe has ended.
    pub(crate) fn get(&self) -> u64 {
        let mut seen = BTreeSet::new();
        let counts = self
            .stages
            .iter()
            .map(|stage| stage.problem_count(&mut seen));
        let all = counts.fold(0, u64::saturating_add);
        all.saturating_sub(self.before).saturating_add(self.more)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stage::DamageLog;
    use crate::stage::mirror::ReportKind;

    #[test]
    fn log_that_stages_share_counts_once_and_from_the_beginning_of_the_pipe() {
        let log = DamageLog::new();
        log.report(1, "of an earlier pipe");
        let stage = || Mirrors::default().with(&log);
        let count = ProblemCount::new(vec![stage(), stage()]);
        assert_eq!(count.get(), 0);
        log.report(2, "of this one");
        assert_eq!(count.get(), 1);
        // The report of a reader that has a log counts nothing that the log does not have.
        let reader = stage();
        let count = ProblemCount::new(vec![reader.clone(), stage()]);
        reader.receive_problems(0, ReportKind::Read as u8, 3);
        assert_eq!(count.get(), 0);
        let alone = Mirrors::default();
        alone.receive_problems(0, ReportKind::Read as u8, 3);
        assert_eq!(
            ProblemCount {
                stages: vec![alone],
                ..ProblemCount::default()
            }
            .get(),
            3
        );
    }
}
