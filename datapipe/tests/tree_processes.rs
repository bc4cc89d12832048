//! The suites of trees once more, with their heads and tails in processes: the same code has to
//! pass the same tests.

#![allow(clippy::duplicate_mod, reason = "each suite is whole by itself, too")]

#[path = "tree_head.rs"]
mod head; // one instance on a thread, and three in a process
#[path = "tree_instances.rs"]
mod instances;
#[path = "tree_parts.rs"]
mod parts;
#[path = "tree_restore/main.rs"]
mod restore;
