//! Stopping heads and stages that do not return.
