//! Tables for people.

use datapipe::controller::ByteCount;

use super::text::{clock, escaped_line, fitted};
use crate::config::User;
use crate::protocol::{PipeEntry, PipeStatus, StageStatus};

/// List of pipes as a table: a heading, and a line for each pipe, of at most `columns` characters.
///
/// Columns are as wide as their longest value, apart from the state, the time and the explanation,
/// which have a fixed width or are last.
pub fn list_table(entries: &[PipeEntry], columns: usize) -> String {
    if entries.is_empty() {
        return "no pipes\n".to_owned();
    }
    let width = |of: fn(&PipeEntry) -> String, heading: &str| {
        entries
            .iter()
            .map(|entry| of(entry).chars().count())
            .max()
            .unwrap_or(0)
            .max(heading.len())
    };
    let label = |entry: &PipeEntry| escaped_line(&entry.label);
    let owner = |entry: &PipeEntry| User(entry.owner).to_string();
    let (names, labels) = (
        width(|entry| escaped_line(&entry.name), "pipe"),
        width(label, "label"),
    );
    let users = width(owner, "user");
    let mut table = fitted(
        &format!(
            "{:<names$}  {:<labels$}  {:<users$}  {:<10}  {:>8}",
            "pipe", "label", "user", "state", "time"
        ),
        columns,
    );
    table.push('\n');
    for entry in entries {
        let mut line = format!(
            "{:<names$}  {:<labels$}  {:<users$}  {:<10}  {:>8}",
            escaped_line(&entry.name),
            label(entry),
            owner(entry),
            entry.state,
            clock(entry.elapsed)
        );
        if !entry.explanation.is_empty() {
            line += &format!("  {}", escaped_line(&entry.explanation));
        }
        table += &fitted(&line, columns);
        table.push('\n');
    }
    table
}

/// Status of a pipe and its stages as a table, with lines of at most `columns` characters. Rates
/// and shares of time cover the time since `before`, an earlier status of the same pipe, or since
/// its beginning.
pub fn status_table(now: &PipeStatus, before: Option<&PipeStatus>, columns: usize) -> String {
    // The rates of a pipe that has ended are its averages.
    let recent = match before.filter(|_| !now.entry.state.is_final()) {
        Some(before) => now.since(before),
        None => now.clone(),
    };
    let entry = &now.entry;
    let mut lines = vec![format!(
        "{}  {}  {}, {}, {} in all, {}/s",
        escaped_line(&entry.name),
        escaped_line(&entry.label),
        entry.state,
        clock(entry.elapsed),
        ByteCount(now.bytes()),
        ByteCount(recent.rate() as u64)
    )];
    if !entry.explanation.is_empty() {
        lines.push(format!("  {}", escaped_line(&entry.explanation)));
    }
    if !now.stages.is_empty() {
        lines.push(heading());
        let seconds = recent.entry.elapsed.as_secs_f64().max(1e-9);
        lines.extend(
            now.stages
                .iter()
                .zip(&recent.stages)
                .map(|(now, recent)| stage(now, recent, seconds)),
        );
        lines.push(format!("  {} of {} buffers free", now.free, now.buffers));
        lines.push(match recent.bottleneck() {
            Some(limit) => format!(
                "  limited by {} ({:.0} % busy)",
                escaped_line(&limit.stage),
                limit.busy * 100.0
            ),
            None => "  nothing moves".to_owned(),
        });
    }
    lines
        .iter()
        .map(|line| fitted(line, columns) + "\n")
        .collect()
}

fn heading() -> String {
    format!(
        "  {:<16} {:>4}  {:>6}  {:>10}  {:>12}  {:>12}  {:>4}  {:>6}  doing",
        "stage", "inst", "busy", "in", "in/s", "out/s", "held", "queued"
    )
}

fn stage(now: &StageStatus, recent: &StageStatus, seconds: f64) -> String {
    let rate = |bytes: u64| format!("{}/s", ByteCount((bytes as f64 / seconds) as u64));
    format!(
        "  {:<16} {:>4}  {:>4.0} %  {:>10}  {:>12}  {:>12}  {:>4}  {:>6}  {}",
        escaped_line(&now.name),
        now.instances.len(),
        recent.busy() * 100.0,
        ByteCount(now.bytes_in()).to_string(),
        rate(recent.bytes_in()),
        rate(recent.bytes_out()),
        now.held(),
        now.queued,
        activities(now)
    )
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
    use crate::protocol::{Activity, InstanceStatus, PipeState};

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
        assert_eq!(lines[1], heading());
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
        assert!(lines[1].contains("root  running         0:01"), "{table}");
        assert!(lines[2].ends_with("failed       2:05:00  why"), "{table}");
        assert_eq!(list_table(&[], 80), "no pipes\n");
    }
}
