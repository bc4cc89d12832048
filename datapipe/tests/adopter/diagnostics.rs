//! Messages for the common mistakes, of the compiler and at run time.
//!
//! The programs are compiled by `rustc` against the library that this test is linked with.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;
use std::{env, fs};

use datapipe::host::Modules;

/// Names and types that the programs use.
const HEADER: &str = r#"
    #![allow(dead_code, unused_imports)]
    use datapipe::prelude::*;

    struct Upper;
    impl Transform for Upper {
        fn transform(&mut self, input: &Block, output: &mut Block) -> Result<Verdict, StageError> {
            output.put(&input.bytes().to_ascii_uppercase())?;
            Ok(Verdict::Send)
        }
    }

    fn builder() -> PipeBuilder<'static> {
        Pipe::builder()
    }
"#;

/// Compiles a program with this body of `main`. Returns the compiler's messages if it fails.
fn compile(library: &Path, body: &str) -> Result<(), String> {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("program.rs");
    fs::write(&source, format!("{HEADER} fn main() {{ {body} }}")).unwrap();
    let dependencies = library.parent().unwrap();
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc)
        .args(["--edition", "2024", "--emit", "metadata", "--out-dir"])
        .arg(dir.path())
        .arg("-L")
        .arg(format!("dependency={}", dependencies.display()))
        .arg("--extern")
        .arg(format!("datapipe={}", library.display()))
        .arg(source)
        .output()
        .unwrap();
    if output.status.success() {
        return Ok(());
    }
    Err(String::from_utf8_lossy(&output.stderr).into_owned())
}

/// Returns the library's newest build beside this test with which a correct program compiles.
fn library() -> PathBuf {
    let test = env::current_exe().unwrap();
    let builds = fs::read_dir(test.parent().unwrap()).unwrap();
    let mut builds: Vec<(SystemTime, PathBuf)> = builds
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let name = path.file_name()?.to_str()?;
            let is_build = name.starts_with("libdatapipe-") && name.ends_with(".rlib");
            let made = path.metadata().ok()?.modified().ok()?;
            is_build.then_some((made, path))
        })
        .collect();
    builds.sort();
    let correct = "let _ = builder().stage(Stage::transform(\"upper\", |_| Upper));";
    let mut message = String::from("there is none");
    for (_, library) in builds.into_iter().rev() {
        match compile(&library, correct) {
            Ok(()) => return library,
            Err(error) => message = error,
        }
    }
    panic!("no build of the library is usable: {message}");
}

#[test]
fn value_that_is_not_a_stage_is_explained_by_the_compiler() {
    let library = library();
    let cases: [(&str, &[&str]); 8] = [
        (
            "let _ = builder().stage(Upper);",
            &[
                "`Upper` cannot be a stage between head and tail",
                ".stage(Stage::transform(\"name\", |_| value))",
            ],
        ),
        (
            "let _ = builder().head(zstd(3));",
            &["cannot be the head of a pipe", ".stage(...)"],
        ),
        (
            "let _ = builder().head(std::io::stdin());",
            &[
                "`Stdin` cannot be the head of a pipe",
                "StreamHead::new(reader)",
            ],
        ),
        (
            "let _ = builder().tail(Vec::<u8>::new());",
            &[
                "`Vec<u8>` cannot be the tail of a pipe",
                "StreamTail::new(writer)",
            ],
        ),
        (
            "let _ = builder().tail(zstd(3));",
            &["cannot be the tail of a pipe", ".stage(...)"],
        ),
        (
            "let _ = builder().stage(StreamHead::new(std::io::empty()));",
            &["cannot be a stage between head and tail", ".head(...)"],
        ),
        (
            "let _ = builder().stage(|block: &mut Block| block.clear());",
            &["cannot be a stage between head and tail", "Stage::port"],
        ),
        (
            "let _ = Stage::in_place(\"upper\", |_| Upper);",
            &["`Upper` does not implement `InPlace`", "Stage::transform"],
        ),
    ];
    for (body, words) in cases {
        let message = compile(&library, body).expect_err(body);
        // The compiler breaks notes into lines.
        let message = message.split_whitespace().collect::<Vec<_>>().join(" ");
        for word in words {
            assert!(message.contains(word), "{body}: {word:?}: {message}");
        }
    }
}

#[test]
fn modules_name_what_they_contain() {
    let empty = format!("{:?}", Modules::empty());
    assert_eq!(empty, "{}");
    let all = format!("{:?}", datapipe::modules());
    for module in [
        "datapipe.zstd",
        "datapipe.archive-tail",
        "datapipe.tree-head",
    ] {
        assert!(all.contains(module), "{all}");
    }
}
