//! The header is the one that cbindgen makes from the sources.
//!
//! `DATAPIPE_WRITE_HEADER=1 cargo test -p datapipe-ffi --test header` writes it.

use std::fs;
use std::path::Path;

use cbindgen::{Builder, Config, DocumentationStyle, Language, Style};

/// First lines of the header.
const INTRODUCTION: &str = "\
/*
 * DataPipe: moves data through a chain of stages that share one pool of buffers.
 * Whole jobs in one call: backup, restore, verification, list, copy; pipes of stages in C.
 *
 *     #include <datapipe.h>
 *     cc program.c $(pkg-config --cflags --libs datapipe)
 *
 *     const char *sources[] = {\"/srv/data\"};
 *     dp_backup_options options = {.size = sizeof options, .medium = \"nightly.tap\",
 *                                  .sources = sources, .source_count = 1};
 *     if (dp_backup(&options, NULL) > DP_INCOMPLETE)
 *         fprintf(stderr, \"%s\\n\", dp_error_message(0));
 *
 * Rules for all functions; docs/c-abi.md has them at length:
 *
 * - A function returns a dp_status: 0, DP_INCOMPLETE, or an error from 100 on, whose message
 *   dp_error_message returns on the same thread.
 * - A struct begins with its size: set .size = sizeof it, and all fields that are not used to 0.
 *   It may grow at its end in later versions; a program need not be compiled again.
 * - A pointer is NULL or valid. A text ends with a zero byte. What a call gets is copied, and may
 *   be freed when the call returns. What a function of the program gets is valid until it returns.
 * - A result is written if the call succeeds, and only then.
 * - A handle (dp_cancel *, dp_pipe *, ...) is a number and not an address. NULL, a handle that was
 *   freed, one of another kind and one of another process are refused.
 * - Functions of the program are called on the threads that are named at their types. They return:
 *   no exception and no longjmp leaves them.
 * - After a fork, the child can only exec, unless the fork came before the first call.
 *
 * Generated from the sources of datapipe-ffi: change those, and not this file.
 */";

/// Types of arguments in Rust, with the type in C that each is.
const ARGUMENTS: [(&str, &str, &str); 11] = [
    ("In_", "const ", " *"),
    ("InArray_", "const ", " *"),
    ("OutArray_", "", " *"),
    ("OutCount", "size_t *", ""),
    ("OutHandle_", "", " **"),
    ("Out_", "", " *"),
    ("Handle_", "", " *"),
    ("TextList", "const char *const *", ""),
    ("Text", "const char *", ""),
    ("Bytes", "const uint8_t *", ""),
    ("User", "void *", ""),
];

/// The header as cbindgen makes it, with C types in the place of those of Rust.
fn header() -> String {
    let config = Config {
        language: Language::C,
        style: Style::Type,
        cpp_compat: true,
        include_guard: Some("DATAPIPE_H".to_owned()),
        header: Some(INTRODUCTION.to_owned()),
        no_includes: true,
        sys_includes: vec!["stddef.h".to_owned(), "stdint.h".to_owned()],
        documentation_style: DocumentationStyle::Doxy,
        usize_is_size_t: true,
        line_length: 100,
        ..Config::default()
    };
    let crate_dir = Path::new(env!("CARGO_MANIFEST_DIR"));
    let builder = Builder::new().with_crate(crate_dir).with_config(config);
    let mut generated = Vec::new();
    builder
        .generate()
        .expect("the sources")
        .write(&mut generated);
    let generated = String::from_utf8(generated).expect("a header in UTF-8");
    let blocks = generated
        .split("\n\n")
        .filter(|block| !is_argument_type(block));
    let blocks: Vec<_> = blocks.map(on_one_line).collect();
    replace_arguments(&join(&blocks))
}

/// A block with its comment on one line, if it has one line of text and it fits.
fn on_one_line(block: &str) -> String {
    let lines: Vec<_> = block.lines().collect();
    match &lines[..] {
        ["/**", text, " */", code @ ..] if text.len() <= 94 => {
            let text = text.trim_start_matches(" *");
            format!("/**{text} */\n{}", code.join("\n"))
        }
        _ => block.to_owned(),
    }
}

/// Joins blocks by an empty line, except constants of one kind.
fn join(blocks: &[String]) -> String {
    let mut text = String::new();
    let mut kind_before = None;
    for block in blocks {
        let kind = kind_of(block);
        if !text.is_empty() {
            text += if kind.is_some() && kind == kind_before {
                "\n"
            } else {
                "\n\n"
            };
        }
        text += block;
        kind_before = kind;
    }
    text
}

/// Prefix of the name of a constant.
fn kind_of(block: &str) -> Option<&str> {
    let name = block.lines().last()?.strip_prefix("#define DP_")?;
    name.split('_').next()
}

/// True if a block declares one of the types of arguments.
fn is_argument_type(block: &str) -> bool {
    let last = block.lines().last().unwrap_or_default();
    let name = last
        .trim_end_matches(';')
        .rsplit([' ', '*'])
        .next()
        .unwrap_or_default();
    let is_type = last.starts_with("typedef ") && !last.contains('(');
    is_type && replaced(name).is_some()
}

/// The parts of the C type, before the name: `const dp_hooks *`.
fn replaced(word: &str) -> Option<String> {
    ARGUMENTS.iter().find_map(|(name, before, after)| {
        let rest = word.strip_prefix(name)?;
        (name.ends_with('_') || rest.is_empty()).then(|| format!("{before}{rest}{after}"))
    })
}

/// Replaces the types of arguments outside of comments. A star joins the name that follows it.
fn replace_arguments(text: &str) -> String {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut out = String::new();
    for line in text.lines() {
        let mut rest = line;
        if line.trim_start().starts_with('*') {
            out += line;
            rest = "";
        }
        while !rest.is_empty() {
            let end = rest.find(|c| !is_word(c)).unwrap_or(rest.len()).max(1);
            let (word, after) = rest.split_at(end);
            match replaced(word) {
                Some(c_type) => {
                    out += &c_type;
                    rest = after.strip_prefix(' ').unwrap_or(after);
                }
                None => {
                    out += word;
                    rest = after;
                }
            }
        }
        out.push('\n');
    }
    out
}

#[test]
fn header_is_that_of_the_sources() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("include/datapipe.h");
    let header = header();
    if std::env::var_os("DATAPIPE_WRITE_HEADER").is_some() {
        fs::write(&path, &header).expect("write the header");
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    let differs = found.lines().zip(header.lines()).position(|(a, b)| a != b);
    assert!(
        found == header,
        "include/datapipe.h differs from the sources at line {:?}: write it with \
         DATAPIPE_WRITE_HEADER=1",
        differs.map(|line| line + 1)
    );
}
