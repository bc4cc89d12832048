//! The suites of trees once more, with their heads and tails in processes: the same code has to pass the same tests.

#[path = "tree_head.rs"]
mod head; // one instance on a thread, and three in a process
#[path = "tree_instances.rs"]
mod instances;
#[path = "tree_parts.rs"]
mod parts;
#[path = "tree_restore/main.rs"]
mod restore;
