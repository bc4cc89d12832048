//! Faults that users of backup programs have met in the field. The comment at each test says what
//! happens to a user.

#![allow(
    clippy::duplicate_mod,
    reason = "the target `programs` has the same fixture"
)]

mod after_the_archive; // a second archive, or garbage, on the medium
mod attributes; // attributes that cannot be kept, or that a destination adds
mod close_errors; // storage that fails when files are synced or closed
mod closed_streams; // standard streams that are closed
mod damaged_catalogue; // paths of an archive whose catalogue is damaged
mod existing_directories; // directories that are there already
mod hard_linked_media; // media whose files have another name
mod interrupted; // calls that signals interrupt
mod keys; // keys in the memory of jobs
mod killed_restore; // restores that are killed, and run again
mod left_out_in_silence; // archives that miss something
mod lists_of_problems; // objects that are not whole
mod medium_names; // media that are streams, links, unfinished or full
mod messages; // messages that name the fault and the remedy
mod mounts_in_destination; // file systems below a destination that take nothing
mod old_archive; // --overwrite, with a job that fails
mod one_writer; // two jobs on one medium
mod outputs; // outputs that cannot be written, or that two jobs write
mod own_medium; // jobs that would replace their own medium or sources
mod own_resources; // few descriptors, little memory, no threads
mod restore_collisions; // names that the destination takes for one, devices
mod script_mistakes; // options and directories that a script got wrong
mod shell; // scripts that run the programs
mod stopped_halfway; // jobs that a signal stops halfway, or a full destination
mod stopped_jobs; // Ctrl-Z, and signals to stopped jobs

mod verify_and_restore; // damage of every kind, and both agree
mod volume_names; // files of volumes with wrong names
mod waits; // waits that only a signal ends

#[path = "../programs/fixture.rs"]
#[allow(dead_code, reason = "this target uses some of it")]
mod fixture;
#[path = "../../../datapipe/tests/harness/key_derivation.rs"]
mod key_derivation;
#[path = "../../../datapipe/tests/harness/key_search.rs"]
mod key_search;
#[path = "../programs/terminal.rs"]
mod terminal;
#[path = "../programs/walk.rs"]
#[allow(dead_code, reason = "this target uses some of it")]
mod walk;
