//! Modules of the tests' pipes, in this test binary.

use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;

use datapipe::archive::ArchiveHead;
use datapipe::host::{Modules, StageArgs, StageMessage};
use datapipe::media::TapeReader;
use datapipe::prelude::*;
use datapipe::stage::{HeadStage, MiddleStage};

/// Head that sends blocks of one number each, up to `end`.
struct Numbers {
    next: u64,
    end: u64,
}

impl Head for Numbers {
    fn fill(&mut self, block: &mut Block) -> Result<Fill, StageError> {
        if self.next == self.end {
            return Ok(Fill::End);
        }
        block.put(&self.next.to_le_bytes())?;
        self.next += 1;
        Ok(Fill::Block)
    }
}

/// Transform that sends its input on, and fails at the block `fail_at`.
struct Pass {
    fail_at: Option<u64>,
    seen: u64,
}

impl Transform for Pass {
    fn transform(&mut self, input: &Block, output: &mut Block) -> Result<Verdict, StageError> {
        if self.fail_at == Some(self.seen) {
            return Err(StageError::new("I do not like \x1b[31mthis one"));
        }
        self.seen += 1;
        output.put(input.bytes())?;
        Ok(Verdict::Send)
    }
}

/// Transform that takes memory for each block, and fails if it gets none.
struct Hog {
    bytes: usize,
}

impl Transform for Hog {
    fn transform(&mut self, input: &Block, output: &mut Block) -> Result<Verdict, StageError> {
        let mut memory: Vec<u8> = Vec::new();
        memory.try_reserve_exact(self.bytes)?;
        memory.resize(self.bytes, 1);
        output.put(input.bytes())?;
        Ok(Verdict::Send)
    }
}

/// Tail that counts bytes, and writes the sum to its file, if it has one.
struct Count {
    sum: u64,
    file: Option<PathBuf>,
}

impl Tail for Count {
    fn write(&mut self, block: &Block) -> Result<(), StageError> {
        self.sum += block.bytes().len() as u64;
        Ok(())
    }

    fn finish(&mut self) -> Result<(), StageError> {
        if let Some(file) = &self.file {
            write!(File::create(file)?, "{}", self.sum)?;
        }
        Ok(())
    }
}

/// Head that ends after some blocks of an archive.
struct Cut {
    head: ArchiveHead<TapeReader>,
    left: u64,
}

impl Head for Cut {
    fn fill(&mut self, block: &mut Block) -> Result<Fill, StageError> {
        if self.left == 0 {
            return Ok(Fill::End);
        }
        self.left -= 1;
        self.head.fill(block)
    }
}

fn cut_head(call: &StageArgs<'_>) -> Result<HeadStage<'static>, StageError> {
    let mut fields = call.fields()?;
    let path = fields.path("path")?.unwrap_or_default();
    let (left, _) = (fields.number("blocks")?, fields.flag("salvage")?);
    fields.end()?;
    let tape = VirtualTape::open(call.allow_read(&path)?)?;
    let mut head = Some(ArchiveReader::open(tape, None)?.head());
    Ok(Stage::head("cut", move |_| {
        let head = head.take().expect("one instance");
        Cut { head, left }
    }))
}

fn peek(call: &StageArgs<'_>) -> Result<MiddleStage<'static>, StageError> {
    let content = fs::read(call.allow_read(call.text()?)?)?;
    let mut content = Some(StageMessage::new("content", content));
    call.add_message_source(move || content.take().into_iter().flatten().collect());
    let (fail_at, seen) = (None, 0);
    Ok(Stage::transform("peek", move |_| Pass { fail_at, seen }))
}

/// The modules of the library, and those that read files.
fn reading_modules() -> Modules {
    datapipe::modules()
        .with("datapipe.archive-head:cut", cut_head)
        .with("peek", peek)
}

/// The modules of this file and those of the library.
///
/// `numbers` has the number of blocks as its argument, or `forever`; `noisy` sends 200 messages at
/// a time; `troubled` reports as many problems as its argument says, and with a second word goes on
/// for ever; `wail` writes as many lines to its standard error as its argument says, and goes on
/// for ever after one; `datapipe.archive-head:cut` reads as many blocks of a tape as its argument
/// says; `read` sends as many blocks as its file has bytes; `pass` fails at the block
/// of its argument, and `peek` sends the content of the file of its argument as a message;
/// `hog` takes the MiB of its argument; `count` writes to the file of its
/// argument.
pub(crate) fn modules() -> Modules {
    reading_modules()
        .with("numbers", |call| {
            let end = call.text()?;
            let end = if end == "forever" {
                u64::MAX
            } else {
                end.parse()?
            };
            Ok(Stage::head("numbers", move |_| Numbers { next: 0, end }))
        })
        .with("noisy", |call| {
            let mut sent = 0;
            call.add_message_source(move || {
                let messages = (sent..sent + 200)
                    .map(|n| StageMessage::new(format!("text {n}"), format!("data {n}")));
                sent += 200;
                messages.collect::<Result<_, _>>().unwrap_or_default()
            });
            Ok(Stage::head("noisy", |_| Numbers {
                next: 0,
                end: u64::MAX,
            }))
        })
        .with("troubled", |call| {
            let (mut all, forever) = match call.text()?.split_once(' ') {
                Some((all, _)) => (all.parse::<u32>()?, true),
                None => (call.text()?.parse()?, false),
            };
            call.add_message_source(move || {
                let problems = 0..std::mem::take(&mut all);
                problems
                    .map(|n| StageMessage::problem(format!("\u{1b}[31m{n} is not read")))
                    .collect()
            });
            let end = if forever { u64::MAX } else { 3 };
            Ok(Stage::head("troubled", move |_| Numbers { next: 0, end }))
        })
        .with("wail", |call| {
            let lines: u32 = call.text()?.parse()?;
            for line in 0..lines {
                eprintln!("\u{1b}[31mwail {line}");
            }
            eprint!("{}", "x".repeat(3000));
            let end = if lines == 1 { u64::MAX } else { 3 };
            Ok(Stage::head("wail", move |_| Numbers { next: 0, end }))
        })
        .with("read", |call| {
            let content = fs::read(call.text()?)?;
            let end = content.len() as u64;
            Ok(Stage::head("read", move |_| Numbers { next: 0, end }))
        })
        .with("pass", |call| {
            let fail_at = call.text()?.parse().ok();
            Ok(Stage::transform("pass", move |_| Pass { fail_at, seen: 0 }))
        })
        .with("hog", |call| {
            let mib: usize = call.text()?.parse()?;
            Ok(Stage::transform("hog", move |_| Hog { bytes: mib << 20 }))
        })
        .with("count", |call| {
            let file = Some(call.text()?)
                .filter(|text| !text.is_empty())
                .map(PathBuf::from);
            Ok(Stage::tail("count", move |_| Count {
                sum: 0,
                file: file.clone(),
            }))
        })
}
