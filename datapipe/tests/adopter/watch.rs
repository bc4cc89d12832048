//! Events, status and progress.
