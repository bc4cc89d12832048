//! The screen of a watch: for each pipe its rates, its queues as bars, and the stage that limits
//! it; fitted to the size of the terminal.

use datapipe::controller::ByteCount;

use super::line::{Line, Tone};
use super::table::{doing, limit_text, recent};
use super::text::{cell, clock, padded, width};
use super::watch::{Watch, WatchedPipe};
use crate::config::User;
use crate::protocol::{PipeState, PipeStatus, StageStatus};

/// Columns of the bar of a queue.
const BAR: usize = 8;
/// Most columns of the picture of a minute.
const PICTURE: usize = 60;
/// Columns of the picture in the line of a pipe without details.
const SMALL_PICTURE: usize = 12;
/// Fewest columns in which the activities of stages are shown.
const WITH_ACTIVITY: usize = 62;
/// Fewest columns in which bytes sent are shown beside those received.
const WITH_BOTH_RATES: usize = 100;
/// Most columns of a label.
const LABEL: usize = 32;

impl Watch {
    /// Draws the screen: at most `rows` lines of at most `columns` columns each.
    ///
    /// If not all pipes fit, the last ones have a line each, and if that is not enough, the last
    /// line has the number of those that are left out.
    pub fn screen(&self, columns: usize, rows: usize) -> Vec<Line> {
        let mut lines = vec![self.headline()];
        let room = rows.saturating_sub(2);
        lines.extend(self.body(columns, room));
        let mut footer = Line::default();
        footer.add(
            Tone::Faint,
            "q leaves; ▶ marks the stage that limits its pipe",
        );
        lines.push(footer);
        lines.truncate(rows);
        lines.iter_mut().for_each(|line| line.clip(columns));
        lines
    }

    /// Numbers of pipes in each state.
    fn headline(&self) -> Line {
        let mut states: Vec<_> = self.pipes.iter().map(|pipe| pipe.now.entry.state).collect();
        states.sort_unstable();
        let groups = states.chunk_by(|a, b| a == b);
        let counts = groups.filter_map(|group| Some(format!("{} {}", group.len(), group.first()?)));
        let counts = counts.collect::<Vec<_>>().join(", ");
        let mut line = Line::default();
        line.add(Tone::Strong, "datapiped").add(Tone::Plain, "  ");
        let counts = if counts.is_empty() {
            "no pipes".to_owned()
        } else {
            counts
        };
        line.add(Tone::Plain, counts);
        line
    }

    fn body(&self, columns: usize, room: usize) -> Vec<Line> {
        if self.pipes.len() > room {
            let shown = room.saturating_sub(1);
            let mut lines: Vec<_> = self.pipes.iter().take(shown).map(summary).collect();
            let left = self.pipes.len() - shown;
            let mut more = Line::default();
            more.add(
                Tone::Faint,
                format!("and {left} more: `datapiped list` has all"),
            );
            lines.push(more);
            return lines;
        }
        // Each pipe has a line; the first ones get what is left beyond that.
        let mut left = room - self.pipes.len();
        let mut lines = Vec::new();
        for pipe in &self.pipes {
            let details = details(pipe, columns);
            if details.len() - 1 <= left {
                left -= details.len() - 1;
                lines.extend(details);
            } else if self.pipes.len() == 1 {
                lines.extend(details.into_iter().take(room));
            } else {
                lines.push(summary(pipe));
            }
        }
        lines
    }
}

/// A pipe in one line.
fn summary(pipe: &WatchedPipe) -> Line {
    let mut line = title(&pipe.now);
    let recent = recent(&pipe.now, pipe.before.as_ref());
    line.add(
        Tone::Plain,
        format!("  {}/s  ", ByteCount(recent.rate() as u64)),
    );
    line.add(Tone::Good, pipe.history.picture(SMALL_PICTURE));
    if let Some(text) = limit_text(&pipe.now, &recent) {
        line.add(Tone::Notable, format!("  {text}"));
    }
    line
}

/// Name, state, time, owner and label of a pipe. The label is last, because its owner chooses its
/// length.
fn title(status: &PipeStatus) -> Line {
    let entry = &status.entry;
    let label = cell(&entry.label);
    let label = padded(&label, width(&label).min(LABEL));
    let tone = match entry.state {
        PipeState::RUNNING | PipeState::ENDED => Tone::Good,
        PipeState::WAITING | PipeState::STOPPING | PipeState::STOPPED => Tone::Notable,
        _ => Tone::Bad,
    };
    let mut line = Line::default();
    line.add(Tone::Strong, cell(&entry.name))
        .add(Tone::Plain, "  ");
    line.add(tone, entry.state.to_string());
    let (time, owner) = (clock(entry.elapsed), User(entry.owner));
    line.add(Tone::Plain, format!("  {time}  {owner}  {label}"));
    line
}

/// A pipe with its stages, and an empty line at the end.
fn details(pipe: &WatchedPipe, columns: usize) -> Vec<Line> {
    let now = &pipe.now;
    let recent = recent(now, pipe.before.as_ref());
    let mut lines = vec![title(now)];
    if !now.entry.explanation.is_empty() {
        let mut line = Line::default();
        line.add(Tone::Notable, format!("  {}", cell(&now.entry.explanation)));
        lines.push(line);
    }
    if !now.stages.is_empty() {
        lines.push(rates(pipe, &recent, columns));
        let layout = Layout::new(now, columns);
        lines.push(layout.heading());
        let limit = recent.bottleneck().map(|limit| limit.stage);
        let stages = now.stages.iter().zip(&recent.stages).enumerate();
        lines.extend(stages.map(|(position, (stage, recent_stage))| {
            let limits = limit.as_ref() == Some(&stage.name);
            layout.stage(position == 0, stage, recent_stage, &recent, limits)
        }));
        lines.push(buffers(now, &recent));
    }
    lines.push(Line::default());
    lines
}

/// Rates of a pipe, and the picture of its last minute.
fn rates(pipe: &WatchedPipe, recent: &PipeStatus, columns: usize) -> Line {
    let is_over = pipe.now.entry.state.is_final();
    let mut text = format!("  {} in all", ByteCount(pipe.now.bytes()));
    let rate = ByteCount(recent.rate() as u64);
    text += &match pipe.history.average().filter(|_| !is_over) {
        Some(minute) => format!(
            ", {rate}/s now, {}/s last minute  ",
            ByteCount(minute as u64)
        ),
        None => format!(", {rate}/s on average  "),
    };
    let room = columns.saturating_sub(width(&text)).min(PICTURE);
    let mut line = Line::default();
    line.add(Tone::Plain, text);
    line.add(Tone::Good, pipe.history.picture(room));
    line
}

/// Buffers of a pipe, and the stage that limits it.
fn buffers(now: &PipeStatus, recent: &PipeStatus) -> Line {
    let (free, all) = (now.free, now.buffers);
    let mut line = Line::default();
    line.add(Tone::Plain, format!("  {} ", bar(free, all)));
    line.add(Tone::Plain, format!("{free} of {all} buffers free"));
    if let Some(text) = limit_text(now, recent) {
        line.add(Tone::Plain, "; ").add(Tone::Notable, text);
    }
    line
}

/// Bar of `part` in `whole`. Anything above 0 is visible.
fn bar(part: u32, whole: u32) -> String {
    let eighths = u64::from(part.min(whole)) * (BAR as u64 * 8) / u64::from(whole.max(1));
    let eighths = match part.min(whole) {
        0 => 0,
        _ => eighths.max(1),
    };
    let (full, rest) = ((eighths / 8) as usize, (eighths % 8) as usize);
    let partial = [' ', '▏', '▎', '▍', '▌', '▋', '▊', '▉'].get(rest);
    let partial = partial.filter(|_| rest > 0);
    let mut bar = "█".repeat(full);
    bar.extend(partial);
    let missing = BAR.saturating_sub(width(&bar));
    bar + &"·".repeat(missing)
}

/// Columns of the stages.
struct Layout {
    names: usize,
    with_activity: bool,
    with_both_rates: bool,
    buffers: u32,
}

impl Layout {
    fn new(status: &PipeStatus, columns: usize) -> Self {
        let with_activity = columns >= WITH_ACTIVITY;
        let with_both_rates = columns >= WITH_BOTH_RATES;
        let longest = status.stages.iter().map(|stage| width(&cell(&stage.name)));
        let longest = longest.max().unwrap_or(0).max(5);
        let others = 40 + if with_activity { 18 } else { 0 } + if with_both_rates { 13 } else { 0 };
        Self {
            names: longest.min(columns.saturating_sub(others).max(4)),
            with_activity,
            with_both_rates,
            buffers: status.buffers,
        }
    }

    fn heading(&self) -> Line {
        let mut text = format!(
            "  {} {:>4} {:>5}  {:<13}",
            padded("stage", self.names),
            "inst",
            "busy",
            "queue"
        );
        text += &if self.with_both_rates {
            format!(" {:>12} {:>12}", "in/s", "out/s")
        } else {
            format!(" {:>12}", "rate")
        };
        if self.with_activity {
            text += "  doing";
        }
        let mut line = Line::default();
        line.add(Tone::Faint, text);
        line
    }

    /// Line of a stage. What waits for the head are free buffers, which are shown elsewhere.
    fn stage(
        &self,
        is_head: bool,
        now: &StageStatus,
        recent: &StageStatus,
        pipe: &PipeStatus,
        limits: bool,
    ) -> Line {
        let seconds = pipe.entry.elapsed.as_secs_f64().max(1e-9);
        let rate = |bytes: u64| format!("{}/s", ByteCount((bytes as f64 / seconds) as u64));
        let queue = match is_head {
            true => " ".repeat(BAR + 5),
            false => format!("{} {:>4}", bar(now.queued, self.buffers), now.queued),
        };
        let (rate_in, rate_out) = (rate(recent.bytes_in()), rate(recent.bytes_out()));
        let mut text = format!(
            "{} {:>4} {:>3.0} %  {queue}",
            padded(&cell(&now.name), self.names),
            now.instances.len(),
            recent.busy() * 100.0
        );
        text += &match (self.with_both_rates, is_head) {
            (true, _) => format!(" {rate_in:>12} {rate_out:>12}"),
            (false, true) => format!(" {rate_out:>12}"),
            (false, false) => format!(" {rate_in:>12}"),
        };
        if self.with_activity {
            text += &format!("  {}", doing(now));
        }
        let (mark, tone) = match limits {
            true => ("▶ ", Tone::Notable),
            false => ("  ", Tone::Plain),
        };
        let mut line = Line::default();
        line.add(tone, mark).add(tone, text);
        line
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::protocol::{Activity, InstanceStatus, PipeEntry};

    /// A pipe of three stages after some seconds, whose second stage is the slow one.
    fn status(name: &str, seconds: u64) -> PipeStatus {
        let mut entry = PipeEntry::new(name, 0);
        entry.label = "备份 \u{5d0}\u{5d1}\u{202e} and a label of some length".to_owned();
        entry.elapsed = Duration::from_secs(seconds);
        let stage = |name: &str, queued: u32, working: u64| StageStatus {
            name: name.to_owned(),
            queued,
            instances: vec![InstanceStatus {
                activity: Activity::WORKING,
                blocks_in: seconds,
                bytes_in: seconds << 20,
                bytes_out: seconds << 20,
                held: 1,
                working: Duration::from_secs(working * seconds),
                waited_for_input: Duration::from_secs((10 - working) * seconds),
                ..InstanceStatus::default()
            }],
        };
        let stages = vec![
            stage("files", 3, 4),
            stage("zstd", 9, 9),
            stage("a tail with a long name", 0, 1),
        ];
        PipeStatus {
            entry,
            buffers: 16,
            free: 3,
            stages,
        }
    }

    fn watch(pipes: usize) -> Watch {
        let mut watch = Watch::default();
        for seconds in [10, 11, 12] {
            let name = |pipe| format!("host.1.{pipe}");
            watch.update(
                (0..pipes)
                    .map(|pipe| status(&name(pipe), seconds))
                    .collect(),
            );
        }
        watch
    }

    fn text(lines: &[Line]) -> Vec<String> {
        lines.iter().map(Line::text).collect()
    }

    #[test]
    fn screen_has_queues_rates_and_the_limiting_stage() {
        let lines = watch(1).screen(80, 24);
        let shown = text(&lines);
        assert_eq!(shown[0], "datapiped  1 running");
        assert!(
            shown[1].starts_with("host.1.0  running  0:12  root  备份 "),
            "{shown:#?}"
        );
        assert!(
            shown[2].starts_with("  12.0 MiB in all, 1.0 MiB/s now, 1.0 MiB/s last minute  "),
            "{shown:#?}"
        );
        assert!(shown[2].ends_with(" █"), "{shown:#?}");
        assert!(shown[5].starts_with("▶ zstd"), "{shown:#?}");
        assert!(
            shown[5].contains(" 90 %  ████▌···    9    1.0 MiB/s  working"),
            "{shown:#?}"
        );
        assert!(shown[6].contains(" ········    0 "), "{shown:#?}");
        assert_eq!(
            shown[7],
            "  █▌······ 3 of 16 buffers free; limited by zstd (90 % busy)"
        );
        let marked = lines[5].pieces().next().unwrap();
        assert_eq!(marked, (Tone::Notable, "▶ "));
    }

    #[test]
    fn screen_fits_every_size() {
        for pipes in [0, 1, 2, 5, 40] {
            let watch = watch(pipes);
            for (columns, rows) in [(80, 24), (200, 60), (40, 10), (20, 3), (1, 1), (0, 0)] {
                let lines = watch.screen(columns, rows);
                assert!(lines.len() <= rows, "{pipes} pipes, {rows} rows");
                assert!(
                    lines.iter().all(|line| line.width() <= columns),
                    "{columns}"
                );
            }
        }
        let shown = text(&watch(40).screen(80, 24));
        assert_eq!(shown[22], "and 19 more: `datapiped list` has all");
        // Some with their stages, and each of the others in a line.
        let shown = text(&watch(5).screen(80, 24));
        assert_eq!(
            shown.iter().filter(|line| line.contains("host.1.")).count(),
            5
        );
        assert_eq!(
            shown.iter().filter(|line| line.contains("▶ zstd")).count(),
            2
        );
    }

    #[test]
    fn pipe_that_has_ended_stays_and_a_forgotten_one_goes() {
        let mut watch = watch(3);
        let mut ended = status("host.1.0", 13);
        ended.entry.state = PipeState::FAILED;
        ended.entry.explanation = "stage \"zstd\": \x1b[31mred\nlines".to_owned();
        watch.update(vec![ended, status("host.1.1", 13)]);
        assert_eq!(watch.live(), ["host.1.1"]);
        let shown = text(&watch.screen(80, 40));
        assert_eq!(shown[0], "datapiped  1 running, 1 failed");
        assert!(shown[2].contains("\\u{1b}[31mred\\nlines"), "{shown:#?}");
        for name in 0..20 {
            let mut ended = status(&format!("other.{name}"), 1);
            ended.entry.state = PipeState::ENDED;
            watch.update(vec![ended]);
        }
        assert_eq!(watch.pipes.len(), 8);
    }

    #[test]
    fn bars_show_what_is_not_nothing() {
        assert_eq!(bar(0, 16), "········");
        assert_eq!(bar(1, 10_000), "▏·······");
        assert_eq!(bar(8, 16), "████····");
        assert_eq!(bar(16, 16), "████████");
        assert_eq!(bar(99, 16), "████████");
        assert_eq!(bar(5, 0), "········");
    }
}
