//! Processes that attach to a pipe of another process.

use std::io;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use datapipe::controller::Role;
use datapipe_net::AttachRole;

use crate::boundary::{Handle, In, Out, OutHandle, Text, call, duplicate, versioned};
use crate::failure::Failure;
use crate::pipe::{
    AttachedBuffer, DaemonSeat, PIPES, attach, check_not_in_stage, free_attachment, with_attachment,
};
use crate::status::{DP_END, DP_ERR_NULL, DP_OK, DP_TIMED_OUT, dp_status};

use super::cancel::{dp_cancel, token_of};
use super::pipe::{dp_pipe, wait_of};
use super::secret::unknown;
use super::stage::{dp_block, dp_output};

/// Longest wait for a daemon if the caller sets no other.
const DAEMON_PATIENCE: Duration = Duration::from_secs(30);

/// Role of a process in a pipe: the head, which fills buffers and sends them.
pub const DP_ROLE_HEAD: i32 = 1;
/// Role of a process in a pipe: the tail, which receives blocks and frees them.
pub const DP_ROLE_TAIL: i32 = 2;

/// A seat of this process in a pipe of another one, as its head or its tail. A handle, and not an
/// address. It belongs to the thread that has made it: other threads get `DP_ERR_THREAD`.
#[derive(Debug)]
pub struct dp_attachment {
    _private: [u8; 0],
}

/// A buffer of a pipe to which this process has attached, until it is sent or freed. A handle, and
/// not an address.
#[derive(Debug)]
pub struct dp_buffer {
    _private: [u8; 0],
}

/// Gives the seat of an unbound head or tail to the process that asks for it at the other end of
/// `socket`, by `dp_attach`. Waits for it at most `timeout_ms` milliseconds, or `DP_FOREVER`, and
/// until it closes the socket or the pipe ends.
///
/// `socket` is a connected Unix domain socket. It stays open, and is the caller's again after the
/// call. The process gets access to the shared memory of the pipe; it must belong to the user of
/// this one.
///
/// Threads: any; not in a function of a stage, which returns `DP_ERR_REENTRANT`. Errors:
/// `DP_TIMED_OUT` is not an error. Those of a handle, `DP_ERR_ARGUMENT`, `DP_ERR_STATE` if there is
/// no such seat, if it is taken, or the pipe has ended, `DP_ERR_PERMISSION` for another user,
/// `DP_ERR_SYSTEM`.
#[unsafe(no_mangle)]
pub extern "C" fn dp_pipe_admit(
    pipe: Handle<dp_pipe>,
    role: i32,
    socket: i32,
    timeout_ms: u64,
) -> dp_status {
    call(|| {
        check_not_in_stage()?;
        let pipe = PIPES.find(pipe.bits())?.running()?;
        let role = match role {
            DP_ROLE_HEAD => Role::Head,
            DP_ROLE_TAIL => Role::Tail,
            role => return Err(unknown("role", role, "DP_ROLE_")),
        };
        let admitted = over(socket, timeout_ms, |socket| {
            Ok(pipe.admit_over(role, socket)?)
        })?;
        Ok(admitted.map_or(DP_TIMED_OUT, |()| DP_OK))
    })
}

/// Takes a seat in the pipe of the program at the other end of `socket`, which calls
/// `dp_pipe_admit`. Waits for it at most `timeout_ms` milliseconds, or `DP_FOREVER`, and until it
/// closes the socket.
///
/// `socket` is a connected Unix domain socket. It stays open, and is the caller's again after the
/// call. When the other program dies, the pipe stops, and every wait ends.
///
/// Ownership: free the attachment with `dp_attachment_free`. It belongs to this thread.
///
/// Threads: any. Errors: `DP_TIMED_OUT` is not an error. `DP_ERR_NULL`, `DP_ERR_ARGUMENT`,
/// `DP_ERR_REFUSED` if the program does not admit this process, `DP_ERR_CANCELLED` if the pipe has
/// ended, `DP_ERR_SYSTEM`, `DP_ERR_LIMIT`.
#[unsafe(no_mangle)]
pub extern "C" fn dp_attach(
    socket: i32,
    timeout_ms: u64,
    attachment: OutHandle<dp_attachment>,
) -> dp_status {
    call(|| {
        attachment.check("attachment")?;
        let Some(handle) = over(socket, timeout_ms, attach)? else {
            return Ok(DP_TIMED_OUT);
        };
        attachment.write(handle);
        Ok(DP_OK)
    })
}

/// A seat in a pipe that the daemon `datapiped` runs.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct dp_daemon_seat {
    /// `sizeof(dp_daemon_seat)`.
    pub size: usize,
    /// Path of the daemon's socket.
    pub socket: Text,
    /// Name of the pipe in UTF-8, as the daemon has given it.
    pub pipe: Text,
    /// Token that ends the call, or NULL.
    pub cancel: Handle<dp_cancel>,
    /// `DP_ROLE_...`.
    pub role: i32,
    /// Longest time in milliseconds to wait for the daemon; 0 for 30000.
    pub timeout_ms: u32,
}

versioned!(dp_daemon_seat, first: 40, { size, socket, pipe, cancel, role, timeout_ms });

/// Takes a seat in a pipe that a daemon runs, as its unbound head or tail. The attachment is like
/// one of `dp_attach`. When the daemon dies, the pipe stops, and every wait ends.
///
/// `seat` is copied. Ownership: free the attachment with `dp_attachment_free`. It belongs to this
/// thread.
///
/// Threads: any. Errors: `DP_TIMED_OUT` is not an error. `DP_ERR_NULL`, `DP_ERR_ARGUMENT`,
/// `DP_ERR_NOT_FOUND` if there is no such socket or no such pipe, `DP_ERR_PERMISSION` if the daemon
/// does not let this user, `DP_ERR_STATE` if the seat is not unbound, if it is taken, or the pipe
/// has ended, `DP_ERR_REFUSED`, `DP_ERR_CANCELLED`, `DP_ERR_SYSTEM`, `DP_ERR_LIMIT`.
#[unsafe(no_mangle)]
pub extern "C" fn dp_attach_by_daemon(
    seat: In<dp_daemon_seat>,
    attachment: OutHandle<dp_attachment>,
) -> dp_status {
    call(|| {
        attachment.check("attachment")?;
        let seat = seat.read_needed()?;
        let pipe = seat.pipe.utf8("pipe")?;
        let seat = DaemonSeat {
            socket: seat.socket.needed_path("socket")?,
            pipe: pipe.ok_or_else(|| Failure::new(DP_ERR_NULL, "pipe is NULL, but is needed"))?,
            role: match seat.role {
                DP_ROLE_HEAD => AttachRole::Head,
                DP_ROLE_TAIL => AttachRole::Tail,
                role => return Err(unknown("role", role, "DP_ROLE_")),
            },
            token: token_of(seat.cancel)?,
            timeout: match seat.timeout_ms {
                0 => DAEMON_PATIENCE,
                timeout => Duration::from_millis(timeout.into()),
            },
        };
        let Some(handle) = seat.attach()? else {
            return Ok(DP_TIMED_OUT);
        };
        attachment.write(handle);
        Ok(DP_OK)
    })
}

/// Allocates an empty buffer of the pipe, as its head: `output->bytes` is its place. Waits for one
/// at most `timeout_ms` milliseconds, or `DP_FOREVER`, and until the pipe stops.
///
/// The program fills it, sets `output->len` and sends it with `dp_attachment_send`, or frees it
/// with `dp_attachment_drop`. It may have several.
///
/// Threads: that of the attachment. Errors: `DP_TIMED_OUT` is not an error. Those of a handle,
/// `DP_ERR_THREAD`, `DP_ERR_NULL`, `DP_ERR_STRUCT_SIZE`, `DP_ERR_STATE` for a tail or after the
/// end, `DP_ERR_CANCELLED` if the pipe stops, `DP_ERR_CORRUPT`.
#[unsafe(no_mangle)]
pub extern "C" fn dp_attachment_alloc(
    attachment: Handle<dp_attachment>,
    timeout_ms: u64,
    buffer: OutHandle<dp_buffer>,
    output: Out<dp_output>,
) -> dp_status {
    call(|| {
        buffer.check("buffer")?;
        let slot = output.check()?;
        let slot = slot.ok_or_else(|| Failure::new(DP_ERR_NULL, "output is NULL"))?;
        with_attachment(attachment.bits(), |seat| {
            let Some(AttachedBuffer { handle, block }) = seat.alloc(wait_of(timeout_ms))? else {
                return Ok(DP_TIMED_OUT);
            };
            slot.write(&dp_output::empty(block));
            buffer.write(handle);
            Ok(DP_OK)
        })
    })
}

/// Sends a buffer, with the length and the numbers of the program in `output`. The buffer is then
/// not the program's any more, also if the call fails because the pipe stops.
///
/// Threads: that of the attachment. Errors: those of a handle, `DP_ERR_THREAD`, `DP_ERR_NULL`,
/// `DP_ERR_STRUCT_SIZE`, `DP_ERR_ARGUMENT` for the place of another buffer or a length beyond its
/// capacity, `DP_ERR_STATE` for a tail or after the end, `DP_ERR_CANCELLED`, `DP_ERR_CORRUPT`.
#[unsafe(no_mangle)]
pub extern "C" fn dp_attachment_send(
    attachment: Handle<dp_attachment>,
    buffer: Handle<dp_buffer>,
    output: In<dp_output>,
) -> dp_status {
    call(|| {
        let output = output.read_needed()?;
        with_attachment(attachment.bits(), |seat| {
            seat.send(buffer.bits(), &output)?;
            Ok(DP_OK)
        })
    })
}

/// Receives a block of the pipe, as its tail. Waits for one at most `timeout_ms` milliseconds, or
/// `DP_FOREVER`, and until the pipe stops. The pointers in `block` are valid until the buffer is
/// freed with `dp_attachment_drop`.
///
/// Threads: that of the attachment. Errors: `DP_TIMED_OUT`, and `DP_END` when all blocks were
/// received, are not errors. Those of a handle, `DP_ERR_THREAD`, `DP_ERR_NULL`,
/// `DP_ERR_STRUCT_SIZE`, `DP_ERR_STATE` for a head or after the end, `DP_ERR_CANCELLED` if the pipe
/// stops, `DP_ERR_CORRUPT`.
#[unsafe(no_mangle)]
pub extern "C" fn dp_attachment_receive(
    attachment: Handle<dp_attachment>,
    timeout_ms: u64,
    buffer: OutHandle<dp_buffer>,
    block: Out<dp_block>,
) -> dp_status {
    call(|| {
        buffer.check("buffer")?;
        let slot = block.check()?;
        let slot = slot.ok_or_else(|| Failure::new(DP_ERR_NULL, "block is NULL"))?;
        with_attachment(attachment.bits(), |seat| {
            match seat.receive(wait_of(timeout_ms))? {
                None => Ok(DP_TIMED_OUT),
                Some(None) => Ok(DP_END),
                Some(Some(AttachedBuffer { handle, block })) => {
                    slot.write(&dp_block::of(block));
                    buffer.write(handle);
                    Ok(DP_OK)
                }
            }
        })
    })
}

/// Frees a buffer that was received, or one that was allocated and is not sent.
///
/// Threads: that of the attachment. Errors: those of a handle, `DP_ERR_THREAD`.
#[unsafe(no_mangle)]
pub extern "C" fn dp_attachment_drop(
    attachment: Handle<dp_attachment>,
    buffer: Handle<dp_buffer>,
) -> dp_status {
    call(|| {
        with_attachment(attachment.bits(), |seat| seat.free(buffer.bits()))?;
        Ok(DP_OK)
    })
}

/// Ends the work of this process well: a head has sent everything, a tail has received everything
/// and stored it. All buffers were sent or freed.
///
/// Threads: that of the attachment. Errors: those of a handle, `DP_ERR_THREAD`, `DP_ERR_STATE` if
/// there are buffers, if a tail has not received the end, or after the end; `DP_ERR_CANCELLED`,
/// `DP_ERR_CORRUPT`. After an error the pipe fails, except if there are buffers.
#[unsafe(no_mangle)]
pub extern "C" fn dp_attachment_finish(attachment: Handle<dp_attachment>) -> dp_status {
    call(|| {
        with_attachment(attachment.bits(), |seat| seat.finish())?;
        Ok(DP_OK)
    })
}

/// Ends the work of this process with an error, and stops the pipe, whose program gets `text`. All
/// buffers are freed.
///
/// Threads: that of the attachment. Errors: those of a handle, `DP_ERR_THREAD`, `DP_ERR_NULL`,
/// `DP_ERR_ARGUMENT` for a text that is not UTF-8, `DP_ERR_STATE` after the end.
#[unsafe(no_mangle)]
pub extern "C" fn dp_attachment_fail(attachment: Handle<dp_attachment>, text: Text) -> dp_status {
    call(|| {
        let text = text.utf8("text")?;
        let text = text.ok_or_else(|| Failure::new(DP_ERR_NULL, "text is NULL"))?;
        with_attachment(attachment.bits(), |seat| seat.fail(text))?;
        Ok(DP_OK)
    })
}

/// Frees an attachment, and its buffers. One that was not ended counts as failed, and the pipe
/// stops; so does one whose thread ends.
///
/// Threads: that of the attachment. Errors: those of a handle, `DP_ERR_THREAD`.
#[unsafe(no_mangle)]
pub extern "C" fn dp_attachment_free(attachment: Handle<dp_attachment>) -> dp_status {
    call(|| {
        free_attachment(attachment.bits())?;
        Ok(DP_OK)
    })
}

/// Runs work over a caller's socket with this timeout, and restores that of the socket. Returns
/// nothing if the time is over.
fn over<R>(
    socket: i32,
    timeout_ms: u64,
    work: impl FnOnce(&UnixStream) -> Result<R, Failure>,
) -> Result<Option<R>, Failure> {
    let failed = |error: io::Error| Failure::at("socket", error);
    let socket = UnixStream::from(duplicate(socket).map_err(failed)?);
    let before = socket.read_timeout().map_err(failed)?;
    // A socket has no timeout of 0, and none of more than its counter of seconds.
    let timeout = wait_of(timeout_ms);
    let timeout = timeout.map(|timeout| timeout.clamp(SHORTEST, LONGEST));
    socket.set_read_timeout(timeout).map_err(failed)?;
    let done = work(&socket);
    socket.set_read_timeout(before).map_err(failed)?;
    match done {
        Ok(done) => Ok(Some(done)),
        Err(failure) if failure.is_timeout() => Ok(None),
        Err(failure) => Err(failure),
    }
}

/// Shortest timeout of a socket.
const SHORTEST: Duration = Duration::from_millis(1);
/// Longest timeout of a socket: a year.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);
