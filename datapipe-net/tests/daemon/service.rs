//! The daemon as a service of systemd, without systemd: its umask, its messages to the manager, and
//! the unit that the pages describe.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};

use rustix::process::Signal;

use crate::site::{HANGS, Site};

/// The unit sets `UMask=0077`, and the collector that reads the file runs as a user of its own: no
/// metrics of the daemon arrived.
pub(crate) fn collector_can_read_the_metrics_under_the_umask_of_the_unit() {
    let mut site = Site::without_daemon("");
    let file = site.path("d.prom");
    let configuration = site.configuration("");
    site.configure(&format!("metrics_file = {file:?}\n{configuration}"));
    let run = site.command("run");
    let mut under_umask = Command::new("sh");
    under_umask.args(["-c", "umask 077; exec \"$@\"", "sh"]);
    under_umask.arg(run.get_program()).args(run.get_args());
    under_umask.stdin(Stdio::null());
    site.start_by(under_umask);
    crate::site::wait_until("the file is there", || file.exists());
    assert_eq!(
        fs::metadata(&file).unwrap().permissions().mode() & 0o777,
        0o644
    );
    let socket = fs::metadata(site.socket()).unwrap().permissions().mode();
    assert_eq!(socket & 0o777, 0o666, "the socket has its configured mode");
}

/// After `systemctl start`, the next command of an operator found no daemon.
pub(crate) fn daemon_reports_start_and_stop_to_its_service_manager() {
    let mut site = Site::without_daemon("");
    let path = site.path("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(HANGS)).unwrap();
    let read = || {
        let mut message = [0; 100];
        let len = manager.recv(&mut message).unwrap();
        String::from_utf8(message[..len].to_vec()).unwrap()
    };
    let mut run = site.command("run");
    run.env("NOTIFY_SOCKET", &path);
    site.start_by(run);
    assert_eq!(read(), "READY=1");
    assert!(site.client().list().unwrap().is_empty());
    site.signal(Signal::TERM);
    assert_eq!(read(), "STOPPING=1");
    assert!(site.end().0.success());

    // A manager that cannot be reached does not matter.
    for address in ["/nonexistent/notify", "@datapiped-no-such-manager", "", "@"] {
        let mut run = site.command("run");
        run.env("NOTIFY_SOCKET", address);
        site.start_by(run);
        site.signal(Signal::TERM);
        assert!(site.end().0.success(), "{address}");
    }
}

/// With the unit of the README and the lines of the page for operators, the metrics could not be
/// written: the directory of their file was read-only.
pub(crate) fn unit_fits_the_pages() {
    let unit = include_str!("../../datapiped.service");
    let operations = include_str!("../../../docs/operations.md");
    let value = |key: &str| {
        let (_, rest) = operations.split_once(&format!("\n{key} = \"")).unwrap();
        rest.split_once('"').unwrap().0
    };
    let (directory, _) = value("metrics_file").rsplit_once('/').unwrap();
    let (_, writable) = unit.split_once("\nReadWritePaths=").unwrap();
    let mut writable = writable.lines().next().unwrap().split(' ');
    assert!(
        writable.any(|path| path == format!("-{directory}")),
        "{directory}"
    );
    let state = value("state_dir").rsplit_once('/').unwrap().1;
    assert!(
        unit.contains(&format!("\nStateDirectory={state}\n")),
        "{state}"
    );
    // The page makes the directory with mode 700, and systemd would change it to 755.
    assert!(unit.contains("\nStateDirectoryMode=0700\n"));
    // A command after `systemctl start` finds a daemon that serves.
    assert!(unit.contains("\nType=notify\n"));
}
