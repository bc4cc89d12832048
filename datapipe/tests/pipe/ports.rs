//! Port loops in whole pipes: the rules of a port, and calls that do not block.

use std::sync::{Arc, Barrier};
use std::time::Duration;

use datapipe::prelude::*;
use datapipe::testkit::{Collected, collect, numbers};

use crate::fixture::small;

#[test]
fn port_rejects_an_allocated_block_as_an_answer() {
    let run = |bad: MiddleStage<'static>| {
        small()
            .head(numbers(5))
            .stage(bad)
            .tail(collect(&Collected::default()))
            .run()
            .map(drop)
    };
    let reverse = Stage::port("answers what it allocated", |port| {
        let block = port.alloc()?;
        Ok(port.forward(block)?)
    });
    assert!(
        run(reverse)
            .unwrap_err()
            .to_string()
            .contains("was not received")
    );
    // A loop without numbers may drop, add and repeat blocks.
    let free = Stage::port("free", |port| {
        while let Some(block) = port.receive()? {
            if block.number().get() == 1 {
                drop(block);
                continue;
            }
            port.forward(block)?;
        }
        Ok(())
    });
    run(free).unwrap();
}

#[test]
fn try_and_timeout_calls_report_what_blocks_them() {
    use datapipe::pool::{Blocked, TryError};
    let done = Arc::new(Barrier::new(2));
    let gate = Arc::clone(&done);
    let head = Stage::head_port("head", move |port| {
        let first = port.alloc()?;
        let second = port.try_alloc()?;
        let at_limit = TryError::Blocked(Blocked::AtLimit);
        assert_eq!(port.try_alloc().unwrap_err(), at_limit);
        let waited = port.alloc_timeout(Duration::from_millis(1));
        assert_eq!(waited.unwrap_err(), at_limit);
        gate.wait();
        drop(first);
        port.send(second)?;
        Ok(())
    });
    let tail = Stage::tail_port("tail", move |port| {
        let no_input = TryError::Blocked(Blocked::NoInput);
        assert_eq!(port.try_receive().unwrap_err(), no_input);
        let waited = port.receive_timeout(Duration::from_millis(1));
        assert_eq!(waited.unwrap_err(), no_input);
        done.wait();
        assert!(port.receive()?.is_some());
        assert!(port.receive()?.is_none(), "the end");
        assert!(port.receive()?.is_none(), "the end is permanent");
        Ok(())
    });
    small().buffers(2).head(head).tail(tail).run().unwrap();
}
