//! Processes that attach to a pipe of a daemon.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use datapipe_net::protocol::PipeState;
use datapipe_net::{Client, Config, Daemon, Initiate, StageRequest};

use super::suite::suite;
use super::{Linked, Program};

/// Time after which the end of a pipe counts as missing. Only a hang reaches it.
const HANGS: Duration = Duration::from_secs(60);

#[test]
fn processes_attach_to_a_pipe_of_a_daemon() {
    for linked in [Linked::Shared, Linked::Static] {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("socket");
        let config = Config::parse(&format!("socket = {socket:?}")).unwrap();
        let daemon = Daemon::bind(config, |_| {}).unwrap();
        let handle = daemon.handle();
        let running = thread::spawn(|| daemon.run());

        let mut client = Client::connect(&socket).unwrap();
        let pipe = Initiate::new("from outside")
            .buffers(8)
            .buffer_size(4096)
            .stage(StageRequest::unbound("source"))
            .stage(StageRequest::unbound("sink"));
        let name = client.initiate(&pipe).unwrap().pipe;
        fs::write(dir.path().join("pipe"), &name).unwrap();
        let files = dir.path().to_str().unwrap().to_owned();
        let path = suite(linked).to_owned();
        Program { dir, path }.run(&["daemon", &files]);

        let begun = Instant::now();
        while client.status(&name).unwrap().entry.state != PipeState::ENDED {
            assert!(begun.elapsed() < HANGS, "{:?}", client.status(&name));
            thread::sleep(Duration::from_millis(5));
        }
        handle.stop();
        running.join().unwrap().unwrap();
    }
}
