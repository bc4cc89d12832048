//! One client on one thread: its hello, its requests, and the events of its subscription.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Instant;

use super::log::Kind;
use super::open_connections::OpenConnection;
use super::requests::{ReplyResult, Requester, pipe_has_ended};
use super::state::DaemonState;
use super::subscribers::EventQueue;
use crate::config::User;
use crate::limits::MAX_BODY;
use crate::protocol::{
    ClientHello, CloseReason, HELLO_LEN, Refusal, RefusalCode, Reply, Request, ServerHello,
    ServerMessage,
};
use crate::socket::{Channel, ChannelError, Deadline, Peer};

/// Logs that a user may not connect.
pub(super) fn log_refused(state: &DaemonState, user: User) {
    state.log_limited(Kind::RefusedConnections, user, || {
        format!(
            "refused a connection of user id {}: it is not in [access]",
            user.0
        )
    });
}

/// Connection of a client.
pub(super) struct Connection {
    state: Arc<DaemonState>,
    channel: Channel,
    peer: Peer,
    /// Entry in the list of open connections.
    open: Option<OpenConnection>,
    /// Number of the request that subscribed, and the queue of its events.
    subscription: Option<(u32, Arc<EventQueue>)>,
}

impl Connection {
    pub(super) fn new(state: Arc<DaemonState>, channel: Channel, peer: Peer) -> Self {
        Self {
            state,
            channel,
            peer,
            open: None,
            subscription: None,
        }
    }

    /// Serves the client until it closes the connection, violates the protocol, or the daemon
    /// stops.
    pub(super) fn serve(mut self) {
        let state = Arc::clone(&self.state);
        let _open = state.metrics.open_connection();
        let served = self.greet().and_then(|accepted| {
            if accepted {
                self.serve_requests()
            } else {
                Ok(())
            }
        });
        match served {
            // The beginning of the next message is unknown, so the connection ends.
            Err(ChannelError::Malformed(error)) => {
                let _ = self.send(0, Reply::Refused(error.into()), None);
            }
            // The daemon stops: the ends of the pipes, as far as they can be sent without waiting.
            Err(ChannelError::Stopped) => {
                let _ = self.forward_events();
            }
            _ => {}
        }
    }

    /// Exchanges the hellos. Returns true if the connection is accepted.
    fn greet(&mut self) -> Result<bool, ChannelError> {
        let open = self.state.open.register(self.peer, self.channel.as_fd());
        self.open = Some(open.map_err(ChannelError::from)?);
        let config = self.state.config();
        let patience = config.limits.client_patience;
        let Peer { user, group, .. } = self.peer;
        let allowed = config.access.allows(user, group);
        let answer = if matches!(allowed, Ok(true)) {
            let mut hello = [0; HELLO_LEN];
            match self.channel.read(&mut hello, Deadline::after(patience)) {
                Ok(()) => match ClientHello::decode(&hello) {
                    Ok(hello) => ServerHello::answer(&hello),
                    Err(_) => ServerHello::closing(CloseReason::NO_HELLO),
                },
                Err(ChannelError::TooSlow) => ServerHello::closing(CloseReason::TOO_SLOW),
                Err(error) => return Err(error),
            }
        } else if let Err(error) = allowed {
            self.state.log_limited(Kind::UsersNotLookedUp, user, || {
                let user = user.0;
                format!("cannot look up the groups of user id {user}, who connected: {error}")
            });
            ServerHello::closing(CloseReason::SYSTEM)
        } else {
            (self.state.refused_users).add(user, group, Instant::now());
            log_refused(&self.state, user);
            ServerHello::closing(CloseReason::ACCESS)
        };
        if let Err(reason) = answer.version {
            self.state.metrics.count_closed(reason);
        }
        self.channel
            .write(&answer.encode(), Deadline::after(patience))?;
        Ok(answer.version.is_ok())
    }

    fn serve_requests(&mut self) -> Result<(), ChannelError> {
        loop {
            let events = self.subscription.as_ref().map(|(_, queue)| queue.as_fd());
            let ready = self.channel.wait(events, Deadline::NEVER)?;
            if ready.other {
                self.forward_events()?;
            }
            if ready.socket {
                self.serve_request()?;
            }
        }
    }

    /// Sends the waiting events. This waits for a client that does not read them; events that
    /// happen meanwhile go to the queue, or are lost when it is full.
    fn forward_events(&self) -> Result<(), ChannelError> {
        let Some((request, queue)) = &self.subscription else {
            return Ok(());
        };
        while let Some(event) = queue.pop() {
            let message = ServerMessage::Event((*event).clone());
            self.channel.write_message(
                message.kind(),
                *request,
                &message.encode(),
                None,
                Deadline::NEVER,
            )?;
        }
        Ok(())
    }

    /// Receives one request, serves it, and sends the reply.
    fn serve_request(&mut self) -> Result<(), ChannelError> {
        let patience = self.state.config().limits.client_patience;
        let (head, body) = match self.channel.read_message(Deadline::after(patience)) {
            Err(ChannelError::TooSlow) => {
                let why = format!("the message was not complete in {} s", patience.as_secs());
                let refusal = Refusal::new(RefusalCode::MALFORMED, why);
                let _ = self.send(0, Reply::Refused(refusal), None);
                return Err(ChannelError::TooSlow);
            }
            other => other?,
        };
        // No request has a descriptor.
        drop(self.channel.take_descriptor());
        let result = match Request::decode(head.kind, &body) {
            Ok(request) => self.answer(head.request, request),
            Err(error) => Err(error.into()),
        };
        let (reply, control) = result.unwrap_or_else(|refusal| {
            self.state.metrics.count_refusal(refusal.code);
            (Reply::Refused(refusal), None)
        });
        self.send(head.request, reply, control)
    }

    /// Serves a request with the number `number`. `requests.rs` has the work; the subscription
    /// belongs to the connection.
    fn answer(&mut self, number: u32, request: Request) -> ReplyResult {
        let requester = Requester::new(&self.state, self.peer, self.channel.as_fd());
        match request {
            Request::Initiate(initiate) => requester.initiate(&initiate),
            Request::Extend => {
                let why = "a pipe over several machines is reserved for a later version";
                Err(Refusal::new(RefusalCode::RESERVED, why))
            }
            Request::Identify { pipe, role } => requester.identify(&pipe, role),
            Request::Stop { pipe } => requester.stop(&pipe),
            Request::Status { pipe } => requester.status(&pipe),
            Request::List => Ok((requester.list(), None)),
            Request::Problems { pipe } => requester.problems(&pipe),
            Request::History { limit } => Ok((requester.history(limit), None)),
            Request::Metrics => requester.metrics(),
            Request::Subscribe { pipe } => {
                self.subscribe(number, pipe)?;
                Ok((Reply::Subscribed, None))
            }
        }
    }

    fn subscribe(&mut self, number: u32, pipe: Option<String>) -> Result<(), Refusal> {
        if self.subscription.is_some() {
            let why = "the connection has a subscription already: use another connection";
            return Err(Refusal::new(RefusalCode::LIMIT, why));
        }
        let user = self.peer.user;
        // A request that is refused makes no queue.
        if let Some(name) = &pipe {
            self.state.pipes.find(name, user)?;
        }
        let queue = self.state.subscribers.add(user, pipe.clone());
        let queue = queue.map_err(|error| {
            let why = format!("cannot create a queue of events: {error}");
            Refusal::new(RefusalCode::SYSTEM, why)
        })?;
        // The pipe is looked up after the queue exists: either it has ended by now, or the queue
        // gets the event of its end.
        if let Some(name) = pipe
            && self.state.pipes.find(&name, user)?.has_ended()
        {
            return Err(pipe_has_ended(&name));
        }
        self.subscription = Some((number, queue));
        Ok(())
    }

    /// Sends the reply to request number `request`, or a refusal if the reply exceeds a message.
    fn send(
        &self,
        request: u32,
        reply: Reply,
        control: Option<OwnedFd>,
    ) -> Result<(), ChannelError> {
        let deadline = Deadline::after(self.state.config().limits.client_patience);
        let message = ServerMessage::Reply(reply);
        let (mut kind, mut body) = (message.kind(), message.encode());
        if body.len() > MAX_BODY {
            let len = body.len();
            let why = format!("the reply would have {len} bytes, more than {MAX_BODY}");
            let refusal = Refusal::new(RefusalCode::LIMIT, why);
            let refusal = ServerMessage::Reply(Reply::Refused(refusal));
            (kind, body) = (refusal.kind(), refusal.encode());
        }
        let control = control.as_ref().map(AsFd::as_fd);
        self.channel
            .write_message(kind, request, &body, control, deadline)
    }
}
