//! The clock that all processes of the machine share.

/// Monotonic time in nanoseconds, the same in all processes of the machine.
pub(crate) fn now() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}
