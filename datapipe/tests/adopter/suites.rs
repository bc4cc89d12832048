//! The suites of the testkit, run on good and bad stages.
