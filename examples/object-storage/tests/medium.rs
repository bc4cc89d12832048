//! The medium in the suite of media, on the in-memory and the local store of `object_store`; a
//! storage that fails; and an archive that processes write and read.
//!
//! The test binary is the host of its own stages, so its `main` is its own.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use datapipe::host;
use datapipe::media::{Item, MediumError, MediumReader as _, MediumWriter as _};
use datapipe::testkit::Suite;
use datapipe_object_storage::{ObjectMedium, ObjectOptions, Site};
use futures_util::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

fn main() {
    let own = datapipe::modules().with_medium(
        ObjectMedium::MODULE,
        ObjectMedium::create_from,
        ObjectMedium::open_from,
    );
    host::serve(own);
    let tests: [(&str, fn()); 4] = [
        (
            "memory_store_passes_the_suite",
            memory_store_passes_the_suite,
        ),
        (
            "local_store_passes_the_suite_in_processes",
            local_store_passes_the_suite_in_processes,
        ),
        ("parts_are_a_tape", parts_are_a_tape),
        ("failed_upload_is_reported", failed_upload_is_reported),
    ];
    for (name, test) in tests {
        test();
        println!("test {name} ... ok");
    }
}

/// Small parts, so that there are many, and small volumes, so that they end.
fn options() -> ObjectOptions {
    let mut options = ObjectOptions::default();
    (options.part_len, options.volume_size) = (10_000, 100 << 10);
    options
}

fn site(store: &Arc<dyn ObjectStore>) -> Site {
    Site::new(Arc::clone(store), "archives/nightly").unwrap()
}

fn memory_store_passes_the_suite() {
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let create = || {
        site(&store).clear().unwrap();
        ObjectMedium::create(site(&store), options()).unwrap()
    };
    Suite::on_threads().medium(create, || ObjectMedium::open(site(&store)).unwrap());
    let again = ObjectMedium::create(site(&store), options()).unwrap_err();
    assert!(matches!(again, MediumError::NotEmpty { .. }), "{again}");
}

fn local_store_passes_the_suite_in_processes() {
    let dir = tempfile::tempdir().unwrap();
    let url = format!("file://{}/nightly", dir.path().display());
    let site = || Site::of_url(&url).unwrap();
    let create = || {
        site().clear().unwrap();
        ObjectMedium::create(site(), options()).unwrap()
    };
    Suite::with_processes().medium(create, || ObjectMedium::open(site()).unwrap());
}

/// The parts of a volume, one after the other, are a tape that the library reads.
fn parts_are_a_tape() {
    let dir = tempfile::tempdir().unwrap();
    let url = format!("file://{}/nightly", dir.path().display());
    let mut medium = ObjectMedium::create(Site::of_url(&url).unwrap(), options()).unwrap();
    for number in 0..20u8 {
        medium.write(&[number; 1501]).unwrap();
        medium.write_mark().unwrap();
    }
    medium.sync().unwrap();
    let parts = std::fs::read_dir(dir.path().join("nightly/000001")).unwrap();
    let mut parts: Vec<_> = parts.map(|part| part.unwrap().path()).collect();
    parts.sort();
    assert!(parts.len() > 2, "{parts:?}");
    let bytes: Vec<u8> = parts
        .iter()
        .flat_map(|part| std::fs::read(part).unwrap())
        .collect();
    let tape = dir.path().join("volume.tap");
    std::fs::write(&tape, bytes).unwrap();
    let mut tape = datapipe::media::VirtualTape::open(tape).unwrap();
    let mut record = Vec::new();
    for number in 0..20u8 {
        assert!(matches!(tape.read(&mut record).unwrap(), Item::Record(_)));
        assert_eq!(record, [number; 1501]);
        assert!(matches!(tape.read(&mut record).unwrap(), Item::Mark(_)));
    }
    assert_eq!(tape.read(&mut record).unwrap(), Item::End);
}

/// The third upload fails: the writer reports it once, and refuses all that follows. A reader finds
/// the gap, and what is after it.
fn failed_upload_is_reported() {
    let memory: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let store: Arc<dyn ObjectStore> = Arc::new(FailsThird(Arc::clone(&memory), AtomicU64::new(0)));
    let mut medium = ObjectMedium::create(site(&store), options()).unwrap();
    let mut failed = None;
    for number in 0..60u8 {
        if let Err(error) = medium.write(&[number; 1000]) {
            failed = Some(error);
            break;
        }
    }
    let failed = failed.map_or_else(|| medium.sync(), Err).unwrap_err();
    assert!(
        matches!(failed, MediumError::Io { doing: "write", .. }),
        "{failed}"
    );
    assert!(failed.to_string().contains("on purpose"), "{failed}");
    for broken in [
        medium.sync(),
        medium.write_mark(),
        medium.write(b"x").map(drop),
    ] {
        let broken = broken.unwrap_err();
        assert!(matches!(broken, MediumError::Broken { .. }), "{broken}");
    }
    drop(medium);

    let mut reader = ObjectMedium::open(site(&memory)).unwrap();
    let (mut record, mut next, mut damaged) = (Vec::new(), 0u8, 0);
    loop {
        match reader.read(&mut record).unwrap() {
            Item::Record(_) => {
                assert!(record[0] >= next && record == [record[0]; 1000]);
                next = record[0] + 1;
            }
            Item::Damaged { skipped, .. } => damaged += skipped,
            Item::Mark(at) => panic!("a mark at {at}"),
            Item::End => break,
        }
    }
    // Ten records of 1008 bytes are a part. Parts after the third may be there or not.
    assert!(next >= 20, "the first two parts are read: {next} records");
    assert_eq!(damaged, if next > 30 { 10_080 } else { 0 });
}

/// A store whose third `put` fails.
#[derive(Debug)]
struct FailsThird(Arc<dyn ObjectStore>, AtomicU64);

impl fmt::Display for FailsThird {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a store that fails")
    }
}

#[async_trait]
impl ObjectStore for FailsThird {
    async fn put_opts(&self, to: &Path, data: PutPayload, how: PutOptions) -> Result<PutResult> {
        if self.1.fetch_add(1, Ordering::SeqCst) == 2 {
            return Err(object_store::Error::Generic {
                store: "test",
                source: "it fails on purpose".into(),
            });
        }
        self.0.put_opts(to, data, how).await
    }

    async fn put_multipart_opts(
        &self,
        to: &Path,
        how: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.0.put_multipart_opts(to, how).await
    }

    async fn get_opts(&self, from: &Path, how: GetOptions) -> Result<GetResult> {
        self.0.get_opts(from, how).await
    }

    fn delete_stream(
        &self,
        paths: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        self.0.delete_stream(paths)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.0.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.0.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, how: CopyOptions) -> Result<()> {
        self.0.copy_opts(from, to, how).await
    }
}
