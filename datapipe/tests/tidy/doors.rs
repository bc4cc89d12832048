//! A `mod.rs` is a door: module docs, module lines and re-exports.

use super::functions::functions;
use super::sources::sources;

/// Lines of the longest door, and of the longest function body in one.
const LONGEST_DOOR: usize = 120;
const LONGEST_BODY: usize = 10;

/// Files that are rooms and not doors yet. Only ever remove some.
const ROOMS: &[&str] = &[];

#[test]
fn module_files_are_doors() {
    let mut rooms = Vec::new();
    for (name, text) in sources() {
        if !name.contains("/src/") || !name.ends_with("/mod.rs") {
            continue;
        }
        let lines = text.lines().count();
        let long = functions(&text).find(|function| function.body > LONGEST_BODY);
        if lines > LONGEST_DOOR || long.is_some() {
            let long = long.map(|function| (function.line, function.body));
            assert!(
                ROOMS.contains(&&*name),
                "{name} is a door of at most {LONGEST_DOOR} lines, and its function bodies have at \
                 most {LONGEST_BODY}: it has {lines} lines, and a body (line, length) {long:?}"
            );
            rooms.push(name);
        }
    }
    for room in ROOMS {
        assert!(
            rooms.iter().any(|name| name == room),
            "{room} is a door now: remove it from ROOMS"
        );
    }
}
