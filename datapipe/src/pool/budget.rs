//! The number of buffers that a chain needs so that it can always make progress, and each stage's
//! share of them.
//!
//! The pool is divided evenly between the modules that allocate, and a module's share evenly
//! between its instances. That cannot starve any of them, but it can hang a chain in which some
//! stage waits for more inputs before it lets go of any. So a pipe is admitted only if, for each
//! allocating instance,
//!
//! ```text
//!   quota >= hold_out + sum of instances * (hold_in - 1)
//! ```
//!
//! where the sum runs over the stages that its buffers reach before they are freed.
//! `docs/shared-memory.md`, "Admission", says why this is enough.

use std::fmt;

use crate::limits::{MAX_BUFFERS, MAX_INSTANCES};
use crate::memory::ShapeError;
use crate::words::count_of;

/// Use that one stage makes of buffers.
///
/// Exhaustive: the caller of [`Budget::new`] fills in every field.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "declared above")]
pub struct StageNeeds {
    /// Its name, for messages.
    pub name: String,
    /// Its instances.
    pub instances: u32,
    /// Buffers that an instance allocates before it sends any; 0 if it never allocates.
    pub hold_out: u32,
    /// Inputs that an instance keeps before it sends or frees any; 0 for the head.
    pub hold_in: u32,
    /// True if it may send on the very buffers it received.
    pub passes_on: bool,
}

/// A pool's size, divided.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Budget {
    /// Buffers in the pool.
    pub buffers: u32,
    /// The share of each stage, in the order of flow; 0 for those that do not allocate.
    pub shares: Vec<u32>,
    /// The size at which every instance can work on one buffer while another one is on its way.
    pub recommended: u32,
}

/// Reason that a pipe cannot work as it was described.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// With so few buffers it could come to a standstill.
    TooFewBuffers {
        /// The sum, written out, and what to do.
        sum: String,
        /// The smallest pool with which it can work.
        enough: u32,
    },
    /// Even the largest pool is too small for it.
    TooManyHeld {
        /// Buffers it would need.
        needed: u64,
    },
    /// A number is out of its range.
    Range(ShapeError),
    /// Stages that do not fit together.
    Stages(String),
    /// A stage cannot run in processes because of a limit: of open files, or of what a launch
    /// request can have. On threads, or with another limit, the same pipe could run.
    ProcessLimit(String),
}

impl Budget {
    /// Divides a pool of `buffers`, or of the recommended size, between the stages of a chain.
    ///
    /// # Errors
    ///
    /// [`Refusal::TooFewBuffers`] if the chain could come to a standstill, with the sum written
    /// out.
    ///
    /// # Examples
    ///
    /// ```
    /// use datapipe::pool::{Budget, StageNeeds};
    ///
    /// let stage = |name: &str, instances, hold_in, hold_out| StageNeeds {
    ///     name: name.into(), instances, hold_in, hold_out, passes_on: false,
    /// };
    /// let chain = [stage("read", 1, 0, 1), stage("zstd", 2, 1, 1), stage("group", 1, 4, 0)];
    /// let refused = Budget::new(&chain, Some(8)).unwrap_err();
    /// let sum = "2 >= 1 + (4 - 1) does not hold; use 16 buffers or more";
    /// assert!(refused.to_string().contains(sum));
    /// assert_eq!(Budget::new(&chain, Some(16)).unwrap().shares, [8, 8, 0]);
    /// ```
    pub fn new(stages: &[StageNeeds], buffers: Option<u32>) -> Result<Self, Refusal> {
        for stage in stages {
            let (what, value, min, max) = (
                "number of instances",
                stage.instances.into(),
                1,
                MAX_INSTANCES.into(),
            );
            if !(min..=max).contains(&value) {
                return Err(Refusal::Range(ShapeError {
                    what,
                    value,
                    min,
                    max,
                }));
            }
        }
        let modules = stages.iter().filter(|stage| stage.hold_out > 0).count() as u64;
        let pool_for = |spare: u64| {
            let shares = (0..stages.len()).filter(|&i| stages[i].hold_out > 0);
            let largest = shares
                .map(|i| u64::from(stages[i].instances) * (needed_by(stages, i) + spare))
                .max();
            modules * largest.unwrap_or(0)
        };
        let enough = pool_for(0);
        if enough > MAX_BUFFERS.into() {
            return Err(Refusal::TooManyHeld { needed: enough });
        }
        let (enough, recommended) = (enough as u32, pool_for(1).min(MAX_BUFFERS.into()) as u32);
        let buffers = buffers.unwrap_or(recommended);
        let share = buffers / (modules as u32).max(1);
        let short = (0..stages.len()).find(|&i| {
            let StageNeeds {
                instances,
                hold_out,
                ..
            } = stages[i];
            hold_out > 0 && u64::from(share / instances) < needed_by(stages, i)
        });
        if let Some(short) = short {
            let sum = written_out(stages, short, buffers, share, modules, enough);
            return Err(Refusal::TooFewBuffers { sum, enough });
        }
        let shares = stages
            .iter()
            .map(|stage| if stage.hold_out > 0 { share } else { 0 })
            .collect();
        Ok(Self {
            buffers,
            shares,
            recommended,
        })
    }

    /// A warning about this pool, if it is legal but slow.
    pub fn warning(&self) -> Option<String> {
        (self.buffers < self.recommended).then(|| {
            let Self {
                buffers,
                recommended,
                ..
            } = self;
            format!(
                "the pool has {buffers} buffers; with fewer than {recommended}, stages wait for \
                 each other"
            )
        })
    }
}

/// Buffers that each instance of stage `i` must be allowed to have.
fn needed_by(stages: &[StageNeeds], i: usize) -> u64 {
    let held: u64 = reached_from(stages, i)
        .map(|t| u64::from(t.instances) * u64::from(t.hold_in.saturating_sub(1)))
        .sum();
    u64::from(stages[i].hold_out) + held
}

/// The stages that keep inputs, among those that the buffers of stage `i` reach before they are
/// freed.
fn reached_from(stages: &[StageNeeds], i: usize) -> impl Iterator<Item = &StageNeeds> {
    let later = &stages[i + 1..];
    let last = later
        .iter()
        .position(|stage| !stage.passes_on)
        .map_or(later.len(), |last| last + 1);
    later[..last].iter().filter(|stage| stage.hold_in > 1)
}

/// The sum of admission for the stage at index `short`, written out with the numbers of the pool.
fn written_out(
    stages: &[StageNeeds],
    short: usize,
    buffers: u32,
    share: u32,
    modules: u64,
    enough: u32,
) -> String {
    let StageNeeds {
        name,
        instances,
        hold_out,
        ..
    } = &stages[short];
    let quota = share / instances;
    let keepers: Vec<_> = reached_from(stages, short).collect();
    let mut sum = format!("{quota} >= {hold_out}");
    let mut why = String::new();
    for keeper in &keepers {
        let times = if keeper.instances > 1 {
            format!("{} * ", keeper.instances)
        } else {
            String::new()
        };
        sum += &format!(" + {times}({} - 1)", keeper.hold_in);
        let kept = keeper.hold_in;
        why += &format!(
            "stage \"{}\" keeps {} before it frees one, ",
            keeper.name,
            count_of(kept, "input")
        );
    }
    let but = if why.is_empty() { "" } else { "but " };
    let count = if *instances > 1 {
        format!(" x{instances}")
    } else {
        String::new()
    };
    format!(
        "{why}{but}{name} instances may hold {} each\n  {name}{count} has {share} of {} \
         ({buffers} / {}); {sum} does not hold; use {} or more",
        count_of(quota, "buffer"),
        count_of(buffers, "buffer"),
        count_of(modules, "allocating module"),
        count_of(enough, "buffer"),
    )
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooFewBuffers { sum, .. } => f.write_str(sum),
            Self::TooManyHeld { needed } => {
                write!(
                    f,
                    "its stages keep so many buffers that it needs {needed}; a pool has at most \
                     {MAX_BUFFERS}"
                )
            }
            Self::Range(error) => error.fmt(f),
            Self::Stages(what) | Self::ProcessLimit(what) => f.write_str(what),
        }
    }
}

impl std::error::Error for Refusal {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Range(error) => Some(error),
            Self::TooFewBuffers { .. }
            | Self::TooManyHeld { .. }
            | Self::Stages(_)
            | Self::ProcessLimit(_) => None,
        }
    }
}

impl From<ShapeError> for Refusal {
    fn from(error: ShapeError) -> Self {
        Self::Range(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stage(
        name: &str,
        instances: u32,
        hold_in: u32,
        hold_out: u32,
        passes_on: bool,
    ) -> StageNeeds {
        StageNeeds {
            name: name.into(),
            instances,
            hold_out,
            hold_in,
            passes_on,
        }
    }

    #[test]
    fn the_smallest_pool_is_admitted_and_one_less_is_not() {
        let chain = [
            stage("head", 1, 0, 1, false),
            stage("analyze", 2, 1, 0, true),
            stage("zstd", 3, 1, 1, true),
            stage("group", 1, 5, 1, false),
            stage("tail", 2, 2, 0, false),
        ];
        // head: 1 + 4 for group, whom it reaches past zstd; zstd: 3 * (1 + 4); group: 1 + 2 * 1.
        let enough = 3 * 15;
        assert_eq!(
            Budget::new(&chain, Some(enough)).unwrap().shares,
            [15, 0, 15, 15, 0]
        );
        let Refusal::TooFewBuffers { enough: named, sum } =
            Budget::new(&chain, Some(enough - 1)).unwrap_err()
        else {
            panic!("refused for another reason")
        };
        assert_eq!(named, enough);
        assert!(
            sum.contains("zstd x3 has 14 of 44 buffers (44 / 3 allocating modules)"),
            "{sum}"
        );
        assert!(sum.contains("4 >= 1 + (5 - 1) does not hold"), "{sum}");
    }

    #[test]
    fn a_chain_without_keepers_is_refused_in_plain_words() {
        let chain = [
            stage("head", 1, 0, 1, false),
            stage("zstd", 4, 1, 1, false),
            stage("tail", 1, 1, 0, false),
        ];
        let text = Budget::new(&chain, Some(7)).unwrap_err().to_string();
        assert!(
            text.starts_with("zstd instances may hold 0 buffers each\n"),
            "{text}"
        );
        assert!(
            text.ends_with("0 >= 1 does not hold; use 8 buffers or more"),
            "{text}"
        );
        let budget = Budget::new(&chain, Some(8)).unwrap();
        assert_eq!(budget.recommended, 16);
        assert!(budget.warning().unwrap().contains("fewer than 16"));
        assert_eq!(Budget::new(&chain, None).unwrap().warning(), None);
    }

    #[test]
    fn what_no_pool_can_hold_is_refused() {
        let chain = [
            stage("head", 1, 0, 1, false),
            stage("hoard", 1, 5000, 0, false),
        ];
        assert_eq!(
            Budget::new(&chain, None).unwrap_err(),
            Refusal::TooManyHeld { needed: 5000 }
        );
    }
}
