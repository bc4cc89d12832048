//! Programs in C and C++, and in Python, against the shared and the static library.
//!
//! `scripts/ffi-check` runs them under valgrind and with sanitizers, by these variables:
//!
//! | variable | purpose |
//! |---|---|
//! | `DATAPIPE_FFI_CFLAGS` | more flags for the compiler |
//! | `DATAPIPE_FFI_WRAPPER` | a command that runs each program |
//! | `DATAPIPE_PIPES` | pipes that `many_pipes_in_a_row_leave_nothing` runs |

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::env;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{self, Command};

use tempfile::TempDir;

use suite::check;

mod abi; // layouts, constants and names, as they were released
mod daemon; // processes that attach to a pipe of a daemon
mod dump; // the example with two processes
mod packages; // the Debian packages
mod suite; // the test programs, linked into one
mod symbols; // names that the libraries export

/// Flags under which each program compiles without a warning.
const STRICT: [&str; 5] = ["-Wall", "-Wextra", "-Werror", "-pedantic", "-O1"];
/// Name of an installed shared library, with the version of its interface.
const SHARED_NAME: &str = concat!("libdatapipe.so.", env!("DATAPIPE_INTERFACE"));
/// Libraries of the system that the static library needs.
const SYSTEM: [&str; 4] = ["-lpthread", "-ldl", "-lm", "-lgcc_s"];

/// The library that a program is linked with.
#[derive(Clone, Copy, Debug)]
enum Linked {
    Shared,
    Static,
}

/// The folder of this crate.
fn crate_dir() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The file of a library that cargo has built for this test.
fn library(linked: Linked) -> PathBuf {
    let exe = env::current_exe().unwrap();
    let deps = exe.parent().unwrap();
    let name = match linked {
        Linked::Shared => "libdatapipe_ffi.so",
        Linked::Static => "libdatapipe_ffi.a",
    };
    let found = [deps.join(name), deps.parent().unwrap().join(name)];
    let found = found.into_iter().find(|path| path.exists());
    found.unwrap_or_else(|| panic!("{name} is not in {}", deps.display()))
}

/// Words of an environment variable.
fn words(variable: &str) -> Vec<String> {
    let value = env::var(variable).unwrap_or_default();
    value.split_whitespace().map(str::to_owned).collect()
}

/// A program that was compiled, with the folder that it has for its files.
struct Program {
    dir: TempDir,
    path: PathBuf,
}

/// The compiler of a source, with all flags but those of the linker.
fn compiler(source: &Path) -> Command {
    let is_cxx = source.extension().is_some_and(|end| end == "cpp");
    let (compiler, standard) = match is_cxx {
        true => ("c++", "-std=c++17"),
        false => ("cc", "-std=c11"),
    };
    let mut command = Command::new(compiler);
    command
        .arg(standard)
        .args(STRICT)
        .args(words("DATAPIPE_FFI_CFLAGS"))
        .args(["-D_XOPEN_SOURCE=700", "-D_DEFAULT_SOURCE", "-I"])
        .arg(crate_dir().join("include"));
    command
}

/// Adds a library to a link. `dir` has the names of the shared one.
fn link(command: &mut Command, linked: Linked, dir: &Path) {
    match linked {
        Linked::Shared => {
            command.arg("-L").arg(dir).arg("-ldatapipe");
            command.arg(format!("-Wl,-rpath,{}", dir.display()));
        }
        Linked::Static => {
            command.arg(library(linked));
        }
    }
    command.args(SYSTEM);
}

/// Runs a compiler, which must succeed.
#[track_caller]
fn run_compiler(command: &mut Command, of: &Path) {
    let output = command.output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}:\n{errors}", of.display());
}

/// Compiles a source of this crate or of the examples, with the shared library.
fn compile(source: &Path) -> Program {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("program");
    install_shared(dir.path());
    let mut command = compiler(source);
    command.arg(source).arg("-o").arg(&path);
    link(&mut command, Linked::Shared, dir.path());
    run_compiler(&mut command, source);
    Program { dir, path }
}

/// Gives the shared library the names that an installed one has.
fn install_shared(dir: &Path) {
    let link = |to: &Path, name: &str| {
        let new = dir.join(format!("{name}.new-{}", process::id()));
        symlink(to, &new).unwrap();
        fs::rename(new, dir.join(name)).unwrap();
    };
    link(&library(Linked::Shared), SHARED_NAME);
    link(Path::new(SHARED_NAME), "libdatapipe.so");
}

impl Program {
    /// Runs the program in a folder of its own.
    #[track_caller]
    fn run(&self, arguments: &[&str]) -> String {
        let mut line = words("DATAPIPE_FFI_WRAPPER");
        line.push(self.path.to_str().unwrap().to_owned());
        let output = Command::new(&line[0])
            .args(&line[1..])
            .args(arguments)
            .output()
            .unwrap();
        let (out, err) = (output.stdout, output.stderr);
        let text = String::from_utf8_lossy(&out).into_owned() + &String::from_utf8_lossy(&err);
        assert!(
            output.status.success(),
            "{} {arguments:?}:\n{text}",
            output.status
        );
        text
    }
}

#[test]
fn whole_jobs_in_c() {
    check("jobs");
}

#[test]
fn each_error_has_its_status_and_its_message() {
    check("errors");
}

#[test]
fn cancel_tokens_and_handles_that_are_none() {
    check("handles");
}

#[test]
fn pipes_of_stages_in_c() {
    check("pipes");
}

#[test]
fn stages_that_divide_and_analyze_events_and_states_of_stages() {
    check("stages");
}

#[test]
fn processes_that_attach_as_head_and_as_tail() {
    check("attach");
}

#[test]
fn media_of_the_program() {
    check("media");
}

#[test]
fn pipes_from_json() {
    check("json");
}

#[test]
fn stages_that_run_in_processes() {
    check("serve");
}

#[test]
fn sessions_of_a_medium_and_archives_selected_by_them() {
    check("sessions");
}

#[test]
fn many_pipes_in_a_row_leave_nothing() {
    check("growth");
}

#[test]
fn random_calls_never_crash() {
    check("random");
}

#[test]
fn header_compiles_as_cxx() {
    compile(&crate_dir().join("tests/c/header.cpp")).run(&[]);
}

#[test]
fn backup_tool_in_c_backs_up_and_restores() {
    let program = compile(&crate_dir().join("../examples/c/backup.c"));
    let dir = program.dir.path();
    let (tree, tape) = (dir.join("tree"), dir.join("tree.tap"));
    let (tape, restored) = (tape.to_str().unwrap(), dir.join("restored"));
    fs::create_dir(&tree).unwrap();
    fs::write(tree.join("file"), "content").unwrap();
    program.run(&["backup", tape, tree.to_str().unwrap()]);
    assert!(program.run(&["list", tape]).contains("tree/file"));
    program.run(&["verify", tape]);
    program.run(&["restore", tape, restored.to_str().unwrap()]);
    assert_eq!(
        fs::read_to_string(restored.join("tree/file")).unwrap(),
        "content"
    );
}

#[test]
fn program_of_the_benchmark_moves_its_data() {
    let program = compile(&crate_dir().join("benches/both_ends.c"));
    // Blocks with the bytes 2, 1 and 0, of which every 64th is added.
    assert_eq!(program.run(&["4096", "3", "1"]), "12288 192\n");
    assert_eq!(program.run(&["4096", "3", "0"]), "12288 0\n");
}

#[test]
fn scanner_in_c_rejects_blocks_with_the_signature() {
    let program = compile(&crate_dir().join("../examples/c/scanner.c"));
    let scan = |input: &str| {
        let path = program.dir.path().join("input");
        fs::write(&path, input).unwrap();
        let stdin = fs::File::open(path).unwrap();
        let output = Command::new(&program.path)
            .arg("virus")
            .stdin(stdin)
            .output()
            .unwrap();
        (
            output.status.code(),
            String::from_utf8(output.stdout).unwrap(),
        )
    };
    let clean = "a vir us in clean text".repeat(1000);
    assert_eq!(scan(&clean), (Some(0), clean));
    assert_eq!(scan("a text with a virus"), (Some(3), String::new()));
}

#[test]
fn installed_library_is_found_by_pkg_config() {
    let dir = tempfile::tempdir().unwrap();
    let root = crate_dir().parent().unwrap();
    let build = library(Linked::Shared);
    let install = Command::new(root.join("scripts/ffi-install"))
        .args([dir.path(), build.parent().unwrap()])
        .output()
        .unwrap();
    assert!(install.status.success(), "{install:?}");
    let flags = |options: &[&str]| {
        let output = Command::new("pkg-config")
            .env("PKG_CONFIG_PATH", dir.path().join("lib/pkgconfig"))
            .args(options)
            .arg("datapipe")
            .output();
        let text = String::from_utf8(output.unwrap().stdout).unwrap();
        text.split_whitespace()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert_eq!(flags(&["--modversion"]), [env!("CARGO_PKG_VERSION")]);
    let program = dir.path().join("program");
    let compiled = Command::new("cc")
        .arg(root.join("examples/c/scanner.c"))
        .arg("-o")
        .arg(&program)
        .args(flags(&["--cflags", "--libs"]))
        .output()
        .unwrap();
    assert!(compiled.status.success(), "{compiled:?}");
    let mut run = Command::new(program);
    let run = run
        .env("LD_LIBRARY_PATH", dir.path().join("lib"))
        .output()
        .unwrap();
    assert_eq!(run.status.code(), Some(2), "usage: {run:?}");
}

#[test]
fn installed_library_is_found_by_cmake() {
    let dir = tempfile::tempdir().unwrap();
    let (prefix, build) = (dir.path().join("prefix"), dir.path().join("build"));
    let root = crate_dir().parent().unwrap();
    let run = |command: &mut Command| {
        let output = command.output().unwrap();
        assert!(output.status.success(), "{command:?}: {output:?}");
    };
    let libraries = library(Linked::Shared);
    let built = libraries.parent().unwrap();
    run(Command::new(root.join("scripts/ffi-install")).args([&prefix, built]));
    let scanner = root.join("examples/c/scanner.c");
    run(Command::new("cmake")
        .env("PKG_CONFIG_PATH", prefix.join("lib/pkgconfig"))
        .arg(format!("-DSCANNER={}", scanner.display()))
        .arg("-S")
        .arg(crate_dir().join("tests/cmake"))
        .arg("-B")
        .arg(&build));
    run(Command::new("cmake").arg("--build").arg(&build));
    // CMake records the folder of the library in the program.
    let program = Command::new(build.join("scanner")).output().unwrap();
    assert_eq!(program.status.code(), Some(2), "usage: {program:?}");
}

#[test]
fn python_example_backs_up_lists_and_restores() {
    let dir = tempfile::tempdir().unwrap();
    install_shared(dir.path());
    let tree = dir.path().join("tree");
    fs::create_dir(&tree).unwrap();
    fs::write(tree.join("file"), "content").unwrap();
    let output = Command::new("python3")
        .arg(crate_dir().join("../examples/python/backup.py"))
        .args([
            tree,
            dir.path().join("tree.tap"),
            dir.path().join("restored"),
        ])
        .env("LD_LIBRARY_PATH", dir.path())
        .output()
        .unwrap();
    let out = String::from_utf8_lossy(&output.stdout);
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && out.contains("tree/file"),
        "{out}{err}"
    );
    let restored = fs::read_to_string(dir.path().join("restored/tree/file"));
    assert_eq!(restored.unwrap(), "content");
}
