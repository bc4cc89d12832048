//! The suites of heads and tails.

use crate::controller::Canceller;
use crate::error::Error;
use crate::stage::{HeadStage, Stage, StageKind, TailStage};

use super::contract::Contract;
use super::difference::Difference;
use super::middle::{fail, smallest_pool};
use super::run::{ENDLESS, End, Received, Suite, on_threads, pipe, source};

impl Suite {
    /// Runs a head whose data are `expected`: what all its blocks contain, one after the other.
    /// `head` makes it anew, at the start of its data.
    ///
    /// - It gives its data with each [buffer size](Self::buffer_sizes), on a thread, inline and in
    ///   a process, and ends.
    /// - It holds no more buffers than it declares.
    /// - It ends when the pipe is cancelled.
    ///
    /// A head of several instances is not for this suite: their blocks have no order.
    ///
    /// # Panics
    ///
    /// If the head breaks its contract.
    pub fn head<S: Into<HeadStage<'static>>>(&self, expected: &[u8], head: impl Fn() -> S) {
        let stage = || -> HeadStage<'static> { head().into() };
        let name = stage().settings.name;
        self.check_module(&stage());
        for size in &self.buffer_sizes {
            let case = format!("{name}, buffers of {size} bytes");
            self.check_head(&case, expected, *size, on_threads(stage()));
        }
        let size = self.buffer_sizes.iter().max().copied().unwrap_or(64 << 10);
        if stage().kind() != StageKind::Loop {
            let case = format!("{name}, inline");
            self.check_head(&case, expected, size, stage().inline());
        }
        if self.with_processes {
            let case = format!("{name}, in a process");
            self.check_head(&case, expected, size, stage().in_processes());
        }
        for cut in [0, 1, 5] {
            let case = format!("{name}, cancelled after {cut} blocks");
            let received = Received::cut(Some((cut, End::Cancel)));
            let pipe = pipe().buffer_size(size).head(on_threads(stage()));
            match self.run(&case, received.end(pipe)) {
                Err(Error::Cancelled) | Ok(_) => {}
                Err(error) => Contract::Stops.broken(&case, error),
            }
        }
    }

    fn check_head(&self, case: &str, expected: &[u8], size: u32, head: HeadStage<'static>) {
        let received = Received::default().at_most(expected.len() + 2 * size as usize);
        let pipe = received.end(pipe().buffer_size(size).head(head));
        let outcome = self.run(case, pipe);
        let got = received.take().concat();
        match (outcome, Difference::of_bytes(&got, expected)) {
            (Ok(_), None) => {}
            (Ok(_), Some(difference)) => Contract::HeadData.broken(case, difference),
            (Err(error), difference) if error.to_string().contains(ENDLESS) => {
                let what = "it gives more data, or 10,000 blocks without data in a row";
                match difference {
                    Some(difference) => {
                        Contract::HeadEnds.broken(case, format!("{what}; {difference}"))
                    }
                    None => Contract::HeadEnds.broken(case, what),
                }
            }
            (Err(error), _) => fail(case, error),
        }
    }

    /// Runs a tail. `tail` makes it anew, on an empty destination; `written` reads the data of the
    /// destination of the last one back: those of all blocks, one after the other.
    ///
    /// - It writes the same data however they are cut into blocks, on a thread, inline and in a
    ///   process. Some blocks are empty.
    /// - It works with the smallest pool that its declaration admits.
    /// - An empty stream gives an empty destination.
    /// - If the pipe is cancelled, the tail ends, and the destination has a beginning of the data.
    ///
    /// `blocks` have at most 64 KiB each. A tail of several instances is not for this suite: they
    /// have no order.
    ///
    /// # Panics
    ///
    /// If the tail breaks its contract.
    pub fn tail<S: Into<TailStage<'static>>>(
        &self,
        blocks: &[Vec<u8>],
        tail: impl Fn() -> S,
        written: impl Fn() -> Vec<u8>,
    ) {
        let stage = || -> TailStage<'static> { tail().into() };
        let name = stage().settings.name;
        self.check_module(&stage());
        let data = blocks.concat();
        let check = |case: &str, blocks: &[Vec<u8>], tail: TailStage<'static>| {
            let pipe = pipe().head(source(blocks)).tail(tail);
            if let Err(error) = self.run(case, pipe) {
                fail(case, error);
            }
            if let Some(difference) = Difference::of_bytes(&written(), &blocks.concat()) {
                Contract::TailData.broken(case, difference);
            }
        };
        check(
            &format!("{name}, the blocks as given"),
            blocks,
            on_threads(stage()),
        );
        for len in [1000, 64 << 10] {
            let cut: Vec<_> = data.chunks(len).map(<[u8]>::to_vec).collect();
            check(
                &format!("{name}, blocks of {len} bytes"),
                &cut,
                on_threads(stage()),
            );
        }
        let holes = blocks.iter().flat_map(|block| [Vec::new(), block.clone()]);
        let holes: Vec<_> = holes.collect();
        check(
            &format!("{name}, every other block empty"),
            &holes,
            on_threads(stage()),
        );
        check(
            &format!("{name}, an empty stream"),
            &[],
            on_threads(stage()),
        );
        if stage().kind() != StageKind::Loop {
            check(&format!("{name}, inline"), blocks, stage().inline());
        }
        if self.with_processes {
            check(
                &format!("{name}, in a process"),
                blocks,
                stage().in_processes(),
            );
        }
        let enough = self.check_smallest(&name, blocks, &stage);
        self.check_beginning(&name, blocks, enough, &stage, &written);
    }

    /// Runs a tail with the smallest pool, and returns its buffers.
    fn check_smallest(
        &self,
        name: &str,
        blocks: &[Vec<u8>],
        stage: &impl Fn() -> TailStage<'static>,
    ) -> u32 {
        let case = format!("{name}, the smallest pool");
        let small = || pipe().head(source(blocks)).tail(on_threads(stage()));
        let enough = smallest_pool(&case, small());
        if let Err(error) = self.run(&case, small().buffers(enough)) {
            fail(&case, error);
        }
        enough
    }

    /// Cancels the pipe when the head has sent so many blocks.
    fn check_beginning(
        &self,
        name: &str,
        blocks: &[Vec<u8>],
        enough: u32,
        stage: &impl Fn() -> TailStage<'static>,
        written: &impl Fn() -> Vec<u8>,
    ) {
        let data = blocks.concat();
        for sent in [0, 1, blocks.len() / 2, blocks.len()] {
            let case = format!("{name}, cancelled after the head has sent {sent} blocks");
            // A small pool: all but a few of the blocks have reached the tail when it stops.
            let pipe = pipe().buffers(enough);
            let head = stopping(&blocks[..sent.min(blocks.len())], pipe.canceller());
            match self.run(&case, pipe.head(head).tail(on_threads(stage()))) {
                Err(Error::Cancelled) | Ok(_) => {}
                Err(error) => Contract::Stops.broken(&case, error),
            }
            let written = written();
            let beginning = &data[..written.len().min(data.len())];
            if let Some(difference) = Difference::of_bytes(&written, beginning) {
                Contract::TailBeginning.broken(&case, difference);
            }
        }
    }
}

/// A head that sends blocks, cancels the pipe, and waits for that.
fn stopping(blocks: &[Vec<u8>], canceller: Canceller) -> HeadStage<'static> {
    let blocks = blocks.to_vec();
    Stage::head_port("suite-source", move |port| {
        for bytes in blocks {
            let mut block = port.alloc()?;
            block.put(&bytes)?;
            port.send(block)?;
        }
        canceller.cancel();
        loop {
            // Ends with the error of the stopped port.
            let block = port.alloc()?;
            port.send(block)?;
        }
    })
}
