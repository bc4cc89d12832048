//! Wrong rules that tests put into the machines, to show that the simulation finds each.

/// True if a test has put a wrong rule into the settings of a machine. Outside of tests it is a
/// constant.
macro_rules! wrong {
    ($settings:expr, $rule:ident) => {{
        #[cfg(test)]
        let wrong = $settings.wrong == crate::link::wrong::Wrong::$rule;
        #[cfg(not(test))]
        let wrong = false;
        wrong
    }};
}
pub(super) use wrong;

/// A wrong rule, or none.
#[cfg(test)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Wrong {
    /// The rules as they are.
    #[default]
    Nothing,
    /// Buffers are promised to connections and not to numbers, so that later blocks can use up all
    /// while the one that is next is lost.
    CreditsByConnection,
    /// A buffer whose connection was lost does not come back to the stock.
    ClaimKept,
    /// The sender frees the block that is next, too.
    FreeNext,
    /// The sender frees a block while a writer reads it.
    FreeWhileWritten,
    /// The blocks of a lost connection are not sent again.
    NotSentAgain,
    /// A block that has arrived is taken again.
    TakenAgain,
    /// The limit of a receiver that died is kept.
    OldLimit,
    /// A silent connection is not given up.
    SilenceIgnored,
    /// The end is sent on the first connection only.
    EndOnce,
    /// A reader whose block is under way elsewhere throws it away instead of waiting.
    NoWait,
}
