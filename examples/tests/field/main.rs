//! Faults that users of backup programs have met in the field. The comment at each test says what
//! happens to a user.

#![allow(
    clippy::duplicate_mod,
    reason = "the target `programs` has the same fixture"
)]

mod after_the_archive; // a second archive, or garbage, on the medium
mod lists_of_problems; // objects that are not whole
mod medium_names; // media that are streams, links, unfinished or full
mod old_archive; // --overwrite, with a job that fails
mod one_writer; // two jobs on one medium
mod verify_and_restore; // damage of every kind, and both agree

#[path = "../programs/fixture.rs"]
#[allow(dead_code, reason = "this target uses some of it")]
mod fixture;
#[path = "../programs/walk.rs"]
#[allow(dead_code, reason = "this target uses some of it")]
mod walk;
