//! The binary interface: the layout of each struct, the constants, and the functions.

use std::env;
use std::fmt::Write;
use std::fs;

use datapipe_ffi::abi::*;
use datapipe_ffi::boundary::Versioned;

use super::symbols::declared;
use super::{compile, crate_dir};

/// Layout of a struct: its name, its size, its size in the first version, its fields with their
/// offsets.
type Layout = (&'static str, usize, usize, &'static [(&'static str, usize)]);

fn layout<T: Versioned>() -> Layout {
    (T::NAME, size_of::<T>(), T::FIRST_SIZE, T::FIELDS)
}

/// The layouts of all structs.
fn layouts() -> Vec<Layout> {
    vec![
        layout::<dp_analysis>(),
        layout::<dp_backup_options>(),
        layout::<dp_backup_result>(),
        layout::<dp_block>(),
        layout::<dp_copy_options>(),
        layout::<dp_copy_result>(),
        layout::<dp_entry>(),
        layout::<dp_event>(),
        layout::<dp_hooks>(),
        layout::<dp_list_options>(),
        layout::<dp_listed_archive>(),
        layout::<dp_output>(),
        layout::<dp_pipe_options>(),
        layout::<dp_pipe_result>(),
        layout::<dp_pipe_status>(),
        layout::<dp_problem>(),
        layout::<dp_progress>(),
        layout::<dp_read_result>(),
        layout::<dp_restore_options>(),
        layout::<dp_secret>(),
        layout::<dp_selection>(),
        layout::<dp_sessions_options>(),
        layout::<dp_sessions_result>(),
        layout::<dp_stage>(),
        layout::<dp_stage_status>(),
        layout::<dp_verify_options>(),
    ]
}

#[test]
fn layout_of_structs_is_the_same_in_c() {
    let mut source = "#include <datapipe.h>\nint main(void) { return 0; }\n".to_owned();
    for (name, size, _, fields) in layouts() {
        let what = format!("\"size of {name}\"");
        writeln!(source, "_Static_assert(sizeof({name}) == {size}, {what});").unwrap();
        for (field, offset) in fields {
            let what = format!("\"{name}.{field}\"");
            let found = format!("offsetof({name}, {field})");
            writeln!(source, "_Static_assert({found} == {offset}, {what});").unwrap();
        }
    }
    let header = fs::read_to_string(crate_dir().join("include/datapipe.h")).unwrap();
    let structs = header.matches("typedef struct {").count();
    assert_eq!(
        layouts().len(),
        structs,
        "each struct of the header is checked"
    );
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("layout.c");
    fs::write(&path, source).unwrap();
    compile(&path);
}

/// The interface as a text with a line for each thing, in which a change is a line of a diff.
fn dump() -> String {
    let mut text = String::new();
    for name in declared() {
        writeln!(text, "function {name}").unwrap();
    }
    for (name, size, first, fields) in layouts() {
        writeln!(text, "struct {name}: {size} bytes, at first {first}").unwrap();
        for (field, offset) in fields {
            writeln!(text, "    {offset} {field}").unwrap();
        }
    }
    let header = fs::read_to_string(crate_dir().join("include/datapipe.h")).unwrap();
    let constants = header
        .lines()
        .filter_map(|line| line.strip_prefix("#define DP_"));
    let mut constants: Vec<_> = constants
        .filter(|line| !line.starts_with("VERSION"))
        .collect();
    constants.sort_unstable();
    for constant in constants {
        writeln!(text, "constant DP_{constant}").unwrap();
    }
    text
}

/// A program that was compiled with a released header runs with later libraries: functions and
/// constants stay, and structs grow at their end. The file is that of the last release; until the
/// first one it follows the sources.
#[test]
fn interface_is_that_of_the_last_release() {
    let path = crate_dir().join("tests/abi.txt");
    let dump = dump();
    if env::var_os("DATAPIPE_WRITE_ABI").is_some() {
        fs::write(&path, &dump).unwrap();
    }
    let released = fs::read_to_string(path).unwrap_or_default();
    let (now, before): (Vec<_>, Vec<_>) = (dump.lines().collect(), released.lines().collect());
    let gone: Vec<_> = before.iter().filter(|line| !now.contains(line)).collect();
    let new: Vec<_> = now.iter().filter(|line| !before.contains(line)).collect();
    assert!(
        dump == released,
        "the interface has changed: gone {gone:#?}, new {new:#?}. What is gone breaks programs \
         that are installed; write the file with DATAPIPE_WRITE_ABI=1 if the change is meant"
    );
}
