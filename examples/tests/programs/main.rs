//! Both programs as a user runs them: archived data is restored unchanged, and damaged data is
//! never taken for intact.

mod concurrent_changes; // trees that change while they are read
mod copies; // copies without a key
mod damage; // archives that are damaged, cut, forged or never finished
mod fidelity; // everything that a tree can hold
mod fixture; // a directory with a source, secrets, and room for the rest
mod hostile; // archives that an attacker wrote
mod json; // output for programs
mod killed_append; // appends that are killed at any moment
mod left_out; // objects that are not in an archive, and their reports
mod listing; // output for people
mod options; // keys, pools, usage errors, existing files
mod partial_reads; // lists and paths, which need only a part of an archive
mod progress; // the progress line on a terminal
mod recipients; // key pairs, and archives for recipients
mod round_trip; // backup and restore of trees
mod sessions; // media with several sessions
mod signals; // interrupted jobs
mod stream; // standard input and output
mod terminal; // terminals for the programs
mod walk; // creation and comparison of trees
