//! The memory that a segment is made of, and its pages.

/// Source of a segment's memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Backing {
    /// A memfd without a name, with the machine's ordinary pages.
    #[default]
    Anonymous,
    /// POSIX shared memory named after the pipe: `datapipe-NAME`, which only this user may open.
    /// Making one removes those that killed programs of this user have left, as
    /// [`sweep`](super::sweep()) does. Needs the feature `named-segments`, which is on by default.
    Named,
}

/// Size of a segment's pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum HugePages {
    /// Ordinary pages.
    #[default]
    No,
    /// Ask for huge pages once the memory is reserved, and go on without if there are none. Costs
    /// about as much as copying the pool once, so it is for pipes that run for long. Only
    /// [`Backing::Anonymous`].
    Try,
    /// Pages from the machine's huge page pool (`vm.nr_hugepages`), or an error. Only
    /// [`Backing::Anonymous`].
    Require,
}
