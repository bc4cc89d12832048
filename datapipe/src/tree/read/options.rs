//! Sources of a tree, their names in the archive, and what is left out.

use std::error::Error;
use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::interrupt::retry;
use crate::stage::Arguments;

use super::inspect::{InspectorFactory, ObjectInspector};

/// Options for reading a tree. By default everything below the sources is read.
///
/// # Examples
///
/// ```
/// use datapipe::tree::TreeOptions;
///
/// let options = TreeOptions::default()
///     .one_file_system(true)
///     .exclude(["*.o", "home/*/.cache"]);
/// assert_eq!(options.exclude.len(), 2);
/// ```
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct TreeOptions {
    /// Leaves out other file systems that are mounted in a source. A directory where one is mounted
    /// is in the archive, without the objects in it; a file over which another is mounted is not.
    /// Mounts are distinguished by their ids, so the subvolumes of btrfs belong to the mount that
    /// shows them. Before Linux 5.8, which has no such ids, directories are distinguished by
    /// their devices.
    pub one_file_system: bool,
    /// Leaves out objects that match one of these patterns, and everything below them: `*`, `?`,
    /// `[a-z]`, `{a,b}` as in a shell, `**` for any number of directories. A pattern is compared
    /// with the path in the archive and with the last name of the path; one that begins with `/` is
    /// compared with the absolute paths of the objects in the sources. One that ends with `/`
    /// matches directories only. `./` at the start and `//` do not count.
    ///
    /// A pattern that leaves nothing out is a [`TreeNote::UnusedPattern`] in the report.
    ///
    /// [`TreeNote::UnusedPattern`]: super::TreeNote::UnusedPattern
    pub exclude: Vec<String>,
    /// Leaves out these files and directories, by device and inode: the file to which the archive
    /// is written, for example.
    pub skip: Vec<(u64, u64)>,
    pub(super) inspectors: Option<InspectorFactory>,
    /// Ends the pipe with an error if nothing is found below the sources, or only directories are
    /// and not all objects could be read. A file system that is not mounted looks like this. If the
    /// archive is to replace another, the other stays.
    pub refuse_empty: bool,
    /// Looks up no names of users and groups: the archive has their numbers only. A look-up waits
    /// for the name services of this machine, which nothing can interrupt.
    pub numeric_owner: bool,
    /// Stores the time at which each object was made, if its file system has it. No system can
    /// restore it.
    pub birth_time: bool,
    /// Opens no source through a symbolic link, and does not inspect the target of one.
    pub(super) only_straight: bool,
}

impl TreeOptions {
    /// Leaves out other file systems that are mounted in a source, if `yes`.
    #[must_use]
    pub fn one_file_system(mut self, yes: bool) -> Self {
        self.one_file_system = yes;
        self
    }

    /// Opens no source through a symbolic link in its path, which must be resolved, and does not
    /// inspect the target of a source that is a link, if `yes`.
    pub(in crate::tree) fn only_straight(mut self, yes: bool) -> Self {
        self.only_straight = yes;
        self
    }

    /// Leaves out objects that match one of `patterns` as well.
    #[must_use]
    pub fn exclude(mut self, patterns: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.exclude.extend(patterns.into_iter().map(Into::into));
        self
    }

    /// Sets [`refuse_empty`](field@Self::refuse_empty).
    #[must_use]
    pub fn refuse_empty(mut self, yes: bool) -> Self {
        self.refuse_empty = yes;
        self
    }

    /// Sets [`numeric_owner`](field@Self::numeric_owner).
    #[must_use]
    pub fn numeric_owner(mut self, yes: bool) -> Self {
        self.numeric_owner = yes;
        self
    }

    /// Sets [`birth_time`](field@Self::birth_time).
    #[must_use]
    pub fn birth_time(mut self, yes: bool) -> Self {
        self.birth_time = yes;
        self
    }

    /// Leaves out the files and directories with these devices and inodes as well.
    #[must_use]
    pub fn skip(mut self, objects: impl IntoIterator<Item = (u64, u64)>) -> Self {
        self.skip.extend(objects);
        self
    }

    /// Inspects each file while it is read. `factory` makes an [`ObjectInspector`] for each
    /// instance of the head from its number, from 0, on the instance's own thread.
    ///
    /// A rejected file is a problem in the report, [`ProblemKind::Rejected`], and has the state
    /// [`ObjectState::Unread`] in the archive: lists show it, and a restore does not restore it
    /// under its name. Its neighbours stay whole. An inspector belongs to this program, so a pipe
    /// whose head has one and runs in processes is refused.
    ///
    /// [`ProblemKind::Rejected`]: super::ProblemKind::Rejected
    /// [`ObjectState::Unread`]: crate::wire::ObjectState::Unread
    #[must_use]
    pub fn inspect<I: ObjectInspector + 'static>(
        mut self,
        factory: impl FnMut(u32) -> I + Send + 'static,
    ) -> Self {
        self.inspectors = Some(InspectorFactory::new(factory));
        self
    }
}

/// Error in the sources or options of a tree.
#[derive(Debug)]
#[non_exhaustive]
pub enum TreeError {
    /// A source does not exist, or its metadata cannot be read.
    Source {
        /// The path of the source.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// Two sources would have the same name in the archive.
    SameName {
        /// The path of one source.
        first: PathBuf,
        /// The path of the other.
        second: PathBuf,
        /// The name.
        name: OsString,
    },
    /// A source cannot have this name in an archive.
    Name {
        /// The path of the source.
        path: PathBuf,
        /// The name.
        name: OsString,
    },
    /// A pattern is invalid.
    Pattern {
        /// The pattern.
        pattern: String,
        /// The reason: the pattern can match nothing, or is malformed. The second comes from the
        /// library that compiles patterns; the error type of that library is not part of this API,
        /// and its text would repeat the pattern.
        reason: String,
    },
}

impl fmt::Display for TreeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Source { path, source } => write!(f, "cannot read {}: {source}", path.display()),
            Self::SameName {
                first,
                second,
                name,
            } => {
                let (first, second, name) = (first.display(), second.display(), name.display());
                write!(
                    f,
                    "{first} and {second} would both be named \"{name}\" in the archive: give one \
                     of them another name"
                )
            }
            Self::Name { path, name } => {
                let (path, name) = (path.display(), name.display());
                write!(
                    f,
                    "{path} cannot be named \"{name}\" in the archive: a name is not empty, \
                     contains no \"/\" or zero byte, and is neither \".\" nor \"..\""
                )
            }
            Self::Pattern { pattern, reason } => {
                write!(f, "invalid pattern \"{pattern}\": {reason}")
            }
        }
    }
}

impl Error for TreeError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Source { source, .. } => Some(source),
            Self::SameName { .. } | Self::Name { .. } | Self::Pattern { .. } => None,
        }
    }
}

/// A path to read, and its name in the archive.
#[derive(Clone, Debug)]
pub(in crate::tree) struct Source {
    pub(super) name: OsString,
    pub(super) path: PathBuf,
}

/// Names sources by the last names of their paths.
pub(super) fn name_sources<P: AsRef<Path>>(paths: &[P]) -> Result<Vec<Source>, TreeError> {
    let named = paths.iter().map(|path| {
        Ok(Source {
            name: source_name(path.as_ref())?,
            path: path.as_ref().into(),
        })
    });
    named.collect()
}

/// Returns the last name of a path. For a path that ends with `.` or `..`, that is the name of the
/// directory it refers to.
pub(in crate::tree) fn source_name(path: &Path) -> Result<OsString, TreeError> {
    if let Some(name) = path.file_name() {
        return Ok(name.to_owned());
    }
    let canonical = retry(|| fs::canonicalize(path)).map_err(|source| TreeError::Source {
        path: path.to_owned(),
        source,
    })?;
    Ok(canonical
        .file_name()
        .map_or_else(|| OsString::from("root"), ToOwned::to_owned))
}

/// Checks that every source exists, and has a valid name that no other source has.
pub(super) fn validate_sources(sources: &[Source]) -> Result<(), TreeError> {
    for (i, source) in sources.iter().enumerate() {
        let bytes = source.name.as_bytes();
        if bytes.is_empty()
            || bytes == b"."
            || bytes == b".."
            || bytes.contains(&b'/')
            || bytes.contains(&0)
        {
            return Err(TreeError::Name {
                path: source.path.clone(),
                name: source.name.clone(),
            });
        }
        if let Some(other) = sources
            .iter()
            .take(i)
            .find(|other| other.name == source.name)
        {
            return Err(TreeError::SameName {
                first: other.path.clone(),
                second: source.path.clone(),
                name: source.name.clone(),
            });
        }
        if let Err(error) = retry(|| fs::symlink_metadata(&source.path)) {
            return Err(TreeError::Source {
                path: source.path.clone(),
                source: error,
            });
        }
    }
    Ok(())
}

/// Returns the digest by which a writer that continues an archive knows that it reads the same
/// sources and leaves out the same. `docs/wire-format.md` has its input.
pub(super) fn digest_of_sources(sources: &[Source], options: &TreeOptions) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    let mut add = |code: u8, texts: &[&[u8]]| {
        hasher.update(&[code]);
        for text in texts {
            hasher.update(&(text.len() as u64).to_le_bytes());
            hasher.update(text);
        }
    };
    for source in sources {
        let path = source.path.as_os_str().as_bytes();
        add(1, &[source.name.as_bytes(), path]);
    }
    for pattern in &options.exclude {
        add(2, &[pattern.as_bytes()]);
    }
    for (device, inode) in &options.skip {
        add(3, &[&device.to_le_bytes(), &inode.to_le_bytes()]);
    }
    if options.one_file_system {
        add(4, &[]);
    }
    hasher.finalize().into()
}

/// Returns the arguments from which a module makes a head.
pub(super) fn head_arguments(sources: &[Source], options: &TreeOptions) -> Arguments {
    let TreeOptions {
        one_file_system,
        exclude,
        skip,
        refuse_empty,
        numeric_owner,
        birth_time,
        ..
    } = options;
    let mut arguments = Arguments::new().with_all(
        "source",
        sources
            .iter()
            .map(|source| source.path.as_os_str().as_bytes()),
    );
    if sources
        .iter()
        .any(|source| source.path.file_name() != Some(&source.name))
    {
        arguments = arguments.with_all("name", sources.iter().map(|source| source.name.as_bytes()));
    }
    let skipped = skip
        .iter()
        .map(|(device, inode)| format!("{device}:{inode}"));
    arguments
        .with_flag("one-file-system", *one_file_system)
        .with_flag("refuse-empty", *refuse_empty)
        .with_flag("numeric-owner", *numeric_owner)
        .with_flag("birth-time", *birth_time)
        .with_all("exclude", exclude)
        .with_all("skip", skipped)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    #[test]
    fn source_names_are_last_names_and_unique() {
        assert_eq!(source_name(Path::new("/srv/data")).unwrap(), "data");
        assert_eq!(source_name(Path::new("/srv/data/")).unwrap(), "data");
        assert_eq!(source_name(Path::new("/")).unwrap(), "root");
        assert_eq!(source_name(Path::new("/usr/share/..")).unwrap(), "usr");
        let here = std::env::current_dir().unwrap();
        assert_eq!(
            source_name(Path::new(".")).unwrap(),
            here.file_name().unwrap()
        );
        let twice = name_sources(&["/usr/bin", "/bin"]).unwrap();
        let error = validate_sources(&twice).unwrap_err().to_string();
        assert!(
            error.contains("/usr/bin and /bin would both be named \"bin\""),
            "{error}"
        );
        let missing = name_sources(&["/nothing/there"]).unwrap();
        assert!(
            validate_sources(&missing)
                .unwrap_err()
                .to_string()
                .contains("/nothing/there")
        );
        for name in ["", ".", "..", "a/b"] {
            let source = Source {
                name: name.into(),
                path: "/usr".into(),
            };
            assert!(
                matches!(validate_sources(&[source]), Err(TreeError::Name { .. })),
                "{name}"
            );
        }
    }
}
