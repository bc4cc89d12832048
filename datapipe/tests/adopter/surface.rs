//! The public surface.
