//! The Debian packages.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use super::{Linked, crate_dir, library};

/// Runs a command, which must succeed. Returns its output.
#[track_caller]
fn run(command: &mut Command) -> String {
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().unwrap();
    let errors = String::from_utf8_lossy(&stderr);
    assert!(status.success(), "{command:?}: {errors}");
    String::from_utf8(stdout).unwrap()
}

/// True on a system with Debian's packages.
fn is_debian() -> bool {
    Path::new("/usr/bin/dpkg-deb").exists()
}

#[test]
fn debian_packages_have_what_a_program_needs() {
    if !is_debian() {
        println!("not a Debian system: nothing to build");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (packages, root) = (dir.path().join("packages"), dir.path().join("root"));
    let scripts = crate_dir().parent().unwrap().join("scripts");
    let build = library(Linked::Shared);
    let names = run(Command::new(scripts.join("ffi-deb"))
        .arg(&packages)
        .arg(build.parent().unwrap())
        .env("COMPRESSION", "none"));
    let names: Vec<_> = names.lines().collect();
    assert!(
        matches!(names[..], [dev, run] if dev.starts_with("libdatapipe-dev_0.")
            && run.starts_with("libdatapipe0.")),
        "{names:?}"
    );
    for name in &names {
        let package = packages.join(name);
        run(Command::new("dpkg-deb").arg("-x").arg(&package).arg(&root));
        let depends = run(Command::new("dpkg-deb")
            .arg("-f")
            .arg(package)
            .arg("Depends"));
        let needed = match name.contains("-dev") {
            true => concat!(" (= ", env!("CARGO_PKG_VERSION"), "-1)"),
            false => "libc6 (>= 2.",
        };
        assert!(depends.contains(needed), "{depends}");
    }

    // A program is compiled against what the packages have installed.
    let multiarch = run(Command::new("cc").arg("-print-multiarch"));
    let lib = root.join("usr/lib").join(multiarch.trim());
    let flags = run(Command::new("pkg-config")
        .env("PKG_CONFIG_LIBDIR", lib.join("pkgconfig"))
        .env("PKG_CONFIG_SYSROOT_DIR", &root)
        .args(["--cflags", "--libs", "datapipe"]));
    let program = dir.path().join("program");
    let source = crate_dir().join("../examples/c/scanner.c");
    run(Command::new("cc")
        .arg(source)
        .arg("-o")
        .arg(&program)
        .args(flags.split_whitespace()));
    let input = dir.path().join("input");
    fs::write(&input, "clean").unwrap();
    let scanned = run(Command::new(program)
        .arg("virus")
        .env("LD_LIBRARY_PATH", lib)
        .stdin(fs::File::open(input).unwrap()));
    assert_eq!(scanned, "clean");
}
