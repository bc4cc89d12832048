//! The example of a database dump, whose head is another process than its tail.

use std::fmt::Write;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, ChildStderr, Command, Stdio};

use super::{Program, compile, crate_dir};

/// A program that keeps a dump.
struct Keeper {
    child: Child,
    messages: BufReader<ChildStderr>,
    socket: PathBuf,
}

impl Keeper {
    /// Starts the program, and waits until it listens.
    fn start(program: &Program, output: File) -> Self {
        let socket = program.dir.path().join("socket");
        let mut command = Command::new(&program.path);
        command.arg("keep").arg(&socket).stdout(output);
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let messages = BufReader::new(child.stderr.take().unwrap());
        let mut keeper = Self {
            child,
            messages,
            socket,
        };
        keeper.expect("waiting for the database");
        keeper
    }

    /// Reads messages up to one that has a text.
    fn expect(&mut self, text: &str) {
        let mut line = String::new();
        while !line.contains(text) {
            line.clear();
            let len = self.messages.read_line(&mut line).unwrap();
            assert!(len > 0, "the program has ended without \"{text}\"");
        }
    }

    fn database(&self, program: &Program, rows: &str) -> Command {
        let mut command = Command::new(&program.path);
        command.arg("send").arg(&self.socket).arg(rows);
        command
    }

    /// Waits for the end. Returns the exit code, and the last messages.
    fn end(mut self) -> (Option<i32>, String) {
        let mut rest = String::new();
        self.messages.read_to_string(&mut rest).unwrap();
        assert!(!self.socket.exists(), "the socket is removed");
        (self.child.wait().unwrap().code(), rest)
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        // A test that fails leaves no process. One that has ended cannot be killed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn database_dump_comes_from_another_process() {
    let program = compile(&crate_dir().join("../examples/c/dump.c"));
    let path = program.dir.path().join("dump");
    let keeper = Keeper::start(&program, File::create(&path).unwrap());
    let sent = keeper.database(&program, "200000").output().unwrap();
    assert!(sent.status.success(), "{sent:?}");
    assert_eq!(keeper.end().0, Some(0));
    let mut expected = String::new();
    for row in 0..200_000 {
        writeln!(expected, "{row},row {}", row * 7).unwrap();
    }
    assert!(fs::read_to_string(path).unwrap() == expected, "all rows");
}

#[test]
fn database_that_is_killed_leaves_a_dump_that_is_not_whole() {
    let program = compile(&crate_dir().join("../examples/c/dump.c"));
    let null = File::options().write(true).open("/dev/null").unwrap();
    let mut keeper = Keeper::start(&program, null);
    let mut database = keeper.database(&program, "1000000000000").spawn().unwrap();
    keeper.expect("is the database");
    database.kill().unwrap();
    database.wait().unwrap();
    let (code, messages) = keeper.end();
    assert_eq!(code, Some(1), "{messages}");
    assert!(messages.contains("the dump is not whole"), "{messages}");
}
