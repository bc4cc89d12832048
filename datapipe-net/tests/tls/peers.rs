//! Connections of rustls alone, and handshakes of the library step by step on one thread.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use datapipe_net::tls::{Handshake, HandshakeError, HandshakeProgress, TlsReader, TlsRecordError};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{
    CipherSuite, ClientConfig, ClientConnection, Connection, RootCertStore, ServerConfig,
    ServerConnection,
};

use super::authority::{Authority, Issued, Kind};

/// A provider with one suite.
fn only(suite: CipherSuite) -> Arc<CryptoProvider> {
    let mut provider = aws_lc_rs::default_provider();
    provider
        .cipher_suites
        .retain(|offered| offered.suite() == suite);
    assert_eq!(provider.cipher_suites.len(), 1);
    Arc::new(provider)
}

pub(crate) fn private_key(issued: &Issued) -> PrivateKeyDer<'static> {
    PrivatePkcs8KeyDer::from(issued.key.serialize_der()).into()
}

/// Configuration of a client of rustls without the library, which accepts one authority.
pub(crate) fn client_config(authority: &Authority, own: Option<&Issued>) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(authority.certificate()).unwrap();
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match own {
        Some(own) => builder
            .with_client_auth_cert(vec![own.certificate.clone()], private_key(own))
            .unwrap(),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"datapipe/1".to_vec()];
    config.enable_secret_extraction = true;
    config
}

/// A client and a server of rustls after their handshake, with one suite.
pub(crate) fn connected(suite: CipherSuite) -> (ClientConnection, ServerConnection) {
    let authority = Authority::new("records");
    let issued = authority.issue(Kind::Server, &["server.example"]);
    let mut server = ServerConfig::builder_with_provider(only(suite))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![issued.certificate.clone()], private_key(&issued))
        .unwrap();
    server.enable_secret_extraction = true;
    server.send_tls13_tickets = 0;
    let mut client = client_config(&authority, None);
    client.alpn_protocols.clear();
    let name = "server.example".try_into().unwrap();
    let mut client = ClientConnection::new(Arc::new(client), name).unwrap();
    let mut server = ServerConnection::new(Arc::new(server)).unwrap();
    while client.is_handshaking() || server.is_handshaking() {
        let mut bytes = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut bytes).unwrap();
        }
        feed(&mut server, &bytes).unwrap();
        let mut bytes = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut bytes).unwrap();
        }
        feed(&mut client, &bytes).unwrap();
    }
    (client, server)
}

/// Gives bytes to a connection of rustls. Returns the data in them, and true if they had the end of
/// the peer's data.
pub(crate) fn feed<Data>(
    connection: &mut rustls::ConnectionCommon<Data>,
    mut bytes: &[u8],
) -> Result<(Vec<u8>, bool), rustls::Error> {
    let (mut data, mut has_ended) = (Vec::new(), false);
    while !bytes.is_empty() {
        assert!(connection.read_tls(&mut bytes).unwrap() > 0);
        let state = connection.process_new_packets()?;
        has_ended = state.peer_has_closed();
        let done = data.len();
        data.resize(done + state.plaintext_bytes_to_read(), 0);
        connection.reader().read_exact(&mut data[done..]).unwrap();
    }
    Ok((data, has_ended))
}

/// One end of a handshake.
pub(crate) enum End {
    Library(Handshake),
    Rustls(Connection),
}

/// Outcome of one end: done, or its error.
pub(crate) type Outcome = Result<(), HandshakeError>;

impl End {
    pub(crate) fn rustls(config: ClientConfig) -> Self {
        let name = "server.example".try_into().unwrap();
        Self::Rustls(
            ClientConnection::new(Arc::new(config), name)
                .unwrap()
                .into(),
        )
    }

    /// One step; true if this end is done.
    fn advance(&mut self, socket: &mut UnixStream) -> Result<bool, HandshakeError> {
        match self {
            Self::Library(handshake) => Ok(handshake.advance(&*socket)? == HandshakeProgress::Done),
            Self::Rustls(connection) => {
                while connection.wants_write() {
                    connection
                        .write_tls(socket)
                        .map_err(HandshakeError::System)?;
                }
                if !connection.is_handshaking() {
                    return Ok(true);
                }
                match connection.read_tls(socket) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                    read => read.map_err(HandshakeError::System)?,
                };
                connection
                    .process_new_packets()
                    .map_err(HandshakeError::Tls)?;
                while connection.wants_write() {
                    connection
                        .write_tls(socket)
                        .map_err(HandshakeError::System)?;
                }
                Ok(!connection.is_handshaking())
            }
        }
    }
}

/// A connection whose ends do not wait.
pub(crate) fn sockets() -> (UnixStream, UnixStream) {
    let (near, far) = UnixStream::pair().unwrap();
    near.set_nonblocking(true).unwrap();
    far.set_nonblocking(true).unwrap();
    (near, far)
}

/// Carries a handshake out, in turn, until each end is done or has failed.
pub(crate) fn shake(
    client: &mut End,
    server: &mut End,
    near: &mut UnixStream,
    far: &mut UnixStream,
) -> (Outcome, Outcome) {
    let (mut ours, mut theirs) = (None, None);
    for _ in 0..100 {
        step(client, near, &mut ours);
        step(server, far, &mut theirs);
        if let (Some(_), Some(_)) = (&ours, &theirs) {
            return (ours.unwrap(), theirs.unwrap());
        }
    }
    panic!("the handshake does not end: {ours:?}, {theirs:?}");
}

fn step(end: &mut End, socket: &mut UnixStream, outcome: &mut Option<Outcome>) {
    if outcome.is_none() {
        *outcome = match end.advance(socket) {
            Ok(true) => Some(Ok(())),
            Ok(false) => None,
            Err(error) => Some(Err(error)),
        };
    }
}

/// Opens the next record that arrives, which must not have data: the error is that of the peer.
pub(crate) fn next_error(reader: &mut TlsReader, socket: &mut UnixStream) -> TlsRecordError {
    let mut bytes = [0; 1024];
    let count = socket.read(&mut bytes).unwrap();
    let mut out = [0; 1024];
    reader.open(&bytes[..count], &mut out).unwrap_err()
}

/// Sends bytes whole.
pub(crate) fn send(socket: &mut UnixStream, bytes: &[u8]) {
    socket.write_all(bytes).unwrap();
}
