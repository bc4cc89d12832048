//! Keys in the memory of the daemon and of the processes of its pipes.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;

use datapipe::stage::Arguments;
use datapipe_net::protocol::PipeState;
use datapipe_net::{Initiate, StageRequest};

use crate::key_search::Keys;
use crate::site::{Site, children_of, outcome, plain, refusal, wait_until};

/// A pipe without end that encrypts with this key.
fn sealed(key: &[u8]) -> Initiate {
    let mut request = plain("forever");
    let arguments = Arguments::new().with("key", key);
    let seal = StageRequest::module("seal").arguments(arguments);
    request.stages.insert(1, seal);
    request
}

/// The keys in the memory of the daemon and of its processes, by the number of the process.
fn find(site: &Site, keys: &Keys) -> BTreeMap<u32, Vec<String>> {
    let daemon = site.process();
    let processes = [vec![daemon], children_of(daemon)].concat();
    let found = processes.into_iter().map(|process| {
        let found = keys.find_in(process).into_iter();
        let lines = found.map(|(key, mapping)| format!("{key} in {mapping}"));
        (process, lines.collect::<Vec<_>>())
    });
    found.filter(|(_, lines)| !lines.is_empty()).collect()
}

/// A client that encrypts sends the key of the archive to the daemon, which passes it on.
pub(crate) fn key_of_a_pipe_is_only_in_the_process_that_encrypts() {
    let mut site = Site::without_daemon("");
    let program = std::env::current_exe().unwrap();
    let module = format!(
        "[[module]]\nname = \"seal\"\nprogram = {program:?}\nmodule = \"datapipe.seal\"\n\
         role = \"middle\"\nwork = \"in-place\"\n"
    );
    site.configure(&[site.configuration(""), module].concat());
    site.start();
    let mut key = vec![0; 32];
    File::open("/dev/urandom")
        .unwrap()
        .read_exact(&mut key)
        .unwrap();
    let keys = Keys(vec![("key".to_owned(), key.clone())]);
    let mut client = site.client();
    let pipe = client.initiate(&sealed(&key)).unwrap().pipe;
    wait_until("blocks are encrypted", || {
        client.status(&pipe).unwrap().stages[2].instances[0].blocks_in > 3
    });
    let stages = client.status(&pipe).unwrap().stages;
    let holder = stages[1].instances[0].process;
    let found = find(&site, &keys);
    assert_eq!(
        found.keys().copied().collect::<Vec<_>>(),
        [holder],
        "{found:?}"
    );

    // A replacement gets the key again.
    let killed = rustix::process::Pid::from_raw(holder as i32).unwrap();
    rustix::process::kill_process(killed, rustix::process::Signal::KILL).unwrap();
    let seal = |client: &mut datapipe_net::Client| {
        client.status(&pipe).unwrap().stages[1].instances[0].clone()
    };
    wait_until("the replacement works", || {
        let seal = seal(&mut client);
        seal.processes == 2 && seal.blocks_in > 3 && ![0, holder].contains(&seal.process)
    });
    let holder = seal(&mut client).process;
    let found = find(&site, &keys);
    assert_eq!(
        found.keys().copied().collect::<Vec<_>>(),
        [holder],
        "{found:?}"
    );

    // Requests that are refused, at each step.
    let mut unknown = sealed(&key);
    unknown.stages[1].module = Some("unknown".to_owned());
    refusal(client.initiate(&unknown));
    let mut wrong = sealed(&key);
    wrong.stages[0].module = Some("seal".to_owned());
    refusal(client.initiate(&wrong));
    let mut large = sealed(&key);
    large.buffers = Some(u32::MAX);
    refusal(client.initiate(&large));
    client.stop(&pipe).unwrap();
    assert_eq!(outcome(&mut client, &pipe).0, PipeState::STOPPED);
    wait_until("the processes have ended", || {
        children_of(site.process()).is_empty()
    });
    assert_eq!(find(&site, &keys), BTreeMap::new(), "after the end");
}
