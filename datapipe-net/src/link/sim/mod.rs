//! Simulation of a link: both halves with their parents, a pool at each end, a head, a tail, and
//! connections that are slow, break and lie. One seed decides everything.
//!
//! Each step checks the promises of both machines and the balance of both pools. Each run ends
//! whole, or with a reason on both sides; a run in which nothing moves any more is a hang.

mod carry; // readers, writers and sockets
mod incidents; // cuts, broken connections, deaths, stops
mod network; // connections as bytes with times
mod plan; // sizes, speeds and incidents of a run, by seed
mod random; // numbers by seed
mod runs; // tests
mod world; // both machines and all around them
