//! Both programs as a user runs them: what goes in comes out, and what is not whole is never taken
//! for it.

mod concurrent_changes; // trees that change while they are read
mod damage; // archives that are damaged, cut, forged or never finished
mod fidelity; // what a tree can hold, and comes back
mod fixture; // a directory with a source, secrets, and room for the rest
mod hostile; // archives that an enemy wrote
mod json; // what programs read
mod left_out; // what is not in an archive, and how that is said
mod listing; // what people read
mod options; // keys, pools, wrong usage, what exists already
mod partial_reads; // lists and paths, which need only some of an archive
mod progress; // the line on a terminal
mod round_trip; // trees and back
mod signals; // signals
mod stream; // standard input and output
mod walk; // trees, made and compared
