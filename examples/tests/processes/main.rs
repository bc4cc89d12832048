//! Both programs with every stage in a process of its own: tests of theirs once more, and what
//! becomes of them when one of the processes is killed.

#![allow(
    clippy::duplicate_mod,
    reason = "the tests are those of the programs, too"
)]

mod killed; // each kind of process, in the middle of its work

#[path = "../programs/damage.rs"]
mod damage;
#[path = "../programs/fixture.rs"]
mod fixture;
#[path = "../programs/left_out.rs"]
mod left_out;
#[path = "../programs/partial_reads.rs"]
mod partial_reads;
#[path = "../programs/round_trip.rs"]
mod round_trip;
#[path = "../programs/signals.rs"]
mod signals;
#[path = "../programs/stream.rs"]
mod stream;
#[path = "../programs/walk.rs"]
mod walk;
