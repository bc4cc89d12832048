//! Programs as an adopter of the library writes them: own heads, transforms, scanners and media.
//!
//! Programs whose stages run in processes are tests of `process`, which hosts its own stages.

#![allow(
    clippy::disallowed_types,
    reason = "flags and counts of the tests, not shared words"
)]

mod archive_stages; // stages of an adopter between the head and an archive
mod cancel; // stopping heads and stages that do not return
mod causes; // causes of errors
mod checkpoints; // blocks that say how far a head has come
mod diagnostics; // messages for the common mistakes
mod flat_map; // stages that give more or larger blocks than they got
mod forged_index; // archives whose footer is forged
mod lifetimes; // stages that borrow
mod logs; // reports of stages in processes
mod own_medium; // media of an adopter
mod read_one; // single objects of an archive, without a destination
mod scanner; // inspection of trees and streams
mod special_headers; // special headers of an adopter
mod suites; // the suites of the testkit, run on good and bad stages
mod unreadable; // blocks that an archive must refuse
mod watch; // events, status and progress
