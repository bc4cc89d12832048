//! Puts numbered things back in order, and holds each only while a predecessor is missing.

use std::collections::VecDeque;
use std::fmt;

/// A window over a sequence: takes numbered items in any order and gives them out in theirs.
///
/// ```
/// use datapipe::sequence::{Rejection, Resequencer};
///
/// let mut order = Resequencer::new(0, 4);
/// order.push(1, 'b').unwrap();
/// assert_eq!(order.pop(), None); // 0 is missing
/// order.push(0, 'a').unwrap();
/// assert_eq!((order.pop(), order.pop(), order.pop()), (Some((0, 'a')), Some((1, 'b')), None));
/// assert_eq!(order.push(1, 'x').unwrap_err().rejection, Rejection::Duplicate);
/// let beyond = Rejection::BeyondWindow { next: 2, window: 4 };
/// assert_eq!(order.push(6, 'x').unwrap_err().rejection, beyond);
/// ```
#[derive(Clone, Debug)]
pub struct Resequencer<T> {
    next: u64,
    window: usize,
    /// Item `next + i` at index i; never longer than the window.
    held: VecDeque<Option<T>>,
    count: usize,
}

/// An item that was not taken, handed back.
///
/// Exhaustive: it is taken apart into the item and the reason.
#[derive(Debug)]
#[allow(clippy::exhaustive_structs, reason = "declared above")]
pub struct Rejected<T> {
    /// The item.
    pub item: T,
    /// Reason that it was not taken.
    pub rejection: Rejection,
}

/// Reason that an item was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Rejection {
    /// An item of that number is or was here.
    Duplicate,
    /// The number is so far ahead that the items between would not fit.
    BeyondWindow {
        /// The number that is missing first.
        next: u64,
        /// Number of items that fit.
        window: usize,
    },
}

impl<T> Resequencer<T> {
    /// Starts with number `first` and holds up to `window` items.
    ///
    /// # Panics
    ///
    /// If `window` is 0.
    pub fn new(first: u64, window: usize) -> Self {
        assert!(window > 0, "a window holds at least the next item");
        Self {
            next: first,
            window,
            held: VecDeque::new(),
            count: 0,
        }
    }

    /// Takes an item.
    ///
    /// # Errors
    ///
    /// The item comes back, with the reason.
    pub fn push(&mut self, number: u64, item: T) -> Result<(), Rejected<T>> {
        let Some(ahead) = number.checked_sub(self.next) else {
            return Err(Rejected {
                item,
                rejection: Rejection::Duplicate,
            });
        };
        let ahead = match usize::try_from(ahead) {
            Ok(ahead) if ahead < self.window => ahead,
            _ => {
                let rejection = Rejection::BeyondWindow {
                    next: self.next,
                    window: self.window,
                };
                return Err(Rejected { item, rejection });
            }
        };
        if ahead >= self.held.len() {
            self.held.resize_with(ahead + 1, || None);
        }
        if self.held[ahead].is_some() {
            return Err(Rejected {
                item,
                rejection: Rejection::Duplicate,
            });
        }
        self.held[ahead] = Some(item);
        self.count += 1;
        Ok(())
    }

    /// The next item in order with its number, unless it is missing.
    pub fn pop(&mut self) -> Option<(u64, T)> {
        let item = self.held.front_mut()?.take()?;
        self.held.pop_front();
        self.count -= 1;
        let number = self.next;
        self.next += 1;
        Some((number, item))
    }

    /// The number that comes out next.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// Number of items held.
    pub fn len(&self) -> usize {
        self.count
    }

    /// True if no item is held.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Duplicate => f.write_str("the number has come before"),
            Self::BeyondWindow { next, window } => {
                write!(
                    f,
                    "the number is too far ahead: {next} is missing, and {window} items fit"
                )
            }
        }
    }
}

impl<T: fmt::Debug> fmt::Display for Rejected<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.rejection.fmt(f)
    }
}

impl<T: fmt::Debug> std::error::Error for Rejected<T> {}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Compared with a sorted map, which is its model.
        #[test]
        fn does_what_a_sorted_map_would(
            first in 0u64..1000,
            window in 1usize..20,
            moves in proptest::collection::vec((0u64..40, any::<bool>()), 0..200),
        ) {
            let mut ours = Resequencer::new(first, window);
            let mut model: BTreeMap<u64, u64> = BTreeMap::new();
            let mut next = first;
            for (offset, pop) in moves {
                if pop {
                    let expected = model.remove(&next).map(|item| (next, item));
                    next += u64::from(expected.is_some());
                    prop_assert_eq!(ours.pop(), expected);
                } else {
                    let number = (next + offset).saturating_sub(5);
                    let rejection = if number < next || model.contains_key(&number) {
                        Some(Rejection::Duplicate)
                    } else if number >= next + window as u64 {
                        Some(Rejection::BeyondWindow { next, window })
                    } else {
                        model.insert(number, number * 2);
                        None
                    };
                    let rejected = ours.push(number, number * 2).err().map(|r| r.rejection);
                    prop_assert_eq!(rejected, rejection);
                }
                prop_assert_eq!((ours.next(), ours.len()), (next, model.len()));
                prop_assert!(ours.held.len() <= window);
            }
        }
    }
}
