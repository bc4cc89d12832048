//! The terminal as a screen of its own: entered, drawn on, and left as it was, on every path.
//!
//! Keys arrive one by one and are not echoed. Ctrl-C and Ctrl-Z stay signals of the terminal: a
//! program that waits for an answer still obeys them.

use std::io::{self, IsTerminal, Write, stdin, stdout};
use std::os::fd::AsFd;
use std::panic;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread;

use crossterm::cursor::{Hide, MoveTo, Show};
use crossterm::style::{Attribute, Color, Print, SetAttribute, SetForegroundColor};
use crossterm::terminal::{
    BeginSynchronizedUpdate, Clear, ClearType, DisableLineWrap, EnableLineWrap,
    EndSynchronizedUpdate, EnterAlternateScreen, LeaveAlternateScreen,
};
use crossterm::{execute, queue};
use datapipe_net::show::{Line, Tone};
use datapipe_net::socket::Stop;
use parking_lot::Mutex;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::termios::{
    LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcgetwinsize, tcsetattr,
};
use signal_hook::consts::{SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP, SIGWINCH};
use signal_hook::iterator::Signals;
use signal_hook::low_level::emulate_default_handler;

/// State of the screen: one of the next three.
static STATE: AtomicU8 = AtomicU8::new(OUTSIDE);
/// The terminal is as it was.
const OUTSIDE: u8 = 0;
/// The terminal is this program's screen.
const ENTERED: u8 = 1;
/// The screen was left for good.
const LEFT: u8 = 2;

/// Modes of the terminal of standard input, as they were.
static MODES: Mutex<Option<Termios>> = Mutex::new(None);
/// Held while the terminal is written to, entered or left.
static USE: Mutex<()> = Mutex::new(());

/// Size of a terminal that does not report one.
const DEFAULT_SIZE: (usize, usize) = (80, 24);
/// Exit code of a program that a second signal ends: that of SIGINT in a shell.
const INTERRUPTED: i32 = 130;

/// The terminal as a screen. Dropping it leaves the screen.
pub(crate) struct Terminal {
    stop: Stop,
    /// Readable after the screen must be drawn again.
    wake: OwnedFd,
    has_keys: bool,
    has_colors: bool,
    /// Lines on the screen, and its size; empty if its content is unknown.
    shown: Vec<Line>,
    size: (usize, usize),
}

/// Event for which the screen waited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    /// The time is over.
    Over,
    /// The screen must be drawn again.
    Redraw,
    /// The user wants to leave.
    Leave,
}

impl Terminal {
    /// True if standard output is a terminal that can show a screen.
    pub(crate) fn is_usable() -> bool {
        let kind = std::env::var_os("TERM");
        stdout().is_terminal() && kind.is_some_and(|kind| !kind.is_empty() && kind != "dumb")
    }

    /// Enters the screen. From now on signals give `stop`, apart from those that suspend the
    /// program; a second one ends it at once.
    pub(crate) fn enter(stop: Stop) -> io::Result<Self> {
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        obey_signals(stop.clone(), wake.try_clone()?)?;
        let default = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            leave(LEFT);
            default(panic);
        }));
        let no_color = std::env::var_os("NO_COLOR");
        let terminal = Self {
            stop,
            wake,
            has_keys: stdin().is_terminal(),
            has_colors: no_color.is_none_or(|value| value.is_empty()),
            shown: Vec::new(),
            size: (0, 0),
        };
        let _use = USE.lock();
        enter()?;
        Ok(terminal)
    }

    /// Columns and rows of the screen.
    pub(crate) fn size() -> (usize, usize) {
        match tcgetwinsize(stdout()) {
            Ok(size) if size.ws_col > 0 && size.ws_row > 0 => {
                (size.ws_col.into(), size.ws_row.into())
            }
            _ => DEFAULT_SIZE,
        }
    }

    /// Forgets what is on the screen, so that all of it is drawn again.
    pub(crate) fn forget(&mut self) {
        self.size = (0, 0);
    }

    /// Draws the lines, which fit in a screen of `size`. Only lines that have changed are written,
    /// all at once.
    pub(crate) fn draw(&mut self, lines: Vec<Line>, size: (usize, usize)) -> io::Result<()> {
        let mut bytes = Vec::new();
        queue!(bytes, BeginSynchronizedUpdate)?;
        if self.size != size {
            queue!(bytes, SetAttribute(Attribute::Reset), Clear(ClearType::All))?;
            self.shown.clear();
            self.size = size;
        }
        let (columns, rows) = size;
        let blank = Line::default();
        for row in 0..rows {
            let line = lines.get(row).unwrap_or(&blank);
            if line != self.shown.get(row).unwrap_or(&blank) {
                let row = u16::try_from(row).map_err(io::Error::other)?;
                queue!(bytes, MoveTo(0, row))?;
                self.put(&mut bytes, line)?;
                // At the right edge the cursor stays on the last character.
                if line.width() < columns {
                    queue!(bytes, Clear(ClearType::UntilNewLine))?;
                }
            }
        }
        queue!(bytes, EndSynchronizedUpdate)?;
        self.shown = lines;
        let _use = USE.lock();
        let mut out = stdout().lock();
        out.write_all(&bytes)?;
        out.flush()
    }

    fn put(&self, bytes: &mut Vec<u8>, line: &Line) -> io::Result<()> {
        for (tone, text) in line.pieces() {
            let (attribute, color) = match tone {
                Tone::Plain => (None, None),
                Tone::Strong => (Some(Attribute::Bold), None),
                Tone::Faint => (Some(Attribute::Dim), None),
                Tone::Good => (None, Some(Color::DarkGreen)),
                Tone::Notable => (Some(Attribute::Bold), Some(Color::DarkYellow)),
                Tone::Bad => (Some(Attribute::Bold), Some(Color::DarkRed)),
            };
            if let Some(attribute) = attribute {
                queue!(bytes, SetAttribute(attribute))?;
            }
            if let Some(color) = color.filter(|_| self.has_colors) {
                queue!(bytes, SetForegroundColor(color))?;
            }
            queue!(bytes, Print(text), SetAttribute(Attribute::Reset))?;
        }
        Ok(())
    }

    /// Waits for a key, a signal, or the time.
    pub(crate) fn wait(&mut self, time: Timespec) -> io::Result<Wait> {
        let input = stdin();
        let mut polled = vec![
            PollFd::new(&self.stop, PollFlags::IN),
            PollFd::new(&self.wake, PollFlags::IN),
        ];
        if self.has_keys {
            polled.push(PollFd::new(&input, PollFlags::IN));
        }
        match poll(&mut polled, Some(&time)) {
            Ok(0) => return Ok(Wait::Over),
            Ok(_) => {}
            Err(Errno::INTR) => return Ok(Wait::Redraw),
            Err(error) => return Err(error.into()),
        }
        let is_ready: Vec<_> = polled.iter().map(|fd| !fd.revents().is_empty()).collect();
        drop(polled);
        if is_ready[0] {
            return Ok(Wait::Leave);
        }
        if is_ready[1] {
            let _ = rustix::io::read(&self.wake, &mut [0; 8]);
            self.forget();
            return Ok(Wait::Redraw);
        }
        let mut keys = [0; 64];
        match rustix::io::read(stdin(), &mut keys) {
            // The terminal is gone.
            Ok(0) => {
                self.has_keys = false;
                Ok(Wait::Redraw)
            }
            Ok(count)
                if keys[..count]
                    .iter()
                    .any(|key| matches!(key, b'q' | b'Q' | 3)) =>
            {
                Ok(Wait::Leave)
            }
            // Ctrl-L, as in other programs.
            Ok(count) if keys[..count].contains(&12) => {
                self.forget();
                Ok(Wait::Redraw)
            }
            Ok(_) | Err(Errno::INTR | Errno::AGAIN) => Ok(Wait::Redraw),
            // The terminal hung up; the signal follows.
            Err(Errno::IO) => Ok(Wait::Leave),
            Err(error) => Err(error.into()),
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _use = USE.lock();
        leave(LEFT);
    }
}

/// Enters the screen and sets the modes of the terminal, unless it is entered or left for good.
fn enter() -> io::Result<()> {
    if STATE.load(Ordering::Relaxed) != OUTSIDE {
        return Ok(());
    }
    if stdin().is_terminal() {
        let modes = tcgetattr(stdin())?;
        let mut changed = modes.clone();
        changed
            .local_modes
            .remove(LocalModes::ICANON | LocalModes::ECHO);
        changed.special_codes[SpecialCodeIndex::VMIN] = 1;
        changed.special_codes[SpecialCodeIndex::VTIME] = 0;
        *MODES.lock() = Some(modes);
        set_modes(&changed)?;
    }
    STATE.store(ENTERED, Ordering::Relaxed);
    execute!(stdout(), EnterAlternateScreen, Hide, DisableLineWrap)
}

/// Leaves the screen, if it was entered, for the state `next`. A terminal that is gone needs
/// nothing.
fn leave(next: u8) {
    let order = Ordering::Relaxed;
    if STATE.compare_exchange(ENTERED, next, order, order).is_err() {
        // One that was left for good stays so.
        let _ = STATE.compare_exchange(OUTSIDE, next, order, order);
        return;
    }
    let _ = execute!(
        stdout(),
        EndSynchronizedUpdate,
        SetAttribute(Attribute::Reset),
        EnableLineWrap,
        Show,
        LeaveAlternateScreen
    );
    let modes = MODES.lock().take();
    if let Some(modes) = modes {
        let _ = set_modes(&modes);
    }
}

/// Sets the modes of the terminal. A signal interrupts the call if the program is in the
/// background and is continued there.
fn set_modes(modes: &Termios) -> io::Result<()> {
    loop {
        match tcsetattr(stdin().as_fd(), OptionalActions::Now, modes) {
            Err(Errno::INTR) => {}
            other => return Ok(other?),
        }
    }
}

/// Starts the thread that serves signals.
fn obey_signals(stop: Stop, wake: OwnedFd) -> io::Result<()> {
    let mut signals = Signals::new([SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP, SIGWINCH])?;
    thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            let mut stopping = false;
            for signal in signals.forever() {
                match signal {
                    SIGTSTP => suspend(),
                    // SIGSTOP cannot be caught: the shell may have changed the terminal since.
                    SIGCONT | SIGWINCH => {}
                    // The program may hang in a write to a terminal that is not read.
                    _ if stopping => {
                        leave(LEFT);
                        std::process::exit(INTERRUPTED);
                    }
                    _ => {
                        stopping = true;
                        stop.stop();
                    }
                }
                // Adds a number that is not 0 in either byte order.
                let _ = rustix::io::write(&wake, &[1; 8]);
            }
        })?;
    Ok(())
}

/// Leaves the screen, stops the program until the shell continues it, and enters the screen again.
/// The main thread draws nothing meanwhile.
fn suspend() {
    let _use = USE.lock();
    leave(OUTSIDE);
    // This returns after the program was continued.
    let _ = emulate_default_handler(SIGTSTP);
    let _ = enter();
}
