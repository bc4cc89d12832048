//! A terminal that interprets what a program writes, as far as `datapiped` uses it: two screens,
//! the cursor, and modes. What it does not know is a failure.

use unicode_width::UnicodeWidthChar;

/// A terminal's screen and modes.
pub(crate) struct Vt {
    columns: usize,
    rows: usize,
    cells: Vec<Vec<char>>,
    row: usize,
    column: usize,
    pub(crate) is_alternate: bool,
    pub(crate) shows_cursor: bool,
    pub(crate) wraps: bool,
    /// Number of times that a whole screen was erased.
    pub(crate) erased: usize,
    /// Numbers of the colours that were set.
    pub(crate) colors: Vec<String>,
    /// Bytes of a sequence that is not complete.
    rest: Vec<u8>,
}

impl Vt {
    pub(crate) fn new(columns: usize, rows: usize) -> Self {
        Self {
            columns,
            rows,
            cells: vec![vec![' '; columns]; rows],
            row: 0,
            column: 0,
            is_alternate: false,
            shows_cursor: true,
            wraps: true,
            erased: 0,
            colors: Vec::new(),
            rest: Vec::new(),
        }
    }

    /// Changes the size, and forgets the content.
    pub(crate) fn resize(&mut self, columns: usize, rows: usize) {
        (self.columns, self.rows) = (columns, rows);
        self.cells = vec![vec!['?'; columns]; rows];
        (self.row, self.column) = (0, 0);
    }

    /// True if the modes are those of a terminal that no program uses.
    pub(crate) fn is_at_rest(&self) -> bool {
        !self.is_alternate && self.shows_cursor && self.wraps
    }

    /// Text of the screen, a string for each row.
    pub(crate) fn lines(&self) -> Vec<String> {
        let text = |row: &Vec<char>| row.iter().filter(|c| **c != '\0').collect::<String>();
        self.cells
            .iter()
            .map(|row| text(row).trim_end().to_owned())
            .collect()
    }

    pub(crate) fn text(&self) -> String {
        self.lines().join("\n")
    }

    /// Interprets what a program has written.
    pub(crate) fn write(&mut self, bytes: &[u8]) {
        self.rest.extend_from_slice(bytes);
        let bytes = std::mem::take(&mut self.rest);
        let mut left = &bytes[..];
        while let Some((&first, rest)) = left.split_first() {
            if first != 0x1b {
                let length = match first {
                    0..=0x7f => 1,
                    0xc0..=0xdf => 2,
                    0xe0..=0xef => 3,
                    _ => 4,
                };
                let Some(character) = left.get(..length) else {
                    break;
                };
                let character = std::str::from_utf8(character).expect("UTF-8");
                self.put(character.chars().next().unwrap());
                left = &left[length..];
                continue;
            }
            let Some(&kind) = rest.first() else { break };
            assert_eq!(
                kind,
                b'[',
                "only control sequences: {:?}",
                rest.escape_ascii().to_string()
            );
            let Some(end) = rest.iter().skip(1).position(|b| (0x40..=0x7e).contains(b)) else {
                break;
            };
            let arguments = std::str::from_utf8(&rest[1..=end]).unwrap();
            self.control(arguments, rest[end + 1]);
            left = &rest[end + 2..];
        }
        self.rest = left.to_vec();
    }

    fn put(&mut self, c: char) {
        match c {
            '\r' => self.column = 0,
            '\n' => self.row = (self.row + 1).min(self.rows - 1),
            _ => {
                assert!(
                    !c.is_control(),
                    "a control character {c:?} reached the terminal"
                );
                let width = c.width().unwrap_or(0);
                if width == 0 {
                    return;
                }
                // Without wrapping, what is beyond the edge overwrites the last column.
                let column = self.column.min(self.columns - width);
                self.cells[self.row][column] = c;
                if width == 2 {
                    self.cells[self.row][column + 1] = '\0';
                }
                self.column = column + width;
            }
        }
    }

    fn control(&mut self, arguments: &str, kind: u8) {
        let erase = |cells: &mut [char]| cells.fill(' ');
        match (arguments, kind) {
            ("?1049", b'h' | b'l') => {
                self.is_alternate = kind == b'h';
                self.cells.iter_mut().for_each(|row| erase(row));
                (self.row, self.column) = (0, 0);
            }
            ("?25", b'h' | b'l') => self.shows_cursor = kind == b'h',
            ("?7", b'h' | b'l') => self.wraps = kind == b'h',
            ("?2026", b'h' | b'l') => {}
            ("2", b'J') => {
                self.erased += 1;
                self.cells.iter_mut().for_each(|row| erase(row));
            }
            ("" | "0", b'K') => {
                let column = self.column.min(self.columns - 1);
                erase(&mut self.cells[self.row][column..]);
            }
            (_, b'H') => {
                let mut numbers = arguments
                    .split(';')
                    .map(|number| number.parse().unwrap_or(1));
                self.row = numbers.next().unwrap_or(1).min(self.rows) - 1;
                self.column = numbers.next().unwrap_or(1).min(self.columns) - 1;
            }
            (_, b'm') if arguments.starts_with("38") => self.colors.push(arguments.to_owned()),
            (_, b'm') => {}
            _ => panic!("unknown sequence: {arguments} {}", kind as char),
        }
    }
}
