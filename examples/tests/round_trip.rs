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

use datapipe::pool::{ContentClass, Marks};
use datapipe::wire::{Kind, UNIT_HEADER_LEN, UnitHeader};
use tempfile::TempDir;

/// A directory with a source tree, secrets, and room for media and destinations.
struct Bench {
    dir: TempDir,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for (name, content) in [
            ("key", &[7; 32][..]),
            ("other-key", &[8; 32]),
            ("passphrase", b"three short words\n"),
            ("other-passphrase", b"three short word\n"),
        ] {
            fs::write(dir.path().join(name), content).unwrap();
            fs::set_permissions(dir.path().join(name), Permissions::from_mode(0o600)).unwrap();
        }
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

    /// There is nothing but what was there from the start, and these.
    fn assert_holds(&self, more: &[&str]) {
        let mut names = ["key", "other-key", "other-passphrase", "out", "passphrase", "src"].to_vec();
        names.extend(more);
        assert_eq!(self.names("."), names, "nothing else is left");
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
    for (compress, framing) in [
        ("zstd", "header"),
        ("none", "header-footer"),
        ("zstd:9", "once"),
        ("deflate", "once"),
        ("deflate:9", "header"),
    ] {
        let how = ["--compress", compress, "--framing", framing, "--overwrite"];
        let printed = ok(&bench.back_up(&[&how[..], &["src/data", "tape"]].concat()));
        let method = compress.split(':').next().unwrap();
        assert_eq!(printed.contains(&format!("> {method} ")), method != "none", "{printed}");
        assert!(printed.contains("tree-head > analyze >"), "{printed}");
        let printed = ok(&bench.restore(&["--overwrite", "tape", "out"]));
        assert!(printed.contains("> tree-tail"), "{printed}");
        bench.assert_same();
        let printed = ok(&bench.restore(&["--verify", "tape"]));
        assert!(printed.contains("the archive is complete"), "{printed}");
    }
}

#[test]
fn a_tree_comes_back_with_a_key() {
    let bench = Bench::with_tree();
    for (instances, size) in [("1", "4MiB"), ("3", "64K"), ("2", "1000")] {
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
    ok(&bench.back_up(&["--passphrase-file", "passphrase", "src/data", "phrased"]));
    ok(&bench.back_up(&["src/data", "plain"]));
    for (how, medium, reason) in [
        (&[][..], "sealed", "the archive is encrypted: give its key"),
        (&["--key-file", "key"], "plain", "is not encrypted, although a key was given"),
        (&["--passphrase-file", "passphrase"], "plain", "is not encrypted, although a key was given"),
        (&["--key-file", "other-key"], "sealed", "key file is not the right one"),
        (&["--passphrase-file", "other-passphrase"], "phrased", "passphrase is not the right one"),
        (&["--passphrase-file", "passphrase"], "sealed", "opens with a key file"),
        (&["--key-file", "key"], "phrased", "opens with a passphrase"),
        (&["--key-file", "nowhere"], "sealed", "cannot read key file"),
        (&["--key-file", "sealed"], "sealed", "must have exactly 32 bytes"),
        (&["--passphrase-file", "sealed"], "phrased", "more than 4096 bytes"),
    ] {
        for doing in [&["--verify"][..], &["--salvage"], &[]] {
            let to = if doing == ["--verify"] { &[][..] } else { &["out"] };
            bench.assert_refused(&[doing, how, &[medium], to].concat(), reason);
        }
    }
    for (how, medium) in [(["--key-file", "key"], "sealed"), (["--passphrase-file", "passphrase"], "phrased")]
    {
        ok(&bench.restore(&[&how[..], &["--verify", medium]].concat()));
        ok(&bench.restore(&[&how[..], &["--overwrite", medium, "out"]].concat()));
        bench.assert_same();
    }
}

#[test]
fn a_secret_that_others_can_read_is_warned_about() {
    let bench = Bench::with_blocks();
    for (option, name, mode, warned) in [
        ("--key-file", "key", 0o644, true),
        ("--key-file", "key", 0o400, false),
        ("--passphrase-file", "passphrase", 0o640, true),
    ] {
        fs::set_permissions(bench.path(name), Permissions::from_mode(mode)).unwrap();
        let to = ["--quiet", "--overwrite"];
        for output in [
            bench.back_up(&[&to[..], &[option, name, "src/data", "tape"]].concat()),
            bench.restore(&[&to[..], &[option, name, "tape", "out"]].concat()),
        ] {
            ok(&output);
            let text = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(text.contains(&format!("chmod 600 {name}")), warned, "{text}");
        }
    }
}

#[test]
fn a_directory_takes_as_many_volumes_as_are_needed() {
    let bench = Bench::with_tree();
    let how = ["--passphrase-file", "passphrase", "--volume-size", "1MiB", "--buffer-size", "256KiB"];
    ok(&bench.back_up(&[&how[..], &["src/data", "volumes/"]].concat()));
    let names = bench.names("volumes");
    assert!(names.len() > 10, "{names:?}");
    for (number, name) in names.iter().enumerate() {
        assert_eq!(name.to_str(), Some(format!("{:06}.tap", number + 1).as_str()));
        let len = fs::metadata(bench.path("volumes").join(name)).unwrap().len();
        assert!(len <= 1 << 20, "{name:?} has {len} bytes");
    }
    let open = ["--passphrase-file", "passphrase"];
    let printed = ok(&bench.restore(&[&open[..], &["--verify", "volumes"]].concat()));
    assert!(printed.contains(&format!("1 chunk on {} volumes", names.len())), "{printed}");
    ok(&bench.restore(&[&open[..], &["volumes", "out"]].concat()));
    bench.assert_same();

    // With other files in it, and fewer volumes the next time.
    fs::write(bench.path("volumes/mine"), b"precious").unwrap();
    let text = failed(&bench.back_up(&["src/data", "volumes"]), 1);
    assert!(text.contains("volumes: already holds an archive written 2"), "{text}");
    ok(&bench.back_up(&["--overwrite", "src/data", "volumes"]));
    assert_eq!(bench.names("volumes"), ["000001.tap", "mine"]);
    ok(&bench.restore(&["--overwrite", "volumes/", "out"]));
    bench.assert_same();

    // The smallest volumes that there are.
    let how = ["--volume-size", "64KiB", "--buffer-size", "64KiB", "--overwrite"];
    ok(&bench.back_up(&[&how[..], &["src/data", "volumes"]].concat()));
    ok(&bench.restore(&["--overwrite", "volumes", "out"]));
    bench.assert_same();
    fs::remove_file(bench.path("volumes/000003.tap")).unwrap();
    fs::remove_dir_all(bench.path("out/data")).unwrap();
    bench.assert_refused(&["volumes", "out"], "volume 3 of ");
}

#[test]
fn a_tape_that_is_full_says_so() {
    let bench = Bench::with_blocks();
    let text =
        failed(&bench.back_up(&["--volume-size", "100KiB", "--buffer-size", "16K", "src/data", "tape"]), 1);
    assert!(text.contains("tape is full") && text.contains("use a directory of volumes"), "{text}");
    assert!(text.contains("tape is incomplete"), "{text}");
    bench.assert_refused(&["tape", "out"], "incomplete");
    let text = failed(&bench.restore(&["--salvage", "tape", "out"]), 1);
    assert!(text.contains("restored a part of it; the archive is incomplete"), "{text}");
    assert!(bench.path("out/data/noise").exists());
}

/// A bench, and the bytes of an archive of its five blocks and a little more, encrypted or not.
fn with_archive(encrypted: bool) -> (Bench, &'static [&'static str], Vec<u8>) {
    let bench = Bench::with_blocks();
    let key: &[_] = if encrypted { &["--key-file", "key"] } else { &[] };
    ok(&bench.back_up(&[key, &["--buffer-size", "64K", "src/data", "tape"]].concat()));
    let tape = fs::read(bench.path("tape")).unwrap();
    (bench, key, tape)
}

#[test]
fn a_cut_archive_is_refused() {
    for encrypted in [false, true] {
        let (bench, key, tape) = with_archive(encrypted);
        for (len, reason) in [
            (0, "there is no archive"),
            (40, "there is no archive"),
            (2000, "incomplete"),
            (tape.len() / 2, "is cut off"),
            (tape.len() - 1500, "incomplete"),
        ] {
            fs::write(bench.path("cut"), &tape[..len]).unwrap();
            bench.assert_refused(
                &[key, &["cut", "out"]].concat(),
                if len < 2000 { reason } else { "incomplete" },
            );
            let text = failed(&bench.restore(&[key, &["--verify", "cut"]].concat()), 1);
            assert!(text.contains(reason), "{len}: {text}");
        }
        // Records that are whole, and no end.
        fs::write(bench.path("cut"), before_last_records(&tape)).unwrap();
        bench.assert_refused(&[key, &["cut", "out"]].concat(), "the archive is incomplete");
        let text = failed(&bench.restore(&[key, &["--verify", "cut"]].concat()), 1);
        assert!(text.contains("the archive is incomplete"), "{text}");
        let text = failed(&bench.restore(&[key, &["--salvage", "cut", "out"]].concat()), 1);
        assert!(text.contains("the archive is incomplete"), "{text}");
        bench.assert_same();
    }
}

/// A tape up to the mark behind its chunk, so without any footer but the chunk's.
fn before_last_records(tape: &[u8]) -> &[u8] {
    let mut at = 0;
    loop {
        let length = u32::from_le_bytes(tape[at..at + 4].try_into().unwrap()) as usize;
        if length == 0 {
            return &tape[..at + 4];
        }
        at += length.next_multiple_of(2) + 8;
    }
}

#[test]
fn a_changed_byte_is_found() {
    for encrypted in [false, true] {
        let (bench, key, tape) = with_archive(encrypted);
        for at in (0..tape.len()).step_by(tape.len() / 40).chain(tape.len() - 200..tape.len() - 190) {
            let mut changed = tape.clone();
            changed[at] ^= 0x20;
            fs::write(bench.path("changed"), &changed).unwrap();
            bench.assert_refused(&[key, &["changed", "out"]].concat(), "");
        }
        let mut changed = tape.clone();
        changed[tape.len() / 2] ^= 1;
        fs::write(bench.path("changed"), &changed).unwrap();
        let place = "block 2 at volume 1, record 1 (byte ";
        bench.assert_refused(&[key, &["changed", "out"]].concat(), place);
        bench.assert_refused(&[key, &["changed", "out"]].concat(), "--salvage restores what it can");
        let text = failed(&bench.restore(&[key, &["--verify", "changed"]].concat()), 3);
        assert!(text.starts_with(&format!("damaged: {place}")), "{text}");
        assert!(text.contains("4 of 5 blocks whole") && text.contains("is complete"), "{text}");

        // The hole lies in the one file: it comes back with zeros there, and that is said.
        let text = failed(&bench.restore(&[key, &["--salvage", "changed", "out"]].concat()), 3);
        assert!(text.contains("\"data/noise\" has 65536 bytes of zeros"), "{text}");
        assert!(text.contains(&format!("damaged: {place}")), "{text}");
        let (before, after) = (noise(300 << 10), fs::read(bench.path("out/data/noise")).unwrap());
        assert_eq!(before.len(), after.len());
        let lost: Vec<_> = (0..before.len()).filter(|&i| before[i] != after[i]).collect();
        assert!(lost[lost.len() - 1] - lost[0] < 65_536 && lost.iter().all(|&i| after[i] == 0));
    }
}

/// Somebody who changes an encrypted archive and mends the checksums is found out by the cipher.
#[test]
fn a_forged_block_is_refused() {
    let (bench, key, tape) = with_archive(true);
    let starts: Vec<_> =
        (0..tape.len() - UNIT_HEADER_LEN).filter(|&at| block_at(&tape, at).is_some()).collect();
    assert_eq!(starts.len(), 5);
    let start = starts[2];
    let (body, next) = (start + UNIT_HEADER_LEN, starts[3]);
    type Forge<'f> = &'f dyn Fn(&mut [u8], &mut UnitHeader);
    let forgeries: [(&str, Forge<'_>); 4] = [
        ("payload", &|body, _| body[77] ^= 1),
        ("tag", &|body, header| body[header.stored as usize - 1] ^= 1),
        ("marks", &|_, header| header.marks = Marks::MARKED),
        ("content class", &|_, header| header.class = ContentClass::TEXT),
    ];
    for (what, forge) in forgeries {
        let mut forged = tape.clone();
        let mut header = block_at(&tape, start).unwrap();
        forge(&mut forged[body..next], &mut header);
        header.body_crc = crc32fast::hash(&forged[body..body + header.stored as usize]);
        forged[start..body].copy_from_slice(&header.to_bytes());
        assert!(forged != tape, "{what}");
        fs::write(bench.path("forged"), forged).unwrap();
        bench.assert_refused(&[key, &["forged", "out"]].concat(), "block 2: does not authenticate");
        let text = failed(&bench.restore(&[key, &["--verify", "forged"]].concat()), 3);
        let place = "damaged: block 2 at volume 1, record 1 (byte ";
        assert!(text.starts_with(place) && text.contains("does not authenticate"), "{what}: {text}");
        assert!(text.contains("4 of 5 blocks whole"), "{what}: {text}");
    }
}

fn block_at(tape: &[u8], at: usize) -> Option<UnitHeader> {
    UnitHeader::parse(&tape[at..]).ok().filter(|unit| unit.kind == Kind::Block)
}

#[test]
fn a_hole_between_files_ends_what_is_salvaged() {
    let bench = Bench::new();
    for name in 0..300 {
        fs::write(bench.path("src/data").join(format!("{name:03}")), noise(1000)).unwrap();
    }
    ok(&bench.back_up(&["--buffer-size", "64K", "--compress", "none", "src/data", "tape"]));
    let mut tape = fs::read(bench.path("tape")).unwrap();
    let middle = tape.len() / 2;
    tape[middle] ^= 1;
    fs::write(bench.path("tape"), tape).unwrap();
    let text = failed(&bench.restore(&["--salvage", "tape", "out"]), 3);
    assert!(text.contains("nothing is restored from here on"), "{text}");
    let names = bench.names("out/data");
    assert!((50..250).contains(&names.len()), "{} names", names.len());
    for name in &names[..names.len() - 1] {
        assert_eq!(fs::read(bench.path("out/data").join(name)).unwrap(), noise(1000), "{name:?}");
    }
}

#[test]
fn what_exists_is_not_replaced_unasked() {
    let bench = Bench::with_blocks();
    fs::write(bench.path("tape"), b"precious").unwrap();
    let text = failed(&bench.back_up(&["src/data", "tape"]), 1);
    assert!(
        text.contains("tape: already holds something that is not known as an archive; give --overwrite"),
        "{text}"
    );
    assert_eq!(fs::read(bench.path("tape")).unwrap(), b"precious");
    failed(&bench.back_up(&["--overwrite", "src/nothing", "tape"]), 1);
    failed(&bench.back_up(&["--overwrite", "--buffers", "1", "src/data", "tape"]), 2);
    failed(&bench.back_up(&["--overwrite", "--volume-size", "1K", "src/data", "tape"]), 2);
    assert_eq!(fs::read(bench.path("tape")).unwrap(), b"precious");
    ok(&bench.back_up(&["--key-file", "key", "--overwrite", "src/data", "tape"]));
    let before = fs::read(bench.path("tape")).unwrap();
    let text = failed(&bench.back_up(&["src/data", "tape"]), 1);
    let date = run_date(&bench.path("tape"));
    let host = Command::new("uname").arg("-n").output().unwrap().stdout;
    let host = String::from_utf8(host).unwrap();
    let expected = format!(
        "disk_to_tape: tape: already holds an archive written {date} by host {}; give --overwrite to replace it\n",
        host.trim()
    );
    assert_eq!(text, expected);
    assert_eq!(fs::read(bench.path("tape")).unwrap(), before);
    ok(&bench.back_up(&["--overwrite", "src/data", "tape"]));
    bench.assert_holds(&["tape"]);

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

/// When a file was made, to the minute in UTC, as another program says it.
fn run_date(path: &Path) -> String {
    let label = fs::read(path).unwrap();
    // The length word, a record's header, a unit's header, the session's id: `docs/wire-format.md`.
    let at = 4 + 64 + 64 + 16;
    let seconds = i64::from_le_bytes(label[at..at + 8].try_into().unwrap());
    let date = ["-u", "-d", &format!("@{seconds}"), "+%Y-%m-%d %H:%M"].map(str::to_owned);
    let date = Command::new("date").args(date).output().unwrap();
    String::from_utf8(date.stdout).unwrap().trim().to_owned()
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
        &["--compress", "deflate:0", "src/data", "tape"],
        &["--compress", "none:1", "src/data", "tape"],
        &["--framing", "footer", "src/data", "tape"],
        &["--volume-size", "1K", "src/data", "tape"],
        &["--key-file", "key", "--passphrase-file", "passphrase", "src/data", "tape"],
    ] {
        failed(&bench.back_up(args), 2);
    }
    for args in [
        &[][..],
        &["--instances", "0", "tape"],
        &["a", "b", "c"],
        &["--verify", "a", "b"],
        &["--verify", "--salvage", "a"],
        &["--key-file", "key", "--passphrase-file", "passphrase", "a"],
    ] {
        failed(&bench.restore(args), 2);
    }
    for args in [&["src/nothing", "tape"][..], &["key", "tape"], &["src/data", "nowhere/tape"]] {
        assert!(failed(&bench.back_up(args), 1).starts_with("disk_to_tape: "));
    }
    for args in [&["nothing"][..], &["key"], &["src"]] {
        assert!(failed(&bench.restore(args), 1).starts_with("tape_to_disk: "));
    }
    bench.assert_holds(&[]);
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

    fs::remove_file(bench.path("src/data/tape")).unwrap();
    let how = ["--quiet", "--overwrite", "--volume-size", "64K"];
    ok(&bench.back_up(&[&how[..], &["src/data", "src/data"]].concat()));
    assert!(bench.path("src/data/000002.tap").exists());
    ok(&bench.restore(&["--overwrite", "src/data", "out"]));
    assert!(walk(&bench.path("out/data")).keys().eq(before.keys()));
}

#[test]
fn a_stopped_backup_says_that_it_is_incomplete() {
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
    let signal = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(signal.success());
    let text = failed(&child.wait_with_output().unwrap(), 1);
    assert!(text.contains("was cancelled"), "{text}");
    assert!(text.contains("tape is incomplete, and valid up to the last checkpoint"), "{text}");
    bench.assert_refused(&["tape", "out"], "");
    ok(&bench.back_up(&["--overwrite", "src/data", "tape"]));
    ok(&bench.restore(&["tape", "out"]));
    bench.assert_same();
}

/// Hard to compress, and not so hard that it is not tried.
fn letters(len: usize) -> Vec<u8> {
    noise(len).into_iter().map(|byte| b'a' + byte % 26).collect()
}
