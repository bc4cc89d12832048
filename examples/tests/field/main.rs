//! Faults that users of backup programs have met in the field. The comment at each test says what
//! happens to a user.

#![allow(
    clippy::duplicate_mod,
    reason = "the target `programs` has the same fixture"
)]

mod medium_names; // media that are streams, links, unfinished or full
mod old_archive; // --overwrite, with a job that fails
mod one_writer; // two jobs on one medium
mod stopped_jobs; // Ctrl-Z, and signals to stopped jobs

#[path = "../programs/fixture.rs"]
#[allow(dead_code, reason = "this target uses some of it")]
mod fixture;
#[path = "../programs/walk.rs"]
#[allow(dead_code, reason = "this target uses some of it")]
mod walk;
