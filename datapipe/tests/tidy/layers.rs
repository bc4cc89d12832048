//! The layers of the library are the ones that ARCHITECTURE.md draws.
//!
//! Each row of its table names folders or top-level files of `datapipe/src`, and what they may use.
//! A row uses only rows below it. The test reads every `crate::` path in the code, outside of test
//! modules, and resolves a path through a re-export (`crate::error::Error`, `crate::Direction`) to
//! the layer that defines the item.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use super::sources::{root, sources};

const SOURCES: &str = "datapipe/src/";

/// One row of the table: a layer, and the layers that it may use.
struct Layer {
    name: String,
    uses: BTreeSet<String>,
}

/// The table of ARCHITECTURE.md, top row first.
fn table() -> Vec<Layer> {
    let page = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let rows = page
        .lines()
        .skip_while(|line| !line.starts_with("| folder or file of `datapipe/src`"))
        .skip(2)
        .take_while(|line| line.starts_with('|'));
    let names = |cell: &str| -> Vec<String> {
        let quoted = cell.split('`').skip(1).step_by(2);
        quoted
            .map(|name| {
                name.trim_end_matches('/')
                    .trim_end_matches(".rs")
                    .to_owned()
            })
            .collect()
    };
    let mut layers = Vec::new();
    for row in rows {
        let cells: Vec<_> = row.trim_matches('|').split(" | ").collect();
        let [first, _, uses] = cells[..] else {
            panic!("a row of the layers has three cells: {row}")
        };
        for name in names(first) {
            let uses = names(uses).into_iter().collect();
            layers.push(Layer { name, uses });
        }
    }
    assert!(layers.len() > 10, "found the table of layers");
    layers
}

/// The layer of a file of `datapipe/src`: its folder, or its own name at the top level. `None` for
/// lib.rs, which joins the layers, and for the programs.
fn layer_of(path: &str) -> Option<&str> {
    let path = path.strip_prefix(SOURCES)?;
    let name = match path.split_once('/') {
        Some(("bin", _)) => return None,
        Some((folder, _)) => folder,
        None => path.strip_suffix(".rs")?,
    };
    (name != "lib").then_some(name)
}

/// Paths of the files that are test modules: `#[cfg(test)] mod NAME;` in their parent.
fn test_files(sources: &[(String, String)]) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (path, text) in sources {
        let lines: Vec<_> = text.lines().collect();
        for (at, _) in lines
            .iter()
            .enumerate()
            .filter(|(_, line)| is_test_attribute(line))
        {
            let module = lines[at..].iter().take(8).find_map(|line| {
                line.strip_prefix("mod ")
                    .and_then(|rest| rest.split_once(';'))
            });
            if let Some((name, _)) = module {
                let folder = path.rsplit_once('/').unwrap().0;
                found.insert(format!("{folder}/{name}.rs"));
            }
        }
    }
    found
}

fn is_test_attribute(line: &str) -> bool {
    let line = line.trim_start();
    line.starts_with("#[cfg(test)]") || line.starts_with("#[cfg(all(test")
}

/// The code of a file: without comments, and without the items that are compiled for tests only.
fn code(text: &str) -> String {
    let lines: Vec<_> = text.lines().collect();
    let mut kept = String::new();
    let mut at = 0;
    while at < lines.len() {
        let line = lines[at];
        if is_test_attribute(line) {
            at = end_of_item(&lines, at + 1);
            continue;
        }
        if !line.trim_start().starts_with("//") {
            kept.push_str(line.split(" // ").next().unwrap());
            kept.push('\n');
        }
        at += 1;
    }
    kept
}

/// The line after the item that begins at line `start` or after its attributes.
fn end_of_item(lines: &[&str], start: usize) -> usize {
    let first = (start..lines.len())
        .find(|&at| !lines[at].trim_start().starts_with('#'))
        .unwrap_or(start);
    let indent = lines[first].len() - lines[first].trim_start().len();
    let close = |line: &str| {
        line.len() - line.trim_start().len() == indent
            && (line.trim_end().ends_with(['}', ';']) || line.trim_end().ends_with("},"))
    };
    let last = (first..lines.len()).find(|&at| close(lines[at]));
    last.unwrap_or(first) + 1
}

/// The names that a path or group after `crate::` begins with, each with the rest of its path:
/// `a::b`, or `{a::b, c}`.
fn heads(rest: &str) -> Vec<(&str, &str)> {
    let word = |text: &'_ str| text.find(|c: char| !c.is_alphanumeric() && c != '_');
    let Some(group) = rest.strip_prefix('{') else {
        let (name, after) = rest.split_at(word(rest).unwrap_or(rest.len()));
        return vec![(name, after.strip_prefix("::").unwrap_or_default())];
    };
    let (mut depth, mut found, mut start) = (0, Vec::new(), 0);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' | '}' if depth == 0 => {
                let part = group[start..at].trim();
                if !part.is_empty() {
                    found.extend(heads(part));
                }
                start = at + 1;
                if c == '}' {
                    break;
                }
            }
            _ => {}
        }
    }
    found
}

/// The layer in which each re-exported item is defined: `pub use crate::LAYER::{A, B};`, and in
/// lib.rs `pub use LAYER::{A, B};`.
fn re_exports(text: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for rest in code(text).split("pub use ").skip(1) {
        let statement = rest.split(';').next().unwrap();
        let statement = statement.strip_prefix("crate::").unwrap_or(statement);
        let Some((layer, items)) = statement.split_once("::") else {
            continue;
        };
        for (item, _) in heads(items) {
            found
                .entry(item.to_owned())
                .or_insert_with(|| layer.to_owned());
        }
    }
    found
}

#[test]
fn layers_use_only_those_below() {
    let table = table();
    let below: BTreeMap<_, _> = (0..)
        .zip(&table)
        .map(|(row, layer)| (&*layer.name, row))
        .collect();
    for (row, layer) in (0..).zip(&table) {
        for used in &layer.uses {
            assert!(
                below.get(&**used).is_some_and(|&other: &i32| other > row),
                "ARCHITECTURE.md: `{}` uses `{used}`, which has no row below it",
                layer.name
            );
        }
    }

    let sources = sources();
    let tests = test_files(&sources);
    let read = |name: &str| fs::read_to_string(root().join(SOURCES).join(name)).unwrap();
    let (of_root, of_error) = (re_exports(&read("lib.rs")), re_exports(&read("error.rs")));
    let mut used: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut faults = Vec::new();
    for (path, text) in sources.iter().filter(|(path, _)| !tests.contains(path)) {
        let Some(layer) = layer_of(path) else {
            continue;
        };
        let Some(row) = table.iter().find(|row| row.name == layer) else {
            faults.push(format!("{path}: `{layer}` has no row"));
            continue;
        };
        let used = used.entry(layer.to_owned()).or_default();
        for rest in code(text).split("crate::").skip(1) {
            for (name, rest) in heads(rest) {
                let items: Vec<_> = heads(rest).into_iter().map(|(item, _)| item).collect();
                let targets: Vec<&str> = match name {
                    "error" => items
                        .iter()
                        .filter_map(|item| of_error.get(*item))
                        .map(|s| &**s)
                        .collect(),
                    _ => vec![of_root.get(name).map_or(name, |layer| layer)],
                };
                for target in targets.into_iter().filter(|target| *target != layer) {
                    used.insert(target.to_owned());
                    if !row.uses.contains(target) {
                        faults.push(format!(
                            "{path} uses `{target}`, which its row does not list"
                        ));
                    }
                }
            }
        }
    }
    faults.dedup();
    assert!(
        faults.is_empty(),
        "ARCHITECTURE.md, the table of layers:\n{}",
        faults.join("\n")
    );
    for row in &table {
        let used = used.remove(&row.name).unwrap_or_default();
        let idle: Vec<_> = row.uses.difference(&used).collect();
        assert!(
            idle.is_empty(),
            "ARCHITECTURE.md: `{}` does not use {idle:?}",
            row.name
        );
    }
}
