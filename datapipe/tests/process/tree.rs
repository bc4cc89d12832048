//! Trees and streams in processes: the results are those of threads, and the reports arrive.

use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use datapipe::controller::Event;
use datapipe::prelude::*;
use datapipe::stage::{Arguments, Confinement, StageKind};
use datapipe::tree::{CatalogueQuery, ProblemKind, RestoreOutcome, TreeList, TreeOutcome};
use parking_lot::Mutex;

use crate::entries::{BlockSet, assert_same_objects, blocks_of, parse};

const BLOCK: u32 = 64 << 10;

/// Creates a directory with a tree in it.
fn plant() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("data");
    fs::create_dir_all(root.join("a/b")).unwrap();
    for i in 0..200usize {
        fs::write(root.join(format!("a/{i:03}")), i.to_string().repeat(i * 3)).unwrap();
    }
    fs::hard_link(root.join("a/100"), root.join("a/b/other name")).unwrap();
    symlink("nowhere", root.join("link")).unwrap();
    fs::write(root.join("a/left.out"), "by its name").unwrap();
    fs::write(root.join("a/b/medium"), "by its inode").unwrap();
    drop(UnixListener::bind(root.join("socket")).unwrap());
    dir
}

/// Returns a head that reads the tree with every option there is.
fn reading(dir: &Path) -> TreeHead {
    let medium = rustix::fs::stat(dir.join("data/a/b/medium")).unwrap();
    let skip = vec![(medium.st_dev, medium.st_ino), (u64::MAX, 0)];
    let options = TreeOptions::default()
        .one_file_system(true)
        .exclude(["*.out", "x{1,2}"])
        // A confined process does not reach the names of this machine.
        .numeric_owner(true)
        .skip(skip);
    let sources = [
        ("tree".into(), dir.join("data")),
        ("one".into(), dir.join("data/a/007")),
    ];
    TreeHead::named(sources, options).unwrap()
}

/// Returns the blocks of a head and its report.
fn blocks_and_report(
    head: TreeHead,
    place: impl Fn(TreeHead) -> HeadStage<'static>,
) -> (BlockSet, TreeOutcome) {
    let report = head.report();
    (blocks_of(place(head), BLOCK), report.snapshot())
}

pub(crate) fn tree_read_in_a_process_matches_a_thread() {
    let dir = plant();
    let (blocks, wanted) = blocks_and_report(reading(dir.path()), HeadStage::from);
    assert_eq!(
        (wanted.files, wanted.excluded, wanted.left_out),
        (201, 1, 2)
    );
    let confined = |to: &str| {
        let to = dir.path().join(to);
        move |head: TreeHead| {
            head.instances(1)
                .confined(Confinement::new().read([to.clone()]))
                .in_processes()
        }
    };
    let places: [&dyn Fn(TreeHead) -> HeadStage<'static>; 3] = [
        &|head| HeadStage::from(head).in_processes(),
        &|head| head.instances(1).in_processes(),
        &confined("data"),
    ];
    for place in places {
        let (same, report) = blocks_and_report(reading(dir.path()), place);
        assert!(same == blocks, "other blocks");
        assert_eq!(report, wanted);
    }
    // A source beyond the paths of the process is refused before anything is inspected.
    let refused = Pipe::builder()
        .buffer_size(BLOCK)
        .head(confined("data/a/b")(reading(dir.path())))
        .tail(StreamTail::new(std::io::sink()))
        .run();
    let error = refused.unwrap_err().to_string();
    assert!(error.contains("not beneath the paths"), "{error}");
    let (others, report) =
        blocks_and_report(reading(dir.path()), |head| head.instances(5).in_processes());
    assert_same_objects(&parse(&blocks), &parse(&others));
    let counts = |of: &TreeOutcome| (of.files, of.directories, of.others, of.bytes, of.excluded);
    assert_eq!(counts(&report), counts(&wanted));
    assert_eq!(
        (report.problem_count, report.left_out),
        (wanted.problem_count, wanted.left_out)
    );
}

/// A file that opens and cannot be read, also by root: nothing is mapped at address 0.
const UNREADABLE: &str = "/proc/self/mem";

pub(crate) fn tree_problems_are_reported_as_found() {
    let head = TreeHead::new(&[UNREADABLE], TreeOptions::default()).unwrap();
    let (report, events) = (head.report(), Arc::new(Mutex::new(Vec::new())));
    let sink = Arc::clone(&events);
    let pipe = Pipe::builder()
        .buffer_size(512)
        .on_event(move |event| sink.lock().push(event.clone()));
    pipe.head(head.instances(1).in_processes())
        .tail(StreamTail::new(std::io::sink()))
        .run()
        .unwrap();
    let problems = report.snapshot().problems;
    let [problem] = &problems[..] else {
        panic!("{problems:?}")
    };
    assert!(
        matches!(problem.kind, ProblemKind::Unreadable(_)),
        "{problem}"
    );
    let problem = problem.to_string();
    let reported = |event: &Event| matches!(event, Event::Problem { text, .. } if *text == problem);
    assert!(events.lock().iter().any(reported), "{events:?}");
}

/// In every place, and also without the code of the stage here, the report of the pipe has the
/// number of its problems.
pub(crate) fn problems_make_a_pipe_incomplete_in_every_place() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    fs::create_dir(&data).unwrap();
    fs::write(data.join("file"), "content").unwrap();
    let data = data.to_str().unwrap();
    let both = [data, UNREADABLE];
    let sources = |problems: u64| &both[..1 + problems as usize];
    let head = |problems| TreeHead::new(sources(problems), TreeOptions::default()).unwrap();
    let module = |problems| {
        let source = Arguments::new().with_all("source", sources(problems));
        let head = HeadStage::head_of_module("head", StageKind::Fill).unwrap();
        head.module("datapipe.tree-head", source).in_processes()
    };
    let places: [&dyn Fn(u64) -> HeadStage<'static>; 3] = [
        &|problems| head(problems).instances(1),
        &|problems| head(problems).instances(1).in_processes(),
        &module,
    ];
    for place in places {
        for problems in [1, 0] {
            let pipe = Pipe::builder().head(place(problems));
            let pipe = pipe.tail(StreamTail::new(std::io::sink())).start().unwrap();
            while pipe.status_every(std::time::Duration::MAX).is_some() {}
            assert_eq!(pipe.problem_count(), problems);
            let report = pipe.wait().unwrap();
            assert_eq!(
                (report.problems, report.is_complete()),
                (problems, problems == 0)
            );
            assert_eq!(report.to_string().ends_with(", 1 problem"), problems == 1);
        }
    }
}

/// Restores the tree that a head reads, and returns the report.
fn restored(
    head: TreeHead,
    dest: &Path,
    options: RestoreOptions,
    place: impl Fn(TreeRestore) -> TailStage<'static>,
) -> RestoreOutcome {
    restored_paths(head, dest, options, &[], place)
}

/// Restores these paths of the tree that a head reads.
fn restored_paths(
    head: TreeHead,
    dest: &Path,
    options: RestoreOptions,
    paths: &[Vec<u8>],
    place: impl Fn(TreeRestore) -> TailStage<'static>,
) -> RestoreOutcome {
    let options = options.numeric_owner(true);
    let restore = TreeRestore::paths(dest, options, paths).unwrap();
    let report = restore.report();
    Pipe::builder()
        .buffer_size(BLOCK)
        .head(head)
        .tail(place(restore))
        .run()
        .unwrap();
    report.snapshot()
}

/// Asserts that two reports agree.
fn assert_same_report(report: &RestoreOutcome, wanted: &RestoreOutcome) {
    let counts = |of: &RestoreOutcome| {
        [
            of.files,
            of.directories,
            of.others,
            of.bytes,
            of.problem_count,
        ]
    };
    assert_eq!(counts(report), counts(wanted));
    // Threads that create files find problems in any order.
    let sorted = |mut texts: Vec<String>| {
        texts.sort();
        texts
    };
    let problems =
        |of: &RestoreOutcome| sorted(of.problems.iter().map(ToString::to_string).collect());
    let damaged = |of: &RestoreOutcome| {
        sorted(
            of.damaged
                .iter()
                .map(|path| path.escape_ascii().to_string())
                .collect(),
        )
    };
    assert!(problems(report) == problems(wanted) && damaged(report) == damaged(wanted));
    assert_eq!(report.notes, wanted.notes);
}

/// Returns a placement of the tail: a process that may write only below `dest`.
fn confined_to(dest: &Path) -> impl Fn(TreeRestore) -> TailStage<'static> {
    let dest = dest.to_owned();
    move |tail| {
        TailStage::from(tail)
            .confined(Confinement::new().write([dest.clone()]))
            .in_processes()
    }
}

fn whole() -> RestoreOptions {
    RestoreOptions::default().threads(3)
}

fn overwriting() -> RestoreOptions {
    whole().overwrite(true).sync(false)
}

fn new_destination(dir: &Path, name: &str) -> PathBuf {
    let dest = dir.join(name);
    fs::create_dir(&dest).unwrap();
    dest
}

pub(crate) fn tree_restored_in_a_process_matches_a_thread() {
    let dir = plant();
    let head = || reading(dir.path());
    let dest = |name: &str| new_destination(dir.path(), name);
    let everything = |dest: &Path| {
        let head = TreeHead::new(&[dest.join("tree")], TreeOptions::default()).unwrap();
        parse(&blocks_of(head, BLOCK))
    };
    let (here, there) = (dest("here"), dest("there"));
    // The second restore finds everything in place.
    for options in [whole(), whole(), overwriting()] {
        let wanted = restored(head(), &here, options.clone(), TailStage::from);
        let report = restored(head(), &there, options, confined_to(&there));
        assert_same_report(&report, &wanted);
        assert_same_objects(&everything(&here), &everything(&there));
    }
    let report = restored(head(), &there, overwriting(), confined_to(&here));
    assert_eq!(report.files, 0);
    assert!(
        report.problems[0].to_string().contains("Permission denied"),
        "{:?}",
        report.problems[0]
    );
}

pub(crate) fn selected_paths_restored_in_a_process_match_a_thread() {
    let dir = plant();
    let head = || reading(dir.path());
    let (here, there) = (
        new_destination(dir.path(), "here"),
        new_destination(dir.path(), "there"),
    );
    let paths = ["tree/a/b", "tree/a/100", "not there"].map(|path| path.as_bytes().to_vec());
    let wanted = restored_paths(head(), &here, whole(), &paths, TailStage::from);
    let report = restored_paths(head(), &there, whole(), &paths, confined_to(&there));
    assert_same_report(&report, &wanted);
    assert_eq!(
        (wanted.files, wanted.others, wanted.problem_count),
        (1, 1, 1)
    );
}

/// Changes a byte in the middle of the second block.
struct Damage;

impl InPlace for Damage {
    fn transform(&mut self, block: &mut Block) -> Result<Verdict, StageError> {
        if block.number().get() == 1 {
            let middle = block.len() / 2;
            block.bytes_mut()[middle] ^= 0x40;
        }
        Ok(Verdict::Send)
    }
}

pub(crate) fn tree_verified_in_a_process_matches_a_thread() {
    let dir = plant();
    for is_damaged in [false, true] {
        let verified = |place: fn(TreeVerify) -> TailStage<'static>| {
            let verify = TreeVerify::new();
            let report = verify.report();
            let mut pipe = Pipe::builder().buffer_size(BLOCK).head(reading(dir.path()));
            if is_damaged {
                pipe = pipe.stage(Stage::in_place("damage", |_| Damage));
            }
            pipe.tail(place(verify)).run().unwrap();
            report.snapshot()
        };
        let wanted = verified(TailStage::from);
        assert_eq!(wanted.is_whole(), !is_damaged);
        assert_same_report(
            &verified(|tail| TailStage::from(tail).in_processes()),
            &wanted,
        );
    }
}

fn content(mut file: File) -> Vec<u8> {
    let mut all = Vec::new();
    file.rewind().unwrap();
    file.read_to_end(&mut all).unwrap();
    all
}

pub(crate) fn file_streams_run_in_processes() {
    let data: Vec<u8> = (0..300_000u32).flat_map(u32::to_le_bytes).collect();
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (dir.path().join("from"), dir.path().join("to"));
    fs::write(&from, &data).unwrap();
    // By descriptors, in processes that may open nothing, from the current positions of the files.
    let (mut source, out) = (File::open(&from).unwrap(), tempfile::tempfile().unwrap());
    source.seek(SeekFrom::Start(1000)).unwrap();
    let head = HeadStage::from(StreamHead::file(source))
        .confined(Confinement::new())
        .in_processes();
    let tail = TailStage::from(StreamTail::file(out.try_clone().unwrap()));
    let tail = tail.confined(Confinement::new()).in_processes();
    Pipe::builder()
        .buffer_size(BLOCK)
        .head(head)
        .tail(tail)
        .run()
        .unwrap();
    assert!(content(out) == data[1000..]);
    // By paths.
    let path = |path: &Path| Arguments::new().with("path", path.to_str().unwrap());
    let copy = |arguments: Arguments| {
        let head = HeadStage::head_of_module("read", StageKind::Fill).unwrap();
        let head = head
            .module("datapipe.stream-head", path(&from))
            .in_processes();
        let tail = TailStage::tail_of_module("write", StageKind::Write).unwrap();
        let tail = tail
            .module("datapipe.stream-tail", arguments)
            .in_processes();
        Pipe::builder()
            .buffer_size(BLOCK)
            .head(head)
            .tail(tail)
            .run()
    };
    copy(path(&to)).unwrap();
    assert!(fs::read(&to).unwrap() == data);
    let error = copy(path(&to)).unwrap_err().to_string();
    assert!(error.contains("to: File exists"), "{error}");
    fs::write(&to, vec![7; 2 * data.len()]).unwrap();
    copy(path(&to).with_flag("overwrite", true)).unwrap();
    assert!(fs::read(&to).unwrap() == data);
}

pub(crate) fn stages_bound_to_this_process_are_rejected() {
    let null = || File::open("/dev/null").unwrap();
    let refused = |head: HeadStage<'static>, tail: TailStage<'static>, why: &str| {
        let error = Pipe::builder()
            .head(head)
            .tail(tail)
            .plan()
            .unwrap_err()
            .to_string();
        assert!(error.contains(why), "{error}");
    };
    let head = || HeadStage::from(StreamHead::file(null()));
    let reader = HeadStage::from(StreamHead::new(null())).in_processes();
    refused(
        reader,
        StreamTail::file(null()).into(),
        "give StreamHead::file an open file",
    );
    let writer = TailStage::from(StreamTail::new(null())).in_processes();
    refused(head(), writer, "give StreamTail::file an open file");
    let search = TailStage::from(CatalogueQuery::new(&[]).search().unwrap()).in_processes();
    refused(head(), search, "its result belongs to this program");
    let list = TailStage::from(TreeList::new(|_| Ok(()))).in_processes();
    refused(head(), list, "its function belongs to this program");
    let terminal = File::open("/dev/ptmx").unwrap(); // a terminal without a user
    let reader = HeadStage::from(StreamHead::file(terminal)).in_processes();
    refused(
        reader,
        StreamTail::file(null()).into(),
        "it reads from a terminal",
    );
}

/// Runs a head that a module of a process makes.
fn run_head(module: &str, arguments: impl Into<Vec<u8>>) -> Result<Report, Error> {
    let head = HeadStage::head_of_module("head", StageKind::Fill).unwrap();
    let head = head.module(module, arguments).in_processes();
    Pipe::builder()
        .head(head)
        .tail(StreamTail::new(std::io::sink()))
        .run()
}

/// Runs a tail that a module of a process makes.
fn run_tail(module: &str, arguments: impl Into<Vec<u8>>) -> Result<Report, Error> {
    let tail = TailStage::tail_of_module("tail", StageKind::Write).unwrap();
    let tail = tail.module(module, arguments).in_processes();
    Pipe::builder()
        .head(StreamHead::new(&b""[..]))
        .tail(tail)
        .run()
}

/// Asserts that a stage failed for this reason.
fn check_failure(result: Result<Report, Error>, why: &str) {
    let error = result.unwrap_err();
    assert!(matches!(error, Error::Stage(_)), "{error}");
    assert!(error.to_string().contains(why), "{error} instead of {why}");
}

pub(crate) fn invalid_module_arguments_are_rejected() {
    check_tree_head_arguments();
    check_tree_restore_arguments();
    let (none, dest) = (Arguments::new, || Arguments::new().with("path", "/tmp"));
    check_failure(
        run_tail("datapipe.tree-verify", dest()),
        "unknown field `path`",
    );
    check_failure(
        run_head("datapipe.stream-head", none()),
        "the module has 0 descriptors",
    );
    check_failure(
        run_head("datapipe.stream-head", none().with("path", "/nothing")),
        "cannot open /nothing: No such file",
    );
    check_failure(
        run_tail("datapipe.stream-tail", none().with("overwrite", "")),
        "the module has 0 descriptors",
    );
    check_failure(
        run_tail("datapipe.stream-tail", dest()),
        "cannot open /tmp: ",
    );
    let bytes = Vec::from(dest());
    let cut = || bytes[..bytes.len() - 1].to_vec();
    for module in [
        "datapipe.tree-restore",
        "datapipe.tree-verify",
        "datapipe.stream-tail",
    ] {
        check_failure(run_tail(module, cut()), "ends 1 byte too early");
    }
    for module in ["datapipe.tree-head", "datapipe.stream-head"] {
        check_failure(run_head(module, cut()), "ends 1 byte too early");
    }
}

fn check_tree_head_arguments() {
    let none = Arguments::new;
    let sources = || none().with("source", "/usr").with("source", "/bin");
    let wrong = [
        (
            none().with("source", "/nothing/there"),
            "/nothing/there: No such file",
        ),
        (sources().with("name", "a"), "1 names for 2 sources"),
        (
            sources().with_all("name", ["a", "b/c"]),
            "cannot be named \"b/c\"",
        ),
        (
            sources().with_all("name", ["a", "a"]),
            "would both be named \"a\"",
        ),
        (sources().with("exclude", "a["), "invalid pattern \"a[\""),
        (sources().with("exclude", [0xff]), "invalid utf-8"),
        (
            sources().with("skip", "17"),
            "value \"17\" for field `skip`",
        ),
        (
            sources().with("skip", "17:-1"),
            "value \"17:-1\" for field `skip`",
        ),
        (
            sources().with_all("one-file-system", ["", ""]),
            "repeated field `one-file-system`",
        ),
        (
            sources().with("everything", ""),
            "unknown field `everything`",
        ),
    ];
    for (arguments, why) in wrong {
        check_failure(run_head("datapipe.tree-head", arguments), why);
    }
}

fn check_tree_restore_arguments() {
    let none = Arguments::new;
    let dest = || none().with("path", "/tmp");
    let wrong = [
        (none(), "the module has 0 descriptors"),
        (
            none().with("path", "/nothing/there"),
            "cannot restore to /nothing/there: No such file",
        ),
        (
            none().with("path", "/dev/null"),
            "cannot restore to /dev/null: Not a directory",
        ),
        (
            dest().with("threads", "many"),
            "invalid value \"many\" for field `threads`",
        ),
        (
            dest().with("part", ""),
            "missing descriptor 0: the module has 0 descriptors",
        ),
        (dest().with("paths", "x"), "unknown field `paths`"),
    ];
    for (arguments, why) in wrong {
        check_failure(run_tail("datapipe.tree-restore", arguments), why);
    }
}
