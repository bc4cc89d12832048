//! Reports of stages in processes.
