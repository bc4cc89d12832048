//! The configuration of the README, and the example `directory_by_daemon`.

use std::fs;
use std::path::Path;
use std::process::Command;

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
    assert_eq!(
        run(&["restore", "out/data.tap", "restored"]),
        PipeState::INCOMPLETE,
        "what exists is not replaced, and is named"
    );
    assert_problems_of_the_last_pipe(&site);
    let restored = fs::read(Path::new(&site.path("restored")).join("data/inner/file")).unwrap();
    assert_eq!(restored, b"content");
}

/// The unit of the README is the file, and systemd rates it as the README says.
pub(crate) fn readme_has_the_unit_and_systemd_rates_it_as_stated() {
    let unit = include_str!("../../datapiped.service");
    let readme = include_str!("../../README.md");
    let (_, rest) = readme.split_once("```ini\n").unwrap();
    assert_eq!(rest.split_once("```").unwrap().0, unit);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("datapiped.service");
    fs::write(&path, unit).unwrap();
    let mut security = Command::new("systemd-analyze");
    security.args(["security", "--offline=true", "--no-pager", "--threshold=30"]);
    let Ok(rated) = security.arg(&path).output() else {
        println!("skipped: systemd-analyze is not installed");
        return;
    };
    let text = String::from_utf8_lossy(&rated.stdout);
    if !text.contains("Overall exposure level") {
        println!("skipped: systemd-analyze rates no file: {rated:?}");
        return;
    }
    assert!(rated.status.success(), "more than 3.0: {text}");
}

pub(crate) fn example_names_the_path_that_it_cannot_find() {
    let site = Site::without_daemon("");
    let missing = site.path("in/missing");
    let words = [
        "example".as_ref(),
        "backup".as_ref(),
        missing.as_os_str(),
        "x".as_ref(),
    ];
    let error = example::run(&example::Args::try_parse_from(words).unwrap()).unwrap_err();
    let error = error.to_string();
    let expected = format!("cannot find {}: ", missing.display());
    assert!(error.starts_with(&expected), "{error}");
}

/// A client that was not subscribed can read the problems of the last pipe.
fn assert_problems_of_the_last_pipe(site: &Site) {
    let mut client = site.client();
    let entry = client.list().unwrap().pop().unwrap();
    let problems = client.problems(&entry.name).unwrap();
    assert!(
        entry.problems > 0 && problems.count == entry.problems,
        "{entry:?}"
    );
    assert_eq!(problems.last.len() as u64, problems.count);
    let of_file = problems
        .last
        .iter()
        .find(|problem| problem.text.contains("inner/file"));
    assert_eq!(of_file.unwrap().stage, "tree-restore");
}
