//! Problems of a pipe, and pipes of the history.

use std::time::Duration;

use datapipe::Direction;
use datapipe::controller::ByteCount;
use serde_json::{Value, json};

use super::text::{clock, escaped_line, fitted, utc};
use crate::config::User;
use crate::protocol::{PastPipe, PipeProblems};

/// Problems of a pipe, a line for each, after their number.
pub fn problems_text(problems: &PipeProblems) -> String {
    let PipeProblems { count, last, .. } = problems;
    let shown = last.len() as u64;
    let mut text = match *count {
        0 => return "no problems\n".to_owned(),
        count if count > shown => format!("{count} problems, the last {shown}:\n"),
        1 => "1 problem:\n".to_owned(),
        count => format!("{count} problems:\n"),
    };
    for problem in last {
        text += &format!(
            "{}/{}: {}\n",
            escaped_line(&problem.stage),
            problem.instance,
            escaped_line(&problem.text)
        );
    }
    text
}

/// Problems of the pipe named `name` as a JSON object.
pub fn problems_json(name: &str, problems: &PipeProblems) -> Value {
    let last = problems.last.iter().map(|problem| {
        json!({
            "stage": problem.stage,
            "instance": problem.instance,
            "text": problem.text,
        })
    });
    json!({
        "pipe": name,
        "count": problems.count,
        "problems": last.collect::<Vec<_>>(),
    })
}

/// Pipe of the history as a JSON object.
pub fn past_pipe_json(pipe: &PastPipe) -> Value {
    json!({
        "pipe": pipe.name,
        "label": pipe.label,
        "uid": pipe.owner,
        "direction": match pipe.direction {
            Direction::Archive => "archive",
            Direction::Restore => "restore",
        },
        "state": pipe.state.to_string(),
        "started": utc(pipe.started),
        "started_unix_s": pipe.started as f64 / 1e3,
        "elapsed_s": pipe.duration as f64 / 1e3,
        "bytes": pipe.bytes,
        "problems": pipe.problems,
        "cause": pipe.cause,
    })
}

/// Pipes of the history as a table, with lines of at most `columns` characters.
pub fn history_table(pipes: &[PastPipe], columns: usize) -> String {
    if pipes.is_empty() {
        return "no pipes\n".to_owned();
    }
    let width = |heading: &str, of: &dyn Fn(&PastPipe) -> String| {
        let widths = pipes.iter().map(|pipe| of(pipe).chars().count());
        widths.max().unwrap_or_default().max(heading.len())
    };
    let name = |pipe: &PastPipe| escaped_line(&pipe.name);
    let label = |pipe: &PastPipe| escaped_line(&pipe.label);
    let owner = |pipe: &PastPipe| escaped_line(&User(pipe.owner).to_string());
    let (labels, users) = (width("label", &label), width("user", &owner));
    let names = width("pipe", &name);
    let heading = format!(
        "{:<20}  {:<10}  {:<labels$}  {:<users$}  {:>8}  {:>10}  {:>8}  {:<names$}",
        "started (UTC)", "state", "label", "user", "time", "bytes", "problems", "pipe"
    );
    let mut table = fitted(&heading, columns) + "\n";
    for pipe in pipes {
        let mut line = format!(
            "{:<20}  {:<10}  {:<labels$}  {:<users$}  {:>8}  {:>10}  {:>8}  {:<names$}",
            utc(pipe.started),
            pipe.state,
            label(pipe),
            owner(pipe),
            clock(Duration::from_millis(pipe.duration)),
            ByteCount(pipe.bytes).to_string(),
            pipe.problems,
            name(pipe)
        );
        if !pipe.cause.is_empty() {
            line += &format!("  {}", escaped_line(&pipe.cause));
        }
        table += &fitted(&line, columns);
        table.push('\n');
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{PipeProblem, PipeState};

    #[test]
    fn problems_have_a_line_each() {
        let mut problems = PipeProblems::default();
        assert_eq!(problems_text(&problems), "no problems\n");
        problems.last = vec![PipeProblem::new("head\n", 1, "\u{1b}[2J")];
        problems.count = 1;
        assert_eq!(
            problems_text(&problems),
            "1 problem:\nhead\\n/1: \\u{1b}[2J\n"
        );
        problems.count = 7;
        assert!(problems_text(&problems).starts_with("7 problems, the last 1:\n"));
        let json = problems_json("a", &problems);
        assert_eq!(
            (&json["count"], &json["problems"][0]["instance"]),
            (&7.into(), &1.into())
        );
    }

    #[test]
    fn history_has_a_line_for_each_pipe() {
        assert_eq!(history_table(&[], 80), "no pipes\n");
        let mut pipe = PastPipe::new("host.1.2", 0);
        pipe.label = "nightly\u{202e}".to_owned();
        (pipe.state, pipe.started, pipe.duration) = (PipeState::INCOMPLETE, 951_782_400_000, 7000);
        (pipe.bytes, pipe.problems, pipe.cause) = (3 << 20, 12, "12\nproblems".to_owned());
        let table = history_table(&[pipe.clone()], 200);
        let line = table.lines().nth(1).unwrap();
        assert_eq!(
            line,
            "2000-02-29T00:00:00Z  incomplete  nightly\\u{202e}  root      0:07     3.0 MiB        \
             12  host.1.2  12\\nproblems"
        );
        let narrow = history_table(&[pipe.clone()], 80);
        assert!(narrow.lines().all(|line| line.chars().count() <= 80));
        let json = past_pipe_json(&pipe);
        assert_eq!(
            (&json["state"], &json["elapsed_s"], &json["started"]),
            (
                &"incomplete".into(),
                &7.0.into(),
                &"2000-02-29T00:00:00Z".into()
            )
        );
    }
}
