//! The binary interface: layouts of structs, constants, declarations of functions.

use std::env;
use std::fmt::Write;
use std::fs;

use datapipe_ffi::abi::*;
use datapipe_ffi::boundary::Versioned;

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
        layout::<dp_daemon_seat>(),
        layout::<dp_entry>(),
        layout::<dp_event>(),
        layout::<dp_hooks>(),
        layout::<dp_item>(),
        layout::<dp_list_options>(),
        layout::<dp_listed_archive>(),
        layout::<dp_medium>(),
        layout::<dp_medium_writing>(),
        layout::<dp_module>(),
        layout::<dp_module_arguments>(),
        layout::<dp_output>(),
        layout::<dp_pipe_json>(),
        layout::<dp_pipe_options>(),
        layout::<dp_pipe_result>(),
        layout::<dp_pipe_status>(),
        layout::<dp_position>(),
        layout::<dp_problem>(),
        layout::<dp_progress>(),
        layout::<dp_read_result>(),
        layout::<dp_record>(),
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

/// The declarations of the header, each on one line, without comments.
fn declarations(header: &str) -> Vec<String> {
    let mut code = String::new();
    for (index, part) in header.split("/*").enumerate() {
        let part = match index {
            0 => part,
            _ => part.split_once("*/").expect("a comment ends").1,
        };
        let lines = part.lines().map(str::trim);
        let is_code =
            |line: &&str| !line.starts_with('#') && !["extern \"C\" {", "}"].contains(line);
        for line in lines.filter(is_code) {
            code += line;
            code.push(' ');
        }
    }
    let (mut found, mut depth, mut one) = (Vec::new(), 0, String::new());
    for c in code.chars() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ';' if depth == 0 => {
                found.push(one.split_whitespace().collect::<Vec<_>>().join(" "));
                one.clear();
                continue;
            }
            _ => {}
        }
        one.push(c);
    }
    found
}

/// Fields of a struct as the header declares them, with their types.
fn fields<'d>(declarations: &'d [String], name: &str) -> Vec<&'d str> {
    let end = format!("}} {name}");
    let mut bodies = declarations
        .iter()
        .filter_map(|one| one.strip_prefix("typedef struct {")?.strip_suffix(&end));
    let body = bodies.next().expect("a struct of the header");
    body.split(';')
        .map(str::trim)
        .filter(|field| !field.is_empty())
        .collect()
}

/// The interface as a text with a line for each thing, in which a change is a line of a diff.
fn dump() -> String {
    let header = fs::read_to_string(crate_dir().join("include/datapipe.h")).unwrap();
    let declarations = declarations(&header);
    let mut text = String::new();
    let mut lines: Vec<_> = declarations
        .iter()
        .filter(|one| !one.contains('{'))
        .collect();
    lines.sort_unstable();
    for line in lines {
        writeln!(text, "{line}").unwrap();
    }
    for (name, size, first, offsets) in layouts() {
        writeln!(text, "struct {name}: {size} bytes, at first {first}").unwrap();
        let fields = fields(&declarations, name);
        assert_eq!(fields.len(), offsets.len(), "each field of {name}");
        for ((_, offset), field) in offsets.iter().zip(fields) {
            writeln!(text, "    {offset} {field}").unwrap();
        }
    }
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

#[test]
fn declarations_are_whole() {
    let text = "/* a; b */\n#define X 1\nint f(int a,\n  char *b);\n/** c */\ntypedef struct {\n\
                    /** d; */\n    int e;\n    char g[4];\n} h;\n";
    let found = declarations(text);
    assert_eq!(
        found,
        [
            "int f(int a, char *b)",
            "typedef struct { int e; char g[4]; } h"
        ]
    );
    assert_eq!(fields(&found, "h"), ["int e", "char g[4]"]);
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
