//! Events, status and progress.

use std::io;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use datapipe::memory::StageId;
use datapipe::prelude::*;

/// Longest wait for an event that comes at once. Only a fault reaches it.
const PATIENCE: Duration = Duration::from_secs(120);

/// Returns a listener, and the receiver of the events that it gets.
fn listener() -> (impl Fn(&Event) + Send + Sync + 'static, Receiver<Event>) {
    let (sender, events) = mpsc::channel();
    let listener = move |event: &Event| {
        let _ = sender.send(event.clone());
    };
    (listener, events)
}

/// Waits for the first event for which `find` returns something.
fn wait_for<T>(events: &Receiver<Event>, find: impl Fn(&Event) -> Option<T>) -> T {
    loop {
        let event = events.recv_timeout(PATIENCE).expect("the event comes");
        if let Some(found) = find(&event) {
            return found;
        }
    }
}

/// A stage that works on the block with number `at` until it is released.
struct Stuck {
    at: u64,
    next: u64,
    release: Arc<Mutex<Receiver<()>>>,
}

impl InPlace for Stuck {
    fn transform(&mut self, _: &mut Block) -> Result<Verdict, StageError> {
        if self.next == self.at {
            let _ = self.release.lock().unwrap().recv();
        }
        self.next += 1;
        Ok(Verdict::Send)
    }
}

/// A pipe of eight blocks whose stage `stuck` stops at block 5, and a sender that releases it.
fn stuck_pipe() -> (PipeBuilder<'static>, Sender<()>) {
    let (sender, release) = mpsc::channel();
    let release = Arc::new(Mutex::new(release));
    let stuck = MiddleStage::in_place("stuck", move |_| Stuck {
        at: 5,
        next: 0,
        release: Arc::clone(&release),
    });
    let pipe = Pipe::builder()
        .label("nightly")
        .buffer_size(512)
        .buffers(4)
        .head(StreamHead::new(&[7; 8 * 512][..]))
        .stage(stuck)
        .tail(StreamTail::new(io::sink()));
    (pipe, sender)
}

#[test]
fn instances_on_threads_and_inline_report_start_and_end() {
    for is_inline in [false, true] {
        let (listener, events) = listener();
        let (mut head, mut tail) = (
            HeadStage::from(StreamHead::new(&b"some data"[..])),
            TailStage::from(StreamTail::new(io::sink())),
        );
        if is_inline {
            (head, tail) = (head.inline(), tail.inline());
        }
        let pipe = Pipe::builder().head(head).tail(tail).on_event(listener);
        pipe.run().unwrap();
        let mut texts: Vec<_> = events.iter().map(|event| event.to_string()).collect();
        texts.sort();
        assert_eq!(
            texts,
            [
                "stream-head/0: ended",
                "stream-head/0: started",
                "stream-tail/0: ended",
                "stream-tail/0: started",
            ]
        );
    }
}

/// Fails at its first block.
struct Fails;

impl Tail for Fails {
    fn write(&mut self, _: &Block) -> Result<(), StageError> {
        Err(StageError::new("the disk is gone"))
    }
}

#[test]
fn failure_is_an_event_and_its_consequences_are_another() {
    let (listener, events) = listener();
    let zeros = std::fs::File::open("/dev/zero").unwrap();
    let pipe = Pipe::builder().head(StreamHead::file(zeros)).tail(Fails);
    pipe.on_event(listener).run().unwrap_err();
    let events: Vec<_> = events.iter().collect();
    let failed = Event::Failed {
        stage: "tail".to_owned(),
        instance: StageId::new(1).instance(0),
        error: "the disk is gone".to_owned(),
    };
    assert!(events.contains(&failed), "{events:?}");
    let is_stopped =
        |event: &Event| matches!(event, Event::Stopped { stage, .. } if stage == "stream-head");
    assert!(events.iter().any(is_stopped), "{events:?}");
}

#[test]
fn archive_reports_volumes_and_checkpoints() {
    let dir = tempfile::tempdir().unwrap();
    let data: Vec<u8> = (0..400_000_u32).flat_map(u32::to_le_bytes).collect();
    let options = ArchiveOptions::stream("nightly").record_len(64 << 10);
    let archive = options.block_len(64 << 10).plan().unwrap();
    let volumes = VolumeOptions::default().volume_size(Some(512 << 10));
    let medium = VolumeDirectory::create(dir.path(), volumes).unwrap();
    let report = archive.report();
    let (archiving, events) = listener();
    let head = StreamHead::new(io::Cursor::new(data.clone()));
    let pipe = Pipe::builder().buffer_size(64 << 10).head(head);
    let pipe = pipe.archive(archive, medium);
    pipe.on_event(archiving).run().unwrap();
    let written = report.snapshot();
    assert!(written.volumes >= 3, "{written:?}");
    let events: Vec<_> = events.iter().collect();
    let volume = |stage: &str, number| Event::Volume {
        stage: stage.to_owned(),
        volume: number,
    };
    for number in 1..=written.volumes {
        let volume = volume("archive-tail", number);
        assert_eq!(events.iter().filter(|event| **event == volume).count(), 1);
    }
    let all_is_safe = Event::Checkpoint {
        stage: "archive-tail".to_owned(),
        blocks: written.blocks,
        bytes: data.len() as u64,
    };
    assert!(events.contains(&all_is_safe), "{events:?}");

    let (reading, events) = listener();
    let medium = VolumeDirectory::open(dir.path()).unwrap();
    let reader = ArchiveReader::open(medium, None).unwrap();
    let pipe = reader.read().pipe.on_event(reading);
    pipe.tail(StreamRestore::new(io::sink())).run().unwrap();
    let events: Vec<_> = events.iter().collect();
    let last = volume("archive-head", written.volumes);
    assert!(events.contains(&last), "{events:?}");
}

#[test]
fn stage_that_works_for_long_is_shown_with_its_block() {
    let (pipe, release) = stuck_pipe();
    let (listener, events) = listener();
    let pipe = pipe.stall_after(Duration::from_millis(1));
    let pipe = pipe.on_event(listener).start().unwrap();
    let (block, time) = wait_for(&events, |event| match event {
        Event::Stalled {
            stage, block, time, ..
        } if stage == "stuck" => Some((*block, *time)),
        _ => None,
    });
    assert_eq!(block, Some(5));
    let status = pipe.status();
    let work = status.stages[1].instances[0].on_block.unwrap();
    assert!(work.block == Some(5) && work.time >= time, "{work:?}");
    assert!(status.stages[2].instances[0].on_block.is_none(), "it waits");
    release.send(()).unwrap();
    pipe.wait().unwrap();
}

#[test]
fn cancelled_pipe_names_the_stage_that_it_waits_for() {
    let (pipe, release) = stuck_pipe();
    let (listener, events) = listener();
    let pipe = pipe.on_event(listener).start().unwrap();
    // The stage has received blocks 0 to 5, and block 5 holds it.
    while pipe.status().stages[1].instances[0].blocks_in < 6 {
        thread::sleep(Duration::from_millis(1));
    }
    pipe.cancel();
    let event = wait_for(&events, |event| {
        matches!(event, Event::StillWaiting { .. }).then(|| event.clone())
    });
    let text = event.to_string();
    assert!(
        text.contains("still waiting for stuck/0, which works on block 5"),
        "{text}"
    );
    assert!(!pipe.is_finished());
    release.send(()).unwrap();
    assert!(matches!(pipe.wait(), Err(Error::Cancelled)));
}

#[test]
fn pipe_is_waited_for_with_and_without_a_limit() {
    let (pipe, release) = stuck_pipe();
    let pipe = pipe.start().unwrap();
    assert!(!pipe.is_finished());
    let pipe = pipe.try_wait().unwrap_err();
    let pipe = pipe.wait_timeout(Duration::from_millis(1)).unwrap_err();
    release.send(()).unwrap();
    let outcome = pipe.wait_timeout(PATIENCE).unwrap();
    assert_eq!(outcome.unwrap().bytes_out(), 8 * 512);
}

/// The position and the rate, as a progress bar shows them.
#[derive(Default)]
struct Bar {
    positions: Vec<u64>,
}

impl Progress for Bar {
    fn update(&mut self, now: &Status, lately: &Status) {
        assert!(now.label == "nightly" && lately.throughput() >= 0.0);
        self.positions.push(now.bytes());
    }
}

#[test]
fn progress_grows_to_the_whole() {
    let (pipe, release) = stuck_pipe();
    release.send(()).unwrap();
    let mut bar = Bar::default();
    let pipe = pipe.start().unwrap();
    pipe.watch(Duration::from_millis(1), &mut bar).unwrap();
    assert_eq!(bar.positions.last(), Some(&(8 * 512)));
    assert!(bar.positions.is_sorted());

    let (pipe, release) = stuck_pipe();
    release.send(()).unwrap();
    let mut last = 0;
    let mut show = |now: &Status, _: &Status| last = now.bytes();
    let pipe = pipe.start().unwrap();
    let report = pipe.watch(Duration::from_millis(1), &mut show).unwrap();
    assert_eq!((last, &*report.status.label), (8 * 512, "nightly"));
}

#[test]
fn work_limit_of_a_thread_is_refused() {
    let pipe = Pipe::builder()
        .head(StreamHead::new(&b"some data"[..]))
        .stage(analyze().work_limit(Duration::from_secs(1)))
        .tail(StreamTail::new(io::sink()));
    let text = pipe.plan().unwrap_err().to_string();
    assert!(
        text.contains("\"analyze\" has a work limit") && text.contains("in_processes"),
        "{text}"
    );
}

#[test]
fn panic_of_the_listener_ends_the_pipe() {
    let zeros = std::fs::File::open("/dev/zero").unwrap();
    let pipe = Pipe::builder()
        .head(StreamHead::file(zeros))
        .tail(StreamTail::new(io::sink()))
        .on_event(|event| panic!("{event}"));
    let run = std::panic::AssertUnwindSafe(|| pipe.run());
    assert!(std::panic::catch_unwind(run).is_err());
}

#[cfg(feature = "serde")]
#[test]
fn status_report_and_events_are_serialized() {
    let (listener, events) = listener();
    let (pipe, release) = stuck_pipe();
    release.send(()).unwrap();
    let report = pipe.on_event(listener).run().unwrap();
    let report = serde_json::to_value(&report).unwrap();
    assert_eq!(report["label"], "nightly");
    let status = &report["status"];
    assert!(
        status["elapsed"].is_f64() && status["direction"] == "archive",
        "{status}"
    );
    assert_eq!(status["stages"][1]["name"], "stuck");
    let instance = &status["stages"][1]["instances"][0];
    assert_eq!(
        (&instance["activity"], &instance["bytes_in"]),
        (&"ended".into(), &4096.into())
    );
    let events: Vec<_> = events
        .iter()
        .map(|event| serde_json::to_value(event).unwrap())
        .collect();
    let ended = serde_json::json!({ "event": "ended", "stage": "stuck", "instance": 0 });
    assert!(events.contains(&ended), "{events:?}");
}

#[cfg(feature = "tracing")]
mod tracing_feature {
    use std::fmt::{Debug, Write as _};
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::sync::{Arc, Mutex};

    use tracing::field::{Field, Visit};
    use tracing::span::{Attributes, Id, Record};
    use tracing::{Event, Metadata, Subscriber};

    /// Writes the names of spans, and all events, to one text.
    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<String>>, Arc<AtomicU64>);

    struct Fields<'l>(&'l mut String);

    impl Visit for Fields<'_> {
        fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
            write!(self.0, " {field}={value:?}").unwrap();
        }
    }

    impl Subscriber for Lines {
        fn enabled(&self, _: &Metadata<'_>) -> bool {
            true
        }

        fn new_span(&self, span: &Attributes<'_>) -> Id {
            let mut lines = self.0.lock().unwrap();
            *lines += span.metadata().name();
            span.record(&mut Fields(&mut lines));
            *lines += "\n";
            Id::from_u64(self.1.fetch_add(1, Ordering::Relaxed) + 1)
        }

        fn event(&self, event: &Event<'_>) {
            let mut lines = self.0.lock().unwrap();
            event.record(&mut Fields(&mut lines));
            *lines += "\n";
        }

        fn record(&self, _: &Id, _: &Record<'_>) {}
        fn record_follows_from(&self, _: &Id, _: &Id) {}
        fn enter(&self, _: &Id) {}
        fn exit(&self, _: &Id) {}
    }

    #[test]
    fn spans_and_events_reach_the_subscriber_of_the_caller() {
        for is_started in [false, true] {
            let lines = Lines::default();
            let (pipe, release) = super::stuck_pipe();
            release.send(()).unwrap();
            tracing::subscriber::with_default(lines.clone(), || {
                if is_started {
                    // The controller gets a thread of its own.
                    pipe.start().unwrap().wait()
                } else {
                    pipe.run()
                }
            })
            .unwrap();
            let text = lines.0.lock().unwrap();
            for line in [
                "pipe label=\"nightly\"",
                "stage stage=\"stuck/0\"",
                "message=stuck/0: started",
                "message=stuck/0: ended",
            ] {
                assert!(text.contains(line), "{line} in {text}");
            }
        }
    }
}
