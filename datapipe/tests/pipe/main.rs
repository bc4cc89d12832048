//! Whole pipes: blocks, failures, admission, ports and the stages that the library has.

mod admission; // pipes that are rejected before they start
mod codecs; // compression, inspection and salvage
mod deadlock; // stages that wait for each other
mod encryption; // sealed blocks
mod failures; // stages that fail
mod fixture; // the builder that the tests share
mod flow; // order, placement, status
mod lending; // loops that lend blocks to other threads
mod misuse; // seats, ports and blocks used wrongly
mod ports; // loops over a port

#[path = "../harness/data.rs"]
mod data; // keys and test data
