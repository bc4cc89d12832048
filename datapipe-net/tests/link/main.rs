//! Both halves of a link in one process: pipes whose blocks go over loopback, through a proxy that
//! cuts, stalls and throttles connections by a seed, with and without TLS.

#[path = "../tls/authority.rs"]
#[allow(dead_code, reason = "the tests of TLS use more of it")]
mod authority; // certificates for tests
mod ends; // pipes that stop, fail, and refuse each other
mod pair; // two pipes with a link between them
mod proxy; // a forwarder with faults
mod streams; // whole streams
