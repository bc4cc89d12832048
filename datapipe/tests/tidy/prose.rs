//! Forbidden openings of doc comments, forbidden words, long lines.
//!
//! The check is a floor and not the aim: read every comment.

use std::sync::LazyLock;

use super::sources::{pages, sources};

const COLUMNS: usize = 100;

/// Words that a summary line does not begin with. The hyphens keep this file free of them.
const CLAUSES: &str = "What Who Whose Whom Who-ever What-ever Whether Where Why When Which How Of \
                       That Is Are Does";

/// Forbidden words. They are written with a dot in each, so that this file does not contain them.
static FORBIDDEN: LazyLock<Vec<String>> = LazyLock::new(|| {
    let words = "no.body some.body any.body every.body who.ever whom.ever what.ever which.ever \
                 st.and st.ands l.ies be.hind t.old he.ard s.aid";
    words.split(' ').map(|word| word.replace('.', "")).collect()
});

/// Findings in all files, one line each.
#[derive(Default)]
struct Findings {
    openings: Vec<String>,
    words: Vec<String>,
    long_lines: Vec<String>,
}

impl Findings {
    /// Checks a Rust source: doc comments, comments of module lines, words and columns.
    fn add_source(&mut self, name: &str, text: &str) {
        let mut in_docs = false;
        for (number, line) in (1..).zip(text.lines()) {
            let at = || format!("{name}:{number}: {}", line.trim());
            let docs = doc_text(line);
            let opening = match docs {
                Some(docs) => !in_docs && starts_with_clause(docs, str::eq),
                None => module_comment(line)
                    .is_some_and(|text| starts_with_clause(text, str::eq_ignore_ascii_case)),
            };
            in_docs = docs.is_some();
            if opening {
                self.openings.push(at());
            }
            if has_forbidden_word(line) {
                self.words.push(at());
            }
            if line.chars().count() > COLUMNS {
                self.long_lines.push(at());
            }
        }
    }
}

/// The text of a doc comment line.
fn doc_text(line: &str) -> Option<&str> {
    let line = line.trim_start();
    let text = line
        .strip_prefix("///")
        .or_else(|| line.strip_prefix("//!"))?;
    Some(text.strip_prefix(' ').unwrap_or(text))
}

/// The comment after `mod NAME;`.
fn module_comment(line: &str) -> Option<&str> {
    let (code, comment) = line.split_once("; // ")?;
    let code = code.trim_start();
    (code.starts_with("mod ") || code.starts_with("pub") && code.contains(" mod "))
        .then_some(comment)
}

fn starts_with_clause(text: &str, same: fn(&str, &str) -> bool) -> bool {
    let end = text.find(|c: char| !is_word(c)).unwrap_or(text.len());
    CLAUSES
        .split_whitespace()
        .any(|clause| same(&clause.replace('-', ""), &text[..end]))
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// True if a line has a forbidden word, or negates a noun with "no" instead of "not a".
fn has_forbidden_word(line: &str) -> bool {
    let line = line.to_lowercase();
    let mut words = line.split(|c: char| !is_word(c));
    let forbidden = words.any(|word| FORBIDDEN.iter().any(|known| known == word));
    forbidden
        || ["is", "are", "was", "were"]
            .iter()
            .any(|verb| has_negation(&line, verb))
}

/// True if a line has "VERB no X", where X is not a comparison and VERB does not follow "there".
fn has_negation(line: &str, verb: &str) -> bool {
    let phrase = format!("{verb} no ");
    line.match_indices(&phrase).any(|(at, _)| {
        let (before, after) = (&line[..at], &line[at + phrase.len()..]);
        let end = after.find(|c: char| !is_word(c)).unwrap_or(after.len());
        !before.ends_with(is_word)
            && !before.ends_with("there ")
            && !["longer", "more", "less"].contains(&&after[..end])
    })
}

#[track_caller]
fn assert_none(what: &str, found: &[String]) {
    assert!(
        found.is_empty(),
        "{} {what}:\n{}",
        found.len(),
        found.join("\n")
    );
}

#[test]
fn prose_follows_the_habits() {
    let mut found = Findings::default();
    for (name, text) in sources() {
        found.add_source(&name, &text);
    }
    let mut in_pages = Vec::new();
    for (name, text) in pages() {
        // A rule quotes what it forbids.
        let is_quoted_fault = |line: &str| line.trim_start().starts_with("wrong:");
        let lines = (1..)
            .zip(text.lines())
            .filter(|(_, line)| has_forbidden_word(line) && !is_quoted_fault(line));
        in_pages.extend(lines.map(|(number, line)| format!("{name}:{number}: {}", line.trim())));
    }
    assert_none("doc comments open with a clause", &found.openings);
    assert_none("lines of source have a forbidden word", &found.words);
    assert_none("lines have more than 100 columns", &found.long_lines);
    assert_none("lines of pages have a forbidden word", &in_pages);
}

#[test]
fn prose_check_finds_what_it_forbids() {
    let mut found = Findings::default();
    let source =
        "//! Wh\u{61}t it is.\n\n/// Where it is.\n/// Whether it is.\nmod a; // where it is\n";
    found.add_source("a.rs", source);
    assert_eq!(found.openings.len(), 3, "{:?}", found.openings);
    assert!(has_forbidden_word(&FORBIDDEN[0]));
    assert!(has_forbidden_word(&format!("it is {} file", "no")));
    assert!(!has_forbidden_word(
        "there is no file, and it is no longer there"
    ));
}
