//! Makes every instance, and starts it: from the tail to the head, so that nobody sends to a stage
//! that is not there.

use std::thread::{Builder, Scope};

use crossbeam_channel::Sender;

use crate::error::{Error, StageError};
use crate::host::launch_request::LaunchRequest;
use crate::memory::Segment;
use crate::pool::Seat;
use crate::stage::runner::inline::{self, InlineInstance};
use crate::stage::runner::{Worker, thread};
use crate::stage::{HeadStage, MiddleStage, Placement, Settings, TailStage};

use super::processes::{self, Household, Post, Standing};

/// Which instance of which stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Id {
    pub(super) stage: u32,
    pub(super) instance: u32,
}

/// What an instance says last.
#[derive(Debug)]
pub(super) struct Exit {
    pub(super) id: Id,
    pub(super) result: Result<(), StageError>,
    /// Whether the pipe had been stopped by then: an error is then no more than a consequence.
    pub(super) after_stop: bool,
}

/// Every instance of a pipe, made and not yet started, tail first.
#[derive(Default)]
pub(super) struct Crew<'a> {
    threads: Vec<(String, InlineInstance<'a, Id>)>,
    turns: Vec<InlineInstance<'a, Id>>,
    posts: Vec<Post>,
}

impl<'a> Crew<'a> {
    /// Makes every instance of every stage. Calls the caller's factories; a panic of one comes back
    /// with whose it is.
    pub(super) fn new(
        mut head: HeadStage<'a>,
        middles: Vec<MiddleStage<'a>>,
        mut tail: TailStage<'a>,
        segment: &Segment,
        terminate_at_limit: bool,
    ) -> Result<Self, (Id, StageError)> {
        let mut crew = Self::default();
        let seat = |Id { stage, instance }| {
            Seat::new(segment, stage, instance).terminate_at_limit(terminate_at_limit)
        };
        let ids = |stage, settings: &Settings| {
            (0..settings.instances).map(move |instance| Id { stage, instance })
        };
        let last = segment.shape().stage_count() - 1;
        let posts = |settings: &Settings, work, stage, standing| {
            Post::all_of(settings, work, stage, standing, terminate_at_limit)
        };
        let settings = tail.settings.clone();
        if !crew.man(posts(&settings, tail.kind(), last, Standing::Last)) {
            for id in ids(last, &settings) {
                crew.add(&settings, id, seat(id), |n| tail.worker(n))?;
            }
        }
        for (stage, mut middle) in (1..last).zip(middles).rev() {
            let settings = middle.settings.clone();
            if !crew.man(posts(&settings, middle.kind(), stage, Standing::Between)) {
                for id in ids(stage, &settings) {
                    crew.add(&settings, id, seat(id), |n| middle.worker(n))?;
                }
            }
        }
        let settings = head.settings.clone();
        if !crew.man(posts(&settings, head.kind(), 0, Standing::First)) {
            for id in ids(0, &settings) {
                crew.add(&settings, id, seat(id), |n| head.worker(n))?;
            }
        }
        Ok(crew)
    }

    /// Takes the processes of a stage on. Returns whether there are any.
    fn man(&mut self, posts: Vec<Post>) -> bool {
        let any = !posts.is_empty();
        self.posts.extend(posts);
        any
    }

    /// The seats for which a process may attach, and what it is told.
    pub(super) fn unbound(&self) -> Vec<(Id, LaunchRequest)> {
        self.posts.iter().filter_map(Post::unbound).collect()
    }

    /// Makes an instance that runs in this process.
    fn add(
        &mut self,
        settings: &Settings,
        id: Id,
        seat: Seat,
        worker: impl FnOnce(u32) -> Worker<'a>,
    ) -> Result<(), (Id, StageError)> {
        let worker =
            thread::catch_panic(|| Ok(worker(id.instance))).map_err(|error| (id, error))?;
        let turn = InlineInstance { id, worker, seat };
        if settings.placement == Placement::Inline {
            self.turns.push(turn);
        } else {
            self.threads
                .push((format!("{}/{}", settings.name, id.instance), turn));
        }
        Ok(())
    }

    /// Starts every instance in `scope`. Each sends one [`Exit`], whatever happens to it.
    ///
    /// If all are inline, no thread is started, and they have run to their ends when this returns.
    pub(super) fn start<'scope>(
        self,
        scope: &'scope Scope<'scope, '_>,
        household: &'scope Household<'scope>,
        exits: &Sender<Exit>,
    ) -> Result<(), Error>
    where
        'a: 'scope,
    {
        let spawn_failed = |source| Error::System {
            what: "cannot start a thread for a stage",
            source,
        };
        let segment = household.segment;
        let alone = self.threads.is_empty() && self.posts.is_empty();
        if !self.posts.is_empty() {
            let (posts, exits) = (self.posts, exits.clone());
            let run = move || processes::run(posts, household, exits);
            Builder::new()
                .name("processes".to_owned())
                .spawn_scoped(scope, run)
                .map_err(spawn_failed)?;
        }
        for (name, turn) in self.threads {
            let exits = exits.clone();
            let run = move || {
                let InlineInstance { id, worker, seat } = turn;
                let result = thread::run(worker, &seat);
                let after_stop = segment.is_stopped();
                drop(seat);
                // The controller listens until the last instance has ended.
                let _ = exits.send(Exit {
                    id,
                    result,
                    after_stop,
                });
            };
            Builder::new()
                .name(name)
                .spawn_scoped(scope, run)
                .map_err(spawn_failed)?;
        }
        let (turns, exits) = (self.turns, exits.clone());
        let ended = move |id, result: Result<(), StageError>| {
            let after_stop = segment.is_stopped();
            if result.is_err() {
                // Nobody listens while all run in turn on the controller's thread: the first
                // failure stops the rest.
                segment.stop();
            }
            let _ = exits.send(Exit {
                id,
                result,
                after_stop,
            });
        };
        if alone {
            inline::run(turns, alone, ended);
        } else if !turns.is_empty() {
            let run = move || inline::run(turns, alone, ended);
            Builder::new()
                .name("inline".to_owned())
                .spawn_scoped(scope, run)
                .map_err(spawn_failed)?;
        }
        Ok(())
    }
}
