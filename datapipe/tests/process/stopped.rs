//! Processes that are stopped and continued at the end of a stream. That is not a standstill, and
//! no word of the pipe is wrong.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use datapipe::pool::Activity;
use datapipe::prelude::*;
use rustix::process::{Pid, Signal, kill_process};

use crate::ends::far_checking;
use crate::stages::{Deed, content, out_of_place, several};
use crate::watch::wait_until;

/// Blocks before the head waits for its end.
const BLOCKS: u64 = 20;

/// Time for several checks of the controller.
const CHECKS: Duration = Duration::from_millis(900);

/// Sends [`BLOCKS`] blocks, and ends when it may.
struct Patient {
    next: u64,
    may_end: Arc<AtomicBool>,
}

impl Head for Patient {
    fn fill(&mut self, block: &mut Block) -> Result<Fill, StageError> {
        if self.next < BLOCKS {
            block.put(&content(self.next))?;
            self.next += 1;
            return Ok(Fill::Block);
        }
        while !self.may_end.load(Ordering::SeqCst) {
            block.stop().sleep(Duration::from_millis(1))?;
        }
        Ok(Fill::End)
    }
}

fn signal(process: u32, signal: Signal) {
    kill_process(Pid::from_raw(process as i32).unwrap(), signal).unwrap();
}

/// The middle is stopped while the stream ends. When it continues, it ends at once; its process
/// is one that the tail has waited for all the time, and the tail is stopped before it learns of
/// that. The controller must not take the tail for one that waits in vain.
pub(crate) fn end_of_a_stopped_process_is_not_a_standstill() {
    for order in 0..4 {
        let (may_end, count) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicU64::new(0)),
        );
        let head = Patient {
            next: 0,
            may_end: Arc::clone(&may_end),
        };
        let builder = Pipe::builder().buffer_size(1024).head(head);
        let pipe = builder
            .stage(out_of_place(Deed::Pass, 0, ""))
            .tail(far_checking(&count))
            .start()
            .unwrap();
        let activity = |stage: usize| pipe.status().stages[stage].instances[0].activity;
        wait_until("all blocks have arrived, and the stages sleep", || {
            let tail = &pipe.status().stages[2].instances[0];
            tail.blocks_in == BLOCKS && [1, 2].map(activity) == [Activity::WaitingForInput; 2]
        });
        let [middle, tail] = [1, 2].map(|stage| pipe.status().stages[stage].instances[0].process);
        signal(middle, Signal::STOP);
        may_end.store(true, Ordering::SeqCst);
        wait_until("the head has ended", || activity(0) == Activity::Ended);
        std::thread::sleep(CHECKS + Duration::from_millis(70 * order));
        signal(tail, Signal::STOP);
        signal(middle, Signal::CONT);
        wait_until("the middle has ended", || activity(1) == Activity::Ended);
        std::thread::sleep(CHECKS);
        signal(tail, Signal::CONT);
        let report = pipe
            .wait()
            .unwrap_or_else(|error| panic!("order {order}: {error}"));
        assert_eq!(report.status.stages[2].instances[0].blocks_in, BLOCKS);
    }
}

/// Two instances of the tail's predecessor end at different times, and one is stopped between.
pub(crate) fn stopped_instance_among_several_is_not_a_standstill() {
    for victim in [0, 1] {
        let (may_end, count) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicU64::new(0)),
        );
        let head = Patient {
            next: 0,
            may_end: Arc::clone(&may_end),
        };
        let tail_count = Arc::clone(&count);
        let pipe = Pipe::builder()
            .buffer_size(1024)
            .head(head)
            .stage(several(Deed::Pass, 0, "").instances(2))
            .tail(Stage::tail("sum", move |_| Sum(Arc::clone(&tail_count))))
            .start()
            .unwrap();
        let asleep = || {
            let status = pipe.status();
            let mut middles = status.stages[1].instances.iter();
            status.stages[0].instances[0].blocks_out == BLOCKS
                && middles.all(|one| one.activity == Activity::WaitingForInput)
        };
        wait_until("the stages sleep", asleep);
        let process = pipe.status().stages[1].instances[victim].process;
        signal(process, Signal::STOP);
        may_end.store(true, Ordering::SeqCst);
        std::thread::sleep(CHECKS);
        signal(process, Signal::CONT);
        pipe.wait()
            .unwrap_or_else(|error| panic!("instance {victim}: {error}"));
    }
}

struct Sum(Arc<AtomicU64>);

impl Tail for Sum {
    fn write(&mut self, block: &Block) -> Result<(), StageError> {
        self.0.fetch_add(block.len() as u64, Ordering::SeqCst);
        Ok(())
    }
}
