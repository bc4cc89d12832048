//! Attacks of users on a daemon that runs as root, each of which must fail. They need root,
//! to become other users; without it they test nothing.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::Path;

use datapipe::stage::Arguments;
use datapipe_net::protocol::{PipeState, RefusalCode};
use datapipe_net::{Client, Initiate, StageRequest};
use rustix::process::{Gid, Signal, Uid};

use crate::site::{Site, children_of, lives, outcome, plain, refusal, wait_until};

/// Two users who are in no database of the machine.
const ONE: u32 = 60_001;
const OTHER: u32 = 60_002;

/// Runs `client` as another user, with a group of the same number.
fn as_user<T: Send>(user: u32, client: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let (uid, gid) = (Uid::from_raw(user), Gid::from_raw(user));
            rustix::thread::set_thread_groups(&[]).unwrap();
            rustix::thread::set_thread_res_gid(gid, gid, gid).unwrap();
            rustix::thread::set_thread_res_uid(uid, uid, uid).unwrap();
            client()
        });
        thread.join().unwrap()
    })
}

fn is_root() -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        println!("not root: the rights of other users are not tested");
    }
    is_root
}

/// A site whose modules are the library's for trees and archives; `more` are lines of each module
/// that reads or writes. All may read `in`, and write `out`, where every user may make files.
fn tree_site(more: &str) -> Site {
    let mut site = Site::without_daemon("");
    configure(&site, more, &[ONE, OTHER]);
    fs::set_permissions(site.path("out"), PermissionsExt::from_mode(0o1777)).unwrap();
    site.start();
    site
}

fn configure(site: &Site, more: &str, users: &[u32]) {
    let program = std::env::current_exe().unwrap();
    let (read, write) = (site.path("in"), site.path("out"));
    let mut text = format!("socket = {:?}\n[access]\nusers = [", site.socket());
    for user in users {
        text += &format!("\"{user}\", ");
    }
    text += "]\n";
    for (name, role, work) in [
        ("tree-head", "head", "fill"),
        ("stream-head", "head", "fill"),
        ("archive-head", "head", "fill"),
        ("decompress", "middle", "transform"),
        ("tree-restore", "tail", "write"),
        ("stream-tail", "tail", "write"),
        ("archive-tail", "tail", "write"),
        ("numbers", "head", "fill"),
        ("pass", "middle", "transform"),
        ("count", "tail", "write"),
    ] {
        let module = match name {
            "numbers" | "pass" | "count" => name.to_owned(),
            name => format!("datapipe.{name}"),
        };
        text += &format!(
            "[[module]]\nname = \"{name}\"\nmodule = \"{module}\"\nprogram = {program:?}\n\
             role = \"{role}\"\nwork = \"{work}\"\ntemporary = true\n\
             paths = {{ read = [{read:?}], write = [{write:?}] }}\n{more}\n"
        );
    }
    site.configure(&text);
}

/// Runs a pipe to its end.
fn run(client: &mut Client, request: &Initiate) -> (PipeState, String) {
    let pipe = client.initiate(request).unwrap().pipe;
    outcome(client, &pipe)
}

fn copy(from: &Path, to: &Path) -> Initiate {
    let path = |path: &Path| Arguments::new().with("path", path.as_os_str().as_encoded_bytes());
    Initiate::new("copy")
        .buffers(4)
        .buffer_size(65_536)
        .stage(
            StageRequest::module("stream-head")
                .arguments(path(from))
                .read(from),
        )
        .stage(
            StageRequest::module("stream-tail")
                .arguments(path(to))
                .write(to),
        )
}

fn restore(from: &Path, to: &Path) -> Initiate {
    let bytes = |path: &Path| path.as_os_str().as_encoded_bytes().to_vec();
    let medium = Arguments::new()
        .with("medium", "tape")
        .with("path", bytes(from));
    Initiate::new("restore")
        .buffer_size(1 << 20)
        .stage(
            StageRequest::module("archive-head")
                .arguments(medium)
                .read(from),
        )
        .stage(StageRequest::module("decompress").arguments(Arguments::new()))
        .stage(
            StageRequest::module("tree-restore")
                .arguments(
                    Arguments::new()
                        .with("path", bytes(to))
                        .with("threads", "1"),
                )
                .write(to),
        )
}

fn backup(from: &Path, to: &Path) -> Initiate {
    let bytes = |path: &Path| path.as_os_str().as_encoded_bytes().to_vec();
    let tail = Arguments::new()
        .with("name", "backup")
        .with("content", "tree")
        .with("block-len", (1 << 20).to_string())
        .with("record-len", (64 << 10).to_string())
        .with("chunk-len", (64 << 20).to_string())
        .with("medium", "tape")
        .with("path", bytes(to));
    Initiate::new("backup")
        .buffer_size(1 << 20)
        .stage(
            StageRequest::module("tree-head")
                .arguments(Arguments::new().with("source", bytes(from)))
                .read(from),
        )
        .stage(
            StageRequest::module("archive-tail")
                .arguments(tail)
                .write(to),
        )
}

/// A user read the files of root, and wrote over those of others, through modules that ran as root.
pub(crate) fn modules_have_the_rights_of_the_requesting_user() {
    if !is_root() {
        return;
    }
    let site = tree_site("");
    let (secret, plain) = (site.path("in/secret"), site.path("in/plain"));
    fs::write(&secret, "secret").unwrap();
    fs::set_permissions(&secret, PermissionsExt::from_mode(0o600)).unwrap();
    fs::write(&plain, "plain").unwrap();
    let theirs = site.path("out/of-other");
    fs::write(&theirs, "of the other").unwrap();
    chown(&theirs, Some(OTHER), Some(OTHER)).unwrap();
    let copied = site.path("out/copied");
    as_user(ONE, || {
        let mut client = site.client();
        let (state, why) = run(&mut client, &copy(&secret, &site.path("out/stolen")));
        assert_eq!(state, PipeState::FAILED, "{why}");
        assert!(why.contains("Permission denied"), "{why}");
        let over = Arguments::new()
            .with("path", theirs.as_os_str().as_encoded_bytes())
            .with("overwrite", "");
        let mut request = copy(&plain, &theirs);
        request.stages[1].arguments = over.into();
        let (state, why) = run(&mut client, &request);
        assert_eq!(state, PipeState::FAILED, "{why}");
        assert_eq!(run(&mut client, &copy(&plain, &copied)).0, PipeState::ENDED);
    });
    assert_eq!(fs::read(&theirs).unwrap(), b"of the other");
    let made = fs::metadata(&copied).unwrap();
    assert_eq!((made.uid(), made.gid()), (ONE, ONE));
    // Root has its own rights.
    let by_root = site.path("out/by-root");
    assert_eq!(
        run(&mut site.client(), &copy(&secret, &by_root)).0,
        PipeState::ENDED
    );
}

/// Ids, groups, capabilities and the flag against more rights, as the kernel reports them.
pub(crate) fn processes_of_modules_have_no_rights_of_root() {
    if !is_root() {
        return;
    }
    let site = tree_site("");
    let pipe = as_user(ONE, || {
        site.client().initiate(&plain("forever")).unwrap().pipe
    });
    let mut root = site.client();
    wait_until("both processes run", || {
        children_of(site.process()).len() == 2
    });
    wait_until("they work", || {
        let status = root.status(&pipe).unwrap();
        status
            .stages
            .iter()
            .all(|stage| stage.instances.iter().all(|i| i.process != 0))
    });
    for process in children_of(site.process()) {
        let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
        let field = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name)).unwrap();
            line[name.len()..]
                .split_whitespace()
                .collect::<Vec<_>>()
                .join(" ")
        };
        assert_eq!(field("Uid:"), format!("{ONE} {ONE} {ONE} {ONE}"));
        assert_eq!(field("Gid:"), field("Uid:"));
        assert_eq!(field("Groups:"), "");
        for set in ["CapInh:", "CapPrm:", "CapEff:", "CapAmb:"] {
            assert_eq!(field(set), "0000000000000000", "{set}");
        }
        assert_eq!(field("NoNewPrivs:"), "1");
        let environment = fs::read(format!("/proc/{process}/environ")).unwrap();
        let text = String::from_utf8_lossy(&environment);
        assert!(
            !text.contains("HOME=") && text.contains("TMPDIR="),
            "{text}"
        );
    }
    // The daemon can end processes that are not its user's.
    root.stop(&pipe).unwrap();
    assert_eq!(outcome(&mut root, &pipe).0, PipeState::STOPPED);
    assert_eq!(children_of(site.process()), [0; 0]);
}

/// A client restored a setuid file of root, and had a shell of root.
pub(crate) fn restore_for_another_user_gives_no_rights() {
    if !is_root() {
        return;
    }
    let site = tree_site("run_as = \"root\"");
    fs::create_dir(site.path("in/tree")).unwrap();
    let tool = site.path("in/tree/tool");
    fs::write(&tool, "#!/bin/sh\n").unwrap();
    chown(&tool, Some(OTHER), Some(OTHER)).unwrap();
    fs::set_permissions(&tool, PermissionsExt::from_mode(0o6755)).unwrap();
    let capability = [
        1, 0, 0, 2, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    ];
    let name = "security.capability";
    let none = rustix::fs::XattrFlags::empty();
    let other_tool = site.path("in/tree/other-tool");
    fs::write(&other_tool, "").unwrap();
    let has_capability = rustix::fs::setxattr(&other_tool, name, &capability, none).is_ok();
    let mode = rustix::fs::Mode::from_raw_mode(0o666);
    let device = rustix::fs::makedev(1, 3);
    let (cwd, node) = (rustix::fs::CWD, rustix::fs::FileType::CharacterDevice);
    let has_device =
        rustix::fs::mknodat(cwd, site.path("in/tree/null"), node, mode, device).is_ok();
    println!("with a file capability: {has_capability}, with a device: {has_device}");
    let (tape, by_user, by_root) = (
        site.path("out/tape"),
        site.path("out/by-user"),
        site.path("out/by-root"),
    );
    for folder in [&by_user, &by_root] {
        fs::create_dir(folder).unwrap();
    }
    as_user(ONE, || {
        let mut client = site.client();
        let (state, why) = run(&mut client, &backup(&site.path("in/tree"), &tape));
        assert_eq!(state, PipeState::ENDED, "{why}");
        run(&mut client, &restore(&tape, &by_user));
    });
    let facts = |folder: &Path| {
        let found = fs::symlink_metadata(folder.join("tree/tool")).unwrap();
        (found.mode() & 0o7777, found.uid())
    };
    let attribute = |folder: &Path| {
        let path = folder.join("tree/other-tool");
        rustix::fs::getxattr(path, name, &mut [0u8; 64]).is_ok()
    };
    assert_eq!(facts(&by_user), (0o755, 0));
    assert!(!attribute(&by_user) && !by_user.join("tree/null").exists());
    assert_eq!(
        run(&mut site.client(), &restore(&tape, &by_root)).0,
        PipeState::ENDED
    );
    assert_eq!(facts(&by_root), (0o6755, OTHER), "root gets all of it");
    assert_eq!(attribute(&by_root), has_capability);
    assert_eq!(by_root.join("tree/null").exists(), has_device);
}

/// A user renamed the allowed directory, and got the one above it.
pub(crate) fn write_root_that_has_vanished_allows_nothing() {
    let site = Site::new("");
    let mut client = site.client();
    let count = |path: &Path| {
        let tail = StageRequest::module("count").arguments(path.as_os_str().as_encoded_bytes());
        let numbers = StageRequest::module("numbers").arguments("3");
        Initiate::new("count")
            .buffers(4)
            .buffer_size(4096)
            .stage(numbers)
            .stage(tail)
    };
    let beside = site.path("beside");
    fs::rename(site.path("out"), site.path("hidden")).unwrap();
    for named in ["out", "out/new"] {
        let mut request = count(&beside);
        request.stages[1] = request.stages[1].clone().write(site.path(named));
        let (code, why) = refusal(client.initiate(&request));
        assert_eq!(code, RefusalCode::PATH, "{why}");
        assert!(why.contains("does not exist any more"), "{why}");
    }
    symlink(site.path("in"), site.path("out")).unwrap();
    let mut request = count(&beside);
    request.stages[1] = request.stages[1].clone().write(site.path("out/new"));
    assert_eq!(refusal(client.initiate(&request)).0, RefusalCode::PATH);
    assert!(!beside.exists());
    fs::remove_file(site.path("out")).unwrap();
    fs::rename(site.path("hidden"), site.path("out")).unwrap();
    let new = site.path("out/new");
    let mut request = count(&new);
    request.stages[1] = request.stages[1].clone().write(&new);
    assert_eq!(run(&mut client, &request).0, PipeState::ENDED);
    assert_eq!(fs::read(&new).unwrap(), b"24");
}

/// Attributes and links of any file were in the archive of a source that the request did not name,
/// and the error revealed which paths exist.
pub(crate) fn arguments_name_only_allowed_paths() {
    let site = tree_site("");
    let mut client = site.client();
    fs::write(site.path("outside"), "outside").unwrap();
    fs::create_dir(site.path("folder")).unwrap();
    fs::write(site.path("in/plain"), "plain").unwrap();
    let (plain, tape) = (site.path("in/plain"), site.path("out/tape"));
    let (state, why) = run(&mut client, &backup(&plain, &tape));
    assert_eq!(state, PipeState::ENDED, "{why}");
    let mut texts = Vec::new();
    for path in ["outside", "folder", "none", "none/deep", "in/../outside"] {
        let named = site.path(path);
        for (mut request, stage) in [
            (backup(&named, &site.path("out/other")), 0),
            (backup(&plain, &named), 1),
            (copy(&named, &site.path("out/copy")), 0),
            (copy(&plain, &named), 1),
            (restore(&named, &site.path("out")), 0),
            (restore(&tape, &named), 2),
        ] {
            request.stages[stage].paths.clear();
            let (state, why) = run(&mut client, &request);
            assert_eq!(state, PipeState::FAILED, "{path}: {why}");
            texts.push(why.replace(&*named.to_string_lossy(), "PATH"));
            let _ = fs::remove_file(site.path("out/copy"));
            let _ = fs::remove_file(site.path("out/other"));
        }
    }
    for text in &texts {
        assert!(
            text.contains("name PATH, which is not beneath the paths"),
            "{text}"
        );
    }
    assert_eq!(fs::read(site.path("outside")).unwrap(), b"outside");
}

/// A refusal revealed to users what is in directories that they may not search.
pub(crate) fn refusals_do_not_reveal_what_the_user_may_not_see() {
    if !is_root() {
        return;
    }
    let site = tree_site("");
    let private = site.path("in/private");
    fs::create_dir(&private).unwrap();
    fs::write(private.join("there"), "").unwrap();
    fs::set_permissions(&private, PermissionsExt::from_mode(0o700)).unwrap();
    let texts = ["there", "none"].map(|name| {
        let path = private.join(name);
        let request = copy(&path, &site.path("out/x"));
        let (code, why) = as_user(ONE, || refusal(site.client().initiate(&request)));
        assert_eq!(code, RefusalCode::PATH);
        why.replace(&*path.to_string_lossy(), "PATH")
    });
    assert_eq!(texts[0], texts[1]);
}

/// The directory of temporary files was the same for all pipes, and could be read through each.
pub(crate) fn temporary_files_are_private_to_a_stage() {
    let mut site = Site::without_daemon("");
    configure(&site, "", &[ONE, OTHER]);
    let temporary = site.path("temporary");
    fs::create_dir(&temporary).unwrap();
    let text = fs::read_to_string(site.path("datapiped.toml")).unwrap();
    site.configure(&format!("temporary_directory = {temporary:?}\n{text}"));
    site.start();
    let (mut client, mut directories) = (site.client(), Vec::new());
    let pipes = ["one", "other"].map(|_| client.initiate(&plain("forever")).unwrap().pipe);
    wait_until("all have their directory", || {
        let outer = fs::read_dir(&temporary)
            .unwrap()
            .flatten()
            .next()
            .map(|entry| entry.path());
        directories = outer
            .iter()
            .flat_map(|outer| fs::read_dir(outer).unwrap().flatten())
            .collect();
        directories.len() == 4
    });
    for directory in &directories {
        assert_eq!(directory.metadata().unwrap().mode() & 0o7777, 0o700);
    }
    // One pipe cannot read by name what another has.
    let inside = directories[0].path().join("file");
    File::create(&inside).unwrap().write_all(b"x").unwrap();
    let mut request = copy(&inside, &site.path("out/x"));
    request.stages[0].paths.clear();
    assert_eq!(run(&mut client, &request).0, PipeState::FAILED);
    for pipe in &pipes {
        client.stop(pipe).unwrap();
        outcome(&mut client, pipe);
    }
    wait_until("nothing is left", || {
        fs::read_dir(&temporary).unwrap().next().is_none()
    });
}

/// A replacement was started from the path, where another program could be by then.
pub(crate) fn replacement_runs_the_program_that_was_checked() {
    let mut site = Site::without_daemon("");
    let program = site.path("program");
    fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let text = fs::read_to_string(site.path("datapiped.toml")).unwrap();
    let own = std::env::current_exe().unwrap();
    site.configure(&text.replace(&*own.to_string_lossy(), &program.to_string_lossy()));
    site.start();
    let mut client = site.client();
    let mut request = plain("forever");
    let pass = StageRequest::module("pass").arguments("");
    request.stages.insert(1, pass);
    let pipe = client.initiate(&request).unwrap().pipe;
    let process_of =
        |client: &mut Client| client.status(&pipe).unwrap().stages[1].instances[0].process;
    wait_until("it runs", || process_of(&mut client) != 0);
    let first = process_of(&mut client);
    // Another program is put at the path, as by an upgrade.
    let other = site.path("other");
    fs::write(&other, "#!/bin/sh\nexit 7\n").unwrap();
    fs::set_permissions(&other, PermissionsExt::from_mode(0o755)).unwrap();
    fs::rename(&other, &program).unwrap();
    let id = rustix::process::Pid::from_raw(first as i32).unwrap();
    rustix::process::kill_process(id, Signal::KILL).unwrap();
    wait_until("it is replaced", || {
        let entry = client.status(&pipe).unwrap().entry;
        assert!(!entry.state.is_final(), "{}", entry.explanation);
        let now = process_of(&mut client);
        now != 0 && now != first && lives(now)
    });
    client.stop(&pipe).unwrap();
    assert_eq!(outcome(&mut client, &pipe).0, PipeState::STOPPED);
    assert_eq!(refusal(client.initiate(&request)).0, RefusalCode::MODULE);
}

/// A user who was removed from the configuration kept a connection, and the rights with it.
pub(crate) fn removed_user_loses_open_connections() {
    if !is_root() {
        return;
    }
    let site = tree_site("");
    let mut removed = as_user(ONE, || site.client());
    let mut kept = as_user(OTHER, || site.client());
    assert!(removed.list().is_ok() && kept.list().is_ok());
    configure(&site, "", &[OTHER]);
    site.signal(Signal::HUP);
    wait_until("the connection is closed", || removed.list().is_err());
    assert!(kept.list().is_ok() && site.client().list().is_ok());
}

/// Backs `in` up to a tape in `out`; `more` are further arguments of the archive's tail.
fn backup_of_in(site: &Site, to: &str, more: Arguments) -> Initiate {
    let bytes = |path: &Path| path.as_os_str().as_encoded_bytes().to_vec();
    let (source, out) = (site.path("in"), site.path("out"));
    let tail = more
        .with("medium", "tape")
        .with("name", "x")
        .with("content", "tree")
        .with("path", bytes(&out.join(to)));
    Initiate::new("backup")
        .buffer_size(1 << 20)
        .stage(
            StageRequest::module("tree-head")
                .arguments(Arguments::new().with("source", bytes(&source)))
                .read(source),
        )
        .stage(
            StageRequest::module("archive-tail")
                .arguments(tail)
                .write(out),
        )
}

/// A user who made a file with the name of root's next tape, in a directory for the tapes of all,
/// got root's archive, and with `overwrite` the archive that replaced it.
pub(crate) fn file_that_another_user_has_planted_gets_nothing_of_root() {
    if !is_root() {
        return;
    }
    let site = tree_site("");
    fs::write(site.path("in/secret"), "secret").unwrap();
    fs::set_permissions(site.path("in/secret"), PermissionsExt::from_mode(0o600)).unwrap();
    let (out, mut client) = (site.path("out"), site.client());
    // For a group: in directories of all users the kernel itself refuses to follow some links.
    chown(&out, None, Some(ONE)).unwrap();
    fs::set_permissions(&out, PermissionsExt::from_mode(0o1770)).unwrap();
    as_user(ONE, || {
        fs::write(out.join("empty"), "").unwrap();
        fs::set_permissions(out.join("empty"), PermissionsExt::from_mode(0o666)).unwrap();
        fs::write(out.join("target"), "").unwrap();
        symlink("target", out.join("link")).unwrap();
        fs::create_dir(out.join("directory")).unwrap();
        fs::write(out.join("directory/empty"), "").unwrap();
    });
    let overwrite = || Arguments::new().with("overwrite", "");
    let mut back_up = |to: &str, more| run(&mut client, &backup_of_in(&site, to, more));
    assert_eq!(back_up("own", Arguments::new()).0, PipeState::ENDED);
    fs::copy(out.join("own"), out.join("full")).unwrap();
    chown(out.join("full"), Some(ONE), Some(ONE)).unwrap();
    let len = |name: &str| fs::metadata(out.join(name)).unwrap().len();
    for planted in ["empty", "link", "directory/empty", "full"] {
        let before = len(planted);
        for more in [Arguments::new(), overwrite()] {
            let (state, why) = back_up(planted, more);
            let is_refused = why.contains(&format!("belongs to user id {ONE}"));
            assert!(
                state == PipeState::FAILED && is_refused,
                "{planted}: {state} {why}"
            );
        }
        let mut stream = copy(&site.path("in/secret"), &out.join(planted));
        let path = out.join(planted);
        let arguments = overwrite().with("path", path.as_os_str().as_encoded_bytes());
        stream.stages[1].arguments = arguments.into();
        // The kernel refuses some of them itself.
        assert_eq!(run(&mut site.client(), &stream).0, PipeState::FAILED);
        assert_eq!(len(planted), before, "{planted}");
    }
    // Its own tapes, and those of a user where only root can make files, root can replace.
    assert_eq!(back_up("own", overwrite()).0, PipeState::ENDED);
    fs::set_permissions(&out, PermissionsExt::from_mode(0o755)).unwrap();
    assert_eq!(back_up("full", overwrite()).0, PipeState::ENDED);
}
