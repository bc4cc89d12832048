//! A configuration in words: the rights that it gives to users.

use std::fmt::Write as _;
use std::os::unix::fs::MetadataExt as _;

use super::configuration::Config;
use super::module::{Module, RunAs};
use super::paths::{AllowedPath, PathRules};
use super::program::written_by_groups;
use super::users::{User, name_of_group};

impl Config {
    /// Describes in words what the configuration allows, with a line that begins with "warning" for
    /// each right that is easily given by mistake.
    pub fn describe(&self) -> String {
        let own = User::own();
        let mut text = format!(
            "The daemon runs as {own} and listens at {} (mode {:04o}).\nMay connect: {}.\n",
            self.socket.display(),
            self.socket_mode,
            listed(&self.who_may_connect(own))
        );
        for module in &self.modules {
            // Writing to a String does not fail.
            let _ = self.describe_module(module, own, &mut text);
        }
        text
    }

    fn who_may_connect(&self, own: User) -> Vec<String> {
        let mut names = vec![User(0).to_string()];
        if own.0 != 0 {
            names.push(own.to_string());
        }
        names.extend(self.access.users.iter().map(|user| User(*user).to_string()));
        let groups = self.access.groups.iter();
        names.extend(groups.map(|group| format!("members of {}", name_of_group(*group))));
        names
    }

    fn describe_module(&self, module: &Module, own: User, text: &mut String) -> std::fmt::Result {
        let Module { name, program, .. } = module;
        let users = match &module.users {
            None => "all who may connect".to_owned(),
            Some(users) => listed(
                &["root".to_owned()]
                    .into_iter()
                    .chain(users.iter().map(|user| User(*user).to_string()))
                    .collect::<Vec<_>>(),
            ),
        };
        let runs_as = match module.run_as {
            _ if own.0 != 0 => format!("{own}, the daemon's user"),
            RunAs::Requester => "the user who requests the pipe".to_owned(),
            RunAs::User(user) => format!("{user}, for every user"),
        };
        writeln!(text, "\nModule \"{name}\" of {}:", program.path().display())?;
        writeln!(text, "  used by: {users}\n  runs as: {runs_as}")?;
        if module.confined {
            writeln!(text, "  in every pipe it may {}", access_of(&module.always))?;
            writeln!(
                text,
                "  if the request names them, it may {}",
                access_of(&module.paths)
            )?;
        } else {
            writeln!(
                text,
                "  may open every path that its user may: it is not confined"
            )?;
        }
        if module.temporary {
            let directory = self.temporary_directory.display();
            writeln!(
                text,
                "  temporary files: in a private directory in {directory}"
            )?;
        }
        for warning in self.warnings(module, own) {
            writeln!(text, "  warning: {warning}")?;
        }
        Ok(())
    }

    fn warnings(&self, module: &Module, own: User) -> Vec<String> {
        let runner = match module.run_as {
            _ if own.0 != 0 => Some(own),
            RunAs::User(user) => Some(user),
            RunAs::Requester => None,
        };
        let is_for_root_only = match &module.users {
            Some(users) => users.iter().all(|user| *user == 0),
            None => {
                self.access.users.iter().all(|user| *user == 0) && self.access.groups.is_empty()
            }
        };
        let mut warnings = Vec::new();
        if let Some(runner) = runner.filter(|_| !is_for_root_only) {
            let what = match module.confined {
                true => "those paths",
                false => "every path",
            };
            warnings.push(format!(
                "its users read and write {what} with the rights of {runner}, also where the \
                 modes of the files do not permit it to themselves"
            ));
        }
        let is_for_all = module.program.file().metadata();
        let is_for_all = is_for_all.map_or(0, |found| found.mode() & 0o001) != 0;
        if own.0 == 0 && runner != Some(User(0)) && !is_for_all {
            warnings.push(
                "other users than root may not execute the program: set its mode to 0755"
                    .to_owned(),
            );
        }
        for (path, group) in written_by_groups(module.program.path()) {
            let (path, group) = (path.display(), name_of_group(group));
            warnings.push(format!(
                "the members of the group {group} can replace the program: they may write {path}"
            ));
        }
        let shared = ["/tmp", "/var/tmp", "/dev/shm", "/"];
        let mut written = module.always.write.iter().map(AllowedPath::path);
        if written.any(|path| shared.iter().any(|shared| path.as_os_str() == *shared)) {
            warnings.push(
                "`always` lets every pipe write a directory that all share: `temporary = true` \
                 gives each its own"
                    .to_owned(),
            );
        }
        warnings
    }
}

fn access_of(rules: &PathRules) -> String {
    let paths = |paths: &[AllowedPath]| {
        listed(
            &paths
                .iter()
                .map(|path| path.path().display().to_string())
                .collect::<Vec<_>>(),
        )
    };
    format!("read {}; write {}", paths(&rules.read), paths(&rules.write))
}

fn listed(items: &[String]) -> String {
    match items {
        [] => "nothing".to_owned(),
        items => items.join(", "),
    }
}
