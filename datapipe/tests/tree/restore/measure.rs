//! Time to restore a small file, compared with the system calls that any program needs for it.
//!
//! ```text
//! cargo test --release -p datapipe-sdk --test tree -- --ignored --nocapture measure_small_files
//! ```

use std::fs;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Instant;

use rustix::fs::{Gid, Mode, Timespec, Timestamps, UTIME_OMIT, Uid};

use super::pack::{Pack, WHEN};
use super::site::{Site, problems};
use crate::placement::Placement;

in_both_placements! {
    #[ignore = "a measurement"]
    measure_small_files
}

const FOLDERS: usize = 200;
const FILES: usize = 100;
const DATA: [u8; 1500] = [0xa5; 1500];

fn measure_small_files(placement: Placement) {
    let mut pack = Pack::default();
    for folder in 0..FOLDERS {
        pack.directory(&format!("folder{folder}"));
        for file in 0..FILES {
            pack.file(&format!("folder{folder}/file{file}"), &DATA);
        }
        if folder % 8 == 7 {
            pack.cut();
        }
    }
    let micros = |start: Instant| start.elapsed().as_secs_f64() * 1e6 / (FOLDERS * FILES) as f64;
    for _ in 0..5 {
        let site = settled(placement);
        let start = Instant::now();
        least(&site.dest());
        let least = micros(start);
        let site = settled(placement);
        let (pack, verified) = (pack.clone(), pack.clone());
        let start = Instant::now();
        let report = pack.restore_paths(&site.dest(), Default::default(), &[], placement);
        let restored = micros(start);
        assert!(report.is_whole(), "{}", problems(&report));
        let start = Instant::now();
        assert!(verified.verify(placement).is_whole());
        let verified = micros(start);
        let ratio = restored / least;
        println!(
            "per file: least {least:.1} us, restored {restored:.1} us ({ratio:.2}), \
             verified {verified:.1} us"
        );
    }
}

/// Returns a destination in a file system without pending writes.
fn settled(placement: Placement) -> Site {
    let site = Site::new(placement);
    rustix::fs::syncfs(fs::File::open(site.dest()).unwrap()).unwrap();
    site
}

/// Makes the system calls that each file needs, without any defence and without a digest.
fn least(dest: &Path) {
    let (uid, gid) = (
        rustix::process::geteuid().as_raw(),
        rustix::process::getegid().as_raw(),
    );
    let omit = Timespec {
        tv_sec: 0,
        tv_nsec: UTIME_OMIT,
    };
    let when = Timespec {
        tv_sec: WHEN.seconds,
        tv_nsec: WHEN.nanoseconds.into(),
    };
    let times = Timestamps {
        last_access: omit,
        last_modification: when,
    };
    let finish = |file: &fs::File, mode| {
        rustix::fs::fchown(file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid))).unwrap();
        rustix::fs::fchmod(file, Mode::from_raw_mode(mode)).unwrap();
        rustix::fs::futimens(file, &times).unwrap();
    };
    for folder in 0..FOLDERS {
        let folder = dest.join(format!("folder{folder}"));
        fs::create_dir(&folder).unwrap();
        for file in 0..FILES {
            let path = folder.join(format!("file{file}"));
            let file = fs::OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(path)
                .unwrap();
            std::os::unix::fs::FileExt::write_all_at(&file, &DATA, 0).unwrap();
            finish(&file, 0o640);
        }
        finish(&fs::File::open(folder).unwrap(), 0o755);
    }
}
