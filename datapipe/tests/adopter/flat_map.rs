//! Stages that give more or larger blocks than they got.
