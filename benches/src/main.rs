//! Runs named workloads with datapipe and with a peer, in alternation, and compares the two.
//!
//! ```text
//!   arguments -> workload -> prepare -> warm-up, pairs of processes -> medians -> text or JSON
//! ```
//!
//! `README.md` of this crate defines the workloads and explains the figures. This program does not
//! measure single functions: each run is a process, from its start to its end.

mod report; // medians and bounds, as text and as JSON
mod runner; // pairs of child processes, and their resources
mod workloads; // definitions of all workloads

use std::env;
use std::ffi::OsString;
use std::process::ExitCode;

use workloads::Workload;

const USAGE: &str = "\
usage: datapipe-benches [--json] [WORKLOAD...]
       datapipe-benches --list

Runs the named workloads, or all except the very long ones.

  --json  print one JSON object per line
  --list  print the names of the workloads

benches/README.md defines the workloads and their bounds.";

/// First argument of a child process that runs one of this executable's programs. It is not for
/// people, so the usage does not mention it.
const RUN_PROGRAM: &str = "__run";

fn main() -> ExitCode {
    datapipe::host::serve(workloads::modules());
    let arguments: Vec<OsString> = env::args_os().skip(1).collect();
    if let [first, program, rest @ ..] = &arguments[..]
        && first == RUN_PROGRAM
    {
        return run_program(program, rest);
    }
    let Some(command_line) = CommandLine::parse(&arguments) else {
        return ExitCode::from(2);
    };
    match command_line {
        CommandLine::Help => println!("{USAGE}"),
        CommandLine::List => workloads::ALL
            .iter()
            .for_each(|workload| println!("{}", workload.name)),
        CommandLine::Run { chosen, json } => return run_workloads(&chosen, json),
    }
    ExitCode::SUCCESS
}

/// Parsed arguments.
enum CommandLine {
    Help,
    List,
    Run {
        chosen: Vec<&'static Workload>,
        json: bool,
    },
}

impl CommandLine {
    /// Parses the arguments. Prints the reason on standard error and returns `None` if they are
    /// invalid.
    fn parse(arguments: &[OsString]) -> Option<Self> {
        let mut chosen = Vec::new();
        let mut json = false;
        for argument in arguments {
            match argument.to_string_lossy().as_ref() {
                "--help" | "-h" => return Some(Self::Help),
                "--list" => return Some(Self::List),
                "--json" => json = true,
                option if option.starts_with('-') => {
                    eprintln!("unknown option {option}\n{USAGE}");
                    return None;
                }
                name => match workloads::find(name) {
                    Some(workload) => chosen.push(workload),
                    None => {
                        let names: Vec<_> = workloads::ALL
                            .iter()
                            .map(|workload| workload.name)
                            .collect();
                        eprintln!(
                            "unknown workload \"{name}\"; known are: {}",
                            names.join(", ")
                        );
                        return None;
                    }
                },
            }
        }
        if chosen.is_empty() {
            chosen = workloads::ALL
                .iter()
                .filter(|workload| workload.by_default())
                .collect();
        }
        Some(Self::Run { chosen, json })
    }
}

/// Runs and reports every chosen workload. Fails if datapipe cannot do one of them; a skipped
/// workload is not a failure.
fn run_workloads(chosen: &[&Workload], json: bool) -> ExitCode {
    let mut code = ExitCode::SUCCESS;
    for workload in chosen {
        let result = runner::run(workload);
        if json {
            println!("{}", report::json(workload, &result));
        } else {
            println!("{}", report::text(workload, &result));
        }
        if runner::is_failure(&result) {
            code = ExitCode::FAILURE;
        }
    }
    code
}

/// Runs one of this executable's programs, in a child process.
fn run_program(name: &OsString, arguments: &[OsString]) -> ExitCode {
    let name = name.to_string_lossy();
    let Some(program) = workloads::program(&name) else {
        eprintln!("unknown program \"{name}\"");
        return ExitCode::from(2);
    };
    match program(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{name}: {error}");
            ExitCode::FAILURE
        }
    }
}
