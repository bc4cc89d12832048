//! A place in an object storage: the parts of an archive's volumes, by name.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use datapipe::StageError;
use datapipe::media::MediumError;
use futures_util::{StreamExt as _, TryStreamExt as _};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt as _};
use tokio::runtime::{Builder, Runtime};
use url::Url;

/// A prefix in a storage, under which the parts of one archive are.
#[derive(Clone, Debug)]
pub struct Site {
    store: Arc<dyn ObjectStore>,
    prefix: Path,
    /// URL from which another process opens the same place, if there is one.
    url: Option<String>,
    runtime: Arc<Runtime>,
}

/// The parts of each volume: first byte and length, in order.
pub(crate) type Parts = BTreeMap<u32, Vec<(u64, u64)>>;

impl Site {
    /// The place under `prefix` in a storage that only this process has.
    ///
    /// # Errors
    ///
    /// If the runtime's thread cannot be started.
    pub fn new(store: Arc<dyn ObjectStore>, prefix: &str) -> io::Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("uploads")
            .enable_all()
            .build()?;
        Ok(Self {
            store,
            prefix: Path::from(prefix),
            url: None,
            runtime: Arc::new(runtime),
        })
    }

    /// The place of a URL, such as `file:///srv/archives/nightly`. Every process can open it, so
    /// stages that use it can run in processes. Which schemes are known depends on the features of
    /// `object_store`; their options, credentials too, are environment variables.
    ///
    /// # Errors
    ///
    /// If the URL is malformed, its scheme is unknown, or an option is missing.
    pub fn of_url(url: &str) -> Result<Self, StageError> {
        let parsed = Url::parse(url)?;
        let options = std::env::vars().map(|(name, value)| (name.to_ascii_lowercase(), value));
        let (store, prefix) = object_store::parse_url_opts(&parsed, options)?;
        // The store of local files does not sync them by itself, and `put` has to be durable.
        let store: Arc<dyn ObjectStore> = if parsed.scheme() == "file" {
            Arc::new(LocalFileSystem::new().with_fsync(true))
        } else {
            Arc::from(store)
        };
        let site = Self::new(store, prefix.as_ref())?;
        Ok(Self {
            url: Some(url.to_owned()),
            ..site
        })
    }

    /// Removes everything under the prefix.
    ///
    /// # Errors
    ///
    /// If the storage fails.
    pub fn clear(&self) -> Result<(), StageError> {
        let listed = self.store.list(Some(&self.prefix));
        let paths = listed.map_ok(|object| object.location).boxed();
        let deleted = self.store.delete_stream(paths).try_collect::<Vec<_>>();
        self.runtime.block_on(deleted)?;
        Ok(())
    }

    pub(crate) fn url(&self) -> Option<&str> {
        self.url.as_deref()
    }

    pub(crate) fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    pub(crate) fn store(&self) -> Arc<dyn ObjectStore> {
        Arc::clone(&self.store)
    }

    /// For messages.
    pub(crate) fn path(&self) -> PathBuf {
        self.url
            .as_deref()
            .unwrap_or_else(|| self.prefix.as_ref())
            .into()
    }

    pub(crate) fn part_path(&self, volume: u32, from: u64) -> Path {
        let prefix = self.prefix.clone();
        prefix
            .join(format!("{volume:06}"))
            .join(format!("{from:016x}"))
    }

    /// Lists the parts of all volumes. Other objects under the prefix are ignored.
    pub(crate) fn parts(&self) -> Result<Parts, MediumError> {
        let listed = self.store.list(Some(&self.prefix)).try_collect::<Vec<_>>();
        let listed = self.runtime.block_on(listed).map_err(self.failed("list"))?;
        let mut parts = Parts::new();
        for object in listed {
            let mut names = object
                .location
                .parts()
                .collect::<Vec<_>>()
                .into_iter()
                .rev();
            let (Some(from), Some(volume)) = (names.next(), names.next()) else {
                continue;
            };
            let (Ok(from), Ok(volume)) = (
                u64::from_str_radix(from.as_ref(), 16),
                volume.as_ref().parse::<u32>(),
            ) else {
                continue;
            };
            if self.part_path(volume, from) == object.location {
                parts.entry(volume).or_default().push((from, object.size));
            }
        }
        parts.values_mut().for_each(|parts| parts.sort_unstable());
        Ok(parts)
    }

    /// Reads a part.
    pub(crate) fn read(&self, volume: u32, from: u64) -> Result<Vec<u8>, MediumError> {
        let path = self.part_path(volume, from);
        let read = async { self.store.get(&path).await?.bytes().await };
        let bytes = self.runtime.block_on(read).map_err(self.failed("read"))?;
        Ok(bytes.into())
    }

    /// Returns a function for `map_err`.
    pub(crate) fn failed(
        &self,
        doing: &'static str,
    ) -> impl FnOnce(object_store::Error) -> MediumError {
        let path = self.path();
        move |error| MediumError::Io {
            doing,
            path,
            source: io::Error::other(error),
        }
    }
}
