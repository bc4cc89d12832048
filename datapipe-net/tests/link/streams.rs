//! Whole streams over a link: identical at the other end, with and without faults of connections.

use std::collections::hash_map::RandomState;
use std::env;
use std::hash::{BuildHasher, Hasher};

use super::pair::{BUFFER, Machines, Turn, halves, listen, run};
use super::proxy::{Faults, Proxy};

/// Seed of a test, which prints it.
fn seed() -> u64 {
    let seed = match env::var("DATAPIPE_SEED") {
        Ok(seed) => seed.parse().expect("DATAPIPE_SEED is a number"),
        Err(_) => RandomState::new().build_hasher().finish(),
    };
    println!("DATAPIPE_SEED={seed}");
    seed
}

fn streams_are_identical(faults: Faults, len: usize) {
    let _turn = Turn::take();
    let (seed, machines) = (seed(), Machines::new());
    let mut cuts = 0;
    for connections in [1, 2, 4] {
        for machines in [None, Some(&machines)] {
            let (listeners, addresses) = listen(connections);
            let proxy = Proxy::start(&addresses, faults, seed);
            let pair = halves(listeners, proxy.addresses.clone(), machines);
            let (sent, [near, far]) = run(pair, seed, len, 8);
            cuts += proxy.cuts();
            let (near, far) = (near.unwrap(), far.unwrap());
            assert_eq!(
                far,
                sent,
                "{connections} connections, TLS: {}",
                machines.is_some()
            );
            assert_eq!(near, sent);
        }
    }
    assert!(
        (faults == Faults::None) == (cuts == 0),
        "{cuts} connections were cut"
    );
}

#[test]
fn stream_over_one_two_and_four_connections_is_identical() {
    streams_are_identical(Faults::None, 5 << 20);
}

#[test]
fn stream_over_connections_that_are_cut_stalled_and_throttled_is_identical() {
    streams_are_identical(Faults::Some, 6 << 20);
}

#[test]
fn empty_stream_arrives_as_an_empty_stream() {
    let _turn = Turn::take();
    let (listeners, addresses) = listen(2);
    let (sent, [near, far]) = run(halves(listeners, addresses, None), 1, 0, 4);
    assert_eq!((near.unwrap(), far.unwrap()), (sent, sent));
}

/// The smallest pools: one buffer on either side carries a stream.
#[test]
fn stream_with_one_buffer_a_half_is_identical() {
    let _turn = Turn::take();
    let (listeners, addresses) = listen(2);
    let (sent, [near, far]) = run(halves(listeners, addresses, None), 2, 10 * BUFFER + 1, 1);
    assert_eq!((near.unwrap(), far.unwrap()), (sent, sent));
}

#[test]
fn stream_below_a_rate_is_identical() {
    let _turn = Turn::take();
    let (listeners, addresses) = listen(2);
    let (near, far) = halves(listeners, addresses, None);
    let (rate, len) = (4 << 20, 2 << 20);
    let (sent, [near, far]) = run((near, far.rate(rate)), 3, len, 8);
    assert_eq!((near.unwrap(), far.unwrap()), (sent, sent));
}
