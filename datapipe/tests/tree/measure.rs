//! Speed of reading a tree, compared with tar.
//!
//! ```text
//! TREE=/usr/share INSTANCES=1,2,4 COLD=1 cargo test --release -p datapipe-sdk --test tree -- \
//!     --ignored --nocapture measure_beside_tar
//! ```
//!
//! With `COLD`, which only root may set, the caches are empty when a reading begins.

use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};

use datapipe::prelude::*;
use datapipe::wire::BlockKind;

use crate::fixture::head;
use crate::placement::Placement;

in_both_placements! {
    #[ignore = "measures, and needs a tree"]
    measure_beside_tar
}

/// A tail that counts blocks of data and their bytes.
#[derive(Clone, Default)]
struct Counted(Arc<Mutex<(u64, u64)>>);

impl Tail for Counted {
    fn write(&mut self, block: &Block) -> Result<(), StageError> {
        if block.info().kind == BlockKind::Data.code() {
            let (blocks, bytes) = &mut *self.0.lock().unwrap();
            (*blocks, *bytes) = (*blocks + 1, *bytes + block.len() as u64);
        }
        Ok(())
    }
}

fn measure_beside_tar(placement: Placement) {
    let tree = std::env::var("TREE").unwrap_or_else(|_| "/usr/share".to_owned());
    let instances = std::env::var("INSTANCES").unwrap_or_else(|_| "1".to_owned());
    let timed = |what: &mut dyn FnMut()| {
        if std::env::var("COLD").is_ok() {
            rustix::fs::sync();
            fs::write("/proc/sys/vm/drop_caches", "3").unwrap();
        }
        let began = std::time::Instant::now();
        what();
        began.elapsed()
    };
    for round in 0..5 {
        let tar = timed(&mut || {
            let command = "tar c --absolute-names \"$TREE\" | cat > /dev/null";
            let status = std::process::Command::new("sh")
                .args(["-c", command])
                .env("TREE", &tree)
                .status();
            assert!(status.unwrap().success());
        });
        println!("{round}: tar {tar:.2?}");
        for n in instances.split(',').map(|n| n.parse().unwrap()) {
            let head = head(Path::new(&tree));
            let (report, mut head) = (head.report(), Some(head));
            let counted = Counted::default();
            let ours = timed(&mut || {
                let (head, tail) = (head.take().unwrap(), counted.clone());
                let pipe = match n {
                    1 => Pipe::builder().head(placement.place(head)),
                    n => Pipe::builder().head(placement.place(head.instances(n))),
                };
                pipe.tail(tail).run().unwrap();
            });
            let ratio = ours.as_secs_f64() / tar.as_secs_f64();
            let (blocks, bytes) = *counted.0.lock().unwrap();
            let full = bytes * 100 / (blocks << 22);
            println!(
                "   x{n} {ours:.2?}: {ratio:.2}; {full} % full; {:?}",
                report.counts()
            );
        }
    }
}
