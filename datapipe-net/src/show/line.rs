//! Lines of a screen: text with its emphasis.

use super::text::{clipped, width};

/// Emphasis of a text. A terminal without colours shows the bright ones in bold.
///
/// Exhaustive: a program that draws the lines handles every one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// No emphasis.
    Plain,
    /// A name or a heading.
    Strong,
    /// Secondary text.
    Faint,
    /// A pipe in good order.
    Good,
    /// The stage that limits its pipe, or a pipe that waits or is being stopped.
    Notable,
    /// A failure.
    Bad,
}

/// Line of a screen: pieces of text, without any control character.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Line {
    pieces: Vec<(Tone, String)>,
}

impl Line {
    /// Adds a piece of text. Empty text adds nothing.
    pub(super) fn add(&mut self, tone: Tone, text: impl Into<String>) -> &mut Self {
        let text = text.into();
        if !text.is_empty() {
            self.pieces.push((tone, text));
        }
        self
    }

    /// Pieces of the line, from the left.
    pub fn pieces(&self) -> impl Iterator<Item = (Tone, &str)> {
        self.pieces.iter().map(|(tone, text)| (*tone, &**text))
    }

    /// Number of columns that the line takes.
    pub fn width(&self) -> usize {
        self.pieces.iter().map(|(_, text)| width(text)).sum()
    }

    /// Text of the line.
    pub fn text(&self) -> String {
        self.pieces.iter().map(|(_, text)| &**text).collect()
    }

    /// Shortens the line to `columns`.
    pub(super) fn clip(&mut self, columns: usize) {
        let mut left = columns;
        for (_, text) in &mut self.pieces {
            if width(text) > left {
                *text = clipped(text, left);
            }
            left = left.saturating_sub(width(text));
        }
        self.pieces.retain(|(_, text)| !text.is_empty());
    }
}
