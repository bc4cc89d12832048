//! A daemon with its own directory. The end of the test stops it and removes its files.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use datapipe_net::client::ClientError;
use datapipe_net::protocol::{EventKind, PipeEvent, PipeState, RefusalCode};
use datapipe_net::{Client, Initiate, StageRequest};
use rustix::process::{Pid, Signal, kill_process};

const DATAPIPED: &str = env!("CARGO_BIN_EXE_datapiped");

/// Time after which an expected event counts as missing. Only a hang reaches it.
pub(crate) const HANGS: Duration = Duration::from_secs(120);

/// Directory with a configuration, and its daemon if one runs.
pub(crate) struct Site {
    dir: tempfile::TempDir,
    daemon: Option<RunningDaemon>,
}

struct RunningDaemon {
    child: Child,
    log: JoinHandle<String>,
}

impl Site {
    /// A site with a running daemon; `limits` are lines of the table `[limits]`.
    pub(crate) fn new(limits: &str) -> Self {
        let mut site = Self::without_daemon(limits);
        site.start();
        site
    }

    /// A site whose daemon is not started yet.
    pub(crate) fn without_daemon(limits: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        // Clients of other users must be able to reach the socket.
        fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
        for folder in ["in", "out"] {
            fs::create_dir(dir.path().join(folder)).unwrap();
        }
        let site = Self { dir, daemon: None };
        site.configure(&site.configuration(limits));
        site
    }

    /// Configuration with the modules of this test binary and some of the library's.
    pub(crate) fn configuration(&self, limits: &str) -> String {
        let program = std::env::current_exe().unwrap();
        let (program, socket) = (program.display(), self.socket());
        let (read, write) = (self.path("in"), self.path("out"));
        let module = |name: &str, role: &str, work: &str, more: &str| {
            format!(
                "[[module]]\nname = \"{name}\"\nprogram = \"{program}\"\nrole = \"{role}\"\n\
                 work = \"{work}\"\n{more}\n"
            )
        };
        let heads = ["numbers", "noisy", "troubled", "wail"];
        let heads = heads.map(|name| module(name, "head", "fill", ""));
        let modules = [
            module(
                "read",
                "head",
                "fill",
                &format!("paths = {{ read = [{read:?}] }}"),
            ),
            module("pass", "middle", "transform", "max_instances = 4"),
            module("hog", "middle", "transform", ""),
            module(
                "zstd",
                "middle",
                "transform",
                "module = \"datapipe.zstd\"\nmax_instances = 4",
            ),
            module(
                "decompress",
                "middle",
                "transform",
                "module = \"datapipe.decompress\"",
            ),
            module(
                "count",
                "tail",
                "write",
                &format!("paths = {{ write = [{write:?}] }}"),
            ),
            module(
                "free-count",
                "tail",
                "write",
                "module = \"count\"\nconfined = false",
            ),
            module(
                "stream-head",
                "head",
                "fill",
                &format!("module = \"datapipe.stream-head\"\npaths = {{ read = [{read:?}] }}"),
            ),
            module(
                "stream-tail",
                "tail",
                "write",
                &format!("module = \"datapipe.stream-tail\"\npaths = {{ write = [{write:?}] }}"),
            ),
            module(
                "roots",
                "head",
                "fill",
                "module = \"numbers\"\nusers = [\"root\"]",
            ),
        ];
        format!(
            "socket = {socket:?}\n[access]\nusers = [\"4000000001\", \"4000000002\"]\n[limits]\n\
             {limits}\n{}{}",
            heads.concat(),
            modules.concat()
        )
    }

    pub(crate) fn configure(&self, text: &str) {
        fs::write(self.path("datapiped.toml"), text).unwrap();
    }

    /// Starts the daemon, and waits until it listens.
    pub(crate) fn start(&mut self) {
        self.start_by(self.command("run"));
    }

    /// As [`start`](Self::start), by a command that becomes the daemon.
    pub(crate) fn start_by(&mut self, mut command: Command) {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let mut text = String::new();
        while !text.contains("listening at") {
            assert!(
                log.read_line(&mut text).unwrap() > 0,
                "the daemon did not start: {text}"
            );
        }
        let log = std::thread::spawn(move || {
            let _ = log.read_to_string(&mut text);
            text
        });
        self.daemon = Some(RunningDaemon { child, log });
    }

    /// A command of `datapiped`, with this site's configuration or socket.
    pub(crate) fn command(&self, command: &str) -> Command {
        let mut started = Command::new(DATAPIPED);
        started.arg(command).stdin(Stdio::null());
        match command {
            "run" | "check" => started.arg("--config").arg(self.path("datapiped.toml")),
            _ => started.arg("--socket").arg(self.socket()),
        };
        started
    }

    /// Runs a command to its end.
    pub(crate) fn run(&self, command: &str, arguments: &[&str]) -> Output {
        self.command(command).args(arguments).output().unwrap()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.path("socket")
    }

    pub(crate) fn client(&self) -> Client {
        Client::connect(self.socket()).unwrap()
    }

    /// A connection that has not sent a hello.
    pub(crate) fn stranger(&self) -> UnixStream {
        let stranger = UnixStream::connect(self.socket()).unwrap();
        stranger.set_read_timeout(Some(HANGS)).unwrap();
        stranger
    }

    /// Process id of the daemon.
    pub(crate) fn process(&self) -> u32 {
        self.daemon.as_ref().unwrap().child.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_raw(self.process() as i32).unwrap(), signal).unwrap();
    }

    /// Waits for the end of the daemon. Returns its exit status and its log.
    pub(crate) fn end(&mut self) -> (ExitStatus, String) {
        let RunningDaemon { mut child, log } = self.daemon.take().unwrap();
        let status = child.wait().unwrap();
        (status, log.join().unwrap())
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if self.daemon.is_some() {
            self.signal(Signal::TERM);
            let (status, log) = self.end();
            if !std::thread::panicking() {
                assert!(status.success(), "the daemon ended with {status}: {log}");
                assert!(!self.socket().exists());
            } else {
                println!("{log}");
            }
        }
    }
}

/// A pipe of two modules that sends `count` blocks.
pub(crate) fn plain(count: &str) -> Initiate {
    let buffers = Initiate::new("plain").buffers(4).buffer_size(4096);
    buffers
        .stage(StageRequest::module("numbers").arguments(count))
        .stage(StageRequest::module("count"))
}

/// Reads events until the pipe has ended, and returns all of them.
pub(crate) fn events(client: &mut Client, pipe: &str) -> Vec<PipeEvent> {
    let mut events = Vec::new();
    loop {
        let event = client.next_event(HANGS).unwrap().expect("the pipe ends");
        let over = event.kind == EventKind::OVER && event.pipe == pipe;
        events.push(event);
        if over {
            return events;
        }
    }
}

/// Waits until a pipe has ended. Returns its state, and the cause if it failed.
pub(crate) fn outcome(client: &mut Client, pipe: &str) -> (PipeState, String) {
    let mut last = None;
    wait_until("the pipe has ended", || {
        let entry = client.status(pipe).unwrap().entry;
        let over = entry.state.is_final();
        last = Some((entry.state, entry.explanation));
        over
    });
    last.unwrap()
}

/// Code and text of the refusal that `result` must be.
pub(crate) fn refusal<T>(result: Result<T, ClientError>) -> (RefusalCode, String) {
    match result {
        Err(ClientError::Refused(refusal)) => (refusal.code, refusal.text),
        Err(other) => panic!("not refused, but {other}"),
        Ok(_) => panic!("not refused"),
    }
}

/// Waits until `happened` returns true, and fails if that takes as long as a hang.
pub(crate) fn wait_until(what: &str, mut happened: impl FnMut() -> bool) {
    let start = Instant::now();
    while !happened() {
        assert!(start.elapsed() < HANGS, "hangs before: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Ids of a process's children.
pub(crate) fn children_of(process: u32) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{process}/task"))
        .into_iter()
        .flatten()
        .flatten();
    let lists = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    lists
        .flat_map(|list| {
            list.split_whitespace()
                .map(|id| id.parse().unwrap())
                .collect::<Vec<_>>()
        })
        .collect()
}

/// True if a process lives. A zombie does not.
pub(crate) fn lives(process: u32) -> bool {
    let state = fs::read_to_string(Path::new("/proc").join(process.to_string()).join("stat"));
    state.is_ok_and(|state| {
        !state
            .rsplit(')')
            .next()
            .unwrap()
            .trim_start()
            .starts_with('Z')
    })
}
