//! Labelled points between two effects on shared memory, at each of which a test can stop a
//! process.
//!
//! ```text
//!   ledger[b] = SENT by me        point!("send.sent")        slot = FULL(b, g)
//!                                        |
//!                                        +--  a process with the order "send.sent 17 kill"
//!                                             dies here at its 17th pass
//! ```
//!
//! Without the feature `kill-points` a point is nothing: no instruction and no data. The feature is
//! for the project's own tests, and must not be on in a program that is relied on: anyone who can
//! set its environment could stop its processes. `docs/testing.md` lists the labels,
//! `docs/shared-memory.md` gives the step that each follows.

/// Marks a point after an effect on shared memory. A statement, on a line of its own.
macro_rules! point {
    ($label:literal) => {
        #[cfg(feature = "kill-points")]
        {
            const _: () = assert!(
                $crate::memory::points::is_known($label),
                "LABELS lacks this label"
            );
            $crate::memory::points::pass($label);
        }
    };
}
pub(crate) use point;

#[cfg(feature = "kill-points")]
pub use orders::{DIRECTORY, LABELS, die_at};
#[cfg(feature = "kill-points")]
pub(crate) use orders::{is_known, pass};

#[cfg(feature = "kill-points")]
mod orders {
    //! The order of a process to die or stop at a point, and its execution.

    use std::cell::Cell;
    use std::fs;
    use std::path::{Path, PathBuf};
    use std::sync::OnceLock;

    /// Every label, in the order of the primitives in `docs/shared-memory.md`. Those that begin
    /// with `reclaim` are passed by the controller only.
    pub const LABELS: &[&str] = &[
        "seat.taken",
        "seat.started",
        "seat.working",
        "take.intent",
        "take.claimed",
        "take.emptied",
        "take.moved",
        "number.stored",
        "receive.numbered",
        "receive.counted",
        "alloc.taken",
        "send.numbered",
        "send.bound",
        "send.sent",
        "put.filled",
        "put.moved",
        "pass.emptied",
        "pass.notified",
        "send.notified",
        "send.counted",
        "free.bound",
        "free.sent",
        "free.put",
        "free.notified",
        "free.credited",
        "wait.marked",
        "wait.noted",
        "wait.woken",
        "wake.moved",
        "finish.marked",
        "finish.notified",
        "leave.timed",
        "leave.ended",
        "leave.left",
        "reclaim.begun",
        "reclaim.finished",
        "reclaim.sends",
        "reclaim.freed",
        "reclaim.kept",
        "reclaim.inputs",
        "reclaim.noted",
        "reclaim.woken",
        "reclaim.left",
    ];

    /// The environment variable that names the directory that has the orders.
    pub const DIRECTORY: &str = "DATAPIPE_KILL_AT";

    thread_local! {
        static DOOM: Cell<Option<(&'static str, u64)>> = const { Cell::new(None) };
    }

    /// Lets this process die when the calling thread passes `label` for the `passes`th time from
    /// now on, counted from 1. For processes that were forked, and have no name by which they could
    /// find an order.
    pub fn die_at(label: &'static str, passes: u64) {
        DOOM.set(Some((label, passes)));
    }

    /// One process's order.
    struct Order {
        label: String,
        /// At which pass of the label, counted from 1 on each thread.
        pass: u64,
        /// Stops instead of dying.
        stop: bool,
        /// Name of the order now, and once it is carried out.
        taken: PathBuf,
        reached: PathBuf,
    }

    pub(crate) const fn is_known(label: &str) -> bool {
        let mut at = 0;
        while at < LABELS.len() {
            if is_same(LABELS[at].as_bytes(), label.as_bytes()) {
                return true;
            }
            at += 1;
        }
        false
    }

    const fn is_same(a: &[u8], b: &[u8]) -> bool {
        let mut at = 0;
        while at < a.len() && at < b.len() && a[at] == b[at] {
            at += 1;
        }
        at == a.len() && at == b.len()
    }

    /// This process passes a point: its last one, if it has the order.
    pub(crate) fn pass(label: &'static str) {
        static ORDER: OnceLock<Option<Order>> = OnceLock::new();
        thread_local! {
            static PASSED: Cell<u64> = const { Cell::new(0) };
        }
        if let Some((at, passes)) = DOOM.get().filter(|(at, _)| *at == label) {
            DOOM.set(Some((at, passes - 1)));
            if passes == 1 {
                raise(libc::SIGKILL);
            }
        }
        let Some(order) = ORDER.get_or_init(take_order) else {
            return;
        };
        if order.label != label || PASSED.replace(PASSED.get() + 1) + 1 != order.pass {
            return;
        }
        // Of several threads of a process the first one carries it out.
        if fs::rename(&order.taken, &order.reached).is_ok() {
            raise(if order.stop {
                libc::SIGSTOP
            } else {
                libc::SIGKILL
            });
        }
    }

    fn raise(signal: i32) {
        // SAFETY: it has no preconditions. The signal goes to this very thread, which therefore
        // does not return from the call before it is dead, or stopped and continued.
        unsafe { libc::raise(signal) };
    }

    /// Takes the first order that no process has taken: `NAME.INSTANCE.1`, then `.2`, for one
    /// process after the other of an instance; for a process that runs none, `controller.1`. Each
    /// is "LABEL PASS kill" or "LABEL PASS stop". Then `NAME.INSTANCE.1.process` has the process's
    /// id, and `.taken` or, once it came to the point, `.reached` is there.
    fn take_order() -> Option<Order> {
        let directory = std::env::var_os(DIRECTORY)?;
        let who = std::env::args()
            .nth(2)
            .map_or_else(|| "controller".to_owned(), |label| label.replace('/', "."));
        (1..)
            .map_while(|nth| next(Path::new(&directory), &format!("{who}.{nth}")))
            .flatten()
            .next()
    }

    /// Nothing if there is no such order, and nothing in it if another process took it.
    fn next(directory: &Path, name: &str) -> Option<Option<Order>> {
        let at = |kind| directory.join(format!("{name}{kind}"));
        if fs::rename(at(""), at(".taken")).is_err() {
            return at(".process").exists().then_some(None);
        }
        fs::write(at(".process"), std::process::id().to_string())
            .expect("the directory of orders is there");
        let text = fs::read_to_string(at(".taken")).expect("an order can be read");
        let words: Vec<_> = text.split_whitespace().collect();
        let [label, pass, deed] = words[..] else {
            panic!("an order is LABEL PASS kill|stop, not {text:?}")
        };
        assert!(
            is_known(label) && ["kill", "stop"].contains(&deed),
            "no such point or deed: {text:?}"
        );
        let pass = pass.parse().expect("the number of a pass");
        let (taken, reached) = (at(".taken"), at(".reached"));
        Some(Some(Order {
            label: label.to_owned(),
            pass,
            stop: deed == "stop",
            taken,
            reached,
        }))
    }
}
