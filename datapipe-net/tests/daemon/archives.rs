//! Archives that pipes of modules read: a head that says that all blocks came is not believed.

use std::fs;
use std::path::Path;

use datapipe::stage::Arguments;
use datapipe_net::protocol::PipeState;
use datapipe_net::{Client, Initiate, StageRequest};

use crate::site::{Site, outcome};

/// A site with modules that read and write archives. `cut-head` ends after some blocks, and reports
/// nothing.
fn site() -> Site {
    let mut site = Site::without_daemon("");
    let program = std::env::current_exe().unwrap();
    let out = site.path("out");
    let mut text = site.configuration("");
    for (name, module, role, work) in [
        ("archive-head", "datapipe.archive-head", "head", "fill"),
        ("cut-head", "datapipe.archive-head:cut", "head", "fill"),
        ("archive-tail", "datapipe.archive-tail", "tail", "write"),
    ] {
        text += &format!(
            "[[module]]\nname = {name:?}\nmodule = {module:?}\nprogram = {program:?}\n\
             role = {role:?}\nwork = {work:?}\npaths = {{ read = [{out:?}], write = [{out:?}] }}\n"
        );
    }
    site.configure(&text);
    site.start();
    site
}

fn with_path(arguments: Arguments, path: &Path) -> Arguments {
    arguments.with("path", path.as_os_str().as_encoded_bytes())
}

fn run(client: &mut Client, request: &Initiate) -> (PipeState, String) {
    let pipe = client.initiate(request).unwrap().pipe;
    outcome(client, &pipe)
}

/// Writes the content of `in/data` to the tape `out/tape`.
fn back_up(site: &Site) {
    let (data, tape) = (site.path("in/data"), site.path("out/tape"));
    let tail = Arguments::new().with("name", "data").with("medium", "tape");
    let tail = with_path(tail.with("block-len", "4096"), &tape);
    let request = Initiate::new("backup")
        .buffer_size(4096)
        .stage(
            StageRequest::module("stream-head")
                .arguments(with_path(Arguments::new(), &data))
                .read(data),
        )
        .stage(
            StageRequest::module("archive-tail")
                .arguments(tail)
                .write(tape),
        );
    let ended = run(&mut site.client(), &request);
    assert_eq!(ended, (PipeState::ENDED, String::new()));
}

/// A pipe that restores the tape to `out/NAME`.
fn restore(site: &Site, name: &str, head: &str, arguments: Arguments) -> Initiate {
    let (tape, to) = (site.path("out/tape"), site.path("out").join(name));
    Initiate::new("restore")
        .buffer_size(4096)
        .stage(
            StageRequest::module(head)
                .arguments(with_path(arguments, &tape))
                .read(tape),
        )
        .stage(StageRequest::module("decompress").arguments(Arguments::new()))
        .stage(
            StageRequest::module("stream-tail")
                .arguments(with_path(Arguments::new(), &to))
                .write(to),
        )
}

/// A restore whose head left half of the archive out was reported as ended.
pub(crate) fn restore_whose_head_leaves_blocks_out_is_not_whole() {
    let site = site();
    let data: Vec<u8> = (0..40_000u32).map(|at| (at / 7) as u8).collect();
    fs::write(site.path("in/data"), &data).unwrap();
    back_up(&site);
    let mut client = site.client();
    let medium = Arguments::new().with("medium", "tape");
    let whole = run(
        &mut client,
        &restore(&site, "whole", "archive-head", medium),
    );
    assert_eq!(whole, (PipeState::ENDED, String::new()));
    assert_eq!(fs::read(site.path("out/whole")).unwrap(), data);

    // The origin, and three blocks of data.
    let cut = || Arguments::new().with("blocks", "4");
    let (state, why) = run(&mut client, &restore(&site, "strict", "cut-head", cut()));
    assert_eq!(state, PipeState::FAILED, "{why}");
    assert!(why.contains("its last block did not come"), "{why}");

    let salvage = cut().with("salvage", "");
    let (state, why) = run(&mut client, &restore(&site, "part", "cut-head", salvage));
    assert_eq!(state, PipeState::INCOMPLETE, "{why}");
    assert_eq!(fs::read(site.path("out/part")).unwrap(), data[..3 * 4096]);
}
