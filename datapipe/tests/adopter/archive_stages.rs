//! Stages of an adopter between the head and an archive.
