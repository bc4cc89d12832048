//! Options that both programs have: output, instances, placement and sizes.

use std::thread;

use clap::builder::RangedU64ValueParser;
use datapipe::limits::MAX_INSTANCES;
use datapipe::prelude::*;

use crate::format::count_of;

/// Options for the output of a program.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct OutputArgs {
    /// Write one JSON object to standard output: the job, its counts and its errors. The bytes of a
    /// path that is not UTF-8 are in path_b64, as base64
    #[arg(long)]
    pub json: bool,
    /// Show warnings and errors only
    #[arg(long)]
    pub quiet: bool,
}

/// Option for the number of parallel instances.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct InstancesArgs {
    /// Instances that compress or decompress, and the same number that encrypt or decrypt [default:
    /// one per processor, up to 16]
    #[arg(long, value_name = "N", value_parser = instances_parser())]
    instances: Option<u32>,
}

/// Returns a parser for a number of instances.
pub fn instances_parser() -> RangedU64ValueParser<u32> {
    RangedU64ValueParser::new().range(1..=MAX_INSTANCES.into())
}

impl InstancesArgs {
    /// Returns the given number of instances, or the number of processors, at most 16.
    pub fn count(self) -> u32 {
        self.instances.unwrap_or_else(|| {
            thread::available_parallelism().map_or(1, |n| n.get().min(16) as u32)
        })
    }

    /// Returns a remark if more instances are given than there are processors.
    pub fn note(self) -> Option<String> {
        let given = self.instances?;
        let processors = thread::available_parallelism().ok()?.get() as u32;
        (given > processors).then(|| {
            format!(
                "--instances {given}: this process has {}; more instances than processors take \
                 memory, and time from each other",
                count_of(processors.into(), "processor", "processors")
            )
        })
    }
}

/// Option for the placement of the stages.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct PlacementArgs {
    /// Run every stage in its own process, so that a crash of one does not affect the others.
    /// Stages that print a list or look up a path stay in the program
    #[arg(long)]
    processes: bool,
}

impl PlacementArgs {
    /// True if the stages run in processes.
    pub fn is_in_processes(self) -> bool {
        self.processes
    }

    /// Applies the placement to the stages that the pipe has so far.
    pub fn pipe(self, pipe: PipeBuilder<'static>) -> PipeBuilder<'static> {
        if self.processes {
            pipe.in_processes()
        } else {
            pipe
        }
    }

    /// Applies the placement to a stage.
    pub fn stage<W>(self, stage: Stage<W>) -> Stage<W> {
        if self.processes {
            stage.in_processes()
        } else {
            stage
        }
    }
}

/// Parses a size: a number of bytes, or a number followed by K, M, G, T, KiB, MiB, GiB or TiB. All
/// units are powers of 1024.
///
/// # Errors
///
/// Returns a message if the text is not a size, or the size does not fit in 64 bits.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let unit = match &text[digits.len()..] {
        "" => 1,
        "k" | "K" | "KiB" => 1 << 10,
        "m" | "M" | "MiB" => 1 << 20,
        "g" | "G" | "GiB" => 1 << 30,
        "t" | "T" | "TiB" => 1 << 40,
        _ => {
            return Err(format!("unknown unit; {SIZE_SYNTAX}"));
        }
    };
    let number: u64 = digits
        .parse()
        .map_err(|_| format!("not a number; {SIZE_SYNTAX}"))?;
    number
        .checked_mul(unit)
        .ok_or_else(|| "too large: a size must be less than 16 EiB".to_owned())
}

/// Syntax of a size, for error messages.
const SIZE_SYNTAX: &str =
    "a size is a number of bytes, or a number followed by KiB, MiB, GiB or TiB";

/// Parses the size of a buffer.
///
/// # Errors
///
/// As [`parse_size`], and if the size does not fit in 32 bits.
pub fn parse_buffer_size(text: &str) -> Result<u32, String> {
    u32::try_from(parse_size(text)?)
        .map_err(|_| "too large: a buffer must be smaller than 4 GiB".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_parsed_with_their_units() {
        assert_eq!(parse_size("4M"), Ok(4 << 20));
        assert_eq!(parse_size("64KiB"), Ok(64 << 10));
        assert_eq!(parse_size("512k"), Ok(512 << 10));
        assert_eq!(parse_size("1000"), Ok(1000));
        assert_eq!(parse_size("2TiB"), Ok(2 << 40));
        let bad = [
            "",
            "M",
            "4MM",
            "4MB",
            "-1",
            "4.5M",
            "99999999999999999999",
            "16777216T",
            "4 M",
            "é",
            "4é",
        ];
        for bad in bad {
            assert!(parse_size(bad).is_err(), "{bad}");
        }
        assert!(parse_buffer_size("4G").is_err());
    }
}
