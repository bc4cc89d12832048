//! The entry point of a host: `serve`, called first in `main`.

use std::sync::OnceLock;

use super::instance;
use super::modules::Modules;

/// First argument of a process that is to run a stage. The second one names the stage, for people
/// who list processes.
pub(crate) const ARGUMENT: &str = "--datapipe-instance";

static SERVES: OnceLock<()> = OnceLock::new();

/// Runs a stage of a pipe and exits, if this process was started for that. Otherwise returns at
/// once.
///
/// Call it first in `main`, before threads are started and arguments are read.
/// [`datapipe::modules`](crate::modules) has all modules that come with the library.
pub fn serve(modules: Modules) {
    if std::env::args_os()
        .nth(1)
        .is_some_and(|first| first == ARGUMENT)
    {
        std::process::exit(instance::run(modules));
    }
    SERVES.get_or_init(|| ());
}

/// True if this program has called [`serve`], so that it can be started again to run a stage. A
/// program that has not called it would start its own work once more.
pub(crate) fn serves() -> bool {
    SERVES.get().is_some()
}
