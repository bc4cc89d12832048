//! Runs a workload: pairs or series of child processes with the resources that each of them used,
//! or one process with the delays that it printed.
//!
//! ```text
//!   warm-up     pair 1      pair 2      pair 3            each run: start, read its output, wait4
//!   peer ours | ours peer | peer ours | ours peer | ...
//! ```
//!
//! The two runs of a pair follow each other immediately, and each pair gives one ratio. A
//! disturbance that lasts longer than a pair slows both sides, so it does not change the ratio. The
//! order alternates from pair to pair, so that neither side always runs with the caches that the
//! other one left.

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
    Case, Comparison, ExpectedFiles, ExpectedOutput, FileTotals, Measure, Prepare, RunSpec, Step,
    Task, Workload,
};

/// Interval at which the pool of a run is measured.
const POOL_INTERVAL: Duration = Duration::from_millis(10);

/// Figures of all runs of a workload.
pub(crate) enum WorkloadResult {
    Pairs {
        ours: &'static str,
        peer: &'static str,
        pairs: Vec<Pair>,
    },
    Series(Vec<CaseResult>),
    /// Sorted times of each delay, in milliseconds.
    Delays(Vec<Vec<f64>>),
}

/// Figures of the steps of one case, and the error that ended the case early.
pub(crate) struct CaseResult {
    pub(crate) name: &'static str,
    pub(crate) rows: Vec<StepResult>,
    pub(crate) error: Option<RunError>,
}

/// Figures of the runs of one step.
pub(crate) struct StepResult {
    pub(crate) step: &'static str,
    pub(crate) objects: u64,
    pub(crate) beyond_pool: u64,
    pub(crate) runs: Vec<Usage>,
}

/// Figures of the two runs of one pair.
pub(crate) struct Pair {
    pub(crate) ours: Usage,
    pub(crate) peer: Usage,
}

/// Resources that one run used.
#[derive(Clone, Copy)]
pub(crate) struct Usage {
    wall: Duration,
    cpu: Duration,
    /// Largest resident set, in bytes. A child starts with the resident set of its parent, so the
    /// resident set of this process is kept small.
    peak: u64,
    /// Size of the pool in bytes; 0 if the pool did not last until it was measured.
    pool: u64,
    /// Size of the files that the run has left, in bytes.
    size: Option<u64>,
}

/// Reason why there are no figures.
pub(crate) enum RunError {
    /// The workload cannot run on this machine.
    Unavailable(Box<dyn Error>),
    /// The peer cannot run on this machine, or did not do its work.
    Peer { name: &'static str, reason: String },
    /// Our side did not do its work.
    Failed(String),
}

/// Prepares and runs a workload.
pub(crate) fn run(workload: &Workload) -> Result<WorkloadResult, RunError> {
    match workload.task {
        Task::Pairs { pairs, prepare, .. } => {
            run_pairs(&prepare().map_err(RunError::Unavailable)?, pairs)
        }
        Task::Series { cases, .. } => Ok(WorkloadResult::Series(
            cases
                .iter()
                .map(|&(name, prepare)| run_case(name, prepare))
                .collect(),
        )),
        Task::Delays { delays, prepare } => {
            run_delays(&prepare().map_err(RunError::Unavailable)?, delays.len())
        }
    }
}

/// Returns true if datapipe did not do its work in some run. A skipped workload is not a failure.
pub(crate) fn is_failure(result: &Result<WorkloadResult, RunError>) -> bool {
    match result {
        Ok(WorkloadResult::Pairs { .. } | WorkloadResult::Delays(_)) => false,
        Ok(WorkloadResult::Series(cases)) => cases
            .iter()
            .any(|case| matches!(case.error, Some(RunError::Failed(_)))),
        Err(error) => matches!(error, RunError::Failed(_)),
    }
}

fn run_pairs(comparison: &Comparison, count: usize) -> Result<WorkloadResult, RunError> {
    let ours = || run_once(&comparison.ours).map_err(RunError::Failed);
    let peer = || {
        run_once(&comparison.peer).map_err(|reason| RunError::Peer {
            name: comparison.peer.name,
            reason,
        })
    };
    // The peer runs first: if it is not installed, our run is not needed.
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
    Ok(WorkloadResult::Pairs {
        ours: comparison.ours.name,
        peer: comparison.peer.name,
        pairs,
    })
}

fn run_delays(spec: &RunSpec, count: usize) -> Result<WorkloadResult, RunError> {
    let (_, output) = run_checked(spec).map_err(RunError::Failed)?;
    let mut delays = vec![Vec::new(); count];
    for line in output.lines() {
        let times: Vec<f64> = line
            .split(' ')
            .filter_map(|time| time.parse().ok())
            .collect();
        if times.len() != count {
            return Err(RunError::Failed(format!(
                "it printed \"{line}\" instead of {count} times"
            )));
        }
        delays
            .iter_mut()
            .zip(times)
            .for_each(|(delay, time)| delay.push(time));
    }
    if delays.iter().any(Vec::is_empty) {
        return Err(RunError::Failed("it printed no times".to_owned()));
    }
    delays
        .iter_mut()
        .for_each(|times| times.sort_by(f64::total_cmp));
    Ok(WorkloadResult::Delays(delays))
}

fn run_case(name: &'static str, prepare: Prepare<Case>) -> CaseResult {
    let mut outcome = CaseResult {
        name,
        rows: Vec::new(),
        error: None,
    };
    outcome.error = run_steps(prepare, &mut outcome.rows).err();
    outcome
}

fn run_steps(prepare: Prepare<Case>, rows: &mut Vec<StepResult>) -> Result<(), RunError> {
    let case = prepare().map_err(RunError::Unavailable)?;
    for Step {
        spec,
        runs,
        objects,
        beyond_pool,
    } in &case.steps
    {
        let runs: Result<_, _> = (0..*runs).map(|_| run_once(spec)).collect();
        rows.push(StepResult {
            step: spec.name,
            objects: *objects,
            beyond_pool: *beyond_pool,
            runs: runs.map_err(|reason| RunError::Failed(format!("{}: {reason}", spec.name)))?,
        });
    }
    Ok(())
}

/// Runs a command once, and checks its output and its files. The error is the reason of a failure.
fn run_once(spec: &RunSpec) -> Result<Usage, String> {
    run_checked(spec).map(|(usage, _)| usage)
}

/// Works like [`run_once`], and returns the output as well.
fn run_checked(spec: &RunSpec) -> Result<(Usage, String), String> {
    remove_files(spec)
        .map_err(|error| format!("cannot remove the files of an earlier run: {error}"))?;
    let (usage, output) = measure(spec).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => format!("{} is not installed", spec.program.display()),
        _ => format!("cannot run {}: {error}", spec.program.display()),
    })??;
    let output = output.trim_end_matches('\n').to_owned();
    match &spec.output {
        ExpectedOutput::Anything => {}
        ExpectedOutput::Exactly(_) if output.is_empty() => {
            return Err("it printed nothing".to_owned());
        }
        ExpectedOutput::Exactly(expected) if output == *expected => {}
        ExpectedOutput::Exactly(expected) => {
            return Err(format!("it printed \"{output}\" instead of \"{expected}\""));
        }
    }
    let left = |path| {
        FileTotals::of(path).map_err(|error| format!("cannot read the files that it left: {error}"))
    };
    match &spec.files {
        ExpectedFiles::Nothing => Ok((usage, output)),
        ExpectedFiles::Any(path) => Ok((
            Usage {
                size: Some(left(path)?.bytes),
                ..usage
            },
            output,
        )),
        ExpectedFiles::Exactly(path, expected) => match left(path)? {
            found if found == *expected => Ok((usage, output)),
            found => Err(format!("it left {found} instead of {expected}")),
        },
    }
}

/// Removes the files that an earlier run has left.
fn remove_files(spec: &RunSpec) -> io::Result<()> {
    let (ExpectedFiles::Any(path) | ExpectedFiles::Exactly(path, _)) = &spec.files else {
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

/// Runs a command once, without checks of its results. The outer error is a failure to start it,
/// the inner one a failure of the command itself.
fn measure(spec: &RunSpec) -> io::Result<Result<(Usage, String), String>> {
    let start = Instant::now();
    let mut child = Command::new(&spec.program)
        .args(&spec.arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let id = child.id();
    // Both streams are read at the same time: a child that waits for a reader of one of them may
    // never close the other.
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
        let last = complaints.trim_end().lines().next_back().unwrap_or("none");
        return Ok(Err(format!(
            "it ended with {}; its last message: {last}",
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

/// Measures the pool of a process until the process ends. Returns the largest size in bytes of our
/// shared memory that the process had mapped.
fn watch_pool(id: u32, running: &Receiver<()>) -> u64 {
    let mut most = 0;
    while running.recv_timeout(POOL_INTERVAL) == Err(RecvTimeoutError::Timeout) {
        // The process may have ended already. Then it has mapped nothing.
        let maps = fs::read_to_string(format!("/proc/{id}/maps")).unwrap_or_default();
        most = most.max(maps.lines().filter_map(segment_len).sum());
    }
    most
}

/// Returns the length of the range in a line of `/proc/PID/maps`, if the range is a segment of
/// ours.
fn segment_len(line: &str) -> Option<u64> {
    let (range, rest) = line.split_once(' ')?;
    let (start, end) = range.split_once('-')?;
    let address = |text| u64::from_str_radix(text, 16).ok();
    rest.contains("/memfd:datapipe:")
        .then_some(address(end)?.checked_sub(address(start)?)?)
}

/// Reads a stream to its end, or to the first error, as text.
fn read_all(from: Option<impl Read>) -> String {
    let mut bytes = Vec::new();
    if let Some(mut from) = from {
        // The bytes before an error are kept. The comparison of the output finds missing ones.
        let _ = from.read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

impl Usage {
    /// Returns one figure in the unit that [`Measure`] states, or `None` if the run has no such
    /// figure.
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

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unavailable(reason) => write!(f, "skipped: {reason}"),
            Self::Peer { name, reason } => write!(f, "skipped beside {name}: {reason}"),
            Self::Failed(reason) => write!(f, "datapipe failed: {reason}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{env, process};

    use super::*;

    fn sh(script: &str) -> RunSpec {
        RunSpec::command("sh", "sh", vec!["-c".into(), script.into()])
    }

    fn shell(script: &str, output: ExpectedOutput) -> Result<Usage, String> {
        run_once(&sh(script).expect_output(output))
    }

    #[test]
    fn output_is_compared() {
        let expected = || ExpectedOutput::Exactly("42".to_owned());
        assert!(shell("echo 42", expected()).is_ok());
        assert!(shell("true", ExpectedOutput::Anything).is_ok());
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
    fn failed_run_reports_its_last_message() {
        let error = shell(
            "echo first >&2; echo last >&2; exit 3",
            ExpectedOutput::Anything,
        )
        .err()
        .unwrap();
        assert_eq!(
            error,
            "it ended with exit status: 3; its last message: last"
        );
        let missing = RunSpec::command("missing", "no-such-program-anywhere", Vec::new());
        assert_eq!(
            run_once(&missing).err().unwrap(),
            "no-such-program-anywhere is not installed"
        );
    }

    #[test]
    fn time_includes_that_of_children() {
        let usage = shell(
            "(i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done); sleep 0.05",
            ExpectedOutput::Anything,
        );
        let of = |measure| usage.as_ref().ok().unwrap().of(measure);
        assert!(of(Measure::Wall).unwrap() >= 0.05);
        assert!(of(Measure::Cpu).unwrap() > 0.001);
        assert!(of(Measure::Peak).unwrap() > 0.1);
        assert_eq!(of(Measure::Size), None);
    }

    #[test]
    fn delays_are_read_from_the_output() {
        let run = |script| match run_delays(&sh(script), 2) {
            Ok(WorkloadResult::Delays(delays)) => Ok(delays),
            Ok(_) => panic!("delays"),
            Err(error) => Err(error.to_string()),
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
    fn files_are_compared_and_made_anew() {
        let path = env::temp_dir().join(format!("datapipe-benches-{}", process::id()));
        let script = format!(
            "mkdir {0} && mkdir {0}/a && printf 42 > {0}/a/b && ln -s b {0}/c",
            path.display()
        );
        let expecting = |files, bytes| {
            run_once(&sh(&script).expect_files(ExpectedFiles::Exactly(
                path.clone(),
                FileTotals { files, bytes },
            )))
        };
        assert!(expecting(2, 2).is_ok());
        let error = expecting(3, 2).err().unwrap();
        assert!(
            error.starts_with("it left 2 files of 2 bytes instead of"),
            "{error}"
        );
        let sized = run_once(&sh(&script).expect_files(ExpectedFiles::Any(path.clone())));
        assert_eq!(sized.ok().unwrap().size, Some(2));
        let idle = sh("true").expect_files(ExpectedFiles::Any(path));
        assert!(
            run_once(&idle)
                .err()
                .unwrap()
                .starts_with("cannot read the files that it left")
        );
    }

    #[test]
    fn segments_of_ours_are_distinguished_from_other_memory() {
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
