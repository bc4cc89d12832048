//! Names that change after the daemon has checked them.

use std::fs;

use datapipe_net::StageRequest;
use datapipe_net::protocol::{EventKind, PipeState};
use rustix::process::{Pid, Signal, kill_process};

use crate::site::{HANGS, Site, events, outcome, plain, wait_until};

/// Each process resolved the allowed paths by name again. A user who could rename an allowed
/// directory after the check had a replacement of a module with more rights read another one.
pub(crate) fn allowed_path_that_is_renamed_later_allows_nothing() {
    let mut site = Site::without_daemon("");
    let (own, allowed) = (std::env::current_exe().unwrap(), site.path("in"));
    let private = site.path("private");
    fs::create_dir(&private).unwrap();
    fs::write(allowed.join("file"), "public").unwrap();
    fs::write(private.join("file"), "private").unwrap();
    site.configure(&format!(
        "{}[[module]]\nname = \"peek\"\nprogram = {own:?}\nrole = \"middle\"\n\
         work = \"transform\"\npaths = {{ read = [{allowed:?}] }}\n",
        site.configuration("")
    ));
    site.start();
    let path = allowed.join("file");
    for named in [&allowed, &path] {
        let mut client = site.client();
        client.subscribe(None).unwrap();
        let mut request = plain("forever");
        let peek = StageRequest::module("peek").arguments(path.to_str().unwrap());
        request.stages.insert(1, peek.read(named));
        let pipe = client.initiate(&request).unwrap().pipe;
        let mut status = site.client();
        let mut process_of = || status.status(&pipe).unwrap().stages[1].instances[0].process;
        wait_until("it runs", || process_of() != 0);
        let first = process_of();
        loop {
            let event = client.next_event(HANGS).unwrap().expect("its content");
            if event.kind == EventKind::NOTE {
                assert_eq!(event.note.unwrap(), b"public");
                break;
            }
        }
        fs::rename(&allowed, site.path("aside")).unwrap();
        fs::rename(&private, &allowed).unwrap();
        let process = Pid::from_raw(first as i32).unwrap();
        kill_process(process, Signal::KILL).unwrap();
        // A replacement that works has sent more than it had found.
        let mut found = None;
        wait_until("its replacement works, or the pipe fails", || {
            let status = site.client().status(&pipe).unwrap();
            let instance = status.stages.get(1).map(|stage| &stage.instances[0]);
            let sent = instance
                .filter(|now| now.process != 0 && now.process != first)
                .map(|now| now.blocks_out);
            found = found.or(sent);
            status.entry.state.is_final() || sent > found.map(|found| found + 10)
        });
        let _ = site.client().stop(&pipe);
        let (state, why) = outcome(&mut site.client(), &pipe);
        for event in events(&mut client, &pipe) {
            assert_ne!(event.note.as_deref(), Some(&b"private"[..]), "{named:?}");
        }
        assert_eq!(state, PipeState::FAILED, "{named:?}: {why}");
        assert!(why.contains("another file than when"), "{why}");
        fs::rename(&allowed, &private).unwrap();
        fs::rename(site.path("aside"), &allowed).unwrap();
    }
}
