//! The pages and the code name each other correctly: titles that the code cites, types that the
//! glossary names, and files that the crate's documentation names.

use std::collections::BTreeSet;
use std::fs;

use super::sources::{root, sources};

/// A source as one line, without the marks of its comments: a citation may be broken over lines.
fn joined(text: &str) -> String {
    let lines = text.lines().map(|line| {
        let line = line.trim_start();
        let comment = ["///", "//!", "//"].iter();
        let text = comment.clone().find_map(|mark| line.strip_prefix(mark));
        text.unwrap_or(line).trim()
    });
    lines.collect::<Vec<_>>().join(" ")
}

/// Every page and title that a source cites: the page's path, a comma, the title in quotes.
fn citations(text: &str) -> Vec<(String, String)> {
    let joined = joined(text);
    let cited = joined.split("docs/").skip(1).filter_map(|rest| {
        let (page, rest) = rest.split_once(".md")?;
        let rest = rest.strip_prefix('`').unwrap_or(rest);
        let (title, _) = rest.strip_prefix(", \"")?.split_once('"')?;
        let is_page = page.chars().all(|c| c.is_ascii_lowercase() || c == '-');
        is_page.then(|| (format!("{page}.md"), title.to_owned()))
    });
    cited.collect()
}

#[test]
fn cited_titles_are_headings_of_their_pages() {
    let mut count = 0;
    for (name, text) in sources() {
        for (page, title) in citations(&text) {
            let text = fs::read_to_string(root().join("docs").join(&page));
            let text = text.unwrap_or_else(|error| panic!("{name} cites docs/{page}: {error}"));
            let is_heading = text.lines().any(|line| {
                line.starts_with('#') && line.trim_start_matches('#').trim_start() == title
            });
            assert!(is_heading, "{name}: docs/{page} has no heading \"{title}\"");
            count += 1;
        }
    }
    assert!(count > 10, "found {count} citations");
}

#[test]
fn citation_that_is_broken_over_lines_is_found() {
    let page = "shared-memory.md";
    let source = format!("//! See `docs/{page}`, \"Some\n//! title\", and more.\n");
    let expected = (page.to_owned(), "Some title".to_owned());
    assert_eq!(citations(&source), [expected]);
}

/// The words that follow a keyword of a definition in the sources: names of types, traits, modules
/// and functions.
fn definitions(sources: &[(String, String)]) -> BTreeSet<&str> {
    let keywords = ["struct", "enum", "union", "trait", "type", "mod", "fn"];
    let mut names = BTreeSet::new();
    for (_, text) in sources {
        let mut words = text.split(|c: char| !c.is_alphanumeric() && c != '_');
        while let Some(word) = words.next() {
            if keywords.contains(&word) {
                names.extend(words.next());
            }
        }
    }
    names
}

/// Names in backquotes in the tables of a page: `Type`, `Type::member`, `module::function`.
fn quoted_names(page: &str) -> impl Iterator<Item = &str> {
    let rows = page.lines().filter(|line| line.starts_with('|'));
    let quoted = rows.flat_map(|row| row.split('`').skip(1).step_by(2));
    quoted.filter(|name| name.contains("::") || name.starts_with(|c: char| c.is_uppercase()))
}

#[test]
fn glossary_names_what_the_sources_define() {
    let mut sources = sources();
    sources.retain(|(name, _)| name.contains("/src/"));
    let definitions = definitions(&sources);
    // A variant of an enum follows no keyword: it begins a line.
    let is_variant = |name: &str| {
        let mut lines = sources.iter().flat_map(|(_, text)| text.lines());
        lines.any(|line| {
            let rest = line.trim_start().strip_prefix(name);
            rest.is_some_and(|rest| rest.starts_with([',', '(', ' ']))
        })
    };
    let glossary = fs::read_to_string(root().join("docs/glossary.md")).unwrap();
    let mut count = 0;
    for name in quoted_names(&glossary) {
        for part in name.split("::") {
            assert!(
                definitions.contains(part) || is_variant(part),
                "docs/glossary.md: the sources do not define `{part}` of `{name}`"
            );
        }
        count += 1;
    }
    assert!(count > 40, "found {count} names");
}

#[test]
fn files_that_the_crate_docs_name_exist() {
    let docs = fs::read_to_string(root().join("datapipe/src/lib.rs")).unwrap();
    let rows = docs.lines().filter(|line| line.starts_with("//! |"));
    let files = rows.flat_map(|row| row.split('`').skip(1).step_by(2));
    let mut count = 0;
    for file in files.filter(|name| name.ends_with(".rs")) {
        assert!(root().join(file).exists(), "lib.rs names {file}");
        count += 1;
    }
    assert!(count > 10, "found {count} files");
}
