//! The test programs of `tests/c`, linked into one program for each library.
//!
//! Each source is compiled once, and each library is linked once: a link of the static library
//! reads 100 MB. The programs are in the folder for temporary files of cargo's target, so that a
//! test that runs alone finds what it needs, and nothing is left elsewhere.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::OnceLock;
use std::thread;

use super::{Linked, Program, compiler, crate_dir, install_shared, link, run_compiler, words};

/// Sources of `tests/c` whose `main` the suite calls, by their names.
const PROGRAMS: [&str; 13] = [
    "attach", "daemon", "errors", "growth", "handles", "jobs", "json", "media", "pipes", "random",
    "serve", "sessions", "stages",
];

/// The program that has all test programs.
pub(super) fn suite(linked: Linked) -> &'static Path {
    static SHARED: OnceLock<PathBuf> = OnceLock::new();
    static STATIC: OnceLock<PathBuf> = OnceLock::new();
    let slot = match linked {
        Linked::Shared => &SHARED,
        Linked::Static => &STATIC,
    };
    slot.get_or_init(|| link_suite(linked))
}

/// Runs one of the test programs, with a folder of its own as its argument.
#[track_caller]
pub(super) fn check(name: &str) {
    for linked in [Linked::Shared, Linked::Static] {
        let dir = tempfile::tempdir().unwrap();
        let path = suite(linked).to_owned();
        let files = dir.path().to_str().unwrap().to_owned();
        let text = Program { dir, path }.run(&[name, &files]);
        print!("{linked:?}: {text}");
    }
}

/// Folder of programs with the present flags. Two runs of the tests may use it at once.
fn folder() -> PathBuf {
    let mut hasher = DefaultHasher::new();
    words("DATAPIPE_FFI_CFLAGS").hash(&mut hasher);
    let name = format!("c_programs-{:016x}", hasher.finish());
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::create_dir_all(&path).unwrap();
    path
}

/// Objects of all programs. Each is compiled on a thread of its own.
fn objects() -> &'static [PathBuf] {
    static OBJECTS: OnceLock<Vec<PathBuf>> = OnceLock::new();
    OBJECTS.get_or_init(|| {
        let names: Vec<_> = PROGRAMS.into_iter().chain(["suite"]).collect();
        thread::scope(|scope| {
            let compilers: Vec<_> = names
                .iter()
                .map(|name| scope.spawn(|| compile_object(name)))
                .collect();
            let objects = compilers.into_iter().map(|compiler| compiler.join());
            objects.map(|object| object.expect("a compiler")).collect()
        })
    })
}

fn compile_object(name: &str) -> PathBuf {
    let source = crate_dir().join("tests/c").join(name).with_extension("c");
    let object = folder().join(name).with_extension("o");
    let new = new_name(&object);
    let mut command = compiler(&source);
    if name != "suite" {
        command.arg(format!("-Dmain={name}_main"));
    }
    run_compiler(command.arg("-c").arg(&source).arg("-o").arg(&new), &source);
    fs::rename(new, &object).unwrap();
    object
}

fn link_suite(linked: Linked) -> PathBuf {
    let folder = folder();
    let path = folder.join(format!("{linked:?}").to_lowercase());
    let new = new_name(&path);
    let mut command = compiler(Path::new("suite.c"));
    command.args(objects()).arg("-o").arg(&new);
    if matches!(linked, Linked::Shared) {
        install_shared(&folder);
    }
    link(&mut command, linked, &folder);
    run_compiler(&mut command, &path);
    fs::rename(new, &path).unwrap();
    path
}

/// A name that no other process uses, for a file that is then renamed: the former one may be in
/// use.
fn new_name(path: &Path) -> PathBuf {
    path.with_extension(format!("new-{}", process::id()))
}
