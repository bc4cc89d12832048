//! Two machines, of which one dials the other.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use datapipe_net::authority::{InitRequest, PrivateAuthority, Validity};
use datapipe_net::socket::Deadline;
use datapipe_net::tls::{
    CertificateRefusal, Handshake, HandshakeError, MachineIdentity, PeerMachine,
};
use tempfile::TempDir;

pub(crate) const HOST: &str = "vault.example";

/// Longer than any handshake.
const PATIENCE: Duration = Duration::from_secs(60);

/// Outcome of a handshake at one end: the other machine.
pub(crate) type Outcome = Result<PeerMachine, HandshakeError>;

/// An authority for `vault.example` in a directory of its own.
pub(crate) struct Site {
    directory: TempDir,
}

impl Site {
    /// A site without an authority.
    pub(crate) fn empty() -> Self {
        Self {
            directory: tempfile::tempdir().unwrap(),
        }
    }

    pub(crate) fn new() -> Self {
        Self::valid(Validity::days(30).unwrap())
    }

    pub(crate) fn valid(validity: Validity) -> Self {
        let site = Self::empty();
        let request = request(validity);
        PrivateAuthority::init(&site.authority(), &request).unwrap();
        site
    }

    /// Directory of the authority.
    pub(crate) fn authority(&self) -> PathBuf {
        self.path("authority")
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn open(&self) -> PrivateAuthority {
        PrivateAuthority::open(&self.authority(), None).unwrap()
    }

    pub(crate) fn server(&self) -> PathBuf {
        self.authority().join("server.pem")
    }

    pub(crate) fn client(&self) -> PathBuf {
        self.authority().join("client.pem")
    }

    /// Names in the directory that has the authority's.
    pub(crate) fn names(&self) -> Vec<String> {
        names(self.directory.path())
    }
}

pub(crate) fn request(validity: Validity) -> InitRequest {
    InitRequest {
        server: vec![HOST.to_owned()],
        client: None,
        validity,
    }
}

pub(crate) fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let name = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name();
    let mut names: Vec<_> = entries
        .map(|entry| name(entry).into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Handshake between the machines with these certificates. Returns the outcomes of client and
/// server.
pub(crate) fn shake(client: &Path, server: &Path, host: &str) -> (Outcome, Outcome) {
    let client = MachineIdentity::load(client).unwrap();
    let server = MachineIdentity::load(server).unwrap();
    let (near, far) = UnixStream::pair().unwrap();
    let server = thread::spawn(move || run(Handshake::server(&server), &far));
    let client = run(Handshake::client(&client, host), &near);
    drop(near);
    (client, server.join().unwrap())
}

fn run(handshake: Result<Handshake, HandshakeError>, socket: &UnixStream) -> Outcome {
    let secured = handshake?.run(socket, Deadline::after(PATIENCE), None)?;
    Ok(secured.peer)
}

/// The machines accept each other, and the client has this name.
pub(crate) fn assert_accepted(client: &Path, server: &Path, host: &str, name: &str) {
    let (ours, theirs) = shake(client, server, host);
    assert_eq!(ours.unwrap().name(), host);
    assert_eq!(theirs.unwrap().name(), name);
}

/// Reason for which one end refuses the other's certificate.
pub(crate) fn refusal(outcome: Outcome) -> CertificateRefusal {
    match outcome {
        Err(HandshakeError::Refused(refusal)) => refusal,
        other => panic!("{other:?}"),
    }
}
