//! The functions of a source, as rustfmt formats them.

/// A function of a source.
pub(crate) struct Function {
    /// Its first line, from 1.
    pub(crate) line: usize,
    /// Lines from its first to its closing brace, without that.
    pub(crate) len: usize,
    /// Lines between its braces.
    pub(crate) body: usize,
}

/// Every function of a source that has a body of at least one line.
pub(crate) fn functions(text: &str) -> impl Iterator<Item = Function> + '_ {
    let lines: Vec<&str> = text.lines().collect();
    (0..lines.len()).filter_map(move |start| {
        let line = lines[start];
        let trimmed = line.trim_start();
        let mut words = trimmed.split_whitespace().take(5);
        let is_function = words
            .by_ref()
            .take_while(|word| *word == "fn" || is_qualifier(word))
            .any(|word| word == "fn");
        if !is_function {
            return None;
        }
        let indent = &line[..line.len() - trimmed.len()];
        let close = format!("{indent}}}");
        let len = lines[start..].iter().position(|line| *line == close)?;
        // The signature ends at the first line that opens a block, or, for a method that a trait
        // only declares, at a semicolon before that.
        let end = lines[start..start + len]
            .iter()
            .position(|line| line.ends_with(['{', ';']))?;
        let open = lines[start + end].ends_with('{').then_some(end)?;
        Some(Function {
            line: start + 1,
            len,
            body: len - open - 1,
        })
    })
}

fn is_qualifier(word: &str) -> bool {
    word.starts_with("pub") || ["const", "async", "unsafe", "extern", "\"C\""].contains(&word)
}
