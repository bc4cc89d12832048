//! The two placements of heads and tails of trees, and the tests made for each.

use datapipe::stage::Stage;

/// Placement of the stage that a test is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Placement {
    /// On threads of this process.
    Threads,
    /// In processes of the library's host.
    Processes,
}

impl Placement {
    /// Returns the stage in this placement.
    pub(crate) fn place<W>(self, stage: impl Into<Stage<W>>) -> Stage<W> {
        match self {
            Self::Threads => stage.into(),
            Self::Processes => stage
                .into()
                .in_processes_of(env!("CARGO_BIN_EXE_datapipe-host")),
        }
    }

    /// Name of the module with the tests in this placement.
    pub(crate) fn module(self) -> &'static str {
        match self {
            Self::Threads => "on_threads",
            Self::Processes => "in_processes",
        }
    }
}

/// Makes two tests of each function `fn name(placement: Placement)`: one for each placement.
macro_rules! in_both_placements {
    ($($(#[$attribute:meta])* $test:ident)*) => {
        mod on_threads {
            $(
                #[test]
                $(#[$attribute])*
                fn $test() { super::$test(crate::placement::Placement::Threads); }
            )*
        }
        mod in_processes {
            $(
                #[test]
                $(#[$attribute])*
                fn $test() { super::$test(crate::placement::Placement::Processes); }
            )*
        }
    };
}
