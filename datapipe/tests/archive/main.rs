//! Archives: written, read back, read in part, damaged, and read after each kind of damage.

mod appending; // many sessions on media of all sizes, none of which changes an earlier byte
mod boundaries; // damage at the boundaries of records, near labels and headers above all
mod copies; // copies that are made without a key
mod damage; // damage at every byte, length, record and sector
mod false_head; // a head that sends other blocks than it has read
mod fixture; // writing, reading and salvaging for all of them
mod forged_footer; // footers in clear that hide no blocks
mod headers; // every byte and record of a tree archive with special headers
mod hits; // blocks that damage hits, and what it may cost
mod later_versions; // archives as later versions may write them
mod lists; // lists of sessions: what they read, and of what media
mod locators; // damaged and forged locators of an archive without an end
mod openers; // secrets and recipients that open archives
mod origins; // names of an archive, of its host and its program
mod out_of_place; // sessions that are not where their footers say, damage outside of archives
mod parts; // some blocks, found by the index
mod records; // zeros after records, kinds of later versions, volume records
mod regressions; // earlier defects
mod resync; // pages of zeros, inserted and missing bytes
mod resync_sessions; // the same on media of several sessions, with copies
mod round_trip; // whole archives, volumes, failures and crashes
mod searches; // archives that are read in vain to open or to name others
mod sessions; // several archives in a session, several sessions on a medium
mod site; // a medium that grows by sessions

#[path = "../harness/data.rs"]
mod data; // keys and test data
#[path = "../harness/medium.rs"]
mod medium; // tapes and directories on the file system
