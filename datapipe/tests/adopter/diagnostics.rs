//! Messages for the common mistakes.
