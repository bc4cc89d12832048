//! Both programs as a user runs them: what goes in comes out, and what is not whole is never taken for it.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, FileTimes, Permissions};
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, UNIX_EPOCH};

use tempfile::TempDir;

const HEADER_LEN: usize = 52;
const BLOCK_HEADER_LEN: usize = 28;

/// A directory with a source tree, two keys, and room for media and destinations.
struct Bench {
    dir: TempDir,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("key"), [7; 32]).unwrap();
        fs::write(dir.path().join("other-key"), [8; 32]).unwrap();
        for place in ["src/data", "out"] {
            fs::create_dir_all(dir.path().join(place)).unwrap();
        }
        Self { dir }
    }

    /// A bench with a little of everything in `src/data`.
    fn with_tree() -> Self {
        let bench = Self::new();
        make_tree(&bench.path("src/data"));
        bench
    }

    /// A bench with 300 KiB that do not compress in `src/data`: five blocks of 64 KiB.
    fn with_blocks() -> Self {
        let bench = Self::new();
        fs::write(bench.path("src/data/noise"), noise(300 << 10)).unwrap();
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn back_up(&self, args: &[&str]) -> Output {
        self.run(env!("CARGO_BIN_EXE_disk_to_tape"), args)
    }

    fn restore(&self, args: &[&str]) -> Output {
        self.run(env!("CARGO_BIN_EXE_tape_to_disk"), args)
    }

    fn run(&self, program: &str, args: &[&str]) -> Output {
        Command::new(program).args(args).current_dir(self.dir.path()).stdin(Stdio::null()).output().unwrap()
    }

    fn names(&self, dir: &str) -> Vec<OsString> {
        let mut names: Vec<_> =
            fs::read_dir(self.path(dir)).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    }

    fn assert_same(&self) {
        assert_same(&self.path("src/data"), &self.path("out/data"));
        assert_eq!(self.names("out"), ["data"], "nothing else is left");
    }

    /// A restore that must fail, leave nothing that looks whole, and say why.
    fn assert_refused(&self, args: &[&str], reason: &str) {
        let text = failed(&self.restore(args), 1);
        assert!(text.starts_with("tape_to_disk: ") && text.contains(reason), "{reason:?} is not in: {text}");
        for name in self.names("out") {
            assert!(name.as_bytes().starts_with(b".data.partial-"), "{name:?} looks whole");
            assert!(text.contains(name.to_str().unwrap()), "{name:?} is not told of: {text}");
            fs::remove_dir_all(self.path("out").join(name)).unwrap();
        }
    }
}

fn ok(output: &Output) -> String {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {errors}", output.status);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn failed(output: &Output, code: i32) -> String {
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{errors}");
    assert!(!errors.is_empty() && !errors.contains("panicked"), "{errors}");
    errors
}

/// Bytes that no algorithm makes smaller.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 88_172_645_463_325_252u64;
    let words = (0..len.div_ceil(8)).flat_map(|_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    words.take(len).collect()
}

fn make_tree(root: &Path) {
    let write = |name: &str, data: &[u8]| fs::write(root.join(name), data).unwrap();
    write("text", "all work and no play\n".repeat(10_000).as_bytes());
    write("noise", &noise(3 << 20));
    write("empty", b"");
    write("zeros", &vec![0; 1 << 20]);
    write("one byte", b"x");
    write("new\nline", b"a name of two lines");
    let mut large = File::create(root.join("large")).unwrap();
    for part in 0..20u8 {
        large.write_all(&[part; 1 << 19]).unwrap();
        large.write_all(&noise(1 << 19)).unwrap();
    }
    drop(large);

    fs::create_dir_all(root.join("empty dir/in empty dir")).unwrap();
    let mut deep = root.join("deep");
    for level in 0..60 {
        deep.push(format!("level {level} of many"));
    }
    fs::create_dir_all(&deep).unwrap();
    fs::write(deep.join("bottom"), b"here").unwrap();
    fs::write(deep.join("bottom\nwith two lines"), b"here").unwrap();
    symlink(&deep, root.join("long link")).unwrap();

    symlink("text", root.join("link")).unwrap();
    symlink("./a//b/../c/.", root.join("odd link")).unwrap();
    symlink("/nowhere/at all", root.join("broken link")).unwrap();
    symlink("empty dir", root.join("link to dir")).unwrap();

    let wild = OsStr::from_bytes(b"\xff\xfe not utf-8 \x01");
    fs::create_dir(root.join(wild)).unwrap();
    fs::write(root.join(wild).join(wild), b"inside").unwrap();
    let longest = [0xe9; 255];
    fs::write(root.join(wild).join(OsStr::from_bytes(&longest)), b"the longest name").unwrap();
    for len in 90..105 {
        fs::write(root.join("n".repeat(len)), b"").unwrap();
    }

    let mode = |name: &str, mode| fs::set_permissions(root.join(name), Permissions::from_mode(mode)).unwrap();
    mode("text", 0o444);
    mode("empty", 0o000);
    mode("one byte", 0o4755);
    fs::create_dir(root.join("read-only dir")).unwrap();
    write("read-only dir/file", b"kept");
    let time = |name: &str, after| {
        let times = FileTimes::new().set_modified(UNIX_EPOCH + after);
        File::open(root.join(name)).unwrap().set_times(times).unwrap();
    };
    time("one byte", Duration::new(1, 5));
    time("noise", Duration::ZERO);
    time("zeros", Duration::from_secs(9_000_000_000));
    time("empty dir/in empty dir", Duration::new(1_000_000_000, 999_999_999));
    time("empty dir", Duration::new(1_100_000_000, 1));
    time("read-only dir", Duration::new(1_200_000_000, 123));
    mode("empty dir", 0o1777);
    mode("read-only dir", 0o555);
    let old = FileTimes::new().set_modified(UNIX_EPOCH - Duration::from_millis(2500));
    File::open(root.join("large")).unwrap().set_times(old).unwrap();
    time(".", Duration::new(1_300_000_000, 42));
    mode(".", 0o750);
}

/// Kind, mode, owner, size and time of everything below `root`.
fn walk(root: &Path) -> BTreeMap<PathBuf, (u32, u32, u32, u64, i64, i64)> {
    let mut found = BTreeMap::new();
    let mut ahead = vec![root.to_owned()];
    while let Some(path) = ahead.pop() {
        let meta = fs::symlink_metadata(&path).unwrap();
        let size = if meta.is_dir() { 0 } else { meta.len() };
        let name = path.strip_prefix(root).unwrap().to_owned();
        found.insert(name, (meta.mode(), meta.uid(), meta.gid(), size, meta.mtime(), meta.mtime_nsec()));
        if meta.is_dir() {
            ahead.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
    }
    found
}

fn assert_same(a: &Path, b: &Path) {
    let diff = Command::new("diff").args(["-r", "--no-dereference"]).args([a, b]).output().unwrap();
    assert!(diff.status.success(), "{}", String::from_utf8_lossy(&diff.stdout));
    let (a, b) = (walk(a), walk(b));
    assert_eq!(a.keys().collect::<Vec<_>>(), b.keys().collect::<Vec<_>>());
    for (name, before) in &a {
        assert_eq!(before, &b[name], "{name:?}");
    }
}

#[test]
fn a_tree_comes_back() {
    let bench = Bench::with_tree();
    for compress in ["zstd", "none", "zstd:9"] {
        let printed = ok(&bench.back_up(&["--compress", compress, "--overwrite", "src/data", "tape"]));
        assert!(printed.contains("tree-head > analyze >"), "{printed}");
        let printed = ok(&bench.restore(&["--overwrite", "tape", "out"]));
        assert!(printed.contains("> tree-tail"), "{printed}");
        bench.assert_same();
    }
}

#[test]
fn a_tree_comes_back_with_a_key() {
    let bench = Bench::with_tree();
    for (instances, size) in [("1", "4M"), ("3", "64K"), ("2", "1000")] {
        let how = ["--key-file", "key", "--instances", instances, "--buffer-size", size, "--overwrite"];
        ok(&bench.back_up(&[&how[..], &["--quiet", "src/data", "tape"]].concat()));
        ok(&bench.restore(&["--key-file", "key", "--instances", instances, "--overwrite", "tape", "out"]));
        bench.assert_same();
        let tape = fs::read(bench.path("tape")).unwrap();
        assert!(!tape.windows(4).any(|bytes| bytes == b"text"), "the tape shows names");
    }
    assert_eq!(fs::metadata(bench.path("tape")).unwrap().mode() & 0o777, 0o600);
}

#[test]
fn a_directory_is_called_what_it_is_called() {
    let bench = Bench::new();
    fs::create_dir(bench.path("src/data/inner")).unwrap();
    symlink("data", bench.path("src/link")).unwrap();
    let named = |source: &str, name: &str| {
        ok(&bench.back_up(&["--quiet", "--overwrite", source, "tape"]));
        ok(&bench.restore(&["--quiet", "tape", "out"]));
        assert_eq!(bench.names("out"), [name], "{source}");
        fs::remove_dir_all(bench.path("out").join(name)).unwrap();
    };
    named("src/data/", "data");
    named("src/data/.", "data");
    named("src/data/inner/..", "data");
    named("src/link", "link");
    named(bench.path("src/data").to_str().unwrap(), "data");
    named(".", bench.dir.path().file_name().unwrap().to_str().unwrap());
}

#[test]
fn only_the_right_key_opens() {
    let bench = Bench::with_blocks();
    ok(&bench.back_up(&["--key-file", "key", "src/data", "sealed"]));
    ok(&bench.back_up(&["src/data", "plain"]));
    bench.assert_refused(&["sealed", "out"], "is encrypted: give --key-file");
    bench.assert_refused(&["--key-file", "key", "plain", "out"], "is not encrypted");
    bench.assert_refused(&["--key-file", "other-key", "sealed", "out"], "most likely not the key");
    bench.assert_refused(&["--key-file", "nowhere", "sealed", "out"], "cannot read key file");
    bench.assert_refused(&["--key-file", "sealed", "sealed", "out"], "must have exactly 32 bytes");
    ok(&bench.restore(&["--key-file", "key", "sealed", "out"]));
    bench.assert_same();
}

#[test]
fn a_cut_archive_is_refused() {
    let bench = Bench::with_blocks();
    for key in [&[][..], &["--key-file", "key"]] {
        ok(&bench.back_up(&[key, &["--buffer-size", "64K", "--overwrite", "src/data", "tape"]].concat()));
        let tape = fs::read(bench.path("tape")).unwrap();
        let starts = block_starts(&tape);
        assert!(starts.len() > 4, "{starts:?}");
        let second = starts[1];
        for (len, reason) in [
            (0, "too short"),
            (HEADER_LEN - 1, "too short"),
            (HEADER_LEN, "cut off: 0 blocks read"),
            (HEADER_LEN + 3, "cut off: 0 blocks read"),
            (HEADER_LEN + BLOCK_HEADER_LEN + 9, "cut off: 0 blocks read"),
            (second, "cut off: 1 blocks read, the archive is incomplete"),
            (second + 10, "cut off: 1 blocks read"),
            (tape.len() - 16, "cut off"),
            (tape.len() - 1, "cut off"),
        ] {
            fs::write(bench.path("cut"), &tape[..len]).unwrap();
            bench.assert_refused(&[key, &["cut", "out"]].concat(), reason);
        }
        fs::write(bench.path("long"), [&tape[..], b"x"].concat()).unwrap();
        bench.assert_refused(&[key, &["long", "out"]].concat(), "more behind the archive's end");
    }
}

#[test]
fn a_changed_byte_is_found() {
    let bench = Bench::with_blocks();
    for key in [&[][..], &["--key-file", "key"]] {
        ok(&bench.back_up(&[key, &["--buffer-size", "64K", "--overwrite", "src/data", "tape"]].concat()));
        let tape = fs::read(bench.path("tape")).unwrap();
        let second = block_starts(&tape)[1];
        let header = 0..HEADER_LEN;
        let block = second..second + BLOCK_HEADER_LEN + 2;
        let end = tape.len() - 18..tape.len();
        for at in header.chain(block).chain(end).chain([tape.len() / 2]) {
            let mut changed = tape.clone();
            changed[at] ^= 0x20;
            fs::write(bench.path("changed"), changed).unwrap();
            bench.assert_refused(&[key, &["changed", "out"]].concat(), "");
        }
        let mut changed = tape.clone();
        changed[second + 40] ^= 1;
        fs::write(bench.path("changed"), changed).unwrap();
        let where_it_is = format!("damaged: block 1 at byte {second}: its checksum is wrong");
        bench.assert_refused(&[key, &["changed", "out"]].concat(), &where_it_is);
    }
}

/// Somebody who changes an encrypted archive and mends the checksums is found out by the cipher.
#[test]
fn a_forged_archive_is_refused() {
    let bench = Bench::with_blocks();
    ok(&bench.back_up(&["--key-file", "key", "--buffer-size", "64K", "src/data", "tape"]));
    let tape = fs::read(bench.path("tape")).unwrap();
    let starts = block_starts(&tape);
    let check = |what: &str, forged: Vec<u8>, reason: &str| {
        fs::write(bench.path("forged"), forged).unwrap();
        println!("{what}");
        bench.assert_refused(&["--key-file", "key", "forged", "out"], reason);
    };
    let changed = |at: usize, to: u8| {
        let mut tape = tape.clone();
        tape[at] = to;
        mend(&mut tape, &starts);
        tape
    };

    check(
        "payload",
        changed(starts[2] + BLOCK_HEADER_LEN + 5, !tape[starts[2] + BLOCK_HEADER_LEN + 5]),
        "authenticate",
    );
    check("tag", changed(starts[3] - 1, !tape[starts[3] - 1]), "authenticate");
    check("salt", changed(16, !tape[16]), "authenticate");
    check("codec", changed(starts[1] + 8, 1), "authenticate");
    check("plain length", changed(starts[1] + 4, 1), "authenticate");
    check("not sealed", changed(starts[1] + 9, 0), "encrypted and the archive is not");
    check("not encrypted", changed(10, 0), "is not encrypted");

    let mut swapped = tape[..starts[1]].to_vec();
    swapped.extend(&tape[starts[2]..starts[3]]);
    swapped.extend(&tape[starts[1]..starts[2]]);
    swapped.extend(&tape[starts[3]..]);
    let mut renumbered = swapped.clone();
    let again = block_starts(&renumbered);
    mend(&mut renumbered, &again);
    check("swapped", swapped, "block 2 stands in its place");
    check("swapped and renumbered", renumbered, "authenticate");

    // Cut between two blocks, with a new mark behind the cut: each block is genuine, and the tree has no end.
    for blocks in 0..starts.len() - 1 {
        let mut cut = tape[..starts[blocks]].to_vec();
        cut.extend(end_mark(blocks as u64));
        check("cut", cut, "the archive is incomplete");
    }
}

fn u32_at(tape: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(tape[at..at + 4].try_into().unwrap())
}

/// Where the blocks start, and then the end mark.
fn block_starts(tape: &[u8]) -> Vec<usize> {
    let mut starts = vec![HEADER_LEN];
    loop {
        let at = starts[starts.len() - 1];
        let len = u32_at(tape, at);
        if len == u32::MAX {
            return starts;
        }
        starts.push(at + BLOCK_HEADER_LEN + len as usize);
    }
}

/// Makes every checksum and number right.
fn mend(tape: &mut [u8], starts: &[usize]) {
    let put = |tape: &mut [u8], at: usize, crc: u32| tape[at..at + 4].copy_from_slice(&crc.to_le_bytes());
    let crc = crc32fast::hash(&tape[..HEADER_LEN - 4]);
    put(tape, HEADER_LEN - 4, crc);
    for (number, ends) in starts.windows(2).enumerate() {
        let (at, end) = (ends[0], ends[1]);
        tape[at + 12..at + 20].copy_from_slice(&(number as u64).to_le_bytes());
        let crc = crc32fast::hash(&tape[at..at + 20]);
        put(tape, at + 20, crc);
        let crc = crc32fast::hash(&tape[at + BLOCK_HEADER_LEN..end]);
        put(tape, at + 24, crc);
    }
}

fn end_mark(blocks: u64) -> Vec<u8> {
    let mut mark = u32::MAX.to_le_bytes().to_vec();
    mark.extend(blocks.to_le_bytes());
    let crc = crc32fast::hash(&mark);
    mark.extend(crc.to_le_bytes());
    mark
}

#[test]
fn what_exists_is_not_replaced_unasked() {
    let bench = Bench::with_blocks();
    fs::write(bench.path("tape"), b"precious").unwrap();
    let text = failed(&bench.back_up(&["src/data", "tape"]), 1);
    assert!(text.contains("exists already; give --overwrite"), "{text}");
    assert_eq!(fs::read(bench.path("tape")).unwrap(), b"precious");
    failed(&bench.back_up(&["--overwrite", "src/nothing", "tape"]), 1);
    failed(&bench.back_up(&["--overwrite", "--buffers", "1", "src/data", "tape"]), 2);
    assert_eq!(fs::read(bench.path("tape")).unwrap(), b"precious");
    assert!(failed(&bench.back_up(&["--overwrite", "src/data", "out"]), 1).contains("not a regular file"));
    ok(&bench.back_up(&["--overwrite", "src/data", "tape"]));
    assert_eq!(bench.names("."), ["key", "other-key", "out", "src", "tape"], "nothing else is left");

    fs::create_dir(bench.path("out/data")).unwrap();
    fs::write(bench.path("out/data/mine"), b"precious").unwrap();
    let text = failed(&bench.restore(&["tape", "out"]), 1);
    assert!(text.contains("exists already; give --overwrite"), "{text}");
    assert_eq!(bench.names("out/data"), ["mine"]);
    ok(&bench.restore(&["--overwrite", "tape", "out"]));
    bench.assert_same();
    fs::remove_dir_all(bench.path("out/data")).unwrap();
    symlink("../src", bench.path("out/data")).unwrap();
    failed(&bench.restore(&["tape", "out"]), 1);
    ok(&bench.restore(&["--overwrite", "tape", "out"]));
    bench.assert_same();
    assert_eq!(bench.names("src"), ["data"], "the link was replaced, not what it points to");
}

#[test]
fn the_smallest_pool_works_and_a_smaller_one_is_refused() {
    let bench = Bench::with_blocks();
    let how = |buffers: &'static str| {
        [
            "--key-file",
            "key",
            "--instances",
            "2",
            "--buffer-size",
            "4K",
            "--buffers",
            buffers,
            "src/data",
            "tape",
        ]
    };
    let text = failed(&bench.back_up(&how("3")), 2);
    assert!(text.contains("3 / 2 allocating modules") && text.contains("use 4 buffers or more"), "{text}");
    assert!(!bench.path("tape").exists());
    let output = bench.back_up(&how("4"));
    ok(&output);
    assert!(String::from_utf8_lossy(&output.stderr).contains("stages wait for each other"));
    ok(&bench.restore(&["--key-file", "key", "--instances", "2", "tape", "out"]));
    bench.assert_same();
    ok(&bench.back_up(&["--compress", "none", "--buffers", "1", "--overwrite", "src/data", "tape"]));
    ok(&bench.restore(&["--overwrite", "tape", "out"]));
    bench.assert_same();
}

#[test]
fn wrong_usage_is_told_from_failure() {
    let bench = Bench::new();
    for args in [
        &["src/data"][..],
        &[],
        &["--nonsense", "src/data", "tape"],
        &["--buffer-size", "4X", "src/data", "tape"],
        &["--buffer-size", "65M", "src/data", "tape"],
        &["--buffer-size", "100", "src/data", "tape"],
        &["--buffers", "0", "src/data", "tape"],
        &["--buffers", "5000", "src/data", "tape"],
        &["--instances", "0", "src/data", "tape"],
        &["--instances", "65", "src/data", "tape"],
        &["--compress", "gzip", "src/data", "tape"],
        &["--compress", "zstd:23", "src/data", "tape"],
    ] {
        failed(&bench.back_up(args), 2);
    }
    for args in [&[][..], &["--instances", "0", "tape"], &["a", "b", "c"]] {
        failed(&bench.restore(args), 2);
    }
    for args in [
        &["src/nothing", "tape"][..],
        &["key", "tape"],
        &["src/data", "nowhere/tape"],
        &["src/data", "src/.."],
    ] {
        assert!(failed(&bench.back_up(args), 1).starts_with("disk_to_tape: "));
    }
    for args in [&["nothing"][..], &["key"], &["src"]] {
        assert!(failed(&bench.restore(args), 1).starts_with("tape_to_disk: "));
    }
    assert_eq!(bench.names("."), ["key", "other-key", "out", "src"]);
}

#[test]
fn what_is_no_file_is_left_out_with_a_mention() {
    let bench = Bench::with_blocks();
    let before = walk(&bench.path("src/data"));
    let socket = UnixListener::bind(bench.path("src/data/socket")).unwrap();
    assert!(Command::new("mkfifo").arg(bench.path("src/data/pipe")).status().unwrap().success());
    // The tape lies in the tree that it is made of.
    let output = bench.back_up(&["src/data", "src/data/tape"]);
    ok(&output);
    drop(socket);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains("socket\" is a socket and is left out") && text.contains("is a pipe"), "{text}");
    ok(&bench.restore(&["src/data/tape", "out"]));
    assert!(walk(&bench.path("out/data")).keys().eq(before.keys()));
}

#[test]
fn a_stopped_backup_leaves_nothing() {
    let bench = Bench::new();
    // At the highest level this takes a while.
    fs::write(bench.path("src/data/text"), letters(1 << 20).repeat(40)).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_disk_to_tape"))
        .args(["--compress", "zstd:22", "src/data", "tape"])
        .current_dir(bench.dir.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It says what it does as soon as it does it.
    child.stdout.take().unwrap().read_exact(&mut [0]).unwrap();
    assert_eq!(bench.names(".").len(), 5, "there is a partial tape");
    let signal = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(signal.success());
    let text = failed(&child.wait_with_output().unwrap(), 1);
    assert!(text.contains("was cancelled") && text.contains("\"tape\" was not written"), "{text}");
    assert_eq!(bench.names("."), ["key", "other-key", "out", "src"]);
}

/// Hard to compress, and not so hard that it is not tried.
fn letters(len: usize) -> Vec<u8> {
    noise(len).into_iter().map(|byte| b'a' + byte % 26).collect()
}
