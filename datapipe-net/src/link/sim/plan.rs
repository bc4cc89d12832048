//! Sizes and speeds of a run, and its incidents with their times.

use super::random::Random;

pub(super) const US: u64 = 1_000;
pub(super) const MS: u64 = 1_000_000;
pub(super) const SECOND: u64 = 1_000_000_000;

/// One of the two halves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// The sending half.
    A,
    /// The receiving half.
    B,
}

/// An incident.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The paths of the mask carry nothing in one direction or both until a time.
    Cut {
        paths: u64,
        to_a: bool,
        to_b: bool,
        until: u64,
    },
    /// The connections on the paths of the mask break; each side notices at some time, or not.
    Break { paths: u64 },
    /// The half's parent is killed and replaced.
    Kill(Side),
    /// The half is stopped.
    Stop(Side),
    /// From now on frames of the half are changed now and then.
    Lie(Side),
    /// A connection on a path gets a successor.
    Retire { path: u16, side: Side },
    /// The receiver sets a rate.
    Rate(u64),
}

/// Everything that a seed decides before a run.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) paths: Vec<Path>,
    pub(super) blocks: u64,
    /// Buffers of each half.
    pub(super) pool_a: u64,
    pub(super) pool_b: u64,
    /// Blocks that the tail keeps before it frees any.
    pub(super) gather: u64,
    /// Longest time that the head and the tail need for a block.
    pub(super) head_time: u64,
    pub(super) tail_time: u64,
    /// Longest time between two steps of a parent.
    pub(super) parent_time: u64,
    /// Incidents with their times, the first one first.
    pub(super) faults: Vec<(u64, Fault)>,
    /// True if the run may end without success.
    pub(super) may_fail: bool,
    /// Half whose frames are changed.
    pub(super) liar: Option<Side>,
}

/// A path between the machines.
#[derive(Clone, Copy, Debug)]
pub(super) struct Path {
    pub(super) delay: u64,
    pub(super) jitter: u64,
    /// Time that a block takes.
    pub(super) block_time: u64,
}

impl Plan {
    pub(super) fn new(random: &mut Random) -> Self {
        let connections = random.within(1, 4);
        let (delay, block_time) = (random.within(1, 60) * MS, random.within(1, 60) * MS);
        let mut paths = Vec::new();
        for _ in 0..connections {
            let factor = if random.once_in(8) {
                100
            } else {
                random.within(1, 3)
            };
            let jitter = random.below(3) * delay / 2;
            paths.push(Path {
                delay,
                jitter,
                block_time: block_time * factor,
            });
        }
        let gather = if random.once_in(2) {
            1
        } else {
            random.within(2, 5)
        };
        let spare = if random.once_in(2) {
            0
        } else {
            random.below(8)
        };
        let slow =
            |random: &mut Random| [0, 5 * MS, 50 * MS, 900 * MS, 5 * MS][random.below(5) as usize];
        let mut plan = Self {
            paths,
            blocks: if random.once_in(20) {
                random.below(3)
            } else {
                random.within(3, 40)
            },
            pool_a: random.within(1, 8),
            // The smallest pool that admission allows, and a few more.
            pool_b: gather + spare,
            gather,
            head_time: slow(random),
            tail_time: slow(random),
            parent_time: [200 * US, 10 * MS, 300 * MS][random.below(3) as usize],
            faults: Vec::new(),
            may_fail: false,
            liar: None,
        };
        // A third of the runs has no incident.
        let count = [0, 0, 1, 1, 2, 3, 6][random.below(7) as usize];
        let mut outage = 0;
        for _ in 0..count {
            plan.add_fault(random, &mut outage);
        }
        // All connections may be lost for the sum of the times, and backoff comes on top.
        plan.may_fail |= outage > 30 * SECOND;
        plan.faults.sort_by_key(|(at, _)| *at);
        plan
    }

    /// Adds an incident, and to `outage` the time for which it may leave no connection.
    fn add_fault(&mut self, random: &mut Random, outage: &mut u64) {
        let bits = random.within(20, 34);
        let at = random.below(1 << bits);
        let all = (1 << self.paths.len()) - 1;
        let some = random.within(1, all);
        let fault = match random.below(24) {
            0..5 => {
                let length = match random.below(4) {
                    0 => random.below(SECOND),
                    1 => random.below(15 * SECOND),
                    // For ever: not all paths, unless the run may fail.
                    2 if some != all => u64::MAX / 2,
                    _ => random.below(90 * SECOND),
                };
                let (to_a, to_b) =
                    [(true, true), (true, false), (false, true)][random.below(3) as usize];
                // The silence before a cut is noticed counts, too.
                if length < u64::MAX / 2 {
                    *outage += length + 10 * SECOND;
                } else {
                    self.may_fail |= (self.cut_for_ever() | some) == all;
                }
                Fault::Cut {
                    paths: some,
                    to_a,
                    to_b,
                    until: at.saturating_add(length),
                }
            }
            5..9 => {
                *outage += 11 * SECOND;
                Fault::Break { paths: some }
            }
            9..12 => {
                *outage += 14 * SECOND;
                Fault::Kill(Side::A)
            }
            12..15 => {
                *outage += 14 * SECOND;
                Fault::Kill(Side::B)
            }
            15 | 16 => {
                self.may_fail = true;
                Fault::Stop([Side::A, Side::B][random.below(2) as usize])
            }
            17 | 18 if self.liar.is_none() => {
                self.may_fail = true;
                let side = [Side::A, Side::B][random.below(2) as usize];
                self.liar = Some(side);
                Fault::Lie(side)
            }
            19..22 => Fault::Retire {
                path: random.below(self.paths.len() as u64) as u16,
                side: [Side::A, Side::B][random.below(2) as usize],
            },
            _ => Fault::Rate([0, 1 << 16, 1 << 30][random.below(3) as usize]),
        };
        self.faults.push((at, fault));
    }

    /// The paths that are cut for ever.
    fn cut_for_ever(&self) -> u64 {
        self.faults.iter().fold(0, |all, (_, fault)| match fault {
            Fault::Cut { paths, until, .. } if *until >= u64::MAX / 2 => all | paths,
            _ => all,
        })
    }
}
