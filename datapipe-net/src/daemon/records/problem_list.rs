//! The last problems of a pipe, bounded in number and bytes.

use std::collections::VecDeque;

use parking_lot::Mutex;

use crate::limits::{KEPT_PROBLEMS, MAX_PROBLEM_BYTES};
use crate::protocol::PipeProblem;

/// The last problems of a pipe.
#[derive(Debug, Default)]
pub(in crate::daemon) struct ProblemList(Mutex<Problems>);

#[derive(Debug, Default)]
struct Problems {
    last: VecDeque<PipeProblem>,
    bytes: usize,
}

impl ProblemList {
    /// Adds a problem, and removes the oldest ones that have no room any more.
    pub(in crate::daemon) fn add(&self, problem: PipeProblem) {
        let mut problems = self.0.lock();
        problems.bytes += problem.len();
        problems.last.push_back(problem);
        while problems.last.len() > KEPT_PROBLEMS || problems.bytes > MAX_PROBLEM_BYTES {
            let Some(oldest) = problems.last.pop_front() else {
                return;
            };
            problems.bytes = problems.bytes.saturating_sub(oldest.len());
        }
    }

    /// A copy of the problems, the oldest first.
    pub(in crate::daemon) fn last(&self) -> Vec<PipeProblem> {
        self.0.lock().last.iter().cloned().collect()
    }

    /// The last problem in one line; empty if there is none.
    pub(in crate::daemon) fn newest(&self) -> String {
        let problems = self.0.lock();
        let newest = problems.last.back();
        newest.map_or_else(String::new, |problem| {
            format!("{}: {}", problem.stage, problem.text)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::MAX_PROBLEM;

    #[test]
    fn list_is_bounded_in_number_and_bytes() {
        let list = ProblemList::default();
        assert_eq!((list.last(), list.newest()), (vec![], String::new()));
        for n in 0..250 {
            list.add(PipeProblem::new("head", n, "lost"));
        }
        let last = list.last();
        assert_eq!((last.len(), last[0].instance), (KEPT_PROBLEMS, 150));
        for n in 0..250 {
            list.add(PipeProblem::new("head", n, &"é".repeat(MAX_PROBLEM)));
        }
        let last = list.last();
        let bytes: usize = last.iter().map(PipeProblem::len).sum();
        assert!(bytes <= MAX_PROBLEM_BYTES && bytes + MAX_PROBLEM + 4 > MAX_PROBLEM_BYTES);
        assert_eq!(last.last().map(|problem| problem.instance), Some(249));
        assert!(list.newest().starts_with("head: éé"));
    }
}
