//! The pipe that a command names.

use super::table::list_table;
use crate::protocol::PipeEntry;

/// Purpose for which a command names a pipe.
///
/// Exhaustive: a command changes a pipe, or it does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// The pipe is shown.
    Show,
    /// The pipe is stopped: a guess could stop another user's.
    Stop,
}

/// Returns the entry of the pipe that `wanted` names: its name, or else its label or the beginning
/// of its name.
///
/// If several match, one that lives is preferred to those that have ended; of several with that
/// label that have all ended, it is the last. A pipe to stop is not preferred to an ended one of
/// another user.
///
/// # Errors
///
/// An explanation, if no pipe matches or the choice would be a guess; in the latter case with a
/// table of the pipes that match, of at most `columns` columns.
pub fn find<'e>(
    entries: &'e [PipeEntry],
    wanted: &str,
    purpose: Purpose,
    columns: usize,
) -> Result<&'e PipeEntry, String> {
    if wanted.is_empty() {
        return Err("the name of the pipe is empty, and would match every pipe".to_owned());
    }
    if let Some(entry) = entries.iter().find(|entry| entry.name == wanted) {
        return Ok(entry);
    }
    let matches = |entry: &&PipeEntry| entry.label == wanted || entry.name.starts_with(wanted);
    let found: Vec<_> = entries.iter().filter(matches).collect();
    let mut live = found.clone();
    live.retain(|entry| !entry.state.is_final());
    let Some(last) = found.last() else {
        return Err(format!(
            "there is no pipe \"{wanted}\" among those that you may see: `datapiped list` has them"
        ));
    };
    let same_owner = found.iter().all(|entry| entry.owner == last.owner);
    let same_label = found.iter().all(|entry| entry.label == wanted);
    let chosen = match (&live[..], &found[..]) {
        (_, [only]) => Some(*only),
        ([only], _) if purpose == Purpose::Show || same_owner => Some(*only),
        ([], _) if same_label && same_owner => Some(*last),
        _ => None,
    };
    chosen.ok_or_else(|| {
        let found: Vec<_> = found.iter().copied().cloned().collect();
        let table = list_table(&found, columns);
        let table = table.trim_end();
        format!("several pipes match \"{wanted}\": give the name of one of them\n{table}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::PipeState;

    fn entry(name: &str, label: &str, owner: u32, state: PipeState) -> PipeEntry {
        let mut entry = PipeEntry::new(name, owner);
        entry.label = label.to_owned();
        entry.state = state;
        entry
    }

    fn found(entries: &[PipeEntry], wanted: &str, purpose: Purpose) -> Option<String> {
        let found = find(entries, wanted, purpose, 80);
        found.ok().map(|entry| entry.name.clone())
    }

    #[test]
    fn live_pipe_is_preferred_to_ended_ones_of_its_owner() {
        let entries = [
            entry("h.1.1", "nightly", 7, PipeState::FAILED),
            entry("h.1.2", "nightly", 7, PipeState::RUNNING),
            entry("h.1.3", "nightly", 7, PipeState::ENDED),
        ];
        for purpose in [Purpose::Show, Purpose::Stop] {
            assert_eq!(
                found(&entries, "nightly", purpose).as_deref(),
                Some("h.1.2")
            );
            assert_eq!(found(&entries, "h.1.3", purpose).as_deref(), Some("h.1.3"));
            assert_eq!(found(&entries, "", purpose), None);
            assert_eq!(found(&entries, "h.", purpose).as_deref(), Some("h.1.2"));
        }
    }

    #[test]
    fn live_pipe_of_another_user_is_not_stopped_instead_of_an_ended_one() {
        let entries = [
            entry("h.1.1", "backup", 7, PipeState::ENDED),
            entry("h.1.2", "backup", 8, PipeState::RUNNING),
        ];
        assert_eq!(found(&entries, "backup", Purpose::Stop), None);
        assert_eq!(
            found(&entries, "backup", Purpose::Show).as_deref(),
            Some("h.1.2")
        );
    }

    #[test]
    fn last_of_the_ended_pipes_with_a_label_is_found_and_no_other() {
        let entries = [
            entry("h.1.1", "backup", 7, PipeState::ENDED),
            entry("h.1.2", "backup", 7, PipeState::STOPPED),
        ];
        assert_eq!(
            found(&entries, "backup", Purpose::Show).as_deref(),
            Some("h.1.2")
        );
        assert_eq!(found(&entries, "h.1", Purpose::Show), None, "not a label");
    }

    #[test]
    fn label_that_is_a_part_of_another_name_is_ambiguous() {
        let entries = [
            entry("h.1.1", "a", 7, PipeState::RUNNING),
            entry("h.2.1", "h.1", 8, PipeState::RUNNING),
        ];
        for purpose in [Purpose::Show, Purpose::Stop] {
            let error = find(&entries, "h.1", purpose, 80).unwrap_err();
            assert!(error.contains("several pipes match \"h.1\""));
            assert!(error.contains("h.1.1") && error.contains("h.2.1"));
        }
    }
}
