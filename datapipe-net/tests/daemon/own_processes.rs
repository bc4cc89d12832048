//! Attacks of a user on the daemon by the processes of pipes that run as the user: the user may
//! look into them, trace them, and take what they have. They need root, to become another user;
//! without it they test nothing.

use std::fs::{self, File};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;

use datapipe_net::protocol::{EventKind, PipeState, RefusalCode};
use datapipe_net::{Initiate, StageRequest};
use nix::sys::ptrace;
use rustix::fs::{CWD, Mode, OFlags};
use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::CapabilitySet;

use crate::other_users::{OTHER, OWNER, as_user, can_become_others};
use crate::site::{HANGS, Site, children_of, outcome, plain, refusal, wait_until};

/// Depth of directories that neither the stack of a thread nor the descriptors of a process suffice
/// for.
const DEPTH: usize = 10_000;

/// A pipe of the owner that does not end by itself, and its processes.
fn endless(site: &Site) -> (String, Vec<u32>) {
    let pipe = as_user(OWNER, || {
        site.client().initiate(&plain("forever")).unwrap().pipe
    });
    (pipe.clone(), processes_of(site, &pipe))
}

/// Processes of a pipe whose stages all work.
fn processes_of(site: &Site, pipe: &str) -> Vec<u32> {
    let mut root = site.client();
    let mut found = Vec::new();
    wait_until("all stages have processes at work", || {
        let stages = root.status(pipe).unwrap().stages;
        let mut instances = stages.iter().flat_map(|stage| &stage.instances);
        found = instances.clone().map(|instance| instance.process).collect();
        instances
            .all(|instance| instance.process != 0 && instance.blocks_in + instance.blocks_out > 0)
    });
    found
}

fn link(process: u32, name: &str) -> PathBuf {
    fs::read_link(format!("/proc/{process}/{name}")).unwrap()
}

fn pid(process: u32) -> Pid {
    Pid::from_raw(process as i32).unwrap()
}

/// A user wrote into the daemon's log, emptied it, and could open the terminal of the daemon.
pub(crate) fn processes_of_users_have_nothing_of_the_daemon() {
    if !can_become_others() {
        return;
    }
    let private = tempfile::NamedTempFile::new().unwrap();
    // The daemon inherits it, as from a program that starts it without care.
    let inherited = rustix::io::dup(private.as_file()).unwrap();
    let site = Site::new("");
    drop(inherited);
    let (pipe, processes) = endless(&site);
    for process in processes {
        assert_eq!(link(process, "fd/1"), Path::new("/dev/null"));
        let errors = link(process, "fd/2").display().to_string();
        assert!(
            errors.starts_with("pipe:"),
            "only the daemon reads it: {errors}"
        );
        for entry in fs::read_dir(format!("/proc/{process}/fd")).unwrap() {
            let found = fs::read_link(entry.unwrap().path()).unwrap_or_default();
            assert_ne!(found, private.path());
        }
        assert_eq!(link(process, "cwd"), Path::new("/"));
        let session = rustix::process::getsid(Some(pid(process))).unwrap();
        assert_eq!(session, pid(process), "it has a session of its own");
    }
    site.client().stop(&pipe).unwrap();
}

/// Lines that a module wrote to its standard error were lost if the daemon runs as root, and with
/// them the reason for which a program does not start, or panics.
pub(crate) fn standard_error_of_users_processes_is_in_the_log() {
    if !can_become_others() {
        return;
    }
    let mut site = Site::new("");
    let wail = |lines: &str| {
        let mut request = plain("0");
        request.stages[0] = StageRequest::module("wail").arguments(lines);
        as_user(OWNER, || {
            let mut client = site.client();
            client.subscribe(None).unwrap();
            let pipe = client.initiate(&request).unwrap().pipe;
            let mut texts = Vec::new();
            loop {
                let event = client.next_event(HANGS).unwrap().expect("an event");
                let is_line = event
                    .text
                    .as_ref()
                    .is_some_and(|text| text.contains("wrote"));
                texts.extend(event.text.filter(|_| is_line));
                if event.kind == EventKind::OVER {
                    return (event.state, texts);
                }
                if lines == "1" && texts.len() == 1 {
                    client.stop(&pipe).unwrap();
                }
            }
        })
    };
    let (state, texts) = wail("1");
    assert_eq!(state, Some(PipeState::STOPPED));
    assert!(texts[0].ends_with("wrote: \\u{1b}[31mwail 0"), "{texts:?}");
    // Its last line has no end.
    assert!(texts[1].ends_with(&"x".repeat(512)), "{texts:?}");
    assert_eq!(texts.len(), 2);
    // A flood stops neither the module nor the daemon.
    assert_eq!(wail("100000").0, Some(PipeState::ENDED));
    site.signal(Signal::TERM);
    let (_, log) = site.end();
    let lines: Vec<_> = log
        .lines()
        .filter(|line| line.contains(" wrote: "))
        .collect();
    assert!((10..=40).contains(&lines.len()), "{log}");
    let named = format!("\"plain\" of user {OWNER}: wail/0: process ");
    assert!(lines.iter().all(|line| line.contains(&named)), "{log}");
    assert!(log.contains("lines of standard error: "), "{log}");
    assert!(
        log.contains(&format!(" more like this of user id {OWNER} in ")),
        "{log}"
    );
    assert!(log.lines().all(|line| line.len() < 800), "{log}");
    assert!(!log.contains('\u{1b}'), "{log}");
}

/// The unit of the daemon does not have the capability, and no user could start a pipe.
pub(crate) fn memory_of_users_processes_is_limited_without_a_capability() {
    if !can_become_others() {
        return;
    }
    let mut site = Site::without_daemon("memory_per_process_mib = 192");
    // The daemon inherits the bounding set of the thread that starts it.
    std::thread::scope(|scope| {
        let starts = scope.spawn(|| {
            let capability = CapabilitySet::SYS_RESOURCE;
            rustix::thread::remove_capability_from_bounding_set(capability).unwrap();
            site.start();
        });
        starts.join().unwrap();
    });
    let (pipe, processes) = endless(&site);
    for process in processes {
        let limits = fs::read_to_string(format!("/proc/{process}/limits")).unwrap();
        let line = limits
            .lines()
            .find(|line| line.starts_with("Max data size"));
        let bytes = (192u64 << 20).to_string();
        let line = line.unwrap();
        assert_eq!(line.matches(&*bytes).count(), 2, "{line}");
    }
    site.client().stop(&pipe).unwrap();
}

/// Traces processes of the owner on a thread, until the sender is dropped.
fn trace(processes: Vec<u32>, options: ptrace::Options) -> mpsc::Sender<()> {
    let (held, until) = mpsc::channel();
    let (began, begins) = mpsc::channel();
    std::thread::spawn(move || {
        as_user(OWNER, move || {
            for process in processes {
                let traced = nix::unistd::Pid::from_raw(process as i32);
                began.send(ptrace::seize(traced, options)).unwrap();
            }
            drop(began);
            let _: Result<(), _> = until.recv();
        });
    });
    begins.iter().for_each(|traced| traced.unwrap());
    held
}

/// A user kept killed processes from ending, and with them the pipe and the daemon.
pub(crate) fn traced_processes_hold_neither_pipe_nor_daemon() {
    if !can_become_others() {
        return;
    }
    let mut site = Site::new("");
    // A process that stops before its end, and one whose end is not passed on.
    let (pipe, processes) = endless(&site);
    let held = trace(processes, ptrace::Options::PTRACE_O_TRACEEXIT);
    site.client().stop(&pipe).unwrap();
    assert_eq!(outcome(&mut site.client(), &pipe).0, PipeState::STOPPED);

    let (pipe, processes) = endless(&site);
    let held_too = trace(processes.clone(), ptrace::Options::empty());
    as_user(OWNER, || {
        kill_process(pid(processes[0]), Signal::KILL).unwrap();
    });
    assert_eq!(outcome(&mut site.client(), &pipe).0, PipeState::FAILED);
    drop((held, held_too));
    wait_until("the daemon has waited for all of them", || {
        children_of(site.process()).is_empty()
    });

    let (_, processes) = endless(&site);
    let held = trace(processes.clone(), ptrace::Options::PTRACE_O_TRACEEXIT);
    site.signal(Signal::TERM);
    let (status, log) = site.end();
    assert!(status.success(), "{log}");
    drop(held);
    wait_until("they end", || {
        let mut left = processes.iter();
        left.all(|&process| !crate::site::lives(process))
    });
}

/// Processes that a user kept from ending did not count, and the daemon had a thread for each.
pub(crate) fn dead_processes_that_are_traced_count() {
    if !can_become_others() {
        return;
    }
    // Ended ones that are not passed on, and such as stop before their end.
    for options in [
        ptrace::Options::empty(),
        ptrace::Options::PTRACE_O_TRACEEXIT,
    ] {
        check_traced_count(options);
    }
}

fn check_traced_count(options: ptrace::Options) {
    let site = Site::new("processes_per_user = 5");
    let mut held = Vec::new();
    for _ in 0..2 {
        let (pipe, processes) = endless(&site);
        held.push(trace(processes, options));
        site.client().stop(&pipe).unwrap();
        assert_eq!(outcome(&mut site.client(), &pipe).0, PipeState::STOPPED);
    }
    assert_eq!(children_of(site.process()).len(), 4);
    let start = || as_user(OWNER, || site.client().initiate(&plain("forever")));
    let (code, why) = refusal(start());
    assert_eq!(code, RefusalCode::LIMIT, "{why}");
    assert!(
        why.contains("processes: 2 requested, and 1 of the 5"),
        "{why}"
    );
    let other = as_user(OTHER, || site.client().initiate(&plain("1")));
    other.unwrap();
    drop(held);
    wait_until("they count no longer", || start().is_ok());
}

/// A user made the daemon overflow its stack, which ended the pipes of all users.
pub(crate) fn deep_temporary_directory_does_not_end_the_daemon() {
    if !can_become_others() {
        return;
    }
    let mut site = Site::without_daemon("");
    let program = std::env::current_exe().unwrap();
    let directory = site.path("temporary");
    fs::create_dir(&directory).unwrap();
    let keeps = format!(
        "temporary_directory = {directory:?}\n{}[[module]]\nname = \"keeps\"\n\
         module = \"numbers\"\n\
         program = {program:?}\nrole = \"head\"\nwork = \"fill\"\ntemporary = true\n",
        site.configuration("")
    );
    site.configure(&keeps);
    site.start();
    let mut request = plain("forever");
    request.stages[0].module = Some("keeps".to_owned());
    let pipe = as_user(OWNER, || site.client().initiate(&request).unwrap().pipe);
    let process = processes_of(&site, &pipe)[0];
    as_user(OWNER, || fill(&temporary_of(process)));
    site.client().stop(&pipe).unwrap();
    assert_eq!(outcome(&mut site.client(), &pipe).0, PipeState::STOPPED);
    // What takes a daemon too long, the next one goes on with.
    while fs::read_dir(&directory).unwrap().next().is_some() {
        site.signal(Signal::TERM);
        let (status, log) = site.end();
        assert!(status.success(), "{log}");
        site.start();
    }
}

/// Directory of a process for temporary files.
fn temporary_of(process: u32) -> PathBuf {
    let environment = fs::read(format!("/proc/{process}/environ")).unwrap();
    let environment = String::from_utf8(environment).unwrap();
    let mut variables = environment.split('\0');
    variables
        .find_map(|variable| variable.strip_prefix("TMPDIR="))
        .unwrap()
        .into()
}

/// Makes nested directories.
fn fill(directory: &Path) {
    let open = |at: &OwnedFd, name: &str| {
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::openat(at, name, flags, Mode::empty()).unwrap()
    };
    let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut at = rustix::fs::openat(CWD, directory, flags, Mode::empty()).unwrap();
    for _ in 0..DEPTH {
        rustix::fs::mkdirat(&at, "d", Mode::RWXU).unwrap();
        at = open(&at, "d");
    }
}

/// A user took the memory of pipe after pipe from the processes of modules, and none of it counted.
pub(crate) fn memory_that_was_taken_from_a_module_counts() {
    if !can_become_others() {
        return;
    }
    let site = Site::new("memory_per_user_mib = 24\nmemory_per_pipe_mib = 20");
    let request: Initiate = plain("forever").buffers(16).buffer_size(1 << 20);
    let pipe = as_user(OWNER, || site.client().initiate(&request).unwrap().pipe);
    let process = processes_of(&site, &pipe)[0];
    let taken = as_user(OWNER, || segment_of(process));
    let mut keeper = Command::new("sleep")
        .arg(HANGS.as_secs().to_string())
        .stdin(Stdio::from(taken))
        .uid(OWNER)
        .spawn()
        .unwrap();
    let mut root = site.client();
    root.stop(&pipe).unwrap();
    assert_eq!(outcome(&mut root, &pipe).0, PipeState::STOPPED);
    let start = || as_user(OWNER, || site.client().initiate(&request));
    let (code, why) = refusal(start());
    assert_eq!(code, RefusalCode::LIMIT, "{why}");
    assert!(why.contains("memory_per_user_mib"), "{why}");
    keeper.kill().unwrap();
    keeper.wait().unwrap();
    wait_until("the memory does not count any more", || start().is_ok());
}

/// Opens the shared memory of a process, as its user can.
fn segment_of(process: u32) -> File {
    let entries = fs::read_dir(format!("/proc/{process}/fd")).unwrap();
    let is_segment = |path: &PathBuf| {
        let found = fs::read_link(path).unwrap_or_default();
        found.to_string_lossy().contains("memfd:datapipe")
    };
    let mut paths = entries.map(|entry| entry.unwrap().path());
    let segment = File::open(paths.find(is_segment).unwrap()).unwrap();
    assert!(segment.as_raw_fd() > 2);
    segment
}
