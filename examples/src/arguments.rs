//! What both programs can be given: sizes, instances, how they talk.

use std::thread;

use clap::builder::RangedU64ValueParser;
use datapipe::limits::MAX_INSTANCES;
use datapipe::prelude::*;

/// How a program talks, as arguments.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct OutputArgs {
    /// Write one JSON object to standard output: the job, its numbers, what is not whole. A path
    /// that is no UTF-8 has its bytes in path_b64, as base64
    #[arg(long)]
    pub json: bool,
    /// Show warnings and errors only
    #[arg(long)]
    pub quiet: bool,
}

/// How many work in parallel, as an argument.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct InstancesArgs {
    /// Instances that compress or decompress, and as many that encrypt or decrypt [default: one per
    /// processor, up to 16]
    #[arg(long, value_name = "N", value_parser = RangedU64ValueParser::<u32>::new().range(1..=MAX_INSTANCES.into()))]
    instances: Option<u32>,
}

impl InstancesArgs {
    /// As many as were asked for, or as there are processors, within reason.
    pub fn count(self) -> u32 {
        self.instances.unwrap_or_else(|| {
            thread::available_parallelism().map_or(1, |n| n.get().min(16) as u32)
        })
    }
}

/// Where stages run, as an argument.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct PlacementArgs {
    /// Run every stage in a process of its own: one that crashes takes nothing else with it. What
    /// prints a list, or looks a path up, stays in the program
    #[arg(long)]
    processes: bool,
}

impl PlacementArgs {
    /// The pipe with the stages that it has so far where they are to run.
    pub fn pipe(self, pipe: PipeBuilder<'static>) -> PipeBuilder<'static> {
        if self.processes {
            pipe.in_processes()
        } else {
            pipe
        }
    }

    /// The stage where it is to run.
    pub fn stage<W>(self, stage: Stage<W>) -> Stage<W> {
        if self.processes {
            stage.in_processes()
        } else {
            stage
        }
    }
}

/// Reads a size: bytes, or a number with K, M, G or T behind it, or KiB and so on. All are powers
/// of 1024.
///
/// # Errors
///
/// If it is none, or does not fit.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let unit = match &text[digits.len()..] {
        "" => 1,
        "k" | "K" | "KiB" => 1 << 10,
        "m" | "M" | "MiB" => 1 << 20,
        "g" | "G" | "GiB" => 1 << 30,
        "t" | "T" | "TiB" => 1 << 40,
        _ => {
            return Err(
                "a size is a number, with KiB, MiB, GiB or TiB behind it if you like".to_owned(),
            );
        }
    };
    let number: u64 = digits
        .parse()
        .map_err(|_| "a size is a number, with a unit behind it if you like")?;
    number
        .checked_mul(unit)
        .ok_or_else(|| "too large".to_owned())
}

/// Reads the size of a buffer.
///
/// # Errors
///
/// As [`parse_size`], and if no buffer could be so large.
pub fn parse_buffer_size(text: &str) -> Result<u32, String> {
    u32::try_from(parse_size(text)?).map_err(|_| "too large".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
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
