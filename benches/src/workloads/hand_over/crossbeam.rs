//! crossbeam-channel: one channel for the full buffers, one for the free ones.

use std::error::Error;
use std::ffi::OsString;
use std::thread;

use crossbeam_channel::bounded;

use super::program::cycles;
use super::{BUFFER_SIZE, BUFFERS};

pub(super) fn threads(arguments: &[OsString]) -> Result<(), Box<dyn Error>> {
    let cycles = cycles(arguments)?;
    let (give_back, free) = bounded(BUFFERS as usize);
    let (send, receive) = bounded(BUFFERS as usize);
    for _ in 0..BUFFERS {
        give_back.send(vec![0u8; BUFFER_SIZE].into_boxed_slice())?;
    }
    let received = thread::scope(|scope| {
        scope.spawn(move || {
            for _ in 0..cycles {
                // A closed channel means that the receiver panicked, which the scope reports.
                let Ok(buffer) = free.recv() else { return };
                if send.send(buffer).is_err() {
                    return;
                }
            }
            // The channel of free buffers must stay open until the receiver has returned all of
            // them.
            drop(send);
            while free.recv().is_ok() {}
        });
        let give_back = give_back; // dropped with the closure, so that the sender ends
        let mut received = 0u64;
        while let Ok(buffer) = receive.recv() {
            if give_back.send(buffer).is_err() {
                break;
            }
            received += 1;
        }
        received
    });
    println!("{received}");
    Ok(())
}
