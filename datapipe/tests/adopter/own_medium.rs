//! Media of an adopter.
