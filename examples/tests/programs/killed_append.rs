//! Appends that are killed at any moment: all earlier sessions stay as they were, and the next
//! append works. `scripts/append-campaign` runs the long form.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::fixture::{DISK_TO_TAPE, Fixture, next_random, noise, ok, setting};

/// Kills on one medium, after which a new one is begun: all earlier sessions are restored after
/// each of them.
const KILLS_OF_A_MEDIUM: usize = 6;

/// Most bytes of a torn frame, which the next append removes: a record and its lengths.
const FRAME: usize = (1 << 20) + 8;

/// Kills `DATAPIPE_KILLS` appends, 3 if that is not set, of each kind: to a tape and to a directory
/// of volumes, with a key and without one.
#[test]
fn killed_append_costs_no_earlier_session() {
    let kills = setting("DATAPIPE_KILLS", 3) as usize;
    let seed = setting("DATAPIPE_SEED", 1);
    println!("DATAPIPE_SEED={seed} DATAPIPE_KILLS={kills}");
    let mut random = seed;
    let keys: [&[&str]; 2] = [&[], &["--key-file", "key"]];
    for medium in ["tape", "volumes/"] {
        for key in keys {
            let mut figures = Figures::default();
            while figures.kills < kills {
                let mut site = Site::new(medium, key);
                for _ in 0..KILLS_OF_A_MEDIUM.min(kills - figures.kills) {
                    site.kill_append(&mut random, &mut figures);
                }
            }
            println!("{medium} {key:?}: {figures:?}");
            // Of many kills some come amid an append: otherwise nothing was tried.
            assert!(kills < 50 || figures.left_unfinished > 0, "{figures:?}");
        }
    }
}

/// Counts of one kind of medium.
#[derive(Debug, Default)]
struct Figures {
    kills: usize,
    /// Appends that had ended before they were killed.
    had_ended: usize,
    /// Kills after which the medium had one more session that is not finished.
    left_unfinished: usize,
    restored_sessions: usize,
}

/// The files below a directory, with their content.
type Files = BTreeMap<OsString, Vec<u8>>;

/// A medium, and the content of each of its finished sessions.
struct Site {
    fixture: Fixture,
    medium: &'static str,
    key: &'static [&'static str],
    /// Content of the finished sessions, by their ids.
    sessions: BTreeMap<String, Files>,
    /// The medium's files as they were last.
    before: BTreeMap<PathBuf, Vec<u8>>,
    /// Lengths of those files after the last session that was finished: nothing before that may
    /// change.
    kept: BTreeMap<PathBuf, usize>,
    /// Time that an append takes.
    duration: Duration,
    /// Appends so far.
    appends: usize,
}

impl Site {
    /// A medium with one session.
    fn new(medium: &'static str, key: &'static [&'static str]) -> Self {
        let mut site = Self {
            fixture: Fixture::new(),
            medium,
            key,
            sessions: BTreeMap::new(),
            before: BTreeMap::new(),
            kept: BTreeMap::new(),
            duration: Duration::ZERO,
            appends: 0,
        };
        site.append();
        site
    }

    /// Changes the source, and returns its content: a file that does not compress and has no two
    /// equal versions, and one more small file each time.
    fn change_source(&mut self) -> Files {
        self.appends += 1;
        let mut large = noise(3 << 20);
        large[..8].copy_from_slice(&(self.appends as u64).to_le_bytes());
        let source = self.fixture.path("src/data");
        fs::write(source.join("large"), large).unwrap();
        let name = format!("file {}", self.appends);
        fs::write(source.join(name), noise(self.appends * 3000)).unwrap();
        files_below(&source)
    }

    fn append_command(&self) -> Command {
        // Several volumes for each session, if there are any.
        let size = match self.medium.ends_with('/') {
            true => "1300KiB",
            false => "4GiB",
        };
        // Small blocks, so that the medium grows as long as the source is read.
        let small = ["--buffer-size", "64KiB", "--volume-size", size];
        let args = [&["--append", "--quiet"], &small[..]].concat();
        let args = [self.key, &args, &["src/data", self.medium]].concat();
        self.fixture.command(DISK_TO_TAPE, &args)
    }

    /// Appends a session, which must succeed.
    fn append(&mut self) {
        let content = self.change_source();
        let start = Instant::now();
        ok(&self.append_command().output().unwrap());
        self.duration = start.elapsed();
        self.check_medium();
        let finished = self.take_finished(&content);
        assert_eq!(finished, 1, "the append has finished no session");
        self.keep_all();
    }

    /// Kills an append at a random moment, checks all earlier sessions, and appends another one.
    fn kill_append(&mut self, random: &mut u64, figures: &mut Figures) {
        let content = self.change_source();
        let most = self.duration.as_micros() as u64 * 5 / 4;
        let before = self.unfinished();
        let mut child = self.append_command().stderr(Stdio::null()).spawn().unwrap();
        sleep(Duration::from_micros(next_random(random) % most.max(1)));
        let _ = child.kill();
        child.wait().unwrap();
        figures.kills += 1;
        self.check_medium();
        let finished = self.take_finished(&content);
        figures.had_ended += finished;
        figures.left_unfinished += self.unfinished() - before;
        if finished > 0 {
            self.keep_all();
        }
        self.check_sessions(figures);
        self.append();
        self.check_sessions(figures);
        self.fixture.clear("out");
    }

    /// Number of sessions that were begun and not finished.
    fn unfinished(&self) -> usize {
        self.list().len() - self.sessions.len()
    }

    fn list(&self) -> Vec<Value> {
        let text = ok(&self.fixture.restore(&["--sessions", "--json", self.medium]));
        let list: Value = serde_json::from_str(&text).unwrap();
        list["sessions"].as_array().unwrap().clone()
    }

    /// Takes note of sessions that are finished now and were not known: they have `content`. Checks
    /// that all known ones are listed as finished. Returns the number of new ones.
    fn take_finished(&mut self, content: &Files) -> usize {
        let list = self.list();
        let finished = list.iter().filter(|one| one["state"] == "finished");
        let ids: Vec<_> = finished
            .map(|one| one["id"].as_str().unwrap().to_owned())
            .collect();
        let lost = self.sessions.keys().find(|id| !ids.contains(id));
        assert_eq!(lost, None, "an earlier session is not finished any more");
        let new = ids.len() - self.sessions.len();
        for id in ids {
            let content = || content.clone();
            self.sessions.entry(id).or_insert_with(content);
        }
        new
    }

    /// Restores each finished session, and compares names and content.
    fn check_sessions(&self, figures: &mut Figures) {
        for (id, content) in &self.sessions {
            self.fixture.clear("out");
            let select = ["--quiet", "--session", id, self.medium, "out"];
            ok(&self.fixture.restore(&[self.key, &select].concat()));
            let restored = files_below(&self.fixture.path("out/data"));
            assert!(
                restored.keys().eq(content.keys()),
                "session {id} has other names: {:?}",
                restored.keys()
            );
            assert!(restored == *content, "session {id} has other content");
            figures.restored_sessions += 1;
        }
    }

    /// Checks that the medium has all earlier bytes, but for a torn frame at its end.
    fn check_medium(&mut self) {
        let now = self.medium_files();
        for (path, old) in &self.before {
            let new = now.get(path).map(Vec::as_slice).unwrap_or_default();
            let same = old.iter().zip(new).take_while(|(old, new)| old == new);
            let same = match new.starts_with(old) {
                true => old.len(),
                false => same.count(),
            };
            let kept = self.kept.get(path).copied().unwrap_or(0);
            let whole = old.len().saturating_sub(FRAME).max(kept);
            assert!(
                same >= whole,
                "byte {same} of {} has changed, of {} bytes that were there, {kept} of them of \
                 finished sessions",
                path.display(),
                old.len()
            );
        }
        self.before = now;
    }

    /// Takes note that the medium ends with a finished session.
    fn keep_all(&mut self) {
        let lengths = self.before.iter();
        self.kept = lengths
            .map(|(path, bytes)| (path.clone(), bytes.len()))
            .collect();
    }

    /// The files of the medium with their bytes, without the lock.
    fn medium_files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let path = self.fixture.path(self.medium);
        if path.is_file() {
            return BTreeMap::from([(path.clone(), fs::read(path).unwrap())]);
        }
        let files = files_below(&path).into_iter();
        files
            .filter(|(name, _)| name.to_string_lossy().ends_with(".tap"))
            .map(|(name, bytes)| (path.join(name), bytes))
            .collect()
    }
}

/// Returns the files in a directory.
fn files_below(path: &Path) -> Files {
    let entries = fs::read_dir(path).unwrap().map(Result::unwrap);
    entries
        .map(|entry| (entry.file_name(), fs::read(entry.path()).unwrap()))
        .collect()
}
