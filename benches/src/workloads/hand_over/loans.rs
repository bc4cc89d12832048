//! iceoryx2: a publisher that lends itself a sample and sends it, a subscriber that polls and drops
//! it.
//!
//! Nothing is to be lost, so a publisher whose subscriber is behind tries again until there is
//! room. The subscriber polls without a pause, as in iceoryx2's own benchmarks.

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

use super::{BUFFER_SIZE, BUFFERS, cycles, second};

/// The process with the subscriber. It closes its standard input when that is there.
pub(super) const RECEIVER: &str = "processes-iceoryx2-receiver";

/// The processor's own short pauses before a publisher tries again. By itself it gives up its
/// processor each time, which takes a tenth longer.
const PAUSES: u32 = 200;

/// How often a sender tries again that finds no receiver, and how long it waits in between.
const TRIES: u32 = 10_000;
const PAUSE: Duration = Duration::from_millis(1);

type Payload = [u8; BUFFER_SIZE];
type Result<T> = std::result::Result<T, Box<dyn Error>>;

pub(super) fn threads(arguments: &[OsString]) -> Result<()> {
    let (cycles, place) = (cycles(arguments)?, Place::of(arguments)?);
    let sender = End::<local::Service>::new(&place)?;
    let (ready, is_ready) = mpsc::channel::<()>();
    let received = thread::scope(|scope| {
        let receiving = scope.spawn(|| {
            let receive = || End::<local::Service>::new(&place)?.receive(cycles, || drop(ready));
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
    let (cycles, place) = (cycles(arguments)?, Place::of(arguments)?);
    let sender = End::<ipc::Service>::new(&place)?;
    let (until_ready, ready) = pipe_with(PipeFlags::CLOEXEC)?;
    let mut more = arguments.to_vec();
    more.push(place.name.into());
    let receiver = second::start(RECEIVER, ready, &more)?;
    sender.send(cycles, || drop(File::from(until_ready).read(&mut [0])))?;
    second::wait(receiver)
}

pub(super) fn receiver(arguments: &[OsString]) -> Result<()> {
    let (cycles, place) = (cycles(arguments)?, Place::of(arguments)?);
    let ready = second::standard_input()?;
    let receiver = End::<ipc::Service>::new(&place)?;
    println!("{}", receiver.receive(cycles, || drop(ready))?);
    Ok(())
}

/// Where iceoryx2 keeps its files and its memory, and what the service is called.
struct Place {
    config: Config,
    name: String,
}

impl Place {
    fn of(arguments: &[OsString]) -> Result<Self> {
        let root = PathBuf::from(
            arguments
                .get(1)
                .ok_or("an argument is needed: a directory of our own")?,
        );
        let called = root
            .file_name()
            .ok_or("the directory has no name")?
            .to_string_lossy();
        let mut config = Config::default();
        config
            .global
            .set_root_path(&root.to_string_lossy().as_ref().try_into()?);
        // Its memory has names beside the directory, which are removed with it.
        config.global.prefix = format!("{called}-").as_str().try_into()?;
        let name = arguments
            .get(2)
            .map(|name| name.to_string_lossy().into_owned());
        Ok(Self {
            config,
            name: name.unwrap_or_else(|| format!("hand-over-{}", process::id())),
        })
    }
}

/// One end of a service. Each has a node of its own, for that may not leave its thread.
struct End<S: Service> {
    _node: Node<S>,
    service: PortFactory<S, Payload, ()>,
}

impl<S: Service> End<S> {
    fn new(place: &Place) -> Result<Self> {
        set_log_level(LogLevel::Error);
        let node = NodeBuilder::new().config(&place.config).create::<S>()?;
        let service = node
            .service_builder(&place.name.as_str().try_into()?)
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

    /// Sends so many samples, once `wait` has ended and there is somebody to receive them.
    fn send(&self, cycles: u64, wait: impl FnOnce()) -> Result<()> {
        let builder = self.service.publisher_builder().max_loaned_samples(1);
        let trying_again = builder.set_backpressure_handler(|_| {
            (0..PAUSES).for_each(|_| hint::spin_loop());
            BackpressureAction::Retry
        });
        let publisher = trying_again.create()?;
        wait();
        let mut tries = 0;
        let mut sent = 0;
        while sent < cycles {
            let sample = publisher.loan_uninit()?;
            // SAFETY: any bytes will do, and those of shared memory are there, whoever wrote them.
            let sample = unsafe { sample.assume_init() };
            if sample.send()? == 1 {
                sent += 1;
                continue;
            }
            // The queue is full, and the subscriber has not yet polled for the first time: then
            // nothing waits for it.
            tries += 1;
            if tries == TRIES {
                return Err("the subscriber is gone".into());
            }
            thread::sleep(PAUSE);
        }
        Ok(())
    }

    /// Receives so many samples, after it was said that it is `ready`.
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
