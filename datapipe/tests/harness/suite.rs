//! Runs the tests of a binary whose `main` is its own: one after the other, and after each one
//! checks that nothing is left of it.

use std::panic::catch_unwind;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use crate::harness::{Asked, last_line};
use crate::watch;

/// A test's name and function.
pub(crate) type Test = (&'static str, fn());

/// Makes the table of tests from the paths of their functions: `tests![module::name, ...]`.
#[allow(unused_macros, reason = "not every target makes its table with it")]
macro_rules! tests {
    ($($module:ident :: $test:ident),* $(,)?) => {
        &[$((stringify!($test), $module::$test)),*]
    };
}
#[allow(unused_imports, reason = "as above")]
pub(crate) use tests;

/// Lists or runs the tests that the arguments select. `hangs` is the time limit of all tests
/// together: after it, one of them counts as hanging.
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
        println!("a test hangs");
        std::process::exit(101); // the processes that it started end with it
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
