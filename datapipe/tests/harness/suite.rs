//! Runs the tests of a binary whose main is its own, one after the other, and looks what each has
//! left behind.

use std::panic::catch_unwind;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use crate::harness::{Asked, last_line};
use crate::watch;

/// A test, by its name.
pub(crate) type Test = (&'static str, fn());

/// Does with the tests what the arguments say. `hangs`: how long all together may take before one
/// of them counts as hanging.
pub(crate) fn run(tests: &[Test], hangs: Duration) -> ExitCode {
    let asked = |name: &str| Asked::of(name, std::env::args().skip(1));
    let list = tests
        .iter()
        .filter(|(name, _)| matches!(asked(name), Asked::List { ours: true }));
    list.for_each(|(name, _)| println!("{name}: test"));
    if matches!(asked(""), Asked::List { .. }) {
        return ExitCode::SUCCESS;
    }
    let (run, filtered): (Vec<_>, Vec<_>) = tests
        .iter()
        .partition(|(name, _)| matches!(asked(name), Asked::Run));
    std::thread::spawn(move || {
        std::thread::sleep(hangs);
        println!("some test hangs");
        std::process::exit(101); // and with this process, those that it started
    });
    println!("\nrunning {} tests", run.len());
    let start = Instant::now();
    let mut failed = 0;
    for (name, test) in &run {
        let before = watch::belongings();
        let good = catch_unwind(|| {
            test();
            watch::wait_until("nothing is left", || watch::belongings() == before);
        });
        failed += u32::from(good.is_err());
        println!(
            "test {name} ... {}",
            if good.is_ok() { "ok" } else { "FAILED" }
        );
    }
    let verdict = if failed == 0 { "ok" } else { "FAILED" };
    let counts = [run.len() as u32 - failed, failed, filtered.len() as u32];
    println!("\n{}", last_line(verdict, counts, start.elapsed()));
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(101)
    }
}
