//! The screen of `datapiped status`, on a pseudo terminal.

use std::fs::File;
use std::io::{Read, Write};
use std::process::{Child, Command};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use datapipe_net::protocol::PipeState;
use datapipe_net::{Initiate, StageRequest};
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};

use crate::site::{Site, outcome, plain, wait_until};
use crate::vt::Vt;

/// A program on a pseudo terminal, whose session it leads.
struct Screen {
    child: Child,
    keys: File,
    /// Keeps the terminal after the end of the program, so that its modes can be read.
    line: File,
    written: Receiver<Vec<u8>>,
    vt: Vt,
}

impl Screen {
    /// Starts `datapiped status` on a terminal of 80 columns and 24 rows.
    fn new(site: &Site, arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        let terminal = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let terminal = openpt(terminal).unwrap();
        grantpt(&terminal).unwrap();
        unlockpt(&terminal).unwrap();
        let path = ptsname(&terminal, Vec::new()).unwrap();
        let path = path.to_str().unwrap();
        let open = || File::options().read(true).write(true).open(path).unwrap();
        let line = open();
        set_size(&line, 80, 24);
        let status = site.command("status");
        let mut command = Command::new("setsid");
        command
            .arg("--ctty")
            .arg(status.get_program())
            .args(status.get_args())
            .args(arguments)
            .env_remove("NO_COLOR")
            .env("TERM", "xterm")
            .envs(variables.iter().copied())
            .stdin(open())
            .stdout(open())
            .stderr(open());
        let child = command.spawn().unwrap();
        let mut screen = File::from(terminal);
        let keys = screen.try_clone().unwrap();
        let (sender, written) = channel();
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = screen.read(&mut bytes) {
                if sender.send(bytes[..count].to_vec()).is_err() {
                    break;
                }
            }
        });
        Self {
            child,
            keys,
            line,
            written,
            vt: Vt::new(80, 24),
        }
    }

    /// Interprets what the program writes until `happened` returns true.
    fn wait(&mut self, what: &str, happened: impl Fn(&Vt) -> bool) {
        wait_until(what, || {
            if let Ok(bytes) = self.written.recv_timeout(Duration::from_millis(20)) {
                self.vt.write(&bytes);
            }
            happened(&self.vt)
        });
    }

    fn press(&mut self, keys: &[u8]) {
        self.keys.write_all(keys).unwrap();
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// State of the process, a letter: `T` if it is stopped.
    fn state(&self) -> char {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let (_, state) = stat.rsplit_once(") ").unwrap();
        state.chars().next().unwrap()
    }

    /// True if the terminal edits lines and echoes, as it did at first.
    fn has_its_modes(&self) -> bool {
        let modes = tcgetattr(&self.line).unwrap().local_modes;
        modes.contains(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG)
    }

    /// Waits for the end of the program, and returns its exit code.
    fn end(&mut self) -> Option<i32> {
        wait_until("the screen is left", || {
            while let Ok(bytes) = self.written.recv_timeout(Duration::from_millis(20)) {
                self.vt.write(&bytes);
            }
            self.child.try_wait().unwrap().is_some()
        });
        while let Ok(bytes) = self.written.recv_timeout(Duration::from_millis(100)) {
            self.vt.write(&bytes);
        }
        self.child.wait().unwrap().code()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Arguments of a screen that is drawn often.
const WATCH: &[&str] = &["--interval", "0.1"];

fn set_size(line: &File, columns: u16, rows: u16) {
    let size = Winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    tcsetwinsize(line, size).unwrap();
}

/// Starts a pipe with a label that would disturb a terminal, and waits until it moves.
fn hostile(site: &Site) -> String {
    let mut client = site.client();
    let mut request = plain("forever");
    request.label = "备份\u{202e}\u{5d0}\u{5d1}e\u{301}\u{301}\u{301}".to_owned();
    let pipe = client.initiate(&request).unwrap().pipe;
    wait_until("it moves", || client.status(&pipe).unwrap().bytes() > 0);
    pipe
}

fn has_drawn(vt: &Vt) -> bool {
    vt.is_alternate && vt.text().contains("limited by")
}

pub(crate) fn status_screen_fits_80_columns_and_writes_only_changes() {
    let site = Site::new("");
    let pipe = hostile(&site);
    let mut screen = Screen::new(&site, WATCH, &[]);
    screen.wait("it has drawn", has_drawn);
    let lines = screen.vt.lines();
    assert_eq!(lines[0], "datapiped  1 running");
    assert!(lines[1].starts_with(&pipe), "{lines:?}");
    assert!(lines[1].contains("备份\\u{202e}"), "{lines:?}");
    assert!(
        lines[1].starts_with(&format!("{pipe}  running  0:")),
        "{lines:?}"
    );
    assert!(lines[2].contains(" in all, "), "{lines:?}");
    assert!(
        lines[3].contains("stage") && lines[3].ends_with("doing"),
        "{lines:?}"
    );
    assert!(
        lines[4].contains("numbers") && lines[5].contains("count"),
        "{lines:?}"
    );
    let marked = lines.iter().filter(|line| line.starts_with('▶')).count();
    assert_eq!(marked, 1, "{lines:?}");
    assert!(
        lines[6].contains("of 4 buffers free; limited by"),
        "{lines:?}"
    );
    assert!(
        lines[23].is_empty() && lines[8].contains("q leaves"),
        "{lines:?}"
    );
    // It changes in place from now on.
    let first = screen.vt.text();
    for _ in 0..3 {
        let shown = screen.vt.text();
        screen.wait("it changes", |vt| vt.text() != shown && has_drawn(vt));
    }
    assert_ne!(screen.vt.text(), first);
    assert_eq!(screen.vt.erased, 1, "the screen was erased only at first");
    assert!(!screen.vt.colors.is_empty());
    assert!(!screen.vt.wraps && !screen.vt.shows_cursor);
    screen.press(b"q");
    assert_eq!(screen.end(), Some(0));
    assert!(screen.vt.is_at_rest() && screen.has_its_modes());
    // Without colours nothing else changes.
    let mut plain = Screen::new(&site, WATCH, &[("NO_COLOR", "1")]);
    plain.wait("it has drawn", has_drawn);
    assert_eq!(plain.vt.colors, [""; 0]);
    plain.press(b"q");
    assert_eq!(plain.end(), Some(0));
    // A terminal that can show no screen gets a table, once, and so does a user who wants that.
    for (arguments, kind) in [(&[][..], "dumb"), (&["--once"], "xterm")] {
        let mut table = Screen::new(&site, arguments, &[("TERM", kind)]);
        assert_eq!(table.end(), Some(0));
        let text = table.vt.text();
        assert!(
            table.vt.is_at_rest() && text.contains("buffers free"),
            "{text}"
        );
    }
}

pub(crate) fn status_screen_restores_the_terminal_however_it_ends() {
    let mut site = Site::new("");
    hostile(&site);
    type End = fn(&mut Screen);
    let ends: [(&str, End); 7] = [
        ("q", |screen| screen.press(b"q")),
        ("Ctrl-C", |screen| screen.press(b"\x03")),
        ("Ctrl-\\", |screen| screen.press(b"\x1c")),
        ("SIGINT", |screen| screen.signal(Signal::INT)),
        ("SIGTERM", |screen| screen.signal(Signal::TERM)),
        ("SIGHUP", |screen| screen.signal(Signal::HUP)),
        ("SIGQUIT", |screen| screen.signal(Signal::QUIT)),
    ];
    for (name, end) in ends {
        let mut screen = Screen::new(&site, WATCH, &[]);
        screen.wait("it has drawn", has_drawn);
        assert!(!screen.has_its_modes());
        end(&mut screen);
        assert_eq!(screen.end(), Some(0), "{name}");
        assert!(screen.vt.is_at_rest() && screen.has_its_modes(), "{name}");
        assert_eq!(screen.vt.text().trim(), "", "{name}");
    }
    // The daemon ends: a failure, whose message is on the terminal's own screen.
    let mut screen = Screen::new(&site, WATCH, &[]);
    screen.wait("it has drawn", has_drawn);
    site.signal(Signal::KILL);
    site.end();
    assert_eq!(screen.end(), Some(1));
    assert!(screen.vt.is_at_rest() && screen.has_its_modes());
    let text = screen.vt.text();
    assert!(text.trim_start().starts_with("datapiped: "), "{text}");
    assert!(!text.contains("limited by"), "{text}");
}

pub(crate) fn status_screen_is_suspended_and_continued() {
    let site = Site::new("");
    hostile(&site);
    let mut screen = Screen::new(&site, WATCH, &[]);
    screen.wait("it has drawn", has_drawn);
    // By the key, and by a signal of another process.
    let suspend: [fn(&mut Screen); 2] = [
        |screen| screen.press(b"\x1a"),
        |screen| screen.signal(Signal::TSTP),
    ];
    for suspend in suspend {
        suspend(&mut screen);
        wait_until("it is stopped", || screen.state() == 'T');
        screen.wait("the terminal is at rest", Vt::is_at_rest);
        assert!(screen.has_its_modes());
        screen.signal(Signal::CONT);
        screen.wait("it has drawn again", has_drawn);
        assert!(!screen.has_its_modes());
    }
    screen.press(b"q");
    assert_eq!(screen.end(), Some(0));
    assert!(screen.vt.is_at_rest() && screen.has_its_modes());
}

pub(crate) fn status_screen_follows_the_size_of_its_terminal() {
    let site = Site::new("");
    hostile(&site);
    hostile(&site);
    let mut screen = Screen::new(&site, WATCH, &[]);
    screen.wait("it has drawn", has_drawn);
    for (columns, rows) in [(132, 40), (40, 10), (20, 3), (1, 1), (80, 24)] {
        screen.vt.resize(columns.into(), rows.into());
        set_size(&screen.line, columns, rows);
        let first = &"datapiped  2 running"[..usize::from(columns).min(20)];
        let is_drawn = |vt: &Vt| {
            let lines = vt.lines();
            !vt.text().contains('?') && (columns == 1 || lines[0].starts_with(first))
        };
        screen.wait("it has drawn in the new size", is_drawn);
    }
    screen.wait("both pipes are there", |vt| {
        vt.text().matches("limited by").count() == 2
    });
    screen.press(b"q");
    assert_eq!(screen.end(), Some(0));
    assert!(screen.vt.is_at_rest() && screen.has_its_modes());
}

pub(crate) fn status_screen_ends_with_its_last_pipe() {
    let site = Site::new("");
    let pipe = hostile(&site);
    let mut client = site.client();
    let waiting = Initiate::new("waits")
        .stage(StageRequest::unbound("source"))
        .stage(StageRequest::module("count"));
    let waiting = client.initiate(&waiting).unwrap().pipe;
    let mut screen = Screen::new(&site, WATCH, &[]);
    screen.wait("it has drawn", |vt| {
        has_drawn(vt)
            && vt
                .text()
                .contains("waits for a process to attach as \"source\"")
    });
    client.stop(&pipe).unwrap();
    assert_eq!(outcome(&mut client, &pipe).0, PipeState::STOPPED);
    screen.wait("the ended pipe stays", |vt| {
        vt.text().contains("1 waiting, 1 stopped")
    });
    client.stop(&waiting).unwrap();
    assert_eq!(screen.end(), Some(0));
    assert!(screen.vt.is_at_rest() && screen.has_its_modes());
    let text = screen.vt.text();
    // The seat that no process took limits nothing.
    assert_eq!(text.matches("limited by").count(), 1, "{text}");
    assert!(
        text.contains("stopped, 0:") && text.contains(&waiting),
        "{text}"
    );
}
