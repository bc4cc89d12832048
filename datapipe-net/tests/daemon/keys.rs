//! Keys in the memory of the daemon, of the processes of its pipes, and of its clients.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _, stdin};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use datapipe::host::Attachment;
use datapipe::stage::Arguments;
use datapipe_net::protocol::PipeState;
use datapipe_net::{AttachRole, Client, Initiate, Participation, StageRequest};
use zeroize::Zeroizing;

use crate::key_search::{IN_DUMPS, Keys};
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

/// First argument of a process that is a client with the seat of the head, and encrypts; then the
/// socket, and the file of the key.
pub(crate) const HEAD: &str = "--head-of-sealed-pipe";

/// First argument of a process that is a client with the seat of the tail; then the socket, and the
/// name of the pipe.
pub(crate) const TAIL: &str = "--tail-of-sealed-pipe";

/// A site whose daemon has a module that encrypts.
fn site_that_encrypts() -> Site {
    let mut site = Site::without_daemon("");
    let program = std::env::current_exe().unwrap();
    let module = format!(
        "[[module]]\nname = \"seal\"\nprogram = {program:?}\nmodule = \"datapipe.seal\"\n\
         role = \"middle\"\nwork = \"in-place\"\n"
    );
    site.configure(&[site.configuration(""), module].concat());
    site.start();
    site
}

fn random_key() -> Vec<u8> {
    let mut key = vec![0; 32];
    let mut random = File::open("/dev/urandom").unwrap();
    random.read_exact(&mut key).unwrap();
    key
}

/// A client that encrypts sends the key of the archive to the daemon, which passes it on.
pub(crate) fn key_of_a_pipe_is_only_in_the_process_that_encrypts() {
    let site = site_that_encrypts();
    let key = random_key();
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
    let seal = |client: &mut Client| client.status(&pipe).unwrap().stages[1].instances[0].clone();
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

/// Number of blocks of the pipe between two clients.
const BLOCKS: u64 = 5;

/// A client that requests a pipe with the key of a file, and is its head.
pub(crate) fn be_the_head(socket: &str, key: &str) -> ! {
    let mut bytes = Zeroizing::new(vec![0; 32]);
    File::open(key).unwrap().read_exact(&mut bytes).unwrap();
    let mut client = Client::connect(PathBuf::from(socket)).unwrap();
    let seal = StageRequest::module("seal").arguments(Arguments::new().with("key", &bytes));
    drop(bytes);
    let request = Initiate::new("sealed")
        .buffers(8)
        .buffer_size(4096)
        .participation(Participation::Head)
        .stage(StageRequest::unbound("source"))
        .stage(seal)
        .stage(StageRequest::unbound("sink"));
    let started = client.initiate(&request).unwrap();
    drop(request);
    let attachment = started.attachment.unwrap();
    let port = attachment.head().unwrap();
    for number in 0..BLOCKS {
        let mut block = port.alloc().unwrap();
        block.put(&number.to_le_bytes()).unwrap();
        port.send(block).unwrap();
    }
    println!("{}", started.pipe);
    wait_for_the_end_of_input();
    port.finish().unwrap();
    attachment.end(Ok(()));
    std::process::exit(0)
}

/// A client that is the tail of a pipe.
pub(crate) fn be_the_tail(socket: &str, pipe: &str) -> ! {
    let mut client = Client::connect(PathBuf::from(socket)).unwrap();
    let attachment: Attachment = client.identify(pipe, AttachRole::Tail).unwrap();
    let port = attachment.tail().unwrap();
    for _ in 0..BLOCKS {
        assert!(port.receive().unwrap().is_some());
    }
    println!("{BLOCKS} blocks");
    assert!(port.receive().unwrap().is_none());
    port.finish().unwrap();
    attachment.end(Ok(()));
    std::process::exit(0)
}

fn wait_for_the_end_of_input() {
    stdin().read_to_end(&mut Vec::new()).unwrap();
}

/// Starts a client. Returns the first line that it prints with it.
fn start_client(arguments: [&str; 3]) -> (Child, String) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    let command = command.args(arguments).stdin(Stdio::piped());
    let mut client = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    let mut output = BufReader::new(client.stdout.take().unwrap());
    output.read_line(&mut line).unwrap();
    (client, line.trim().to_owned())
}

/// Two clients, of which one has sent the key to the daemon.
pub(crate) fn key_of_a_pipe_is_not_in_the_clients_that_attach() {
    let site = site_that_encrypts();
    let key = random_key();
    let file = site.path("key");
    fs::write(&file, &key).unwrap();
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let (mut head, pipe) = start_client([HEAD, &text(&site.socket()), &text(&file)]);
    let (mut tail, blocks) = start_client([TAIL, &text(&site.socket()), &pipe]);
    assert_eq!(blocks, "5 blocks");
    let mut client = site.client();
    let holder = client.status(&pipe).unwrap().stages[1].instances[0].process;
    let keys = Keys(vec![("key".to_owned(), key)]);
    let found = [head.id(), tail.id()].map(|process| keys.find_in(process));
    assert!(found.iter().all(|found| found.is_empty()), "{found:?}");
    let found = find(&site, &keys);
    let holders: Vec<_> = found.keys().copied().collect();
    assert_eq!(holders, [holder], "{found:?}");
    // The process that encrypts has none on its stack, and none that a dump would have. It may
    // still work on the last block, and its mappings may change while they are listed.
    let is_in_dumps = |found: &String| found.ends_with(IN_DUMPS);
    wait_until("no dump would have the key", || {
        !find(&site, &keys)[&holder].iter().any(is_in_dumps)
    });
    let limits = fs::read_to_string(format!("/proc/{holder}/limits")).unwrap();
    let limit = limits
        .lines()
        .find(|line| line.starts_with("Max core file size"));
    let words: Vec<_> = limit.unwrap().split_whitespace().collect();
    assert!(["0", "1"].contains(&words[4]), "{words:?}");

    drop(head.stdin.take());
    assert!(head.wait().unwrap().success());
    assert!(tail.wait().unwrap().success());
    assert_eq!(outcome(&mut client, &pipe).0, PipeState::ENDED);
}
