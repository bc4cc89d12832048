//! The configuration of the README, and the example `directory_by_daemon`.

use std::fs;
use std::path::Path;

use clap::Parser;
use datapipe_net::protocol::PipeState;

use crate::site::Site;

#[path = "../../examples/directory_by_daemon.rs"]
#[expect(dead_code, reason = "this test does not call its main")]
mod example;

/// Backs up and restores with the README's configuration, in which this test's program and
/// directories replace those of an operator.
pub(crate) fn readme_configuration_backs_up_and_restores() {
    let mut site = Site::without_daemon("");
    let readme = include_str!("../../README.md");
    let (_, rest) = readme.split_once("```toml\n").unwrap();
    let mut configuration = rest.split("```").next().unwrap().to_owned();
    for (theirs, ours) in [
        ("/run/datapiped/socket", site.socket()),
        (
            "/usr/local/libexec/datapipe-host",
            std::env::current_exe().unwrap(),
        ),
        ("/srv/restored", site.path("restored")),
        ("/srv", site.path("in")),
        ("/backup", site.path("out")),
        // Some machines have no such group.
        ("backup", "root".into()),
    ] {
        let (theirs, ours) = (format!("\"{theirs}\""), format!("{ours:?}"));
        assert!(
            configuration.contains(&theirs),
            "{theirs} in {configuration}"
        );
        configuration = configuration.replace(&theirs, &ours);
    }
    site.configure(&configuration);
    fs::create_dir(site.path("restored")).unwrap();
    fs::create_dir_all(site.path("in/data/inner")).unwrap();
    fs::write(site.path("in/data/inner/file"), "content").unwrap();
    site.start();

    let run = |job: &[&str]| {
        let mut words = vec![
            "example".into(),
            "--socket".into(),
            site.socket().into_os_string(),
        ];
        let (flags, paths) = job.split_at(job.len() - 2);
        words.extend(flags.iter().map(Into::into));
        words.extend(paths.iter().map(|path| site.path(path).into_os_string()));
        example::run(&example::Args::try_parse_from(words).unwrap()).unwrap()
    };
    assert_eq!(
        run(&["backup", "in/data", "out/data.tap"]),
        PipeState::ENDED
    );
    assert_eq!(
        run(&["backup", "in/data", "out/data.tap"]),
        PipeState::FAILED,
        "the tape is not overwritten"
    );
    assert_eq!(
        run(&["backup", "--overwrite", "in/data", "out/data.tap"]),
        PipeState::ENDED
    );
    assert_eq!(
        run(&["restore", "out/data.tap", "restored"]),
        PipeState::ENDED
    );
    let restored = fs::read(Path::new(&site.path("restored")).join("data/inner/file")).unwrap();
    assert_eq!(restored, b"content");
}
