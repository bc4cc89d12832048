//! Style that a compiler does not check, checked: see CONTRIBUTING.md for the reasons.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Lines of the longest file and of the longest function. Only ever lower these.
const LONGEST_FILE: usize = 800;
const LONGEST_FUNCTION: usize = 70;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the workspace")
        .to_owned()
}

/// Every Rust source of ours, by its path from the root.
fn sources() -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders: Vec<PathBuf> = ["datapipe", "datapipe-net", "examples", "benches", "fuzz"]
        .iter()
        .map(|folder| root().join(folder))
        .collect();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap().map(Result::unwrap) {
            let path = entry.path();
            if path.is_dir()
                && !["target", "corpus", "artifacts"]
                    .iter()
                    .any(|skip| path.ends_with(skip))
            {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path
                    .strip_prefix(root())
                    .unwrap()
                    .to_str()
                    .unwrap()
                    .to_owned();
                found.push((name, fs::read_to_string(&path).unwrap()));
            }
        }
    }
    assert!(found.len() > 30, "found the sources");
    found.sort();
    found
}

#[test]
fn atomics_come_from_one_file() {
    for (name, text) in sources()
        .into_iter()
        .filter(|(name, _)| name.starts_with("datapipe/src/"))
    {
        let own = name.ends_with("memory/atomic.rs");
        let named = text.contains("core::sync::atomic") || text.contains("std::sync::atomic");
        assert!(
            own || !named,
            "{name} names the processor's atomics: use memory::atomic"
        );
    }
}

#[test]
fn both_ends_of_every_synchronisation_are_labelled() {
    let mut labels: BTreeMap<String, usize> = BTreeMap::new();
    for (_, text) in sources()
        .into_iter()
        .filter(|(name, _)| name.starts_with("datapipe/src/"))
    {
        for rest in text.split("// SYNC(").skip(1) {
            let label = rest.split(')').next().unwrap();
            *labels.entry(label.to_owned()).or_default() += 1;
        }
    }
    assert!(labels.len() >= 4, "{labels:?}");
    for (label, count) in labels {
        assert!(count >= 2, "SYNC({label}) stands on one side only");
    }
}

/// What stands in backquotes or behind a step and looks like the label of a point.
fn labels_in(page: &str) -> BTreeSet<String> {
    let groups = "seat take number receive alloc send put free wait wake finish leave reclaim";
    let words = page.split(|c: char| !c.is_ascii_lowercase() && c != '.');
    let label = |word: &&str| {
        let (group, rest) = word.split_once('.').unwrap_or_default();
        groups.split(' ').any(|known| known == group)
            && !rest.is_empty()
            && !rest.contains('.')
            && rest != "rs"
    };
    words.filter(label).map(str::to_owned).collect()
}

#[test]
fn points_of_the_hand_over_are_where_the_pages_say() {
    let points = root().join("datapipe/src/memory/points.rs");
    let listed = fs::read_to_string(&points).unwrap();
    let (_, listed) = listed.split_once("pub const LABELS").unwrap();
    let listed: BTreeSet<_> = listed
        .split("];")
        .next()
        .unwrap()
        .split('"')
        .map(str::to_owned)
        .collect();
    let listed: BTreeSet<_> = listed
        .into_iter()
        .filter(|word| word.contains('.'))
        .collect();
    let mut placed = BTreeSet::new();
    for (_, text) in sources()
        .into_iter()
        .filter(|(name, _)| !name.ends_with("points.rs"))
    {
        let labels = text
            .split("point!(\"")
            .skip(1)
            .map(|rest| rest.split('"').next().unwrap().to_owned());
        placed.extend(labels.filter(|label| label.contains('.')));
    }
    assert_eq!(
        placed, listed,
        "what the code passes is what points.rs lists"
    );
    for page in ["shared-memory.md", "testing.md"] {
        let text = fs::read_to_string(root().join("docs").join(page)).unwrap();
        assert_eq!(
            labels_in(&text),
            listed,
            "docs/{page} names the same points"
        );
    }
}

#[test]
fn unsafe_code_stays_where_it_is_allowed() {
    let allowed = [
        "datapipe/src/memory/",
        "datapipe/src/pool/lease.rs",
        "datapipe/src/pool/explorer.rs",
    ];
    let allowed = [
        &allowed[..],
        &["datapipe/src/pool/model.rs", "datapipe/tests/", "benches/"],
    ]
    .concat();
    for (name, text) in sources() {
        let code = text
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"));
        let has = code
            .clone()
            .any(|line| line.contains("unsafe {") || line.contains("unsafe impl"));
        assert!(
            !has || allowed.iter().any(|place| name.starts_with(place)),
            "{name} has unsafe code"
        );
    }
}

#[test]
fn files_and_functions_stay_short() {
    for (name, text) in sources() {
        let lines: Vec<&str> = text.lines().collect();
        assert!(
            lines.len() <= LONGEST_FILE,
            "{name} has {} lines",
            lines.len()
        );
        for (start, line) in lines.iter().enumerate() {
            let trimmed = line.trim_start();
            let is_function = [
                "fn ",
                "pub fn ",
                "pub(crate) fn ",
                "pub(super) fn ",
                "unsafe fn ",
            ];
            if !is_function.iter().any(|begin| trimmed.starts_with(begin)) {
                continue;
            }
            let close = format!("{}}}", &line[..line.len() - trimmed.len()]);
            if let Some(length) = lines[start..].iter().position(|line| *line == close) {
                assert!(
                    length <= LONGEST_FUNCTION,
                    "{name}:{}: a function of {length} lines",
                    start + 1
                );
            }
        }
    }
}

#[test]
fn nothing_is_left_for_later() {
    let marks = ["TO\u{44}O", "FIX\u{4d}E", "XX\u{58}"];
    for (name, text) in sources() {
        assert!(
            !marks.iter().any(|mark| text.contains(mark)),
            "{name} leaves something for later"
        );
    }
}

#[test]
fn every_file_opens_with_what_it_is() {
    for (name, text) in sources() {
        assert!(text.starts_with("//!"), "{name} does not say what it is");
    }
}

#[test]
fn documents_that_are_named_exist() {
    let mut texts = sources();
    for page in [
        "README.md",
        "ARCHITECTURE.md",
        "CONTRIBUTING.md",
        "CHANGELOG.md",
        "SECURITY.md",
    ] {
        texts.push((
            page.to_owned(),
            fs::read_to_string(root().join(page)).unwrap(),
        ));
    }
    for (name, text) in texts {
        for rest in text.split("docs/").skip(1) {
            let page = rest
                .split(|c: char| !c.is_ascii_alphanumeric() && c != '-' && c != '.')
                .next()
                .unwrap();
            let page = page.trim_end_matches('.');
            if page.ends_with(".md") {
                assert!(
                    root().join("docs").join(page).exists(),
                    "{name} names docs/{page}"
                );
            }
        }
    }
}
