//! A segment made by a hostile process: attaching to it and using it gives a result or an error.
#![no_main]

use datapipe::memory::{Backing, HugePages, PipeName, Segment, Shape, StageId, StageShape};
use datapipe::pool::Seat;
use libfuzzer_sys::fuzz_target;
use rustix::fs::{MemfdFlags, SealFlags};

fuzz_target!(|edits: Vec<(u16, u64)>| {
    let shape = Shape::builder(4, 512)
        .headroom(16)
        .tailroom(16)
        .stage(StageShape::new(1).share(2))
        .stage(StageShape::new(2).share(2).numbered())
        .stage(StageShape::new(1))
        .build()
        .unwrap();
    let (name, names) = (PipeName::new(), ["head", "middle", "tail"]);
    let good = Segment::create(&name, shape, &names, Backing::Anonymous, HugePages::No).unwrap();
    // A copy of a valid segment with some words changed, sealed as a segment must be.
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(
        &mut std::fs::File::from(good.descriptor().unwrap().try_clone_to_owned().unwrap()),
        &mut bytes,
    )
    .unwrap();
    for (at, value) in edits {
        let at = usize::from(at) % (bytes.len() / 8) * 8;
        bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
    }
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let memory = rustix::fs::memfd_create("fuzz", flags).unwrap();
    std::io::Write::write_all(
        &mut std::fs::File::from(memory.try_clone().unwrap()),
        &bytes,
    )
    .unwrap();
    rustix::fs::fcntl_add_seals(&memory, SealFlags::SHRINK | SealFlags::GROW).unwrap();

    let Ok(segment) = Segment::attach(memory) else {
        return;
    };
    let _ = segment.audit();
    let _ = segment.free_buffers();
    let _ = datapipe::Status::of(&segment).to_string();
    let last = segment.shape().tail();
    let Ok(head) = Seat::new(&segment, StageId::HEAD.instance(0)).head() else {
        return;
    };
    if let Ok(mut block) = head.try_alloc() {
        let _ = block.put(b"data");
        let _ = head.send(block);
    }
    let second = StageId::new(1);
    if last > second {
        let Ok(middle) = Seat::new(&segment, second.instance(0)).middle() else {
            return;
        };
        if let (Ok(Some(input)), Ok(output)) = (middle.try_receive(), middle.try_alloc()) {
            let _ = (input.bytes().len(), input.info());
            let _ = middle.send(output, &input);
        }
    }
    let Ok(tail) = Seat::new(&segment, last.instance(0)).tail() else {
        return;
    };
    if let Ok(Some(block)) = tail.try_receive() {
        let _ = block.bytes().len();
    }
});
