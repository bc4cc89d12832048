//! Numbers of the kinds of problems with objects.

/// Kind of a problem: the object could not be opened, listed or read to its end.
pub const DP_PROBLEM_UNREADABLE: i32 = 1;
/// Kind of a problem: an attribute or the flags of the object are not in the archive; all else is.
pub const DP_PROBLEM_ATTRIBUTE: i32 = 2;
/// Kind of a problem: the object was removed or replaced before it could be read.
pub const DP_PROBLEM_VANISHED: i32 = 3;
/// Kind of a problem: the object changed while it was read.
pub const DP_PROBLEM_CHANGED: i32 = 4;
/// Kind of a problem: the path is longer than an archive allows.
pub const DP_PROBLEM_TOO_LONG: i32 = 5;
/// Kind of a problem: the object is damaged in the archive, or lost.
pub const DP_PROBLEM_DAMAGED: i32 = 10;
/// Kind of a problem: the object was not restored as it is in the archive.
pub const DP_PROBLEM_NOT_RESTORED: i32 = 11;
/// Kind of a problem: a part of the archive cannot be read. It has no path; the objects that lack
/// it are problems of their own.
pub const DP_PROBLEM_MEDIUM: i32 = 12;
/// Kind of a problem: a path that was asked for is not in the archive.
pub const DP_PROBLEM_NOT_FOUND: i32 = 13;
/// Not a problem, and not counted as one: the object is a socket, which no archive has.
pub const DP_PROBLEM_LEFT_OUT_SOCKET: i32 = 20;
/// Not a problem, and not counted as one: another file system is mounted at this object.
pub const DP_PROBLEM_LEFT_OUT_MOUNT: i32 = 21;
/// Not a problem, and not counted as one: the object is the archive's own medium.
pub const DP_PROBLEM_LEFT_OUT_MEDIUM: i32 = 22;
/// Kind of a problem that has no number of its own: its text describes it.
pub const DP_PROBLEM_OTHER: i32 = 99;
