//! From what is written to what it means. Every mistake is found, not only the first.

use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use datapipe::limits::{MAX_INSTANCES, MAX_MODULE_NAME};
use datapipe::stage::StageKind;
use toml::Spanned;

use super::paths::{PathRules, resolve};
use super::program::Program;
use super::users::{Access, User, find_group};
use super::written::{self, Written};
use super::{Config, Limits, Mistake, Module, Place};
use crate::limits::{MAX_CONNECTIONS, MAX_NAME, MAX_PIPES};
use crate::socket::is_short_enough;

/// Longest time that can be set, in seconds: a week.
const MAX_SECONDS: u64 = 7 * 24 * 3600;
/// Most shared memory that can be set, in MiB: 16 TiB.
const MAX_MIB: u64 = 1 << 24;

pub(super) fn check(text: &str) -> Result<Config, Vec<Mistake>> {
    let mut checker = Checker {
        text,
        mistakes: Vec::new(),
    };
    let written: Written = match toml::from_str(text) {
        Ok(written) => written,
        Err(error) => {
            let line = error.span().map_or(0, |span| checker.line(&span));
            return Err(vec![Mistake {
                line,
                what: error.message().to_owned(),
            }]);
        }
    };
    let config = checker.config(written);
    if checker.mistakes.is_empty() {
        Ok(config)
    } else {
        Err(checker.mistakes)
    }
}

struct Checker<'t> {
    text: &'t str,
    mistakes: Vec<Mistake>,
}

impl Checker<'_> {
    fn config(&mut self, written: Written) -> Config {
        let socket = written.socket.get_ref().clone();
        if !socket.is_absolute() || socket.file_name().is_none() {
            self.wrong(
                &written.socket.span(),
                "the socket is not named from the root: begin it with /",
            );
        }
        if !is_short_enough(&socket) {
            self.wrong(
                &written.socket.span(),
                "the socket's path is too long: it has 104 bytes at most",
            );
        }
        let socket_mode = match &written.socket_mode {
            None => 0o666,
            Some(mode) => u32::from_str_radix(mode.get_ref(), 8)
                .ok()
                .filter(|mode| *mode <= 0o777)
                .unwrap_or_else(|| {
                    self.wrong(
                        &mode.span(),
                        "socket_mode is not an octal number from \"0\" to \"0777\"",
                    );
                    0
                }),
        };
        let socket_group = written.socket_group.and_then(|group| self.group(&group));
        let access = Access {
            users: written
                .access
                .users
                .iter()
                .filter_map(|user| self.user(user))
                .collect(),
            groups: written
                .access
                .groups
                .iter()
                .filter_map(|group| self.group(group))
                .collect(),
        };
        let limits = self.limits(&written.limits);
        let mut modules: Vec<Module> = Vec::new();
        for module in written.module {
            let span = module.get_ref().name.span();
            if let Some(module) = self.module(module.into_inner()) {
                if modules.iter().any(|other| other.name == module.name) {
                    self.wrong(
                        &span,
                        format!("there is another module \"{}\"", module.name.escape_debug()),
                    );
                }
                modules.push(module);
            }
        }
        Config {
            socket,
            socket_mode,
            socket_group,
            access,
            limits,
            modules,
        }
    }

    fn limits(&mut self, written: &written::Limits) -> Limits {
        let known = Limits::default();
        let mib = |bytes: u64| bytes >> 20;
        let limits = Limits {
            pipes: self.number(
                "pipes",
                &written.pipes,
                known.pipes.into(),
                1..=MAX_PIPES.into(),
            ) as u32,
            connections: self.number(
                "connections",
                &written.connections,
                known.connections.into(),
                1..=MAX_CONNECTIONS.into(),
            ) as u32,
            memory_per_pipe: self.number(
                "memory_per_pipe_mib",
                &written.memory_per_pipe_mib,
                mib(known.memory_per_pipe),
                1..=MAX_MIB,
            ) << 20,
            memory: self.number(
                "memory_mib",
                &written.memory_mib,
                mib(known.memory),
                1..=MAX_MIB,
            ) << 20,
            unbound_patience: self.seconds(
                "unbound_patience_s",
                &written.unbound_patience_s,
                known.unbound_patience,
            ),
            stopped_limit: self.seconds(
                "stopped_limit_s",
                &written.stopped_limit_s,
                known.stopped_limit,
            ),
            client_patience: self.seconds(
                "client_patience_s",
                &written.client_patience_s,
                known.client_patience,
            ),
        };
        if limits.memory_per_pipe > limits.memory {
            let one = written
                .memory_per_pipe_mib
                .as_ref()
                .or(written.memory_mib.as_ref());
            let (pipe, all) = (mib(limits.memory_per_pipe), mib(limits.memory));
            let what = format!("one pipe may take {pipe} MiB, but all together only {all} MiB");
            self.wrong(&one.map_or(0..0, Spanned::span), what);
        }
        limits
    }

    fn module(&mut self, written: written::Module) -> Option<Module> {
        let before = self.mistakes.len();
        for name in [Some(&written.name), written.module.as_ref()]
            .into_iter()
            .flatten()
        {
            let len = name.get_ref().len();
            if len == 0 || len > MAX_NAME.min(MAX_MODULE_NAME) {
                self.wrong(
                    &name.span(),
                    format!("a module's name has 1 to {MAX_NAME} bytes, not {len}"),
                );
            }
        }
        let program = Program::check(written.program.get_ref());
        if let Err(what) = &program {
            self.wrong(&written.program.span(), what);
        }
        let (work, place) = self.work(&written);
        let one = if work == StageKind::Loop {
            1
        } else {
            MAX_INSTANCES.into()
        };
        let max_instances =
            self.number("max_instances", &written.max_instances, one, 1..=one) as u32;
        let confined = written.confined.unwrap_or(true);
        let (always, paths) = (self.rules(&written.always), self.rules(&written.paths));
        let users = written
            .users
            .map(|users| users.iter().filter_map(|user| self.user(user)).collect());
        let name = written.name.into_inner();
        let module = written
            .module
            .map_or_else(|| name.clone(), Spanned::into_inner);
        match program {
            Ok(program) if self.mistakes.len() == before => Some(Module {
                name,
                module,
                program,
                work,
                place,
                max_instances,
                confined,
                always,
                paths,
                users,
            }),
            _ => None,
        }
    }

    /// The kind of work, and the place that goes with it.
    fn work(&mut self, module: &written::Module) -> (StageKind, Place) {
        use written::{Role, StageKind as Written};
        let role = *module.role.get_ref();
        let (work, fits) = match module.work.get_ref() {
            Written::Fill => (StageKind::Fill, role == Role::Head),
            Written::Transform => (StageKind::Transform, role == Role::Middle),
            Written::InPlace => (StageKind::InPlace, role == Role::Middle),
            Written::Analyze => (StageKind::Analyze, role == Role::Middle),
            Written::Write => (StageKind::Write, role == Role::Tail),
            Written::Loop => (StageKind::Loop, true),
        };
        if !fits {
            let what = "the work does not fit the role: a head does fill or loop, a tail write or loop, a middle \
                        transform, in-place, analyze or loop";
            self.wrong(&module.work.span(), what);
        }
        let place = match role {
            Role::Head => Place::Head,
            Role::Middle => Place::Middle,
            Role::Tail => Place::Tail,
        };
        (work, place)
    }

    fn rules(&mut self, written: &written::Paths) -> PathRules {
        PathRules {
            read: self.roots(&written.read),
            write: self.roots(&written.write),
        }
    }

    fn roots(&mut self, written: &[Spanned<PathBuf>]) -> Vec<PathBuf> {
        let mut roots = Vec::new();
        for path in written {
            match resolve(path.get_ref()).and_then(|root| std::fs::metadata(&root).map(|_| root)) {
                Ok(root) => roots.push(root),
                Err(error) => self.wrong(
                    &path.span(),
                    format!("{}: {error}", path.get_ref().display()),
                ),
            }
        }
        roots
    }

    fn user(&mut self, name: &Spanned<String>) -> Option<u32> {
        User::find(name.get_ref())
            .map(|user| user.0)
            .map_err(|what| self.wrong(&name.span(), what))
            .ok()
    }

    fn group(&mut self, name: &Spanned<String>) -> Option<u32> {
        find_group(name.get_ref())
            .map_err(|what| self.wrong(&name.span(), what))
            .ok()
    }

    fn seconds(&mut self, key: &str, written: &Option<Spanned<u64>>, known: Duration) -> Duration {
        Duration::from_secs(self.number(key, written, known.as_secs(), 1..=MAX_SECONDS))
    }

    fn number(
        &mut self,
        key: &str,
        written: &Option<Spanned<u64>>,
        known: u64,
        range: std::ops::RangeInclusive<u64>,
    ) -> u64 {
        let Some(written) = written else { return known };
        let number = *written.get_ref();
        if !range.contains(&number) {
            let what = format!(
                "{key} is {number}, and can be {} to {}",
                range.start(),
                range.end()
            );
            self.wrong(&written.span(), what);
            return known;
        }
        number
    }

    fn wrong(&mut self, span: &Range<usize>, what: impl Into<String>) {
        let line = self.line(span);
        self.mistakes.push(Mistake {
            line,
            what: what.into(),
        });
    }

    fn line(&self, span: &Range<usize>) -> usize {
        self.text
            .bytes()
            .take(span.start)
            .filter(|&byte| byte == b'\n')
            .count()
            + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    /// A configuration with a program and a directory that exist, and a module's further lines.
    fn text(dir: &std::path::Path, more: &str) -> String {
        let program = dir.join("program");
        std::fs::write(&program, "").unwrap();
        std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
        let (program, dir) = (program.display(), dir.display());
        format!(
            "socket = \"/run/x/socket\"\nsocket_mode = \"0660\"\n[access]\nusers = [\"root\"]\n[limits]\npipes = 3\n\
             memory_mib = 64\nmemory_per_pipe_mib = 32\n[[module]]\nname = \"read\"\nprogram = \"{program}\"\n\
             work = \"fill\"\nrole = \"head\"\npaths = {{ read = [\"{dir}\"] }}\n{more}"
        )
    }

    #[test]
    fn a_configuration_says_what_it_says() {
        let dir = tempfile::tempdir().unwrap();
        let root = std::fs::canonicalize(dir.path()).unwrap();
        let config = check(&text(
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
        assert_eq!(config.access.users, [0]);
        let module = config.module("read").unwrap();
        assert_eq!(
            (module.work, module.place, module.max_instances),
            (StageKind::Fill, Place::Head, 4)
        );
        assert_eq!(
            (&*module.module, module.program.path()),
            ("reader", &*root.join("program"))
        );
        assert_eq!(
            (&module.paths.read, module.paths.write.len()),
            (&vec![root], 0)
        );
        assert!(
            module.is_for(User(7)) && module.is_for(User(0)) && !module.is_for(User(4_000_000_001))
        );
        assert!(config.module("reader").is_none());
    }

    #[test]
    fn mistakes_are_named_with_their_lines() {
        let dir = tempfile::tempdir().unwrap();
        let good = text(dir.path(), "");
        for (from, to, line, what) in [
            (
                "socket = \"/run/x/socket\"",
                "socket = \"x\"",
                1,
                "not named from the root",
            ),
            (
                "/run/x/socket",
                &format!("/{}", "s".repeat(104)),
                1,
                "too long",
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
                "pipes is 0, and can be 1 to 1024",
            ),
            ("pipes = 3", "pipes = \"many\"", 6, "invalid type"),
            ("pipes = 3", "pipes = 3 3", 6, ""),
            (
                "memory_mib = 64",
                "memory_mib = 16",
                8,
                "one pipe may take 32 MiB, but all together only 16 MiB",
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
        ] {
            assert!(good.contains(from), "{from}");
            let mistakes = check(&good.replacen(from, to, 1)).unwrap_err();
            assert_eq!(mistakes.len(), 1, "{to}: {mistakes:?}");
            assert_eq!(mistakes[0].line, line, "{to}: {mistakes:?}");
            assert!(mistakes[0].what.contains(what), "{to}: {mistakes:?}");
        }
    }

    #[test]
    fn every_mistake_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let twice = text(dir.path(), "max_instances = 65\n");
        let module = twice.split("[[module]]").nth(1).unwrap();
        let mistakes =
            check(&format!("{twice}[[module]]{module}").replace("/run/x/", "run/")).unwrap_err();
        assert_eq!(
            mistakes
                .iter()
                .map(|mistake| mistake.line)
                .collect::<Vec<_>>(),
            [1, 15, 22]
        );
        let valid = text(dir.path(), "");
        let module = valid.split("[[module]]").nth(1).unwrap();
        let mistakes = check(&format!("{valid}[[module]]{module}")).unwrap_err();
        assert_eq!(mistakes[0].what, "there is another module \"read\"");
    }
}
