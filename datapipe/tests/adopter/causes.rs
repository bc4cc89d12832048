//! Causes of errors.
