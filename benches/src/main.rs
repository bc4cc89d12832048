//! Runs named workloads with datapipe and with a peer, in alternation, and says how the two
//! compare.
//!
//! ```text
//!   arguments -> workload -> prepare -> warm-up, then pairs of child processes -> medians -> text or JSON
//! ```
//!
//! `README.md` of this crate defines the workloads and how to read the figures. This is not a
//! benchmark of single functions: each run is a process, from its start to its end.

mod report; // medians and bounds, as text and as JSON
mod runner; // pairs of child processes, and what each one used
mod workloads; // what is run

use std::env;
use std::ffi::OsString;
use std::process::ExitCode;

use workloads::Workload;

const USAGE: &str = "\
usage: datapipe-benches [--json] [WORKLOAD...]
       datapipe-benches --list

Runs the workloads that are named, or all but the very long ones. --json prints one JSON object a line, --list the names.
benches/README.md says what each workload does, and what its bounds are.";

/// First argument of a child process that is to do one side's work. Not for people, so the usage is
/// silent on it.
const DO: &str = "__do";

fn main() -> ExitCode {
    datapipe::host::serve(workloads::modules());
    let arguments: Vec<OsString> = env::args_os().skip(1).collect();
    if let [first, program, rest @ ..] = &arguments[..]
        && first == DO
    {
        return run_program(program, rest);
    }
    let Some(order) = Order::parse(&arguments) else {
        return ExitCode::from(2);
    };
    match order {
        Order::Help => println!("{USAGE}"),
        Order::List => workloads::ALL
            .iter()
            .for_each(|workload| println!("{}", workload.name)),
        Order::Run { chosen, json } => return run_workloads(&chosen, json),
    }
    ExitCode::SUCCESS
}

/// What the arguments ask for.
enum Order {
    Help,
    List,
    Run {
        chosen: Vec<&'static Workload>,
        json: bool,
    },
}

impl Order {
    /// `None` if the arguments make no sense, after saying why on standard error.
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
                            "there is no workload \"{name}\"; there are: {}",
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

/// Runs and reports every chosen workload. A skipped one is no failure; one that datapipe cannot do
/// is.
fn run_workloads(chosen: &[&Workload], json: bool) -> ExitCode {
    let mut code = ExitCode::SUCCESS;
    for workload in chosen {
        let result = runner::run(workload);
        if json {
            println!("{}", report::json(workload, &result));
        } else {
            println!("{}", report::text(workload, &result));
        }
        if runner::has_failed(&result) {
            code = ExitCode::FAILURE;
        }
    }
    code
}

/// Does one side's work in this process.
fn run_program(name: &OsString, arguments: &[OsString]) -> ExitCode {
    let name = name.to_string_lossy();
    let Some(program) = workloads::program(&name) else {
        eprintln!("there is no program \"{name}\"");
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
