//! The work of the processes, the same before and after a death: the shape of a chain, its blocks
//! and its stages.

use std::sync::atomic::Ordering;
use std::time::Duration;

use datapipe::memory::{Shape, StageShape};
use datapipe::pool::{Block, BlockInfo, HeadPort, MiddlePort, PortError, TailPort, TryError};

use crate::books::{Books, FIRST_ID, TailBook, UNSEEN};
use crate::random::{Random, mix};
use crate::{Outcome, ensure};

/// Timeout of the instances that wait with one.
const NAP: Duration = Duration::from_micros(500);

/// The work of the processes, the same before and after a death.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) shape: Shape,
    /// True if the instances wait with a timeout, repeatedly, instead of without one.
    timeouts: bool,
    /// Length of the longest ordinary block, in words of 8 bytes.
    most_words: u64,
}

/// Action of a middle stage on a block.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Deed {
    Copy,
    Forward,
    Discard,
}

/// Number of instances of each stage, head first.
const CHAINS: [&[u32]; 6] = [
    &[1, 2, 1],
    &[2, 2, 1],
    &[1, 1, 2, 1],
    &[3, 2, 1],
    &[2, 2, 3, 1],
    &[1, 1, 2, 2],
];

impl Plan {
    pub(crate) fn draw(random: &mut Random) -> Self {
        let chain = CHAINS[random.below(CHAINS.len() as u64) as usize];
        let last = chain.len() - 1;
        // Scarce buffers make the instances wait for each other. With many buffers and little work
        // for each, the processes spend more of their time between two steps of a hand-over.
        let roomy = random.one_in(2);
        let mut share =
            |instances, more| instances * if roomy { 8 } else { 1 } + random.below(more) as u32;
        let stages: Vec<_> = (0..)
            .zip(chain)
            .map(|(stage, &instances)| match stage {
                0 => StageShape::new(instances).share(share(instances, 3)),
                _ if stage == last => StageShape::new(instances),
                _ => StageShape::new(instances)
                    .share(share(instances, 2))
                    .numbered(),
            })
            .collect();
        let shares: u32 = stages.iter().map(|stage| stage.share).sum();
        let size = 512 << random.below(4);
        let room = random.below(2) as u32 * 64;
        // A power of two is the worst case: the rings then need twice as many slots.
        let spare = random.below(2) as u32;
        let buffers = if random.one_in(2) {
            shares.next_power_of_two()
        } else {
            shares + spare
        };
        let shape = Shape::builder(buffers, size)
            .headroom(room)
            .tailroom(room)
            .stages(stages)
            .build();
        let most_words = if roomy { 4 } else { 32 };
        Self {
            shape: shape.expect("a legal shape"),
            most_words,
            timeouts: random.one_in(4),
        }
    }

    pub(crate) fn tail(&self) -> u32 {
        self.shape.tail().get()
    }

    pub(crate) fn tails(&self) -> u32 {
        self.shape.stages()[self.tail() as usize].instances
    }

    fn deed(&self, stage: u32, id: u64) -> Deed {
        match mix(id ^ mix(stage.into())) % 16 {
            0 => Deed::Discard,
            1 => Deed::Forward,
            _ => Deed::Copy,
        }
    }

    fn is_discarded(&self, id: u64) -> bool {
        (1..self.tail()).any(|stage| self.deed(stage, id) == Deed::Discard)
    }

    /// Length of a block, in words of 8 bytes. Some blocks fill their buffer.
    fn words(&self, id: u64) -> u64 {
        let full = u64::from(self.shape.buffer_size() / 8);
        if mix(id).is_multiple_of(32) {
            full
        } else {
            1 + mix(id) % self.most_words
        }
    }

    /// Returns a word of the payload of a block at the input of `stage`.
    fn word(&self, stage: u32, id: u64, at: u64) -> u64 {
        let sent = mix(id).wrapping_add(at);
        let copied = (1..stage).filter(|&stage| self.deed(stage, id) == Deed::Copy);
        copied.fold(sent, |word, stage| transform(stage, word))
    }
}

fn id_of(head: usize, index: u64) -> u64 {
    (head as u64) << 32 | index
}

pub(crate) fn of_id(id: u64) -> (usize, u64) {
    ((id >> 32) as usize, id & 0xffff_ffff)
}

/// Changes a word. Twice, not at all, or in another order of the stages gives another result.
fn transform(stage: u32, word: u64) -> u64 {
    word.rotate_left(9) ^ mix(stage.into())
}

pub(crate) fn head(port: HeadPort, plan: &Plan, books: &Books, me: usize) -> Outcome {
    let limit = books.seen.len() as u64 / u64::from(plan.shape.stages()[0].instances);
    let progress = &books.heads[me];
    loop {
        let index = progress.sent();
        if index == limit || books.is_ending() {
            return Ok(port.finish()?);
        }
        let mut block = match plan.timeouts {
            true => patiently(|| port.alloc_timeout(NAP))?,
            false => port.alloc()?,
        };
        let id = id_of(me, index);
        let words = plan.words(id);
        let bytes = block.grow(words as usize * 8)?;
        for (at, word) in (0..).zip(bytes.chunks_exact_mut(8)) {
            word.copy_from_slice(&plan.word(1, id, at).to_le_bytes());
        }
        let mut info = BlockInfo::default();
        info.user[0] = id;
        info.offset = index;
        block.set_info(info);
        progress.begin_send();
        port.send(block)?;
        progress.end_send();
    }
}

pub(crate) fn middle(port: MiddlePort, plan: &Plan, stage: u32) -> Outcome {
    let mut last = None;
    loop {
        let input = match plan.timeouts {
            true => patiently(|| port.receive_timeout(NAP))?,
            false => port.receive()?,
        };
        let Some(input) = input else {
            return Ok(port.finish()?);
        };
        let before = last.replace(input.number().get());
        ensure!(before < last, "number {last:?} follows {before:?}");
        if input.is_vacant() {
            port.forward(input)?;
            continue;
        }
        match plan.deed(stage, input.info().user[0]) {
            Deed::Discard => port.drop_input(input)?,
            Deed::Forward => port.forward(input)?,
            Deed::Copy => {
                let mut output = match plan.timeouts {
                    true => patiently(|| port.alloc_timeout(NAP))?,
                    false => port.alloc()?,
                };
                let (from, to) = (input.bytes(), output.grow(input.len())?);
                for (from, to) in from.chunks_exact(8).zip(to.chunks_exact_mut(8)) {
                    let word = transform(stage, u64::from_le_bytes(from.try_into()?));
                    to.copy_from_slice(&word.to_le_bytes());
                }
                output.set_info(input.info());
                port.send(output, &input)?;
            }
        }
    }
}

pub(crate) fn tail(port: TailPort, plan: &Plan, books: &Books, me: usize) -> Outcome {
    let mut last = None;
    loop {
        let input = match plan.timeouts {
            true => patiently(|| port.receive_timeout(NAP))?,
            false => port.receive()?,
        };
        let Some(input) = input else {
            return Ok(port.finish()?);
        };
        let number = input.number().get();
        let before = last.replace(number);
        ensure!(before < last, "number {number} follows {before:?}");
        let tag = FIRST_ID + identify(plan, books, &input)?;
        let seen = |number: u64| {
            usize::try_from(number)
                .ok()
                .and_then(|number| books.seen.get(number))
        };
        let place =
            seen(number).ok_or_else(|| format!("number {number} is beyond all that was sent"))?;
        let TailBook { arrived, again } = &books.tails[me];
        match place.load(Ordering::Acquire) {
            UNSEEN => {
                let gap = plan.tails() == 1
                    && number
                        .checked_sub(1)
                        .and_then(seen)
                        .is_some_and(|before| before.load(Ordering::Acquire) == UNSEEN);
                ensure!(!gap, "number {number} arrives before its predecessor");
                place.store(tag, Ordering::Release);
                arrived.store(arrived.load(Ordering::Acquire) + 1, Ordering::Release);
            }
            // A dead predecessor recorded the block before it freed it.
            seen if seen == tag => {
                again.store(again.load(Ordering::Acquire) + 1, Ordering::Release)
            }
            seen => {
                return Err(format!("number {number} was {seen:#x}, and is {tag:#x} now").into());
            }
        }
    }
}

/// Returns the identity of a block with the right content.
fn identify(plan: &Plan, books: &Books, input: &Block) -> Outcome<u64> {
    let info = input.info();
    let id = info.user[0];
    let (head, index) = of_id(id);
    let progress = books
        .heads
        .get(head)
        .ok_or_else(|| format!("no head sent {id:#x}"))?;
    ensure!(
        index == info.offset && index <= progress.sent(),
        "no head has sent {id:#x} yet"
    );
    ensure!(
        plan.is_discarded(id) == input.is_vacant(),
        "{id:#x} should be discarded, or should not"
    );
    let (have, want) = (
        input.len() as u64,
        if input.is_vacant() {
            0
        } else {
            plan.words(id) * 8
        },
    );
    ensure!(have == want, "{id:#x} has {have} bytes instead of {want}");
    for (at, word) in (0..).zip(input.bytes().chunks_exact(8)) {
        let (word, want) = (
            u64::from_le_bytes(word.try_into()?),
            plan.word(plan.tail(), id, at),
        );
        ensure!(
            word == want,
            "{id:#x} is CORRUPT: word {at} is {word:#x} instead of {want:#x}"
        );
    }
    Ok(id)
}

/// Repeats an attempt with a timeout until it succeeds.
fn patiently<T>(mut attempt: impl FnMut() -> Result<T, TryError>) -> Result<T, PortError> {
    loop {
        match attempt() {
            Ok(got) => return Ok(got),
            Err(TryError::Blocked(_)) => {}
            Err(TryError::Port(error)) => return Err(error),
        }
    }
}
