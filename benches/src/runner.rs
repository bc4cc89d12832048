//! Pairs of child processes, and what each one used.
//!
//! ```text
//!   warm-up     pair 1      pair 2      pair 3            each run: start, read its output, wait4
//!   ours peer | ours peer | peer ours | ours peer | ...
//! ```
//!
//! The two runs of a pair follow each other at once, and each pair gives one ratio: what slows the machine down for
//! longer than a pair slows both sides, and the ratio does not see it. The order changes from pair to pair, so
//! neither side always finds the caches as the other one left them.

use std::error::Error;
use std::fmt;
use std::io::{self, Read};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use wait4::Wait4;

use crate::workloads::{Measure, Prints, Side, Workload};

/// Pairs that count.
pub(crate) const PAIRS: usize = 9;

/// Both sides, and the pairs of their runs.
pub(crate) struct Outcome {
    pub(crate) ours: &'static str,
    pub(crate) peer: &'static str,
    pub(crate) pairs: Vec<Pair>,
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

/// Prepares a workload, and runs its pairs.
pub(crate) fn run(workload: &Workload) -> Result<Outcome, Trouble> {
    let contest = (workload.prepare)().map_err(Trouble::Unprepared)?;
    let ours = || run_side(&contest.ours).map_err(Trouble::Failed);
    let peer = || run_side(&contest.peer).map_err(|reason| Trouble::Peer { name: contest.peer.name, reason });
    // The peer first: one that is not there need not be waited for.
    peer()?;
    ours()?;
    let mut pairs = Vec::with_capacity(PAIRS);
    for number in 0..PAIRS {
        pairs.push(if number % 2 == 0 {
            let ours = ours()?;
            Pair { ours, peer: peer()? }
        } else {
            let peer = peer()?;
            Pair { ours: ours()?, peer }
        });
    }
    Ok(Outcome { ours: contest.ours.name, peer: contest.peer.name, pairs })
}

/// Runs one side once, and checks what it printed. The error says what went wrong.
fn run_side(side: &Side) -> Result<Usage, String> {
    let (usage, output) = measure(side).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => format!("{} is not installed", side.program.display()),
        _ => format!("{} cannot be run: {error}", side.program.display()),
    })??;
    let output = output.trim_end_matches('\n');
    match &side.prints {
        Prints::Anything => Ok(usage),
        Prints::Exactly(_) if output.is_empty() => Err("it printed nothing".to_owned()),
        Prints::Exactly(expected) if output == expected => Ok(usage),
        Prints::Exactly(expected) => Err(format!("it printed \"{output}\" instead of \"{expected}\"")),
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
    // Both at once, for a child that waits until somebody reads the one may never end the other.
    let (output, complaints) = thread::scope(|scope| {
        let complaints = scope.spawn(|| read_all(stderr));
        (read_all(stdout), complaints.join())
    });
    let used = child.wait4()?;
    let wall = start.elapsed();
    if !used.status.success() {
        let complaints = complaints.unwrap_or_default();
        let last = complaints.trim_end().lines().next_back().unwrap_or("nothing");
        return Ok(Err(format!("it ended with {}, and said: {last}", used.status)));
    }
    let cpu = used.rusage.utime + used.rusage.stime;
    Ok(Ok((Usage { wall, cpu, peak: used.rusage.maxrss }, output)))
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
    /// One figure, in the unit that [`Measure`] states.
    pub(crate) fn of(&self, measure: Measure) -> f64 {
        match measure {
            Measure::Wall => self.wall.as_secs_f64(),
            Measure::Cpu => self.cpu.as_secs_f64(),
            Measure::Peak => self.peak as f64 / f64::from(1 << 20),
        }
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
    use super::*;

    fn shell(script: &str, prints: Prints) -> Result<Usage, String> {
        let arguments = vec!["-c".into(), script.into()];
        run_side(&Side { name: "sh", program: "sh".into(), arguments, prints })
    }

    #[test]
    fn what_a_side_prints_is_compared() {
        let expected = || Prints::Exactly("42".to_owned());
        assert!(shell("echo 42", expected()).is_ok());
        assert!(shell("true", Prints::Anything).is_ok());
        assert_eq!(shell("true", expected()).err().unwrap(), "it printed nothing");
        assert_eq!(shell("echo 41", expected()).err().unwrap(), "it printed \"41\" instead of \"42\"");
    }

    #[test]
    fn a_side_that_fails_says_why() {
        let error = shell("echo first >&2; echo last >&2; exit 3", Prints::Anything).err().unwrap();
        assert_eq!(error, "it ended with exit status: 3, and said: last");
        let nobody = Side::other("no-such-program-anywhere", Vec::new(), Prints::Anything);
        assert_eq!(run_side(&nobody).err().unwrap(), "no-such-program-anywhere is not installed");
    }

    #[test]
    fn time_is_counted_with_that_of_children() {
        let usage = shell("(i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done); sleep 0.05", Prints::Anything);
        let usage = usage.ok().unwrap();
        assert!(usage.of(Measure::Wall) >= 0.05);
        assert!(usage.of(Measure::Cpu) > 0.001);
        assert!(usage.of(Measure::Peak) > 0.1);
    }
}
