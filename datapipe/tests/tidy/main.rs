//! Checks of the style that a compiler does not check: see CONTRIBUTING.md for the reasons.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use functions::functions;
use sources::{root, sources};

mod doors; // module files are doors
mod functions; // the functions of a source
mod layers; // the layers of ARCHITECTURE.md
mod pages; // titles that the code cites, types that the glossary names
mod prose; // forbidden openings, words and columns
mod sources; // the project's own files

/// Lines of the longest file and of the longest function. Only ever lower these.
const LONGEST_FILE: usize = 800;
const LONGEST_FUNCTION: usize = 70;

#[test]
fn atomics_come_from_one_file() {
    for (name, text) in sources()
        .into_iter()
        .filter(|(name, _)| name.starts_with("datapipe/src/"))
    {
        // The loader writes the second one before `main`, and no other process shares it.
        let own = ["memory/atomic.rs", "src/standard_streams.rs"]
            .iter()
            .any(|own| name.ends_with(own));
        let named = text.contains("core::sync::atomic") || text.contains("std::sync::atomic");
        assert!(
            own || !named,
            "{name} names the processor's atomics: use memory::atomic"
        );
    }
}

#[test]
fn synchronisation_labels_are_on_both_sides() {
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
        assert!(count >= 2, "SYNC({label}) is on one side only");
    }
}

#[test]
fn errors_are_listed_in_one_place() {
    let sources = sources();
    let (_, list) = sources
        .iter()
        .find(|(name, _)| name == "datapipe/src/error.rs")
        .expect("the errors");
    // Private: a stage's error in a box, its cause, and the text of an `io::Error`.
    let private = ["StageErrorBox", "FullStorage", "NoMemory"];
    let mut count = 0;
    for (name, text) in &sources {
        if !name.starts_with("datapipe/src/") {
            continue;
        }
        for line in text.lines().filter(|line| line.starts_with("impl ")) {
            let Some((_, error)) = line.split_once("Error for ") else {
                continue;
            };
            let error = error.split([' ', '<']).next().unwrap();
            let listed = [">()", "<"]
                .iter()
                .any(|end| list.contains(&format!("is_error::<{error}{end}")));
            assert!(
                listed || private.contains(&error),
                "{name}: {error} is not in the list of datapipe/src/error.rs"
            );
            count += 1;
        }
    }
    assert!(count > 20, "found the errors");
}

/// Words of a page that look like the label of a point, in backquotes or after a step.
fn labels_in(page: &str) -> BTreeSet<String> {
    let groups = "seat take number receive alloc send put pass free wait wake finish leave reclaim";
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
        "datapipe/src/pool/block.rs",
        "datapipe/src/controller/processes/identity.rs",
        "datapipe/src/controller/processes/memory_limit.rs",
        "datapipe/src/crypto/undumped.rs",
        "datapipe/src/crypto/vector_registers.rs",
        "datapipe/src/pool/explorer.rs",
        "datapipe/src/shared_bytes.rs",
        "datapipe/src/tree/inode_calls.rs",
    ];
    let allowed = [
        &allowed[..],
        &[
            "datapipe/src/pool/model/",
            "datapipe/tests/",
            "datapipe-ffi/src/boundary/",
            "benches/",
            "examples/src/signals.rs",
        ],
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
        let lines = text.lines().count();
        assert!(lines <= LONGEST_FILE, "{name} has {lines} lines");
        for function in functions(&text) {
            assert!(
                function.len <= LONGEST_FUNCTION,
                "{name}:{}: a function of {} lines",
                function.line,
                function.len
            );
        }
    }
}

#[test]
fn marks_of_unfinished_work_are_absent() {
    let marks = ["TO\u{44}O", "FIX\u{4d}E", "XX\u{58}"];
    for (name, text) in sources() {
        assert!(
            !marks.iter().any(|mark| text.contains(mark)),
            "{name} leaves something for later"
        );
    }
}

#[test]
fn files_begin_with_a_module_doc() {
    for (name, text) in sources() {
        assert!(
            text.starts_with("//!"),
            "{name} does not begin with a module doc"
        );
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
