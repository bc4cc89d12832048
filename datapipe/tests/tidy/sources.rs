//! The project's own files: Rust sources and pages.

use std::fs;
use std::path::{Path, PathBuf};

/// The root of the workspace.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the workspace")
        .to_owned()
}

/// Every Rust source of the project with its path from the root, sorted by path.
pub(crate) fn sources() -> Vec<(String, String)> {
    let folders = [
        "datapipe",
        "datapipe-net",
        "datapipe-ffi",
        "examples",
        "benches",
        "fuzz",
    ];
    let folders = folders.iter().map(|folder| root().join(folder)).collect();
    let found = files(folders, "rs");
    assert!(found.len() > 30, "found the sources");
    found
}

/// Every page of the project with its path from the root, sorted by path.
pub(crate) fn pages() -> Vec<(String, String)> {
    let found = files(vec![root()], "md");
    assert!(found.len() > 5, "found the pages");
    found
}

/// The files below `folders` whose names end in `.extension`, outside of generated folders.
fn files(mut folders: Vec<PathBuf>, extension: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap().map(Result::unwrap) {
            let path = entry.path();
            let generated = ["target", "corpus", "artifacts", ".git"];
            if path.is_dir() && !generated.iter().any(|skip| path.ends_with(skip)) {
                folders.push(path);
            } else if path.extension().is_some_and(|found| found == extension) {
                let name = path.strip_prefix(root()).unwrap().to_str().unwrap();
                found.push((name.to_owned(), fs::read_to_string(&path).unwrap()));
            }
        }
    }
    found.sort();
    found
}
