//! Tables for people.

use datapipe::controller::ByteCount;

use super::text::{cell, clock, fitted, padded, width};
use crate::config::User;
use crate::protocol::{Activity, PipeEntry, PipeStatus, StageStatus};

/// Columns of a line from which a status has all its columns.
const WIDE: usize = 110;
/// Fewest columns of a label, a user or a stage that is shortened.
const SHORT: usize = 8;
/// Most columns of a name.
const LONG_NAME: usize = 40;

/// List of pipes as a table: a heading, and a line for each pipe, of at most `columns` columns.
///
/// A column is as wide as its longest value. Labels and then users are shortened if the state and
/// the time would not fit otherwise; names are not, because commands need them.
pub fn list_table(entries: &[PipeEntry], columns: usize) -> String {
    if entries.is_empty() {
        return "no pipes\n".to_owned();
    }
    let rows: Vec<_> = entries
        .iter()
        .map(|entry| {
            let owner = User(entry.owner).to_string();
            [cell(&entry.name), cell(&entry.label), cell(&owner)]
        })
        .collect();
    let longest = |column: usize, heading: &str| {
        let widths = rows.iter().map(|row| width(&row[column]));
        widths.max().unwrap_or(0).max(heading.len())
    };
    let names = longest(0, "pipe");
    let (mut labels, mut users) = (longest(1, "label"), longest(2, "user"));
    let states = entries.iter().map(|entry| width(&entry.state.to_string()));
    let states = states.max().unwrap_or(0).max(8);
    let mut excess = (names + labels + users + states + 16).saturating_sub(columns);
    for shortened in [&mut labels, &mut users] {
        let less = excess.min(shortened.saturating_sub(SHORT));
        *shortened -= less;
        excess -= less;
    }
    let line = |[name, label, user]: [&str; 3], state: &str, time: &str, why: &str| {
        let (name, label) = (padded(name, names), padded(label, labels));
        let user = padded(user, users);
        let line = format!("{name}  {label}  {user}  {state:<states$}  {time:>8}  {why}");
        fitted(line.trim_end(), columns) + "\n"
    };
    let mut table = line(["pipe", "label", "user"], "state", "time", "");
    for (entry, [name, label, user]) in entries.iter().zip(&rows) {
        table += &line(
            [name, label, user],
            &entry.state.to_string(),
            &clock(entry.elapsed),
            &cell(&entry.explanation),
        );
    }
    table
}

/// Status of a pipe and its stages as a table, with lines of at most `columns` columns. Rates and
/// shares of time cover the time since `before`, an earlier status of the same pipe, or since its
/// beginning.
pub fn status_table(now: &PipeStatus, before: Option<&PipeStatus>, columns: usize) -> String {
    let recent = recent(now, before);
    let entry = &now.entry;
    let (name, label) = (cell(&entry.name), cell(&entry.label));
    let facts = format!(
        "{}, {}, {} in all, {}/s",
        entry.state,
        clock(entry.elapsed),
        ByteCount(now.bytes()),
        ByteCount(recent.rate() as u64)
    );
    let room = columns.saturating_sub(width(&name) + width(&facts) + 4);
    let label = padded(&label, width(&label).min(room.max(SHORT)));
    let mut lines = vec![format!("{name}  {label}  {facts}")];
    if !entry.explanation.is_empty() {
        lines.push(format!("  {}", cell(&entry.explanation)));
    }
    if !now.stages.is_empty() {
        let names = now.stages.iter().map(|stage| width(&cell(&stage.name)));
        let names = names.max().unwrap_or(0).clamp(5, LONG_NAME);
        // 67 columns are for the others, with the longest activity.
        let names = match columns >= WIDE {
            true => names.max(16),
            false => names.min(columns.saturating_sub(67).max(SHORT)),
        };
        lines.push(heading(names, columns));
        let seconds = recent.entry.elapsed.as_secs_f64().max(1e-9);
        lines.extend(
            now.stages
                .iter()
                .zip(&recent.stages)
                .map(|(now, recent)| stage(now, recent, seconds, names, columns)),
        );
        lines.push(format!("  {} of {} buffers free", now.free, now.buffers));
        lines.extend(limit_text(now, &recent).map(|text| format!("  {text}")));
    }
    lines
        .iter()
        .map(|line| fitted(line, columns) + "\n")
        .collect()
}

/// Status whose rates are shown: the change since `before`. The rates of a pipe that has ended are
/// its averages.
pub(super) fn recent(now: &PipeStatus, before: Option<&PipeStatus>) -> PipeStatus {
    match before.filter(|_| !now.entry.state.is_final()) {
        Some(before) => now.since(before),
        None => now.clone(),
    }
}

/// Text about the stage that limits the pipe. `None` for a pipe that is over and has moved nothing.
pub(super) fn limit_text(now: &PipeStatus, recent: &PipeStatus) -> Option<String> {
    let is_over = now.entry.state.is_final();
    match recent.bottleneck() {
        Some(limit) => {
            let verb = if is_over { "was limited" } else { "limited" };
            let (stage, busy) = (cell(&limit.stage), limit.busy * 100.0);
            Some(format!("{verb} by {stage} ({busy:.0} % busy)"))
        }
        None if is_over => None,
        None => Some("nothing moves".to_owned()),
    }
}

fn heading(names: usize, columns: usize) -> String {
    let name = padded("stage", names);
    if columns >= WIDE {
        return format!(
            "  {name} {:>4}  {:>6}  {:>10}  {:>12}  {:>12}  {:>4}  {:>6}  doing",
            "inst", "busy", "in", "in/s", "out/s", "held", "queued"
        );
    }
    format!(
        "  {name} {:>4} {:>5} {:>6} {:>12} {:>12}  doing",
        "inst", "busy", "queued", "in/s", "out/s"
    )
}

fn stage(
    now: &StageStatus,
    recent: &StageStatus,
    seconds: f64,
    names: usize,
    columns: usize,
) -> String {
    let rate = |bytes: u64| format!("{}/s", ByteCount((bytes as f64 / seconds) as u64));
    let name = padded(&cell(&now.name), names);
    let (instances, busy) = (now.instances.len(), recent.busy() * 100.0);
    let (rate_in, rate_out) = (rate(recent.bytes_in()), rate(recent.bytes_out()));
    let (held, queued) = (now.held(), now.queued);
    if columns >= WIDE {
        let bytes = ByteCount(now.bytes_in()).to_string();
        let doing = activities(now);
        return format!(
            "  {name} {instances:>4}  {busy:>4.0} %  {bytes:>10}  {rate_in:>12}  {rate_out:>12}  \
             {held:>4}  {queued:>6}  {doing}"
        );
    }
    let doing = doing(now);
    format!(
        "  {name} {instances:>4} {busy:>3.0} % {queued:>6} {rate_in:>12} {rate_out:>12}  {doing}"
    )
}

/// Activity of the instances in at most 16 columns: that of all, or the number of those that work.
pub(super) fn doing(stage: &StageStatus) -> String {
    let of = |wanted: Activity| {
        let instances = stage.instances.iter();
        instances.filter(|i| i.activity == wanted).count()
    };
    let all = stage.instances.len();
    let Some(first) = stage.instances.first() else {
        return String::new();
    };
    if of(first.activity) < all {
        return format!("{} of {all} work", of(Activity::WORKING));
    }
    match first.activity {
        Activity::WAITING_FOR_BUFFER => "waits for buffer".to_owned(),
        Activity::WAITING_FOR_INPUT => "waits for input".to_owned(),
        Activity::WAITING_OUTSIDE => "waits outside".to_owned(),
        Activity::UNATTACHED => "no process yet".to_owned(),
        other => other.to_string(),
    }
}

/// Activities of the instances: `working`, or `2 working, 1 waiting for input`.
///
/// Equal activities become neighbours by sorting, and each run of them becomes one group.
fn activities(stage: &StageStatus) -> String {
    let mut activities: Vec<_> = stage
        .instances
        .iter()
        .map(|instance| instance.activity)
        .collect();
    activities.sort_unstable();
    let groups: Vec<_> = activities.chunk_by(|a, b| a == b).collect();
    let group = |group: &&[_]| match (groups.len(), group) {
        (1, [activity, ..]) => format!("{activity}"),
        (_, [activity, ..]) => format!("{} {activity}", group.len()),
        (_, []) => String::new(),
    };
    groups.iter().map(group).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::protocol::{InstanceStatus, PipeState};

    fn instance(activity: Activity, bytes: u64, working: u64, waiting: u64) -> InstanceStatus {
        InstanceStatus {
            activity,
            bytes_in: bytes,
            bytes_out: bytes,
            held: 1,
            working: Duration::from_secs(working),
            waited_for_input: Duration::from_secs(waiting),
            ..InstanceStatus::default()
        }
    }

    fn status(seconds: u64, bytes: u64) -> PipeStatus {
        let mut entry = PipeEntry::new("host.1.2", 0);
        entry.label = "nightly\x1b[2J".to_owned();
        entry.elapsed = Duration::from_secs(seconds);
        let slow = instance(Activity::WORKING, bytes, seconds, 0);
        let quick = instance(Activity::WAITING_FOR_INPUT, bytes, 1, seconds);
        let stage = |name: &str, instances| StageStatus {
            name: name.to_owned(),
            queued: 3,
            instances,
        };
        let stages = vec![
            stage("files", vec![slow.clone()]),
            stage("zstd", vec![slow, quick.clone()]),
            stage("tape", vec![quick]),
        ];
        PipeStatus {
            entry,
            buffers: 16,
            free: 5,
            stages,
        }
    }

    #[test]
    fn status_table_has_stages_rates_and_the_bottleneck() {
        let table = status_table(&status(10, 300 << 20), Some(&status(8, 100 << 20)), 200);
        let lines: Vec<_> = table.lines().collect();
        assert_eq!(
            lines[0],
            "host.1.2  nightly\\u{1b}[2J  running, 0:10, 300.0 MiB in all, 100.0 MiB/s"
        );
        assert_eq!(lines[1], heading(16, 200));
        assert!(
            lines[2].starts_with("  files               1   100 %   300.0 MiB   100.0 MiB/s"),
            "{table}"
        );
        assert!(
            lines[3].ends_with("  2       3  1 working, 1 waiting for input"),
            "{table}"
        );
        assert_eq!(lines[5], "  5 of 16 buffers free");
        assert_eq!(lines[6], "  limited by files (100 % busy)");
        assert!(
            status_table(&status(10, 5), None, 20)
                .lines()
                .all(|line| line.chars().count() <= 20)
        );
    }

    #[test]
    fn status_table_in_80_columns_has_all_that_an_operator_looks_for() {
        let mut wide = status(10, 300 << 20);
        wide.stages[1].name = "a stage with a name of some length".to_owned();
        wide.entry.label = "a label that is longer than most".to_owned();
        let table = status_table(&wide, Some(&status(8, 100 << 20)), 80);
        assert!(table.lines().all(|line| width(line) <= 80), "{table}");
        let lines: Vec<_> = table.lines().collect();
        assert!(
            lines[0].ends_with("running, 0:10, 300.0 MiB in all, 100.0 MiB/s"),
            "{table}"
        );
        assert!(lines[1].ends_with("doing"), "{table}");
        assert!(
            lines[2].ends_with("100.0 MiB/s  100.0 MiB/s  working"),
            "{table}"
        );
        assert!(lines[3].starts_with("  a stage with…    2"), "{table}");
        assert!(lines[3].ends_with("1 of 2 work"), "{table}");
        assert!(lines[4].ends_with("waits for input"), "{table}");
    }

    #[test]
    fn stage_that_merely_waited_limits_no_pipe() {
        let mut idle = status(10, 0);
        for stage in &mut idle.stages {
            stage.instances[0].activity = Activity::ENDED;
        }
        for instance in idle
            .stages
            .iter_mut()
            .flat_map(|stage| &mut stage.instances)
        {
            instance.held = 0;
        }
        assert!(status_table(&idle, None, 200).contains("nothing moves"));
        for state in [PipeState::STOPPED, PipeState::FAILED, PipeState::ENDED] {
            idle.entry.state = state;
            let table = status_table(&idle, None, 200);
            assert!(
                !table.contains("limited") && !table.contains("moves"),
                "{table}"
            );
        }
        let mut moved = status(10, 1 << 20);
        moved.entry.state = PipeState::STOPPED;
        moved.stages[0].instances[0].blocks_out = 1;
        let table = status_table(&moved, None, 200);
        assert!(table.contains("was limited by files"), "{table}");
    }

    #[test]
    fn list_table_in_80_columns_has_the_state_of_pipes_with_long_and_wide_labels() {
        let mut entry = status(7500, 0).entry;
        entry.label = "备份".repeat(40);
        let table = list_table(&[status(1, 0).entry, entry], 80);
        assert!(table.lines().all(|line| width(line) <= 80), "{table}");
        assert!(
            table
                .lines()
                .skip(1)
                .all(|line| line.contains("root  running")),
            "{table}"
        );
        assert!(table.contains("…") && table.contains("2:05:00"), "{table}");
    }

    #[test]
    fn status_table_of_a_failed_pipe_has_the_cause() {
        let mut failed = status(10, 1 << 20);
        failed.entry.state = PipeState::FAILED;
        failed.entry.explanation = "stage \"tape\": no space\nleft".to_owned();
        let table = status_table(&failed, Some(&failed), 200);
        assert!(table.contains("failed, 0:10"), "{table}");
        assert!(
            table.contains("stage \"tape\": no space\\nleft\n"),
            "{table}"
        );
    }

    #[test]
    fn list_table_has_a_line_for_each_pipe() {
        let mut failed = status(7500, 0).entry;
        failed.state = PipeState::FAILED;
        failed.explanation = "why".to_owned();
        let table = list_table(&[status(1, 0).entry, failed], 120);
        let lines: Vec<_> = table.lines().collect();
        assert_eq!(lines.len(), 3);
        assert!(lines[0].starts_with("pipe      label"), "{table}");
        assert!(lines[1].contains("root  running       0:01"), "{table}");
        assert!(lines[2].ends_with("failed     2:05:00  why"), "{table}");
        assert_eq!(list_table(&[], 80), "no pipes\n");
    }
}
