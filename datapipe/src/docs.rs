//! The reference pages: formats and protocols to the byte, the terms, the test campaigns.
//!
//! | page | has |
//! |---|---|
//! | [Glossary](glossary) | the terms, each with the type that carries it |
//! | [Shared memory](shared_memory) | the segment and the hand-over, to the word |
//! | [Host protocol](host_protocol) | processes: their start, their messages, their deaths |
//! | [Wire format](wire_format) | streams and media, to the byte |
//! | [Testing](testing) | the long campaigns |
//!
//! Links from one of these pages to another lead to its file in the folder `docs`, which is in the
//! package and in the repository.

#[doc = include_str!("../docs/glossary.md")]
pub mod glossary {}
#[doc = include_str!("../docs/host-protocol.md")]
pub mod host_protocol {}
#[doc = include_str!("../docs/shared-memory.md")]
pub mod shared_memory {}
#[doc = include_str!("../docs/testing.md")]
pub mod testing {}
#[doc = include_str!("../docs/wire-format.md")]
pub mod wire_format {}
