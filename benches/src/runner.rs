//! Pairs of child processes, or series of them, and what each one used; or one, and how long it
//! says that things took.
//!
//! ```text
//!   warm-up     pair 1      pair 2      pair 3            each run: start, read its output, wait4
//!   peer ours | ours peer | peer ours | ours peer | ...
//! ```
//!
//! The two runs of a pair follow each other at once, and each pair gives one ratio: what slows the
//! machine down for longer than a pair slows both sides, and the ratio does not see it. The order
//! changes from pair to pair, so neither side always finds the caches as the other one left them.

use std::error::Error;
use std::fmt;
use std::fs;
use std::io::{self, Read};
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use wait4::Wait4;

use crate::workloads::{
    Case, Contest, Extent, Leaves, Measure, Prepare, Prints, Side, Step, Task, Workload,
};

/// How often the pool of a run is looked at.
const LOOK: Duration = Duration::from_millis(10);

/// What all runs of a workload used.
pub(crate) enum Outcome {
    Pairs {
        ours: &'static str,
        peer: &'static str,
        pairs: Vec<Pair>,
    },
    Series(Vec<CaseOutcome>),
    /// Each delay's times, sorted.
    Delays(Vec<Vec<f64>>),
}

/// What the steps of one case used, and why there are not more of them.
pub(crate) struct CaseOutcome {
    pub(crate) name: &'static str,
    pub(crate) rows: Vec<Row>,
    pub(crate) trouble: Option<Trouble>,
}

/// What the runs of one step used.
pub(crate) struct Row {
    pub(crate) step: &'static str,
    pub(crate) objects: u64,
    pub(crate) beyond_pool: u64,
    pub(crate) runs: Vec<Usage>,
}

/// What the two runs of one pair used.
pub(crate) struct Pair {
    pub(crate) ours: Usage,
    pub(crate) peer: Usage,
}

/// What one run used.
#[derive(Clone, Copy)]
pub(crate) struct Usage {
    wall: Duration,
    cpu: Duration,
    /// In bytes. A child starts with the resident set of its parent, so this one is kept small.
    peak: u64,
    /// Bytes of the pool, if it was there for long enough to be seen.
    pool: u64,
    /// Bytes that the run has left.
    size: Option<u64>,
}

/// Why there are no figures.
pub(crate) enum Trouble {
    /// The workload cannot be run here.
    Unprepared(Box<dyn Error>),
    /// The peer cannot be run here, or did not do its work.
    Peer { name: &'static str, reason: String },
    /// Our side did not do its work.
    Failed(String),
}

/// Prepares a workload, and runs it.
pub(crate) fn run(workload: &Workload) -> Result<Outcome, Trouble> {
    match workload.task {
        Task::Pairs { pairs, prepare, .. } => {
            run_pairs(&prepare().map_err(Trouble::Unprepared)?, pairs)
        }
        Task::Series { cases, .. } => Ok(Outcome::Series(
            cases
                .iter()
                .map(|&(name, prepare)| run_case(name, prepare))
                .collect(),
        )),
        Task::Delays { delays, prepare } => {
            run_delays(&prepare().map_err(Trouble::Unprepared)?, delays.len())
        }
    }
}

/// Whether datapipe did not do its work somewhere.
pub(crate) fn has_failed(result: &Result<Outcome, Trouble>) -> bool {
    match result {
        Ok(Outcome::Pairs { .. } | Outcome::Delays(_)) => false,
        Ok(Outcome::Series(cases)) => cases
            .iter()
            .any(|case| matches!(case.trouble, Some(Trouble::Failed(_)))),
        Err(trouble) => matches!(trouble, Trouble::Failed(_)),
    }
}

fn run_pairs(contest: &Contest, count: usize) -> Result<Outcome, Trouble> {
    let ours = || run_side(&contest.ours).map_err(Trouble::Failed);
    let peer = || {
        run_side(&contest.peer).map_err(|reason| Trouble::Peer {
            name: contest.peer.name,
            reason,
        })
    };
    // The peer first: one that is not there need not be waited for.
    peer()?;
    ours()?;
    let mut pairs = Vec::with_capacity(count);
    for number in 0..count {
        pairs.push(if number % 2 == 0 {
            let ours = ours()?;
            Pair {
                ours,
                peer: peer()?,
            }
        } else {
            let peer = peer()?;
            Pair {
                ours: ours()?,
                peer,
            }
        });
    }
    Ok(Outcome::Pairs {
        ours: contest.ours.name,
        peer: contest.peer.name,
        pairs,
    })
}

fn run_delays(side: &Side, count: usize) -> Result<Outcome, Trouble> {
    let (_, output) = checked(side).map_err(Trouble::Failed)?;
    let mut delays = vec![Vec::new(); count];
    for line in output.lines() {
        let times: Vec<f64> = line
            .split(' ')
            .filter_map(|time| time.parse().ok())
            .collect();
        if times.len() != count {
            return Err(Trouble::Failed(format!(
                "it printed \"{line}\" instead of {count} times"
            )));
        }
        delays
            .iter_mut()
            .zip(times)
            .for_each(|(delay, time)| delay.push(time));
    }
    if delays.iter().any(Vec::is_empty) {
        return Err(Trouble::Failed("it printed no times".to_owned()));
    }
    delays
        .iter_mut()
        .for_each(|times| times.sort_by(f64::total_cmp));
    Ok(Outcome::Delays(delays))
}

fn run_case(name: &'static str, prepare: Prepare<Case>) -> CaseOutcome {
    let mut outcome = CaseOutcome {
        name,
        rows: Vec::new(),
        trouble: None,
    };
    outcome.trouble = run_steps(prepare, &mut outcome.rows).err();
    outcome
}

fn run_steps(prepare: Prepare<Case>, rows: &mut Vec<Row>) -> Result<(), Trouble> {
    let case = prepare().map_err(Trouble::Unprepared)?;
    for Step {
        side,
        runs,
        objects,
        beyond_pool,
    } in &case.steps
    {
        let runs: Result<_, _> = (0..*runs).map(|_| run_side(side)).collect();
        rows.push(Row {
            step: side.name,
            objects: *objects,
            beyond_pool: *beyond_pool,
            runs: runs.map_err(|reason| Trouble::Failed(format!("{}: {reason}", side.name)))?,
        });
    }
    Ok(())
}

/// Runs one side once, and checks what it printed and left. The error says what went wrong.
fn run_side(side: &Side) -> Result<Usage, String> {
    checked(side).map(|(usage, _)| usage)
}

/// The same, with what it printed.
fn checked(side: &Side) -> Result<(Usage, String), String> {
    remove(side)
        .map_err(|error| format!("what an earlier run has left cannot be removed: {error}"))?;
    let (usage, output) = measure(side).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => format!("{} is not installed", side.program.display()),
        _ => format!("{} cannot be run: {error}", side.program.display()),
    })??;
    let output = output.trim_end_matches('\n').to_owned();
    match &side.prints {
        Prints::Anything => {}
        Prints::Exactly(_) if output.is_empty() => return Err("it printed nothing".to_owned()),
        Prints::Exactly(expected) if output == *expected => {}
        Prints::Exactly(expected) => {
            return Err(format!("it printed \"{output}\" instead of \"{expected}\""));
        }
    }
    let left = |path| {
        Extent::of(path).map_err(|error| format!("what it has left cannot be read: {error}"))
    };
    match &side.leaves {
        Leaves::Nothing => Ok((usage, output)),
        Leaves::Some(path) => Ok((
            Usage {
                size: Some(left(path)?.bytes),
                ..usage
            },
            output,
        )),
        Leaves::Exactly(path, expected) => match left(path)? {
            found if found == *expected => Ok((usage, output)),
            found => Err(format!("it left {found:?} instead of {expected:?}")),
        },
    }
}

/// Removes what a side leaves.
fn remove(side: &Side) -> io::Result<()> {
    let (Leaves::Some(path) | Leaves::Exactly(path, _)) = &side.leaves else {
        return Ok(());
    };
    let removed = match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// Runs one side once. The outer error is one of starting it, the inner one of its own.
fn measure(side: &Side) -> io::Result<Result<(Usage, String), String>> {
    let start = Instant::now();
    let mut child = Command::new(&side.program)
        .args(&side.arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let id = child.id();
    // All at once, for a child that waits until somebody reads the one may never end the other.
    let (output, complaints, pool) = thread::scope(|scope| {
        let (done, running) = mpsc::channel::<()>();
        let complaints = scope.spawn(|| read_all(stderr));
        let pool = scope.spawn(move || watch_pool(id, &running));
        let output = read_all(stdout);
        let complaints = complaints.join();
        drop(done);
        (output, complaints, pool.join())
    });
    let used = child.wait4()?;
    let wall = start.elapsed();
    if !used.status.success() {
        let complaints = complaints.unwrap_or_default();
        let last = complaints
            .trim_end()
            .lines()
            .next_back()
            .unwrap_or("nothing");
        return Ok(Err(format!(
            "it ended with {}, and said: {last}",
            used.status
        )));
    }
    let cpu = used.rusage.utime + used.rusage.stime;
    let pool = pool.unwrap_or_default();
    Ok(Ok((
        Usage {
            wall,
            cpu,
            peak: used.rusage.maxrss,
            pool,
            size: None,
        },
        output,
    )))
}

/// Looks at a process until it is done. Returns the most bytes that it had in shared memory of
/// ours.
fn watch_pool(id: u32, running: &Receiver<()>) -> u64 {
    let mut most = 0;
    while running.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
        // A process that is gone has none.
        let maps = fs::read_to_string(format!("/proc/{id}/maps")).unwrap_or_default();
        most = most.max(maps.lines().filter_map(segment_len).sum());
    }
    most
}

/// Bytes in a line of `/proc/PID/maps`, if it is one of our memory.
fn segment_len(line: &str) -> Option<u64> {
    let (range, rest) = line.split_once(' ')?;
    let (start, end) = range.split_once('-')?;
    let address = |text| u64::from_str_radix(text, 16).ok();
    rest.contains("/memfd:datapipe:")
        .then_some(address(end)?.checked_sub(address(start)?)?)
}

/// What can be read, as text.
fn read_all(from: Option<impl Read>) -> String {
    let mut bytes = Vec::new();
    if let Some(mut from) = from {
        // What was read before an error is there, and what is missing shows where it is compared.
        let _ = from.read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

impl Usage {
    /// One figure, in the unit that [`Measure`] states, if there is one.
    pub(crate) fn of(&self, measure: Measure) -> Option<f64> {
        let mebibytes = |bytes| bytes as f64 / f64::from(1 << 20);
        Some(match measure {
            Measure::Wall => self.wall.as_secs_f64(),
            Measure::Cpu => self.cpu.as_secs_f64(),
            Measure::Peak => mebibytes(self.peak),
            Measure::Pool => mebibytes(self.pool),
            Measure::Size => mebibytes(self.size?),
        })
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unprepared(reason) => write!(f, "skipped: {reason}"),
            Self::Peer { name, reason } => write!(f, "skipped beside {name}: {reason}"),
            Self::Failed(reason) => write!(f, "datapipe failed: {reason}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{env, process};

    use super::*;

    fn side(script: &str) -> Side {
        Side::other("sh", "sh", vec!["-c".into(), script.into()])
    }

    fn shell(script: &str, prints: Prints) -> Result<Usage, String> {
        run_side(&side(script).printing(prints))
    }

    #[test]
    fn what_a_side_prints_is_compared() {
        let expected = || Prints::Exactly("42".to_owned());
        assert!(shell("echo 42", expected()).is_ok());
        assert!(shell("true", Prints::Anything).is_ok());
        assert_eq!(
            shell("true", expected()).err().unwrap(),
            "it printed nothing"
        );
        assert_eq!(
            shell("echo 41", expected()).err().unwrap(),
            "it printed \"41\" instead of \"42\""
        );
    }

    #[test]
    fn a_side_that_fails_says_why() {
        let error = shell("echo first >&2; echo last >&2; exit 3", Prints::Anything)
            .err()
            .unwrap();
        assert_eq!(error, "it ended with exit status: 3, and said: last");
        let nobody = Side::other("nobody", "no-such-program-anywhere", Vec::new());
        assert_eq!(
            run_side(&nobody).err().unwrap(),
            "no-such-program-anywhere is not installed"
        );
    }

    #[test]
    fn time_is_counted_with_that_of_children() {
        let usage = shell(
            "(i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done); sleep 0.05",
            Prints::Anything,
        );
        let of = |measure| usage.as_ref().ok().unwrap().of(measure);
        assert!(of(Measure::Wall).unwrap() >= 0.05);
        assert!(of(Measure::Cpu).unwrap() > 0.001);
        assert!(of(Measure::Peak).unwrap() > 0.1);
        assert_eq!(of(Measure::Size), None);
    }

    #[test]
    fn delays_are_what_a_side_prints() {
        let run = |script| match run_delays(&side(script), 2) {
            Ok(Outcome::Delays(delays)) => Ok(delays),
            Ok(_) => panic!("delays"),
            Err(trouble) => Err(trouble.to_string()),
        };
        assert_eq!(
            run("echo 3 4; echo 1.5 9; echo 2 0.5").unwrap(),
            [[1.5, 2.0, 3.0], [0.5, 4.0, 9.0]]
        );
        let failed = |what: &str| format!("datapipe failed: it printed {what}");
        assert_eq!(
            run("echo 3 4; echo 1.5").unwrap_err(),
            failed("\"1.5\" instead of 2 times")
        );
        assert_eq!(
            run("echo 3 x").unwrap_err(),
            failed("\"3 x\" instead of 2 times")
        );
        assert_eq!(run("true").unwrap_err(), failed("no times"));
    }

    #[test]
    fn what_a_side_leaves_is_compared_and_made_anew() {
        let path = env::temp_dir().join(format!("datapipe-benches-{}", process::id()));
        let script = format!(
            "mkdir {0} && mkdir {0}/a && printf 42 > {0}/a/b && ln -s b {0}/c",
            path.display()
        );
        let expecting = |files, bytes| {
            run_side(&side(&script).leaving(Leaves::Exactly(path.clone(), Extent { files, bytes })))
        };
        assert!(expecting(2, 2).is_ok());
        let error = expecting(3, 2).err().unwrap();
        assert!(
            error.starts_with("it left Extent { files: 2, bytes: 2 } instead of"),
            "{error}"
        );
        let sized = run_side(&side(&script).leaving(Leaves::Some(path.clone())));
        assert_eq!(sized.ok().unwrap().size, Some(2));
        let idle = side("true").leaving(Leaves::Some(path));
        assert!(
            run_side(&idle)
                .err()
                .unwrap()
                .starts_with("what it has left cannot be read")
        );
    }

    #[test]
    fn shared_memory_of_ours_is_told_from_other_people_s() {
        let ours = "7f0000000000-7f0000003000 rw-s 00000000 00:01 7 /memfd:datapipe:1234 (deleted)";
        assert_eq!(segment_len(ours), Some(0x3000));
        assert_eq!(
            segment_len("7f0000000000-7f0000003000 rw-s 00000000 00:01 7 /memfd:other (deleted)"),
            None
        );
        assert_eq!(
            segment_len("7f0000000000-7f0000003000 rw-p 00000000 00:00 0"),
            None
        );
        assert_eq!(segment_len(""), None);
    }
}
