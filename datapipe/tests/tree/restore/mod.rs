//! Trees restored from entries made by hand: objects as they were, no damaged file under its name,
//! and nothing outside of the destination for any archive.

mod ahead; // blocks that are begun while files of others are written
mod damage; // blocks that are missing, damaged or wrong
mod flips; // blocks that change while they are read
mod hostile; // archives that an enemy wrote
mod measure; // the time of a small file
mod pack; // archives made by hand
mod properties; // owners by name, inode flags, long entries
mod site; // a destination, and a canary beside it
mod walk; // the objects in a directory
mod whole; // undamaged archives
