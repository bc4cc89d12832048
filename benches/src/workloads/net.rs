//! `README.md`, "net-plain".

use std::error::Error;
use std::ffi::OsString;
use std::net::TcpListener;
use std::thread;

use datapipe::prelude::*;
use datapipe_net::agent::{ReceivingLink, SendingLink};

use super::programs::{require, shell};
use super::{Bound, Comparison, ExpectedOutput, Measure, PAIRS, RunSpec, Task, Workload};

const STREAM_LEN: u64 = 16 << 30;
const BUFFER_SIZE: u32 = 1 << 20;
/// Buffers of each half for each connection: iperf3 has one buffer for each stream and side.
const BUFFERS_PER_CONNECTION: u32 = 4;

/// Congestion control of both sides: the figures depend on it.
const CONGESTION: &str = "cubic";

const BOUNDS: &[Bound] = &[
    Bound {
        measure: Measure::Wall,
        at_most: 1.05,
    },
    Bound {
        measure: Measure::Cpu,
        at_most: 1.1,
    },
];

pub(super) const TWO: Workload = Workload {
    name: "net-plain",
    task: Task::Pairs {
        pairs: PAIRS,
        bounds: BOUNDS,
        prepare: || prepare(2),
    },
};

pub(super) const FOUR: Workload = Workload {
    name: "net-plain-4",
    task: Task::Pairs {
        pairs: PAIRS,
        bounds: BOUNDS,
        prepare: || prepare(4),
    },
};

/// Server and client of iperf3, which both end after one test. The client is repeated until the
/// server listens.
const IPERF3: &str = r#"
    iperf3 -s -1 -p "$1" > /dev/null & server=$!
    until iperf3 -c 127.0.0.1 -p "$1" -P "$2" -n "$3" -l 1M -C "$4" > /dev/null 2>&1; do
        kill -0 $server || exit 1
        sleep 0.02
    done
    wait $server"#;

fn prepare(connections: u32) -> Result<Comparison, Box<dyn Error>> {
    require(&["iperf3"])?;
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let output = ExpectedOutput::Exactly(STREAM_LEN.to_string());
    let count = vec![connections.to_string().into()];
    let arguments = [
        port.to_string(),
        connections.to_string(),
        STREAM_LEN.to_string(),
        CONGESTION.to_owned(),
    ];
    Ok(Comparison {
        ours: RunSpec::own_program("datapipe", "net-datapipe", count, output)?,
        peer: shell("iperf3", IPERF3, &arguments),
        _resources: None,
    })
}

/// Tail that counts bytes.
struct Count(u64);

impl Tail for Count {
    fn write(&mut self, block: &Block) -> Result<(), StageError> {
        self.0 += block.len() as u64;
        Ok(())
    }

    fn finish(&mut self) -> Result<(), StageError> {
        println!("{}", self.0);
        Ok(())
    }
}

pub(super) fn datapipe(arguments: &[OsString]) -> Result<(), Box<dyn Error>> {
    let count = arguments.first().and_then(|count| count.to_str());
    let connections: u32 = count
        .ok_or("the number of connections is missing")?
        .parse()?;
    let (mut listeners, mut addresses) = (Vec::new(), Vec::new());
    for _ in 0..connections {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        addresses.push(listener.local_addr()?);
        listeners.push(listener);
    }
    let (near, far) = (
        SendingLink::new(addresses).congestion(CONGESTION).stage()?,
        ReceivingLink::new(listeners).stage()?,
    );
    // As iperf3, the head does not touch the content of its blocks.
    let head = Stage::head_port("blocks", |port| {
        for _ in 0..STREAM_LEN / u64::from(BUFFER_SIZE) {
            let mut block = port.alloc()?;
            block.grow(BUFFER_SIZE as usize)?;
            port.send(block)?;
        }
        Ok(())
    });
    let pipe = || {
        Pipe::builder()
            .buffers(BUFFERS_PER_CONNECTION * connections)
            .buffer_size(BUFFER_SIZE)
    };
    thread::scope(|scope| {
        let sending = scope.spawn(|| pipe().head(head).tail(near).run());
        pipe().head(far).tail(Count(0)).run()?;
        sending.join().expect("the sending half does not panic")?;
        Ok(())
    })
}
