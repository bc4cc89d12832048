//! Stages that borrow.
