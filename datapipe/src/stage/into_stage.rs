//! Conversions of values into the stages of a pipe, one for each role.
//!
//! They exist beside `Into` for the sake of the compiler's messages: these say what to write
//! instead of a value that is not a stage.

use super::description::{HeadStage, MiddleStage, TailStage};
use super::traits::{Head, Tail};

/// A value that can be the head of a pipe: one that implements [`Head`], or a [`HeadStage`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the head of a pipe",
    label = "not a head",
    note = "a head implements `Head`, or is made with `Stage::head` or `Stage::head_port`; a \
            reader is made one with `StreamHead::new(reader)`",
    note = "a stage between head and tail, such as `zstd(3)`, is added with `.stage(...)`, and the \
            last one with `.tail(...)`"
)]
pub trait IntoHead<'a> {
    /// Returns the stage.
    fn into_head(self) -> HeadStage<'a>;
}

/// A stage between head and tail: a [`MiddleStage`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a stage between head and tail",
    label = "not a stage between head and tail",
    note = "wrap a value that implements `Transform`: `.stage(Stage::transform(\"name\", |_| \
            value))`; likewise `Stage::in_place` for `InPlace`, `Stage::analyze` for `Analyze`, \
            `Stage::inspect` for `Inspect`, and `Stage::port` for a loop over the port",
    note = "the first stage is set with `.head(...)`, and the last one with `.tail(...)`"
)]
pub trait IntoMiddle<'a> {
    /// Returns the stage.
    fn into_middle(self) -> MiddleStage<'a>;
}

/// A value that can be the tail of a pipe: one that implements [`Tail`], or a [`TailStage`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the tail of a pipe",
    label = "not a tail",
    note = "a tail implements `Tail`, or is made with `Stage::tail` or `Stage::tail_port`; a \
            writer is made one with `StreamTail::new(writer)`",
    note = "a stage between head and tail, such as `zstd(3)`, is added with `.stage(...)`, and the \
            first one with `.head(...)`"
)]
pub trait IntoTail<'a> {
    /// Returns the stage.
    fn into_tail(self) -> TailStage<'a>;
}

impl<'a> IntoHead<'a> for HeadStage<'a> {
    fn into_head(self) -> Self {
        self
    }
}

impl<'a, H: Head + 'a> IntoHead<'a> for H {
    fn into_head(self) -> HeadStage<'a> {
        self.into()
    }
}

impl<'a> IntoMiddle<'a> for MiddleStage<'a> {
    fn into_middle(self) -> Self {
        self
    }
}

impl<'a> IntoTail<'a> for TailStage<'a> {
    fn into_tail(self) -> Self {
        self
    }
}

impl<'a, T: Tail + 'a> IntoTail<'a> for T {
    fn into_tail(self) -> TailStage<'a> {
        self.into()
    }
}
