//! iceoryx2: a publisher that loans a sample and sends it, and a subscriber that polls and drops
//! it.
//!
//! No sample may be lost, so the publisher retries while the subscriber's queue is full. The
//! subscriber polls without a pause, as in iceoryx2's own benchmarks.

use std::error::Error;
use std::ffi::OsString;
use std::fs::File;
use std::hint;
use std::io::Read;
use std::path::PathBuf;
use std::process;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use iceoryx2::node::Node;
use iceoryx2::port::BackpressureAction;
use iceoryx2::prelude::*;
use iceoryx2::service::Service;
use iceoryx2::service::port_factory::publish_subscribe::PortFactory;
use rustix::pipe::{PipeFlags, pipe_with};

use super::program::cycles;
use super::{BUFFER_SIZE, BUFFERS, receiver};

/// Program of the process with the subscriber. It closes its standard input when the subscriber
/// exists.
pub(super) const RECEIVER: &str = "processes-iceoryx2-receiver";

/// Spin-loop pauses before the publisher retries. By default it yields the processor each time,
/// which takes a tenth longer.
const SPIN_PAUSES: u32 = 200;

/// Number of retries of a publisher that finds no subscriber, and the delay between them.
const MAX_RETRIES: u32 = 10_000;
const RETRY_DELAY: Duration = Duration::from_millis(1);

type Payload = [u8; BUFFER_SIZE];
type Result<T> = std::result::Result<T, Box<dyn Error>>;

pub(super) fn threads(arguments: &[OsString]) -> Result<()> {
    let (cycles, config) = (
        cycles(arguments)?,
        ServiceConfig::from_arguments(arguments)?,
    );
    let sender = Endpoint::<local::Service>::new(&config)?;
    let (ready, is_ready) = mpsc::channel::<()>();
    let received = thread::scope(|scope| {
        let receiving = scope.spawn(|| {
            let receive =
                || Endpoint::<local::Service>::new(&config)?.receive(cycles, || drop(ready));
            receive().map_err(|error| error.to_string())
        });
        sender.send(cycles, || while is_ready.recv().is_ok() {})?;
        receiving
            .join()
            .map_err(|_| "the receiver panicked")?
            .map_err(Box::<dyn Error>::from)
    });
    println!("{}", received?);
    Ok(())
}

pub(super) fn processes(arguments: &[OsString]) -> Result<()> {
    let (cycles, config) = (
        cycles(arguments)?,
        ServiceConfig::from_arguments(arguments)?,
    );
    let sender = Endpoint::<ipc::Service>::new(&config)?;
    let (until_ready, ready) = pipe_with(PipeFlags::CLOEXEC)?;
    let mut more = arguments.to_vec();
    more.push(config.name.into());
    let receiver = receiver::start(RECEIVER, ready, &more)?;
    sender.send(cycles, || drop(File::from(until_ready).read(&mut [0])))?;
    receiver::wait(receiver)
}

pub(super) fn receiver(arguments: &[OsString]) -> Result<()> {
    let (cycles, config) = (
        cycles(arguments)?,
        ServiceConfig::from_arguments(arguments)?,
    );
    let ready = receiver::take_standard_input()?;
    let receiver = Endpoint::<ipc::Service>::new(&config)?;
    println!("{}", receiver.receive(cycles, || drop(ready))?);
    Ok(())
}

/// Location of iceoryx2's files and memory, and the name of the service.
struct ServiceConfig {
    config: Config,
    name: String,
}

impl ServiceConfig {
    fn from_arguments(arguments: &[OsString]) -> Result<Self> {
        let root = PathBuf::from(
            arguments
                .get(1)
                .ok_or("an argument is missing: a directory of our own")?,
        );
        let prefix = root
            .file_name()
            .ok_or("the directory has no name")?
            .to_string_lossy();
        let mut config = Config::default();
        config
            .global
            .set_root_path(&root.to_string_lossy().as_ref().try_into()?);
        // The names of the memory begin with the name of the directory and a dash, so the memory is
        // removed together with the directory.
        config.global.prefix = format!("{prefix}-").as_str().try_into()?;
        let name = arguments
            .get(2)
            .map(|name| name.to_string_lossy().into_owned());
        Ok(Self {
            config,
            name: name.unwrap_or_else(|| format!("hand-over-{}", process::id())),
        })
    }
}

/// One end of a service. Each end has its own node, because a node must not leave its thread.
struct Endpoint<S: Service> {
    _node: Node<S>,
    service: PortFactory<S, Payload, ()>,
}

impl<S: Service> Endpoint<S> {
    fn new(config: &ServiceConfig) -> Result<Self> {
        set_log_level(LogLevel::Error);
        let node = NodeBuilder::new().config(&config.config).create::<S>()?;
        let service = node
            .service_builder(&config.name.as_str().try_into()?)
            .publish_subscribe::<Payload>()
            .enable_safe_overflow(false)
            .subscriber_max_buffer_size(BUFFERS as usize)
            .subscriber_max_borrowed_samples(1)
            .history_size(0)
            .max_publishers(1)
            .max_subscribers(1)
            .open_or_create()?;
        Ok(Self {
            _node: node,
            service,
        })
    }

    /// Sends `cycles` samples after `wait` has returned, which is when the subscriber exists.
    fn send(&self, cycles: u64, wait: impl FnOnce()) -> Result<()> {
        let builder = self.service.publisher_builder().max_loaned_samples(1);
        let retrying = builder.set_backpressure_handler(|_| {
            (0..SPIN_PAUSES).for_each(|_| hint::spin_loop());
            BackpressureAction::Retry
        });
        let publisher = retrying.create()?;
        wait();
        let mut retries = 0;
        let mut sent = 0;
        while sent < cycles {
            let sample = publisher.loan_uninit()?;
            // SAFETY: every byte value is a valid `u8`, and the bytes of shared memory are
            // initialized: the kernel has zeroed them or a process has written them.
            let sample = unsafe { sample.assume_init() };
            if sample.send()? == 1 {
                sent += 1;
                continue;
            }
            // The sample reached no subscriber: the queue is full, and the subscriber has not
            // polled for the first time, so that the backpressure handler did not wait for it.
            retries += 1;
            if retries == MAX_RETRIES {
                return Err("the subscriber does not receive".into());
            }
            thread::sleep(RETRY_DELAY);
        }
        Ok(())
    }

    /// Makes a subscriber, calls `ready`, and receives `cycles` samples.
    fn receive(&self, cycles: u64, ready: impl FnOnce()) -> Result<u64> {
        let subscriber = self.service.subscriber_builder().create()?;
        ready();
        let mut received = 0;
        while received < cycles {
            match subscriber.receive()? {
                Some(sample) => {
                    drop(sample);
                    received += 1;
                }
                None => hint::spin_loop(),
            }
        }
        Ok(received)
    }
}
