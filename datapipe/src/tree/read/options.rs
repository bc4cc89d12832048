//! What is read, under which name, and what is left out.

use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use globset::{Candidate, GlobBuilder, GlobSet, GlobSetBuilder};

use crate::stage::Arguments;

/// Name of the module that makes a [`TreeHead`](super::TreeHead) in another process.
pub(in crate::tree) const TREE_HEAD_MODULE: &str = "datapipe.tree-head";

/// What of a tree is read.
#[derive(Clone, Debug, Default)]
pub struct TreeOptions {
    /// Leave out other file systems that are mounted in a source. The directory where one begins is
    /// in the archive, without what is in it.
    pub one_file_system: bool,
    /// Leave out what these patterns match, and everything below it: `*`, `?`, `[a-z]`, `{a,b}` as
    /// in a shell, `**` for any number of directories. A pattern is compared with the path in the
    /// archive and with its last name.
    pub exclude: Vec<String>,
    /// Leave out these files and directories, by device and inode: what the archive is written to,
    /// for one.
    pub skip: Vec<(u64, u64)>,
}

/// Why a tree cannot be read as it was asked for.
#[derive(Debug)]
#[non_exhaustive]
pub enum TreeError {
    /// A source cannot be found, or looked at.
    Source(PathBuf, io::Error),
    /// Two sources would have one name in the archive.
    SameName(PathBuf, PathBuf, OsString),
    /// A source cannot have this name in an archive.
    Name(PathBuf, OsString),
    /// A pattern is not one: the pattern, and why.
    Pattern(String, String),
}

impl fmt::Display for TreeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Source(path, error) => write!(f, "cannot read {}: {error}", path.display()),
            Self::SameName(one, other, name) => {
                let (one, other, name) = (one.display(), other.display(), name.display());
                write!(
                    f,
                    "{one} and {other} would both be \"{name}\" in the archive: give one another name"
                )
            }
            Self::Name(path, name) => {
                let (path, name) = (path.display(), name.display());
                write!(
                    f,
                    "{path} cannot be \"{name}\" in the archive: a name has no \"/\" and is not \"..\""
                )
            }
            Self::Pattern(pattern, why) => write!(f, "\"{pattern}\" is no pattern: {why}"),
        }
    }
}

impl std::error::Error for TreeError {}

/// A path that is read, and what it is called in the archive.
#[derive(Clone, Debug)]
pub(in crate::tree) struct Source {
    pub(super) name: OsString,
    pub(super) path: PathBuf,
}

/// The sources by the last names of their paths.
pub(super) fn name_sources<P: AsRef<Path>>(paths: &[P]) -> Result<Vec<Source>, TreeError> {
    let named = paths.iter().map(|path| {
        Ok(Source {
            name: source_name(path.as_ref())?,
            path: path.as_ref().into(),
        })
    });
    named.collect()
}

/// The last name of a path; of a path that ends with `.` or `..`, that of the directory which it
/// means.
pub(in crate::tree) fn source_name(path: &Path) -> Result<OsString, TreeError> {
    if let Some(name) = path.file_name() {
        return Ok(name.to_owned());
    }
    let meant =
        fs::canonicalize(path).map_err(|error| TreeError::Source(path.to_owned(), error))?;
    Ok(meant
        .file_name()
        .map_or_else(|| OsString::from("root"), ToOwned::to_owned))
}

/// Every source is there and has a name of its own.
pub(super) fn check_sources(sources: &[Source]) -> Result<(), TreeError> {
    for (i, source) in sources.iter().enumerate() {
        let bytes = source.name.as_bytes();
        if bytes.is_empty()
            || bytes == b"."
            || bytes == b".."
            || bytes.contains(&b'/')
            || bytes.contains(&0)
        {
            return Err(TreeError::Name(source.path.clone(), source.name.clone()));
        }
        if let Some(other) = sources
            .iter()
            .take(i)
            .find(|other| other.name == source.name)
        {
            return Err(TreeError::SameName(
                other.path.clone(),
                source.path.clone(),
                source.name.clone(),
            ));
        }
        if let Err(error) = fs::symlink_metadata(&source.path) {
            return Err(TreeError::Source(source.path.clone(), error));
        }
    }
    Ok(())
}

/// Returns the arguments from which a module makes a head.
pub(super) fn head_arguments(sources: &[Source], options: &TreeOptions) -> Arguments {
    let TreeOptions {
        one_file_system,
        exclude,
        skip,
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
        .with_all("exclude", exclude)
        .with_all("skip", skipped)
}

/// The patterns of [`TreeOptions::exclude`], ready to be compared: for those who look at a tree
/// before it is read.
#[derive(Clone, Debug)]
pub struct Excluded(GlobSet);

impl Excluded {
    /// Nothing is excluded by no patterns.
    ///
    /// # Errors
    ///
    /// [`TreeError::Pattern`].
    pub fn new(patterns: &[String]) -> Result<Self, TreeError> {
        let wrong = |pattern: &str, error: globset::Error| {
            TreeError::Pattern(pattern.to_owned(), error.kind().to_string())
        };
        let mut set = GlobSetBuilder::new();
        for pattern in patterns {
            let glob = GlobBuilder::new(pattern).literal_separator(true).build();
            set.add(glob.map_err(|error| wrong(pattern, error))?);
        }
        set.build()
            .map(Self)
            .map_err(|error| wrong(&patterns.join(" "), error))
    }

    /// Whether the object of this path, whose last name is `name`, is left out.
    pub fn matches(&self, path: &[u8], name: &[u8]) -> bool {
        !self.0.is_empty()
            && (self.0.is_match_candidate(&Candidate::from_bytes(name))
                || self.0.is_match_candidate(&Candidate::from_bytes(path)))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    #[test]
    fn names_of_sources() {
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
        let error = check_sources(&twice).unwrap_err().to_string();
        assert!(
            error.contains("/usr/bin and /bin would both be \"bin\""),
            "{error}"
        );
        let missing = name_sources(&["/nothing/there"]).unwrap();
        assert!(
            check_sources(&missing)
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
                matches!(check_sources(&[source]), Err(TreeError::Name(..))),
                "{name}"
            );
        }
    }

    #[test]
    fn patterns_match_names_and_paths() {
        let patterns = ["*.o", "home/*/.cache", "**/target", "b[xy]?"].map(String::from);
        let excluded = Excluded::new(&patterns).unwrap();
        for path in [
            "x/y/a.o",
            "home/ann/.cache",
            "w/v/target",
            "target",
            "q/bxz",
        ] {
            let name = path.rsplit('/').next().unwrap();
            assert!(excluded.matches(path.as_bytes(), name.as_bytes()), "{path}");
        }
        for path in ["x/a.oo", "home/ann/x/.cache", "w/targets", "bzz"] {
            let name = path.rsplit('/').next().unwrap();
            assert!(
                !excluded.matches(path.as_bytes(), name.as_bytes()),
                "{path}"
            );
        }
        assert!(excluded.matches(b"\xff/\xfe.o", b"\xfe.o"));
        let error = Excluded::new(&["a[".to_owned()]).unwrap_err().to_string();
        assert!(error.contains("\"a[\" is no pattern"), "{error}");
    }
}
