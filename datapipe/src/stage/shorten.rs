//! Conversion of a stage to a shorter lifetime.
//!
//! The factory of a stage returns values with the stage's lifetime, which makes the stage's type
//! invariant in it: the compiler does not accept a stage that lives longer than what its pipe
//! borrows. A factory that calls the first one makes values of the shorter lifetime.

use super::description::{
    Factory, HeadKind, HeadStage, HeadWork, MiddleKind, MiddleStage, MiddleWork, Stage, TailKind,
    TailStage, TailWork,
};

/// Converts a factory of `$made` values.
macro_rules! shorten {
    ($make:ident, $made:ident) => {{
        let mut make = $make;
        let shorter: Factory<'a, dyn super::traits::$made + 'a> = Box::new(move |n| make(n));
        shorter
    }};
}

impl<'b> HeadStage<'b> {
    /// Returns the same stage, for a pipe that also borrows what lives shorter than this stage.
    pub(crate) fn shorten<'a>(self) -> HeadStage<'a>
    where
        'b: 'a,
    {
        let work = match self.work.0 {
            HeadKind::Fill(make) => HeadKind::Fill(shorten!(make, Head)),
            HeadKind::Port(run) => HeadKind::Port(run),
            HeadKind::Described(kind) => HeadKind::Described(kind),
        };
        let settings = self.settings;
        Stage {
            settings,
            work: HeadWork(work),
        }
    }
}

impl<'b> MiddleStage<'b> {
    /// Returns the same stage, for a pipe that also borrows what lives shorter than this stage.
    pub(crate) fn shorten<'a>(self) -> MiddleStage<'a>
    where
        'b: 'a,
    {
        let work = match self.work.0 {
            MiddleKind::Transform(make) => MiddleKind::Transform(shorten!(make, Transform)),
            MiddleKind::InPlace(make) => MiddleKind::InPlace(shorten!(make, InPlace)),
            MiddleKind::Analyze(make) => MiddleKind::Analyze(shorten!(make, Analyze)),
            MiddleKind::FlatMap(make) => MiddleKind::FlatMap(shorten!(make, FlatMap)),
            MiddleKind::Port(run) => MiddleKind::Port(run),
            MiddleKind::Described(kind) => MiddleKind::Described(kind),
        };
        let settings = self.settings;
        Stage {
            settings,
            work: MiddleWork(work),
        }
    }
}

impl<'b> TailStage<'b> {
    /// Returns the same stage, for a pipe that also borrows what lives shorter than this stage.
    pub(crate) fn shorten<'a>(self) -> TailStage<'a>
    where
        'b: 'a,
    {
        let work = match self.work.0 {
            TailKind::Write(make) => TailKind::Write(shorten!(make, Tail)),
            TailKind::Port(run) => TailKind::Port(run),
            TailKind::Described(kind) => TailKind::Described(kind),
        };
        let settings = self.settings;
        Stage {
            settings,
            work: TailWork(work),
        }
    }
}
