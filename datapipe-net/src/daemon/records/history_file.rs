//! The file of the history: a line for each pipe that has started and for each that has ended, as
//! JSON.
//!
//! ```text
//!   a pipe starts, ends -> bounded queue -> thread: append, sync      history.jsonl
//!                                             |
//!             many lines, or a failed write --+--> history.new, sync, rename
//! ```
//!
//! A pipe that has started and not ended was lost with the daemon before this one.
//!
//! The file may contain anything: a crash leaves a torn line, and an administrator may edit it.
//! Only its end is read, each line is bounded, and lines that are not records are counted and left
//! out. A damaged file is kept as `history.bad`.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, channel, sync_channel};
use std::sync::{Arc, Weak};
use std::thread::Builder;

use datapipe::Direction;
use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags};
use rustix::io::{Errno, retry_on_intr};
use serde::{Deserialize, Serialize};

use super::history::{HistoryRecords, is_same};
use crate::config::is_written_by_others;
use crate::daemon::state::DaemonState;
use crate::limits::{
    FLUSH_PATIENCE, MAX_BRIEF, MAX_HISTORY_FILE, MAX_HISTORY_LINE, MAX_HISTORY_LINES, MAX_LABEL,
    MAX_NAME, MAX_UNWRITTEN,
};
use crate::protocol::{PastPipe, PipeState, truncated};

const NAME: &str = "history.jsonl";
const NEW: &str = "history.new";
const BAD: &str = "history.bad";
const LOCK: &str = "history.lock";

/// Cause of the failure of a pipe that has no end in the file.
const LOST: &str = "lost: the daemon was killed, or the machine went down, before the pipe ended";

/// A line of the file.
#[derive(Debug, Deserialize, Serialize)]
struct Line {
    pipe: String,
    label: String,
    uid: u32,
    restore: bool,
    state: String,
    start_ms: u64,
    duration_ms: u64,
    bytes: u64,
    problems: u64,
    cause: String,
}

/// The thread that writes the file, as the daemon sees it.
#[derive(Debug)]
pub(in crate::daemon) struct Writer {
    queue: SyncSender<PastPipe>,
    /// Disconnected when the thread has ended.
    ended: parking_lot::Mutex<Receiver<()>>,
}

impl Writer {
    /// Queues a pipe. Returns false if the thread cannot keep up.
    pub(in crate::daemon) fn write(&self, pipe: PastPipe) -> bool {
        self.queue.try_send(pipe).is_ok()
    }

    /// Waits until everything is written, for a bounded time. Returns true if it is.
    pub(in crate::daemon) fn finish(self) -> bool {
        let Self { queue, ended } = self;
        drop(queue);
        let ended = ended.into_inner().recv_timeout(FLUSH_PATIENCE);
        ended == Err(RecvTimeoutError::Disconnected)
    }
}

/// Reads the history from the configured directory, and starts the thread that writes it. If that
/// fails, the history is kept in memory only, and the log says why.
pub(in crate::daemon) fn attach(state: &Arc<DaemonState>) {
    let Some(directory) = state.config().state_dir.clone() else {
        return;
    };
    let records = Arc::clone(state.history.records());
    let opened = HistoryFile::open(&directory, records);
    let started = opened.and_then(|(file, found)| {
        if found.bad > 0 {
            let path = directory.join(NAME);
            state.log(&format!(
                "{}: {} lines are not records of pipes and are left out; the old file is {BAD}",
                path.display(),
                found.bad
            ));
        }
        if found.lost > 0 {
            let (path, lost) = (directory.join(NAME), found.lost);
            let pipes = if lost == 1 { "pipe was" } else { "pipes were" };
            state.log(&format!(
                "{}: {lost} {pipes} lost with the daemon before this one; see `datapiped history`",
                path.display(),
            ));
        }
        start(file, Arc::downgrade(state))
    });
    match started {
        Ok(writer) => state.history.set_writer(writer),
        Err(error) => state.log(&format!(
            "{}: the history of pipes is kept in memory only: {error}",
            directory.display()
        )),
    }
}

fn start(mut file: HistoryFile, state: Weak<DaemonState>) -> io::Result<Writer> {
    let (queue, pipes) = sync_channel::<PastPipe>(MAX_UNWRITTEN);
    let (end, ended) = channel::<()>();
    let run = move || {
        let _end = end;
        let mut has_failed = false;
        if file.is_torn {
            let written = file.rewrite();
            report(&state, &file, written, &mut has_failed);
        }
        for pipe in pipes {
            let written = file.add(&pipe);
            if written.is_err() && pipe.state.is_final() {
                file.records.count_unwritten();
            }
            report(&state, &file, written, &mut has_failed);
        }
    };
    Builder::new().name("history".to_owned()).spawn(run)?;
    Ok(Writer {
        queue,
        ended: parking_lot::Mutex::new(ended),
    })
}

/// Logs the first failure of a series, and its end.
fn report(
    state: &Weak<DaemonState>,
    file: &HistoryFile,
    written: io::Result<()>,
    has_failed: &mut bool,
) {
    let had_failed = std::mem::replace(has_failed, written.is_err());
    let path = file.path.join(NAME);
    let line = match written {
        Err(error) if !had_failed => format!(
            "{}: cannot be written: {error}; the pipes are kept in memory",
            path.display()
        ),
        Ok(()) if had_failed => format!("{}: can be written again", path.display()),
        _ => return,
    };
    if let Some(state) = state.upgrade() {
        state.log(&line);
    }
}

/// The file of the history, of which this daemon is the only writer.
#[derive(Debug)]
struct HistoryFile {
    path: PathBuf,
    directory: OwnedFd,
    file: File,
    /// Number of lines in the file.
    lines: usize,
    /// The file has a line that is not whole, and is written anew.
    is_torn: bool,
    records: Arc<HistoryRecords>,
    /// Held as long as the daemon lives.
    _lock: OwnedFd,
}

/// Findings of the reading of a file.
#[derive(Debug, Default, PartialEq, Eq)]
struct Found {
    /// Number of lines that are not records.
    bad: usize,
    /// Number of pipes that have started and not ended.
    lost: usize,
}

impl HistoryFile {
    /// Opens the file in `path`, and reads the records from it.
    fn open(path: &Path, records: Arc<HistoryRecords>) -> io::Result<(Self, Found)> {
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = retry_on_intr(|| rustix::fs::open(path, flags, Mode::empty()))?;
        let directory = File::from(directory);
        if is_written_by_others(&directory.metadata()?) {
            return Err(io::Error::other(
                "other users may write to the directory; see `datapiped check`",
            ));
        }
        let directory = OwnedFd::from(directory);
        let lock = OwnedFd::from(open_in(&directory, LOCK, OFlags::CREATE)?);
        let locked =
            retry_on_intr(|| rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive));
        locked.map_err(|error| match error {
            Errno::WOULDBLOCK => io::Error::other("another daemon uses the directory"),
            error => error.into(),
        })?;
        let mut file = open_in(&directory, NAME, OFlags::CREATE)?;
        let content = read_end(&mut file)?;
        let mut this = Self {
            path: path.to_owned(),
            directory,
            file,
            lines: 0,
            is_torn: content.is_cut,
            records,
            _lock: lock,
        };
        let found = this.parse(&content.bytes);
        if found.bad > 0 {
            this.keep_bad()?;
            this.is_torn = true;
        }
        Ok((this, found))
    }

    /// Adds the records in `bytes`. A crash may have torn the last line: it is not a bad one.
    fn parse(&mut self, bytes: &[u8]) -> Found {
        let mut found = Found::default();
        let mut live: Vec<PastPipe> = Vec::new();
        let mut is_torn = self.is_torn;
        let mut rest = bytes;
        while !rest.is_empty() {
            let (line, after) = match rest.iter().position(|&byte| byte == b'\n') {
                Some(end) => (&rest[..end], &rest[end + 1..]),
                None => {
                    is_torn = true;
                    (rest, &[][..])
                }
            };
            rest = after;
            self.lines += 1;
            match decode(line) {
                // The file was written anew while the line waited.
                Some(pipe) if self.records.has(&pipe) => {}
                Some(pipe) => {
                    // A line that waited while the file was written anew comes twice. In a
                    // container, the next daemon has the same names.
                    let same = live.iter().position(|live| live.name == pipe.name);
                    let started = same.map(|same| live.remove(same));
                    let other = started.filter(|started| !is_same(started, &pipe));
                    found.lost += usize::from(self.add_lost(other));
                    if pipe.state.is_final() {
                        self.records.push(pipe);
                    } else {
                        live.push(pipe);
                    }
                }
                None if rest.is_empty() && is_torn => {}
                None => found.bad += 1,
            }
        }
        self.is_torn |= is_torn;
        for pipe in live {
            found.lost += usize::from(self.add_lost(Some(pipe)));
        }
        found
    }

    /// Adds the record of a pipe that has started and not ended, if there is one.
    fn add_lost(&mut self, started: Option<PastPipe>) -> bool {
        let Some(mut pipe) = started else {
            return false;
        };
        (pipe.state, pipe.cause) = (PipeState::FAILED, LOST.to_owned());
        self.records.push(pipe);
        // The next daemon is to find it as one that has ended.
        self.is_torn = true;
        true
    }

    /// Keeps the present file under another name.
    fn keep_bad(&self) -> io::Result<()> {
        match rustix::fs::unlinkat(&self.directory, BAD, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
        let (from, to) = (&self.directory, &self.directory);
        Ok(rustix::fs::linkat(from, NAME, to, BAD, AtFlags::empty())?)
    }

    /// Adds a line for a pipe. After a failed write, or with many lines, the whole file is written.
    fn add(&mut self, pipe: &PastPipe) -> io::Result<()> {
        if self.is_torn || self.lines >= MAX_HISTORY_LINES {
            return self.rewrite();
        }
        let written = self.file.write_all(&encode(pipe));
        let sync = || match pipe.state.is_final() {
            true => self.file.sync_data(),
            // It is of use only until the end, whose line is synchronised.
            false => Ok(()),
        };
        if let Err(error) = written.and_then(|()| sync()) {
            self.is_torn = true;
            return Err(error);
        }
        self.lines += 1;
        Ok(())
    }

    /// Replaces the file with one that has the records in memory.
    fn rewrite(&mut self) -> io::Result<()> {
        // True until the new file is in its place.
        self.is_torn = true;
        let pipes = self.records.all();
        match rustix::fs::unlinkat(&self.directory, NEW, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
        let mut file = open_in(&self.directory, NEW, OFlags::CREATE | OFlags::EXCL)?;
        let lines: Vec<u8> = pipes.iter().flat_map(encode).collect();
        file.write_all(&lines)?;
        file.sync_data()?;
        rustix::fs::renameat(&self.directory, NEW, &self.directory, NAME)?;
        retry_on_intr(|| rustix::fs::fsync(&self.directory))?;
        (self.file, self.lines, self.is_torn) = (file, pipes.len(), false);
        Ok(())
    }
}

/// Opens a regular file in the directory to read and to append, without waiting and through no
/// link.
fn open_in(directory: &OwnedFd, name: &str, flags: OFlags) -> io::Result<File> {
    let flags = flags
        | OFlags::RDWR
        | OFlags::APPEND
        | OFlags::NOFOLLOW
        | OFlags::NONBLOCK
        | OFlags::CLOEXEC;
    let mode = Mode::RUSR | Mode::WUSR;
    let file = retry_on_intr(|| rustix::fs::openat(directory, name, flags, mode))
        .map_err(|error| in_file(name, error.into()))?;
    let file = File::from(file);
    if !file.metadata()?.is_file() {
        return Err(in_file(name, io::Error::other("is not a regular file")));
    }
    Ok(file)
}

fn in_file(name: &str, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{name}: {error}"))
}

/// End of a file.
struct Content {
    bytes: Vec<u8>,
    /// The file begins before that.
    is_cut: bool,
}

fn read_end(file: &mut File) -> io::Result<Content> {
    let len = file.metadata()?.len();
    let begin = len.saturating_sub(MAX_HISTORY_FILE);
    file.seek(SeekFrom::Start(begin))?;
    let mut bytes = Vec::new();
    file.take(MAX_HISTORY_FILE).read_to_end(&mut bytes)?;
    if begin > 0 {
        let first = bytes.iter().position(|&byte| byte == b'\n');
        bytes.drain(..first.map_or(bytes.len(), |end| end + 1));
    }
    Ok(Content {
        bytes,
        is_cut: begin > 0,
    })
}

fn encode(pipe: &PastPipe) -> Vec<u8> {
    let line = Line {
        pipe: truncated(&pipe.name, MAX_NAME).to_owned(),
        label: truncated(&pipe.label, MAX_LABEL).to_owned(),
        uid: pipe.owner,
        restore: pipe.direction == Direction::Restore,
        state: pipe.state.to_string(),
        start_ms: pipe.started,
        duration_ms: pipe.duration,
        bytes: pipe.bytes,
        problems: pipe.problems,
        cause: truncated(&pipe.cause, MAX_BRIEF).to_owned(),
    };
    // Numbers and texts can always be written.
    let mut line = serde_json::to_vec(&line).unwrap_or_default();
    line.push(b'\n');
    line
}

/// Decodes a line; `None` if it is not a record.
fn decode(line: &[u8]) -> Option<PastPipe> {
    if line.len() > MAX_HISTORY_LINE {
        return None;
    }
    let line: Line = serde_json::from_slice(line).ok()?;
    let states = (0..=u8::MAX).map(PipeState);
    let mut states = states.filter(|state| state.is_final() || *state == PipeState::RUNNING);
    let state = states.find(|state| state.name() == Some(&line.state))?;
    if line.pipe.is_empty() {
        return None;
    }
    Some(PastPipe {
        label: truncated(&line.label, MAX_LABEL).to_owned(),
        direction: match line.restore {
            true => Direction::Restore,
            false => Direction::Archive,
        },
        state,
        started: line.start_ms,
        duration: line.duration_ms,
        bytes: line.bytes,
        problems: line.problems,
        cause: truncated(&line.cause, MAX_BRIEF).to_owned(),
        ..PastPipe::new(truncated(&line.pipe, MAX_NAME), line.uid)
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;
    use crate::limits::MAX_HISTORY;

    fn pipe(n: usize) -> PastPipe {
        PastPipe {
            label: "nightly \u{1b}[2J\n".to_owned(),
            direction: Direction::Restore,
            state: PipeState::INCOMPLETE,
            started: 1_700_000_000_000 + n as u64,
            duration: 7,
            bytes: u64::MAX,
            problems: 3,
            cause: "why \"so\"".to_owned(),
            ..PastPipe::new(format!("host.1.{n}"), 7)
        }
    }

    fn open(dir: &Path) -> io::Result<(HistoryFile, Found)> {
        HistoryFile::open(dir, Arc::default())
    }

    fn names(file: &HistoryFile) -> Vec<String> {
        let all = file.records.all();
        all.into_iter().map(|pipe| pipe.name).collect()
    }

    #[test]
    fn records_survive_and_the_file_stays_short() {
        let dir = tempfile::tempdir().unwrap();
        let (mut file, _) = open(dir.path()).unwrap();
        let all = MAX_HISTORY_LINES + 5;
        for n in 0..all {
            file.records.push(pipe(n));
            file.add(&pipe(n)).unwrap();
            assert!(file.lines <= MAX_HISTORY_LINES);
        }
        assert_eq!(file.lines, MAX_HISTORY + 4);
        drop(file);
        let (file, found) = open(dir.path()).unwrap();
        assert_eq!(
            (found.bad, file.is_torn, file.lines),
            (0, false, MAX_HISTORY + 4)
        );
        let expected: Vec<_> = (all - MAX_HISTORY..all).map(pipe).collect();
        assert!(file.records.all() == expected);
        let mode = std::fs::metadata(dir.path().join(NAME))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn longest_record_fits_in_a_line() {
        let longest = PastPipe {
            label: "\u{1}".repeat(MAX_LABEL + 1),
            cause: "\u{1}".repeat(MAX_BRIEF + 1),
            ..PastPipe::new("\u{1}".repeat(MAX_NAME + 1), u32::MAX)
        };
        let line = encode(&longest);
        let decoded = decode(line.strip_suffix(b"\n").unwrap()).unwrap();
        assert_eq!(
            (decoded.name.len(), decoded.label.len()),
            (MAX_NAME, MAX_LABEL)
        );
    }

    #[test]
    fn torn_last_line_is_dropped_and_the_rest_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(NAME);
        let whole = [encode(&pipe(0)), encode(&pipe(1))].concat();
        for cut in 1..encode(&pipe(2)).len() {
            let torn = [&whole[..], &encode(&pipe(2))[..cut]].concat();
            std::fs::write(&path, torn).unwrap();
            let (mut file, found) = open(dir.path()).unwrap();
            assert_eq!((found.bad, file.is_torn), (0, true), "{cut}");
            file.records.push(pipe(3));
            file.add(&pipe(3)).unwrap();
            drop(file);
            let (file, found) = open(dir.path()).unwrap();
            assert_eq!((found.bad, file.is_torn), (0, false));
            // The line is whole without its end.
            let last = cut == encode(&pipe(2)).len() - 1;
            let expected: &[usize] = if last { &[0, 1, 2, 3] } else { &[0, 1, 3] };
            assert!(file.records.all() == expected.iter().copied().map(pipe).collect::<Vec<_>>());
        }
        assert!(!dir.path().join(BAD).exists());
    }

    #[test]
    fn lines_that_are_not_records_are_left_out_and_kept_aside() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(NAME);
        let running = String::from_utf8(encode(&pipe(9))).unwrap();
        let running = running.replace("incomplete", "stopping");
        let long = vec![b'x'; 3 * MAX_HISTORY_LINE];
        let deep = "[".repeat(2000);
        let bad: [&[u8]; 8] = [
            b"",
            b"\0\0\0\0",
            b"{}",
            b"\xff\xfe",
            b"{\"pipe\":1}",
            running.trim_end().as_bytes(),
            &long,
            deep.as_bytes(),
        ];
        let mut content = encode(&pipe(0));
        for line in bad {
            content.extend_from_slice(line);
            content.push(b'\n');
        }
        content.extend(encode(&pipe(1)));
        std::fs::write(&path, &content).unwrap();
        let (mut file, found) = open(dir.path()).unwrap();
        assert_eq!(
            (found.bad, names(&file)),
            (8, vec!["host.1.0".into(), "host.1.1".into()])
        );
        file.rewrite().unwrap();
        drop(file);
        assert_eq!(std::fs::read(dir.path().join(BAD)).unwrap(), content);
        let (file, found) = open(dir.path()).unwrap();
        assert_eq!((found.bad, names(&file).len()), (0, 2));
    }

    #[test]
    fn pipes_without_an_end_are_lost_once() {
        let dir = tempfile::tempdir().unwrap();
        let running = |n: usize| PastPipe {
            state: PipeState::RUNNING,
            ..pipe(n)
        };
        let again = PastPipe {
            started: 1_800_000_000_000,
            ..running(2)
        };
        let lines = [
            running(0),
            running(1),
            pipe(0),
            running(2),
            // The daemon after it gave the name again.
            again.clone(),
            // Lines that waited while the file was written anew.
            running(0),
            pipe(0),
            running(3),
            running(3),
            pipe(3),
        ];
        let content: Vec<u8> = lines.iter().flat_map(encode).collect();
        std::fs::write(dir.path().join(NAME), content).unwrap();
        let (mut file, found) = open(dir.path()).unwrap();
        assert_eq!((found.bad, found.lost, file.is_torn), (0, 3, true));
        let lost = |pipe: PastPipe| PastPipe {
            state: PipeState::FAILED,
            cause: LOST.to_owned(),
            ..pipe
        };
        let expected = [
            pipe(0),
            lost(running(2)),
            pipe(3),
            lost(running(1)),
            lost(again),
        ];
        assert_eq!(file.records.all(), expected);
        file.rewrite().unwrap();
        drop(file);
        let (file, found) = open(dir.path()).unwrap();
        assert_eq!((found, file.is_torn), (Found::default(), false));
        assert_eq!(file.records.all(), expected);
    }

    #[test]
    fn only_the_end_of_a_huge_file_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(NAME);
        let file = File::create(&path).unwrap();
        file.set_len(1 << 40).unwrap();
        drop(file);
        let mut file = File::options().append(true).open(&path).unwrap();
        file.write_all(&[b"\n", &encode(&pipe(1))[..]].concat())
            .unwrap();
        let (mut file, _) = open(dir.path()).unwrap();
        assert_eq!(names(&file), ["host.1.1"]);
        file.rewrite().unwrap();
        assert!(std::fs::metadata(&path).unwrap().len() < 4096);
    }

    #[test]
    fn files_that_are_not_plain_and_second_writers_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let error = |dir: &Path| open(dir).unwrap_err().to_string();
        let first = open(dir.path()).unwrap();
        assert_eq!(error(dir.path()), "another daemon uses the directory");
        drop(first);
        std::fs::remove_file(dir.path().join(NAME)).unwrap();
        symlink("/etc/passwd", dir.path().join(NAME)).unwrap();
        assert!(error(dir.path()).starts_with("history.jsonl: Too many levels of symbolic links"));
        std::fs::remove_file(dir.path().join(NAME)).unwrap();
        let fifo = rustix::fs::CWD;
        rustix::fs::mknodat(
            fifo,
            dir.path().join(NAME),
            rustix::fs::FileType::Fifo,
            Mode::RUSR | Mode::WUSR,
            0,
        )
        .unwrap();
        assert_eq!(error(dir.path()), "history.jsonl: is not a regular file");
        std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o777)).unwrap();
        assert!(error(dir.path()).contains("other users may write"));
    }
}
