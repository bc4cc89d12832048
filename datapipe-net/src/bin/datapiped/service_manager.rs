//! Messages to the service manager that started the daemon: `sd_notify(3)`, as datagrams.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// Time that a service manager has to read.
const PATIENCE: Duration = Duration::from_secs(1);

/// The daemon serves.
pub(crate) const READY: &str = "READY=1";

/// The daemon ends.
pub(crate) const STOPPING: &str = "STOPPING=1";

/// Sends `state` to the service manager, if there is one. Without it, or if it does not read, the
/// daemon works all the same.
pub(crate) fn notify(state: &str) {
    if let Some(socket) = std::env::var_os("NOTIFY_SOCKET") {
        let _: io::Result<()> = send(&socket, state);
    }
}

fn send(socket: &OsStr, state: &str) -> io::Result<()> {
    let address = match socket.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(socket)?,
    };
    let sender = UnixDatagram::unbound()?;
    sender.set_write_timeout(Some(PATIENCE))?;
    sender.send_to_addr(state.as_bytes(), &address)?;
    Ok(())
}
