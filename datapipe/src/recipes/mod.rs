//! Recipes: whole programs for the first tasks of a new user, one page each.
//!
//! | page | shows |
//! |---|---|
//! | [Your own head](own_head) | a head that makes blocks from a source of yours |
//! | [Your own transform](own_transform) | a stage that changes blocks, one to one or one to many |
//! | [Scan what you back up](scan) | inspection of streams and of the files of a tree |
//! | [A medium of your own](own_medium) | storage for an archive that the library does not have |
//! | [Append to a medium](append) | several archives in a session, several sessions on a medium |
//! | [Copy to another medium](copy) | copies without a key, and checks without one |
//! | [In processes](processes) | stages that run in processes of their own |
//! | [Attach from another program](attach) | heads and tails in another program than the pipe |
//! | [From async code](async_code) | pipes in programs with an async runtime |
//! | [Watch and stop](watch) | status, events, progress, cancelling |

#[doc = include_str!("own_head.md")]
pub mod own_head {}
#[doc = include_str!("own_transform.md")]
pub mod own_transform {}
#[doc = include_str!("scan.md")]
pub mod scan {}
#[doc = include_str!("own_medium.md")]
pub mod own_medium {}
#[doc = include_str!("append.md")]
pub mod append {}
#[doc = include_str!("copy.md")]
pub mod copy {}
#[doc = include_str!("processes.md")]
pub mod processes {}
#[doc = include_str!("attach.md")]
pub mod attach {}
#[doc = include_str!("async_code.md")]
pub mod async_code {}
#[doc = include_str!("watch.md")]
pub mod watch {}
