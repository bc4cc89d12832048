//! Gives out numbers.

/// Numbers from a start, one after the other.
///
/// ```
/// let mut sequencer = datapipe::sequence::Sequencer::starting_at(7);
/// assert_eq!([sequencer.number(), sequencer.number()], [7, 8]);
/// assert_eq!(sequencer.next(), 9);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sequencer {
    next: u64,
}

impl Sequencer {
    /// A sequencer whose first number is `first`.
    pub fn starting_at(first: u64) -> Self {
        Self { next: first }
    }

    /// The next number, which is thereby used.
    pub fn number(&mut self) -> u64 {
        let number = self.next;
        self.next += 1;
        number
    }

    /// The number that will be given out next: also how many were, if the first was 0.
    pub fn next(&self) -> u64 {
        self.next
    }
}
