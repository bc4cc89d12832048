//! The pipe that a command names.

use super::table::list_table;
use crate::config::User;
use crate::protocol::PipeEntry;

/// Purpose for which a command names a pipe.
///
/// Exhaustive: a command changes a pipe, or shows what it does, or what it did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// The pipe is shown: of several, the one that lives.
    Show,
    /// The problems of a pipe are shown: of several with a label, which jobs that run every night
    /// have in common, the last one.
    Last,
    /// The pipe is stopped: a guess could stop the wrong one.
    Stop,
}

/// Returns the entry of the pipe that `wanted` names: its name, or else its label or the beginning
/// of its name, or these after the name or number of its owner and a slash (`alice/nightly`).
///
/// If several match, only those of the user `own` count, if there are any. Of those that are left,
/// one that lives is preferred to those that have ended; of several with that label that have all
/// ended, it is the last. Pipes of several other users are never chosen from.
///
/// # Errors
///
/// An explanation, if no pipe matches or the choice would be a guess; in the latter case with a
/// table of the pipes that match, of at most `columns` columns.
pub fn find<'e>(
    entries: &'e [PipeEntry],
    wanted: &str,
    own: User,
    purpose: Purpose,
    columns: usize,
) -> Result<&'e PipeEntry, String> {
    if wanted.is_empty() {
        return Err("the name of the pipe is empty, and would match every pipe".to_owned());
    }
    if let Some(entry) = entries.iter().find(|entry| entry.name == wanted) {
        return Ok(entry);
    }
    let mut found = matching(entries, wanted);
    if found.iter().any(|entry| entry.owner == own.0) {
        found.retain(|entry| entry.owner == own.0);
    }
    let Some(last) = found.last() else {
        return Err(format!(
            "there is no pipe \"{wanted}\" among those that you may see: `datapiped list` has them"
        ));
    };
    let (name, owners) = match found.iter().all(|entry| entry.owner == last.owner) {
        true => (choose(&found, wanted, purpose), ""),
        false => (None, " of several users"),
    };
    name.ok_or_else(|| {
        let found: Vec<_> = found.iter().copied().cloned().collect();
        let table = list_table(&found, columns);
        let or = match owners {
            "" => "",
            _ => ", or put the user and a slash before the label (USER/LABEL)",
        };
        format!(
            "several pipes{owners} match \"{wanted}\": give the name of one of them{or}\n{}",
            table.trim_end()
        )
    })
}

/// Returns the entries whose label is `wanted` or whose name begins with it, and, if `wanted` is
/// that after a user and a slash, those of that user. A user can give a pipe a label that looks
/// like another user's: both are found then, and neither is chosen.
fn matching<'e>(entries: &'e [PipeEntry], wanted: &str) -> Vec<&'e PipeEntry> {
    let is_named = |entry: &PipeEntry, wanted: &str| {
        !wanted.is_empty() && (entry.label == wanted || entry.name.starts_with(wanted))
    };
    let is_of = |entry: &PipeEntry, user: &str| {
        entry.owner.to_string() == user || User(entry.owner).to_string() == user
    };
    let of_user = |entry: &PipeEntry| match wanted.split_once('/') {
        Some((user, rest)) => is_named(entry, rest) && is_of(entry, user),
        None => false,
    };
    let matches = |entry: &&PipeEntry| is_named(entry, wanted) || of_user(entry);
    entries.iter().filter(matches).collect()
}

/// Chooses from pipes of one user, of which there is at least one; `None` if that were a guess.
fn choose<'e>(found: &[&'e PipeEntry], wanted: &str, purpose: Purpose) -> Option<&'e PipeEntry> {
    let label = wanted.split_once('/').map_or(wanted, |(_, label)| label);
    let is_label = |entry: &&&PipeEntry| entry.label == wanted || entry.label == label;
    if purpose == Purpose::Last
        && let Some(newest) = found.iter().rev().find(is_label)
    {
        return Some(newest);
    }
    let mut live = found.iter().filter(|entry| !entry.state.is_final());
    match (found, live.next(), live.next()) {
        ([only], ..) | (_, Some(only), None) => Some(only),
        (_, None, None) if found.iter().all(|entry| is_label(&entry)) => found.last().copied(),
        _ => None,
    }
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
        let found = find(entries, wanted, User(0), purpose, 80);
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
    fn own_pipe_is_preferred_to_those_of_others() {
        let entries = [
            entry("h.1.1", "backup", 0, PipeState::ENDED),
            entry("h.1.2", "backup", 8, PipeState::RUNNING),
            entry("h.1.3", "nightly", 8, PipeState::RUNNING),
        ];
        for purpose in [Purpose::Show, Purpose::Last, Purpose::Stop] {
            let found = |wanted| found(&entries, wanted, purpose);
            assert_eq!(found("backup").as_deref(), Some("h.1.1"));
            assert_eq!(found("8/backup").as_deref(), Some("h.1.2"));
            assert_eq!(found("root/backup").as_deref(), Some("h.1.1"));
            assert_eq!(found("8/h.1.3").as_deref(), Some("h.1.3"));
            assert_eq!(found("nightly").as_deref(), Some("h.1.3"));
            assert_eq!(
                (found("8/"), found("/"), found("9/backup")),
                (None, None, None)
            );
        }
    }

    #[test]
    fn label_of_pipes_of_several_other_users_is_an_error() {
        let entries = [
            entry("h.1.1", "backup", 7, PipeState::ENDED),
            entry("h.1.2", "backup", 8, PipeState::RUNNING),
            entry("h.1.3", "7/backup", 8, PipeState::RUNNING),
        ];
        for purpose in [Purpose::Show, Purpose::Last, Purpose::Stop] {
            let error = find(&entries, "backup", User(0), purpose, 80).unwrap_err();
            assert!(
                error.starts_with("several pipes of several users match"),
                "{error}"
            );
            assert!(
                error.contains("h.1.1") && error.contains("USER/LABEL"),
                "{error}"
            );
            // A label that looks like another user's takes nothing from that user in silence.
            let found = |wanted| found(&entries, wanted, purpose);
            assert_eq!(found("7/backup"), None);
            assert_eq!(found("8/backup").as_deref(), Some("h.1.2"));
            assert_eq!(found("8/7/backup").as_deref(), Some("h.1.3"));
            assert_eq!(found("8/"), None);
        }
    }

    #[test]
    fn newest_pipe_with_a_label_has_the_problems() {
        let entries = [
            entry("h.1.1", "backup", 7, PipeState::RUNNING),
            entry("h.1.2", "backup", 7, PipeState::ENDED),
        ];
        assert_eq!(
            found(&entries, "backup", Purpose::Last).as_deref(),
            Some("h.1.2")
        );
        assert_eq!(
            found(&entries, "backup", Purpose::Show).as_deref(),
            Some("h.1.1")
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
            let error = find(&entries, "h.1", User(0), purpose, 80).unwrap_err();
            assert!(error.contains("match \"h.1\""));
            assert!(error.contains("h.1.1") && error.contains("h.2.1"));
        }
    }
}
