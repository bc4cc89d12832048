//! The names that the libraries export.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use super::{Linked, SHARED_NAME, crate_dir, library};

/// Functions that the header declares.
pub(super) fn declared() -> BTreeSet<String> {
    let header = fs::read_to_string(crate_dir().join("include/datapipe.h")).unwrap();
    let functions = header.lines().filter(|line| {
        let is_code = !line.starts_with([' ', '/', '*', '#']) && !line.starts_with("typedef");
        is_code && line.contains('(')
    });
    let name = |line: &str| {
        line.split('(')
            .next()?
            .rsplit([' ', '*'])
            .next()
            .map(str::to_owned)
    };
    functions.filter_map(name).collect()
}

/// Functions and data that a library defines for others.
fn exported(linked: Linked) -> BTreeSet<String> {
    let mut nm = Command::new("nm");
    match linked {
        Linked::Shared => nm.args(["--dynamic", "--defined-only"]),
        Linked::Static => nm.args(["--extern-only", "--defined-only"]),
    };
    let output = nm.arg(library(linked)).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines()
        .filter_map(|line| line.split_whitespace().nth(2))
        .map(str::to_owned)
        .collect()
}

#[test]
fn shared_library_exports_the_functions_of_the_header_only() {
    let declared = declared();
    assert!(declared.len() > 10 && declared.iter().all(|name| name.starts_with("dp_")));
    assert_eq!(exported(Linked::Shared), declared);
    let of_static = exported(Linked::Static);
    let missing: Vec<_> = declared.difference(&of_static).collect();
    assert!(missing.is_empty(), "the static library lacks {missing:?}");
    let more = of_static.iter().filter(|name| name.starts_with("dp_"));
    assert_eq!(
        more.count(),
        declared.len(),
        "the static library has more dp_ functions"
    );
}

#[test]
fn shared_library_has_its_version_in_its_name() {
    let output = Command::new("readelf")
        .arg("--dynamic")
        .arg(library(Linked::Shared))
        .output();
    let output = output.unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        text.contains(&format!("[{SHARED_NAME}]")) && text.contains("NODELETE"),
        "{text}"
    );
}
