//! Admission: a pipe that cannot work is rejected with numbers before it starts.

use std::time::Duration;

use datapipe::prelude::*;
use datapipe::testkit::{Collected, collect, gather, numbers, pass, sleepy};

use crate::fixture::small;

#[test]
fn undersized_pool_is_rejected_with_the_arithmetic() {
    let chain = || {
        Pipe::builder()
            .label("nightly")
            .head(numbers(1))
            .stage(zstd(3).instances(2))
            .stage(gather(4).named("group"))
            .tail(collect(&Collected::default()))
    };
    let error = chain().buffers(8).run().unwrap_err().to_string();
    assert_eq!(
        error,
        "cannot start pipe \"nightly\": stage \"group\" keeps 4 inputs before it frees one, \
         but zstd instances may hold 2 buffers each\n  \
         zstd x2 has 4 of 8 buffers (8 / 2 allocating modules); \
         2 >= 1 + (4 - 1) does not hold; use 16 buffers or more"
    );
    assert!(
        chain()
            .buffers(16)
            .plan()
            .unwrap()
            .budget()
            .warning()
            .is_some(),
        "legal, but small"
    );
    assert_eq!(
        chain().plan().unwrap().to_string(),
        "nightly  numbers > zstd x2 > group > collect"
    );
}

#[test]
fn impossible_pipes_are_rejected() {
    let refused = |builder: PipeBuilder<'_>| builder.run().unwrap_err().to_string();
    let sink = || collect(&Collected::default());
    assert_eq!(
        refused(small().tail(sink())),
        "cannot start pipe \"test\": it has no head"
    );
    assert_eq!(
        refused(small().head(numbers(1))),
        "cannot start pipe \"test\": it has no tail"
    );
    let two = small()
        .head(numbers(1))
        .stage(gather(2).instances(2))
        .tail(sink());
    assert!(
        refused(two)
            .contains("stage \"gather\" can have one instance, not 2: it is a loop over its port")
    );
    let inline = small()
        .head(numbers(1))
        .stage(gather(2).inline())
        .tail(sink());
    assert!(
        refused(inline).ends_with("stage \"gather\" is a loop over its port and cannot run inline")
    );
    let none = small()
        .head(numbers(1))
        .stage(pass(1).instances(0))
        .tail(sink());
    assert!(refused(none).contains("number of instances"));
    let many = small()
        .head(numbers(1))
        .stage(pass(1).instances(65))
        .tail(sink());
    assert!(refused(many).contains("is 65, but must be between 1 and 64"));
    let tiny = small().buffer_size(1).head(numbers(1)).tail(sink());
    assert!(refused(tiny).contains("buffer size is 1, but must be between 512 and 67108864"));
    let nameless = small()
        .head(numbers(1))
        .stage(pass(1).named(""))
        .tail(sink());
    assert!(refused(nameless).contains("a name must have 1 to 64 bytes"));
    // A value is one instance: a request for more is rejected, and does not panic.
    let twice: HeadStage<'_> = StreamHead::new(std::io::empty()).into();
    assert!(refused(small().head(twice.instances(2)).tail(sink())).contains("one instance"));
}

#[test]
fn pool_larger_than_memory_is_rejected() {
    let huge = Pipe::builder()
        .buffers(4096)
        .buffer_size(64 << 20)
        .head(numbers(1))
        .tail(collect(&Collected::default()));
    let text = huge.run().unwrap_err().to_string();
    assert!(
        text.starts_with("the buffer pool takes 2621") && text.contains("MiB are available"),
        "{text}"
    );
}

#[test]
fn terminate_policy_ends_an_instance_at_its_limit() {
    let got = Collected::default();
    let error = small()
        .at_limit(AtLimit::Terminate)
        .buffers(4)
        .head(numbers(1_000_000))
        .stage(sleepy(1, Duration::from_millis(2)))
        .tail(collect(&got))
        .run()
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with("stage \"numbers\": all 4 buffers that this instance may have"),
        "{error}"
    );
}
