//! Single objects of an archive, without a destination.
