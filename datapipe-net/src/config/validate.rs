//! From the keys of the file to a configuration. Validation finds all mistakes, not only the first.

use std::ops::{Range, RangeInclusive};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use datapipe::Role;
use datapipe::interrupt::retry;
use datapipe::limits::{MAX_INSTANCES, MAX_MODULE_NAME};
use datapipe::stage::StageKind;
use toml::Spanned;

use super::acl::check_acl;
use super::configuration::Config;
use super::error::Mistake;
use super::file::{AccessTable, ConfigFile, LimitsTable, ModuleTable, PathsTable, WorkKey};
use super::limits::Limits;
use super::module::{Module, RunAs};
use super::paths::{AllowedPath, PathRules};
use super::permissions::Access;
use super::program::{Program, check_ownership};
use super::records::{Metrics, check_directory, check_metrics_file};
use super::users::{User, find_group};
use crate::limits::{MAX_CONNECTIONS, MAX_DESCRIPTORS, MAX_NAME, MAX_PIPES, MAX_PROCESSES};
use crate::socket::fits_in_address;

/// Longest time that can be set, in seconds: a week.
const MAX_SECONDS: u64 = 7 * 24 * 3600;
/// Most shared memory that can be set, in MiB: 16 TiB.
const MAX_MIB: u64 = 1 << 24;
/// Least memory of its own that a process can be limited to, in MiB: its threads need some.
const MIN_PROCESS_MIB: u64 = 64;

/// Validates the text of a configuration file.
pub(super) fn validate(text: &str) -> Result<Config, Vec<Mistake>> {
    let mut validator = Validator {
        text,
        mistakes: Vec::new(),
    };
    let file: ConfigFile = match toml::from_str(text) {
        Ok(file) => file,
        Err(error) => {
            let line = error.span().map_or(0, |span| validator.line(&span));
            let what = error.message().to_owned();
            return Err(vec![Mistake { line, what }]);
        }
    };
    let config = validator.config(file);
    if validator.mistakes.is_empty() {
        Ok(config)
    } else {
        Err(validator.mistakes)
    }
}

/// Collects the mistakes of a file while it converts the file's values.
///
/// A method that finds a mistake records it and returns some valid value, so that validation goes
/// on; the result is not used if there is a mistake.
struct Validator<'t> {
    text: &'t str,
    mistakes: Vec<Mistake>,
}

impl Validator<'_> {
    fn config(&mut self, file: ConfigFile) -> Config {
        Config {
            socket: self.socket(file.socket),
            socket_mode: self.socket_mode(file.socket_mode.as_ref()),
            socket_group: file.socket_group.and_then(|group| self.group(&group)),
            state_dir: self.path(file.state_dir.as_ref(), check_directory),
            metrics: Metrics {
                file: self.path(file.metrics_file.as_ref(), check_metrics_file),
                interval: self.seconds(
                    "metrics_interval_s",
                    &file.metrics_interval_s,
                    Metrics::default().interval,
                ),
                users: file
                    .metrics_users
                    .iter()
                    .filter_map(|user| self.user(user))
                    .collect(),
            },
            temporary_directory: self.temporary_directory(file.temporary_directory.as_ref()),
            access: self.access(&file.access),
            limits: self.limits(&file.limits),
            modules: self.modules(file.module),
        }
    }

    fn socket(&mut self, socket: Spanned<PathBuf>) -> PathBuf {
        let span = socket.span();
        let socket = socket.into_inner();
        if !socket.is_absolute() || socket.file_name().is_none() {
            let what = "the path of the socket must begin with / and name a file";
            self.mistake(&span, what);
        }
        if !fits_in_address(&socket) {
            let what = "the path of the socket is too long: it has 104 bytes at most";
            self.mistake(&span, what);
        }
        socket
    }

    fn socket_mode(&mut self, mode: Option<&Spanned<String>>) -> u32 {
        let Some(mode) = mode else { return 0o666 };
        let number = u32::from_str_radix(mode.get_ref(), 8).ok();
        number.filter(|mode| *mode <= 0o777).unwrap_or_else(|| {
            let what = "socket_mode is not an octal number from \"0\" to \"0777\"";
            self.mistake(&mode.span(), what);
            0
        })
    }

    /// Checks a path with `check`.
    fn path(
        &mut self,
        path: Option<&Spanned<PathBuf>>,
        check: fn(&Path) -> Result<(), String>,
    ) -> Option<PathBuf> {
        let path = path?;
        if let Err(what) = check(path.get_ref()) {
            self.mistake(&path.span(), what);
        }
        Some(path.get_ref().clone())
    }

    fn access(&mut self, table: &AccessTable) -> Access {
        let users = table.users.iter().filter_map(|user| self.user(user));
        let users = users.collect();
        let groups = table.groups.iter().filter_map(|group| self.group(group));
        Access {
            users,
            groups: groups.collect(),
        }
    }

    fn limits(&mut self, table: &LimitsTable) -> Limits {
        let default = Limits::default();
        let [pipes, pipes_per_user] = self.counts(
            ["pipes", "pipes_per_user"],
            [&table.pipes, &table.pipes_per_user],
            default.pipes,
            MAX_PIPES,
        );
        let [connections, connections_per_user] = self.counts(
            ["connections", "connections_per_user"],
            [&table.connections, &table.connections_per_user],
            default.connections,
            MAX_CONNECTIONS,
        );
        let [processes, processes_per_user] = self.counts(
            ["processes", "processes_per_user"],
            [&table.processes, &table.processes_per_user],
            default.processes,
            MAX_PROCESSES,
        );
        let descriptors = table.descriptors.is_some().then(|| {
            let range = 1..=MAX_DESCRIPTORS;
            self.number("descriptors", &table.descriptors, 0, range)
        });
        let descriptors_per_user = table.descriptors_per_user.is_some().then(|| {
            let range = 1..=MAX_DESCRIPTORS;
            let (key, value) = ("descriptors_per_user", &table.descriptors_per_user);
            self.number(key, value, 0, range)
        });
        let [memory_per_pipe, memory_per_user, memory] = self.shared_memory(table);
        let memory_per_process = self.number(
            "memory_per_process_mib",
            &table.memory_per_process_mib,
            default.memory_per_process >> 20,
            MIN_PROCESS_MIB..=MAX_MIB,
        );
        Limits {
            pipes,
            pipes_per_user,
            connections,
            connections_per_user,
            processes,
            processes_per_user,
            descriptors,
            descriptors_per_user,
            memory_per_pipe: memory_per_pipe << 20,
            memory_per_user: memory_per_user << 20,
            memory: memory << 20,
            memory_per_process: memory_per_process << 20,
            unbound_patience: self.seconds(
                "unbound_patience_s",
                &table.unbound_patience_s,
                default.unbound_patience,
            ),
            stopped_limit: self.seconds(
                "stopped_limit_s",
                &table.stopped_limit_s,
                default.stopped_limit,
            ),
            client_patience: self.seconds(
                "client_patience_s",
                &table.client_patience_s,
                default.client_patience,
            ),
        }
    }

    /// The limits of a kind for all users and for each, which is half of the first by default.
    fn counts(
        &mut self,
        keys: [&str; 2],
        values: [&Option<Spanned<u64>>; 2],
        default: u32,
        most: u32,
    ) -> [u32; 2] {
        let range = 1..=u64::from(most);
        let all = self.number(keys[0], values[0], default.into(), range.clone());
        let each = self.number(keys[1], values[1], all.div_ceil(2), range);
        if let Some(value) = values[1].as_ref().filter(|_| each > all) {
            let [all_key, each_key] = keys;
            let what = format!("{each_key} is {each}, and {all_key} for all users is only {all}");
            self.mistake(&value.span(), what);
        }
        // Both are in the range.
        [all as u32, each as u32]
    }

    /// The limits of shared memory in MiB: of a pipe, of a user, of all pipes. By default a user
    /// may have half of all, and one pipe at least.
    fn shared_memory(&mut self, table: &LimitsTable) -> [u64; 3] {
        let default = Limits::default();
        let (pipe_value, all_value) = (&table.memory_per_pipe_mib, &table.memory_mib);
        let user_value = &table.memory_per_user_mib;
        let range = 1..=MAX_MIB;
        let pipe_default = default.memory_per_pipe >> 20;
        let pipe = self.number(
            "memory_per_pipe_mib",
            pipe_value,
            pipe_default,
            range.clone(),
        );
        let all_default = default.memory >> 20;
        let all = self.number("memory_mib", all_value, all_default, range.clone());
        let user_default = all.div_ceil(2).max(pipe);
        let user = self.number("memory_per_user_mib", user_value, user_default, range);
        // One of the values is in the file, because the defaults do not contradict each other.
        let cause = if pipe > all {
            let what =
                format!("one pipe may take {pipe} MiB, but all pipes together only {all} MiB");
            Some((pipe_value.as_ref().or(all_value.as_ref()), what))
        } else if pipe > user {
            let what = format!("one pipe may take {pipe} MiB, but all of one user only {user} MiB");
            Some((user_value.as_ref(), what))
        } else if user > all {
            let what = format!("one user may take {user} MiB, but all users only {all} MiB");
            Some((user_value.as_ref(), what))
        } else {
            None
        };
        if let Some((value, what)) = cause {
            self.mistake(&value.map_or(0..0, Spanned::span), what);
        }
        [pipe, user, all]
    }

    fn modules(&mut self, tables: Vec<Spanned<ModuleTable>>) -> Vec<Module> {
        let mut modules: Vec<Module> = Vec::new();
        for table in tables {
            let span = table.get_ref().name.span();
            let Some(module) = self.module(table.into_inner()) else {
                continue;
            };
            if modules.iter().any(|other| other.name == module.name) {
                let name = module.name.escape_debug();
                self.mistake(&span, format!("there is another module \"{name}\""));
            }
            modules.push(module);
        }
        modules
    }

    /// Converts a module; `None` if it has a mistake.
    fn module(&mut self, table: ModuleTable) -> Option<Module> {
        let before = self.mistakes.len();
        self.module_name(&table.name);
        if let Some(name) = &table.module {
            self.module_name(name);
        }
        let program = Program::check(table.program.get_ref());
        let program = program
            .map_err(|error| self.mistake(&table.program.span(), error.to_string()))
            .ok();
        let role = table.role.0;
        let work = self.work(&table.work, role);
        // A loop has one instance.
        let most = if work == StageKind::Loop {
            1
        } else {
            MAX_INSTANCES.into()
        };
        let max_instances =
            self.number("max_instances", &table.max_instances, most, 1..=most) as u32;
        let (always, paths) = (self.rules(&table.always), self.rules(&table.paths));
        let users = table
            .users
            .map(|users| users.iter().filter_map(|user| self.user(user)).collect());
        let run_as = table
            .run_as
            .as_ref()
            .map_or(RunAs::Requester, |name| self.run_as(name));
        let name = table.name.into_inner();
        let module = table
            .module
            .map_or_else(|| name.clone(), Spanned::into_inner);
        if self.mistakes.len() > before {
            return None;
        }
        Some(Module {
            name,
            module,
            program: program?,
            work,
            role,
            max_instances,
            confined: table.confined.unwrap_or(true),
            run_as,
            temporary: table.temporary,
            always,
            paths,
            users,
        })
    }

    fn module_name(&mut self, name: &Spanned<String>) {
        let len = name.get_ref().len();
        let most = MAX_NAME.min(MAX_MODULE_NAME);
        if len == 0 || len > most {
            let what = format!("a module's name has 1 to {most} bytes, not {len}");
            self.mistake(&name.span(), what);
        }
    }

    /// Converts the kind of a module's work, which must be one of its role.
    fn work(&mut self, key: &Spanned<WorkKey>, role: Role) -> StageKind {
        let (work, fits) = match key.get_ref() {
            WorkKey::Fill => (StageKind::Fill, role == Role::Head),
            WorkKey::Transform => (StageKind::Transform, role == Role::Middle),
            WorkKey::InPlace => (StageKind::InPlace, role == Role::Middle),
            WorkKey::Analyze => (StageKind::Analyze, role == Role::Middle),
            WorkKey::Write => (StageKind::Write, role == Role::Tail),
            WorkKey::Loop => (StageKind::Loop, true),
        };
        if !fits {
            let what = "the work does not fit the role: use fill or loop for a head, write or \
                        loop for a tail, and transform, in-place, analyze or loop for a middle";
            self.mistake(&key.span(), what);
        }
        work
    }

    fn rules(&mut self, table: &PathsTable) -> PathRules {
        PathRules {
            read: self.roots(&table.read),
            write: self.roots(&table.write),
        }
    }

    /// Opens paths, which must exist.
    fn roots(&mut self, paths: &[Spanned<PathBuf>]) -> Vec<AllowedPath> {
        let mut roots = Vec::new();
        for path in paths {
            match AllowedPath::open(path.get_ref()) {
                Ok(root) => roots.push(root),
                Err(error) => {
                    let what = format!("{}: {error}", path.get_ref().display());
                    self.mistake(&path.span(), what);
                }
            }
        }
        roots
    }

    fn run_as(&mut self, name: &Spanned<String>) -> RunAs {
        if name.get_ref() == "requester" {
            return RunAs::Requester;
        }
        let Some(user) = self.user(name) else {
            return RunAs::Requester;
        };
        let own = User::own();
        if own.0 != 0 && User(user) != own {
            let what =
                format!("the daemon is not root: it can only run modules as its own user, {own}");
            self.mistake(&name.span(), what);
        }
        RunAs::User(User(user))
    }

    /// Resolves the directory for temporary files, which must exist.
    fn temporary_directory(&mut self, path: Option<&Spanned<PathBuf>>) -> PathBuf {
        let Some(path) = path else {
            return std::env::temp_dir();
        };
        let directory = AllowedPath::open(path.get_ref()).map_err(|error| error.to_string());
        let directory = directory.and_then(|directory| {
            let metadata =
                retry(|| std::fs::metadata(directory.path())).map_err(|error| error.to_string())?;
            // The sticky bit reserves what is in it to the owners, also against a list.
            let is_sticky = metadata.permissions().mode() & 0o1000 != 0;
            let by_list = match is_sticky {
                true => Ok(()),
                false => check_acl(directory.path()).map_err(|error| error.to_string())?,
            };
            let checked = check_ownership(&metadata).and(by_list);
            checked.map_err(|error| format!("the directory {error}"))?;
            Ok(directory.path().to_owned())
        });
        directory.unwrap_or_else(|error| {
            let what = format!("{}: {error}", path.get_ref().display());
            self.mistake(&path.span(), what);
            PathBuf::new()
        })
    }

    fn user(&mut self, name: &Spanned<String>) -> Option<u32> {
        User::find(name.get_ref())
            .map(|user| user.0)
            .map_err(|what| self.mistake(&name.span(), what))
            .ok()
    }

    fn group(&mut self, name: &Spanned<String>) -> Option<u32> {
        find_group(name.get_ref())
            .map_err(|what| self.mistake(&name.span(), what))
            .ok()
    }

    fn seconds(&mut self, key: &str, value: &Option<Spanned<u64>>, default: Duration) -> Duration {
        Duration::from_secs(self.number(key, value, default.as_secs(), 1..=MAX_SECONDS))
    }

    fn number(
        &mut self,
        key: &str,
        value: &Option<Spanned<u64>>,
        default: u64,
        range: RangeInclusive<u64>,
    ) -> u64 {
        let Some(value) = value else { return default };
        let number = *value.get_ref();
        if !range.contains(&number) {
            let (first, last) = range.into_inner();
            let what = format!("{key} is {number}, and must be {first} to {last}");
            self.mistake(&value.span(), what);
            return default;
        }
        number
    }

    /// Records a mistake in the line of `span`.
    fn mistake(&mut self, span: &Range<usize>, what: impl Into<String>) {
        let (line, what) = (self.line(span), what.into());
        self.mistakes.push(Mistake { line, what });
    }

    fn line(&self, span: &Range<usize>) -> usize {
        let before = self.text.bytes().take(span.start);
        before.filter(|&byte| byte == b'\n').count() + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A configuration with a program and a directory that exist; `more` are further lines of its
    /// module.
    fn text(dir: &Path, more: &str) -> String {
        let program = dir.join("program");
        std::fs::write(&program, "").unwrap();
        std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
        let (program, dir) = (program.display(), dir.display());
        format!(
            "socket = \"/run/x/socket\"\nsocket_mode = \"0660\"\n[access]\nusers = [\"root\"]\n\
             [limits]\npipes = 3\nmemory_mib = 64\nmemory_per_pipe_mib = 32\n\
             [[module]]\nname = \"read\"\nprogram = \"{program}\"\n\
             work = \"fill\"\nrole = \"head\"\npaths = {{ read = [\"{dir}\"] }}\n{more}"
        )
    }

    #[test]
    fn configuration_has_the_values_of_its_file() {
        let dir = tempfile::tempdir().unwrap();
        let root = std::fs::canonicalize(dir.path()).unwrap();
        let config = validate(&text(
            dir.path(),
            "max_instances = 4\nmodule = \"reader\"\nusers = [\"7\"]\n",
        ))
        .unwrap();
        assert_eq!(
            (
                config.socket_mode,
                config.limits.pipes,
                config.limits.memory
            ),
            (0o660, 3, 64 << 20)
        );
        assert_eq!(config.limits.connections, Limits::default().connections);
        let limits = config.limits;
        assert_eq!(
            (limits.pipes_per_user, limits.memory_per_user),
            (2, 32 << 20),
            "half of what all users have, rounded up"
        );
        assert_eq!(config.access.users, [0]);
        let module = config.module("read").unwrap();
        assert_eq!(
            (module.work, module.role, module.max_instances),
            (StageKind::Fill, Role::Head, 4)
        );
        assert_eq!(
            (&*module.module, module.program.path()),
            ("reader", &*root.join("program"))
        );
        assert_eq!(
            (module.paths.read[0].path(), module.paths.write.len()),
            (&*root, 0)
        );
        assert!(
            module.allows(User(7)) && module.allows(User(0)) && !module.allows(User(4_000_000_001))
        );
        assert!(config.module("reader").is_none());
    }

    /// A replacement in a valid configuration, the line of the mistake that it makes, and a part of
    /// its description.
    const MISTAKES: &[(&str, &str, usize, &str)] = &[
        (
            "socket = \"/run/x/socket\"",
            "socket = \"x\"",
            1,
            "the path of the socket must begin with /",
        ),
        (
            "socket_mode",
            "socket_mood",
            2,
            "unknown field `socket_mood`",
        ),
        ("\"0660\"", "\"rw\"", 2, "not an octal number"),
        (
            "\"root\"",
            "\"no such one\"",
            4,
            "there is no user \"no such one\"",
        ),
        (
            "pipes = 3",
            "pipes = 0",
            6,
            "pipes is 0, and must be 1 to 1024",
        ),
        (
            "pipes = 3",
            "pipes_per_user = 17",
            6,
            "pipes_per_user is 17, and pipes for all users is only 16",
        ),
        (
            "pipes = 3",
            "memory_per_user_mib = 31",
            6,
            "one pipe may take 32 MiB, but all of one user only 31 MiB",
        ),
        (
            "pipes = 3",
            "memory_per_user_mib = 65",
            6,
            "one user may take 65 MiB, but all users only 64 MiB",
        ),
        (
            "pipes = 3",
            "memory_per_process_mib = 1",
            6,
            "must be 64 to",
        ),
        ("pipes = 3", "pipes = \"many\"", 6, "invalid type"),
        ("pipes = 3", "pipes = 3 3", 6, ""),
        (
            "memory_mib = 64",
            "memory_mib = 16",
            8,
            "one pipe may take 32 MiB, but all pipes together only 16 MiB",
        ),
        (
            "name = \"read\"",
            "name = \"\"",
            10,
            "1 to 255 bytes, not 0",
        ),
        ("/program\"", "/none\"", 11, "No such file"),
        ("\"fill\"", "\"write\"", 12, "does not fit the role"),
        ("\"fill\"", "\"guess\"", 12, "unknown variant"),
        (
            "read = [",
            "read = [\"/no/such\", ",
            14,
            "/no/such: No such file",
        ),
        ("read = [", "reed = [", 14, "unknown field"),
    ];

    #[test]
    fn mistakes_have_their_line_and_a_description() {
        let dir = tempfile::tempdir().unwrap();
        let good = text(dir.path(), "");
        let long = format!("/{}", "s".repeat(104));
        let too_long = ("/run/x/socket", &*long, 1, "too long");
        for &(from, to, line, what) in MISTAKES.iter().chain([&too_long]) {
            assert!(good.contains(from), "{from}");
            let mistakes = validate(&good.replacen(from, to, 1)).unwrap_err();
            assert_eq!(mistakes.len(), 1, "{to}: {mistakes:?}");
            assert_eq!(mistakes[0].line, line, "{to}: {mistakes:?}");
            assert!(mistakes[0].what.contains(what), "{to}: {mistakes:?}");
        }
    }

    #[test]
    fn mistakes_are_all_found() {
        let dir = tempfile::tempdir().unwrap();
        let twice = text(dir.path(), "max_instances = 65\n");
        let module = twice.split("[[module]]").nth(1).unwrap();
        let mistakes =
            validate(&format!("{twice}[[module]]{module}").replace("/run/x/", "run/")).unwrap_err();
        assert_eq!(
            mistakes
                .iter()
                .map(|mistake| mistake.line)
                .collect::<Vec<_>>(),
            [1, 15, 22]
        );
        let valid = text(dir.path(), "");
        let module = valid.split("[[module]]").nth(1).unwrap();
        let mistakes = validate(&format!("{valid}[[module]]{module}")).unwrap_err();
        assert_eq!(mistakes[0].what, "there is another module \"read\"");
    }
}
