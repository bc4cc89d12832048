//! Private authorities: the certificates that they issue, as the machines judge them that meet
//! them; directories in which something is missing, replaced or of another time; commands that are
//! killed, and commands at the same time.

mod certificates; // handshakes with what was issued, and what is refused
mod commands; // the commands of the program
mod directories; // files that contradict each other, and places that are taken
mod interruptions; // commands that are killed at each of their calls
mod machines; // two machines and their handshake
