//! Both programs with every stage in a process of its own: tests of theirs once more, and what
//! becomes of them when one of the processes is killed.

#![allow(
    clippy::duplicate_mod,
    reason = "the tests are those of the programs, too"
)]

mod killed; // each kind of process, in the middle of its work

#[path = "../programs/bench.rs"]
mod bench;
#[path = "../programs/damage.rs"]
mod damage;
#[path = "../programs/left_out.rs"]
mod left_out;
#[path = "../programs/parts.rs"]
mod parts;
#[path = "../programs/round_trip.rs"]
mod round_trip;
#[path = "../programs/stopping.rs"]
mod stopping;
#[path = "../programs/stream.rs"]
mod stream;
#[path = "../programs/walk.rs"]
mod walk;
