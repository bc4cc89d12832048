//! One client: its hello, its requests, and the events it has subscribed to, on one thread.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use super::Shared;
use super::subscribers::Queue;
use crate::limits::MAX_BODY;
use crate::protocol::{
    Answer, ClientHello, Closed, HELLO, Refusal, RefusalCode, Reply, Request, ServerHello,
};
use crate::socket::{Channel, ChannelError, Deadline, Peer};

pub(super) struct Connection {
    pub(super) shared: Arc<Shared>,
    pub(super) channel: Channel,
    pub(super) peer: Peer,
    /// The events of a subscription, and the number of its request.
    pub(super) subscription: Option<(u32, Arc<Queue>)>,
}

impl Connection {
    pub(super) fn new(shared: Arc<Shared>, channel: Channel, peer: Peer) -> Self {
        Self {
            shared,
            channel,
            peer,
            subscription: None,
        }
    }

    /// Serves until the client has gone, or has to.
    pub(super) fn serve(mut self) {
        let served = self
            .greet()
            .and_then(|welcome| if welcome { self.work() } else { Ok(()) });
        match served {
            // What follows cannot be read: nobody knows where it begins.
            Err(ChannelError::Malformed(error)) => {
                let _ = self.send(0, &Answer::Reply(Reply::Refused(error.into())), None);
            }
            // How the pipes have ended, as far as it can be sent without waiting.
            Err(ChannelError::Stopped) => {
                let _ = self.pass_events_on();
            }
            _ => {}
        }
    }

    /// Returns whether the client is spoken to.
    fn greet(&mut self) -> Result<bool, ChannelError> {
        let config = self.shared.config();
        let deadline = Deadline::after(config.limits.client_patience);
        let answer = if config.access.allows(self.peer.user, self.peer.group) {
            let mut hello = [0; HELLO];
            match self.channel.read(&mut hello, deadline) {
                Ok(()) => match ClientHello::decode(&hello) {
                    Ok(hello) => ServerHello::to(&hello),
                    Err(_) => ServerHello::closed(Closed::NO_HELLO),
                },
                Err(ChannelError::TooSlow) => ServerHello::closed(Closed::TOO_SLOW),
                Err(error) => return Err(error),
            }
        } else {
            self.shared
                .log(&format!("refused a connection of user {}", self.peer.user));
            ServerHello::closed(Closed::ACCESS)
        };
        self.channel.write(
            &answer.encode(),
            Deadline::after(config.limits.client_patience),
        )?;
        Ok(answer.answer.is_ok())
    }

    fn work(&mut self) -> Result<(), ChannelError> {
        loop {
            let events = self.subscription.as_ref().map(|(_, queue)| queue.as_fd());
            let ready = self.channel.wait(events, Deadline::NEVER)?;
            if ready.other {
                self.pass_events_on()?;
            }
            if ready.socket {
                self.take_request()?;
            }
        }
    }

    /// Sends the events that wait. A client that does not read them is waited for; what happens
    /// meanwhile goes to the queue, or is lost.
    fn pass_events_on(&self) -> Result<(), ChannelError> {
        let Some((request, queue)) = &self.subscription else {
            return Ok(());
        };
        while let Some(event) = queue.pop() {
            let answer = Answer::Event((*event).clone());
            self.channel.write_message(
                answer.kind(),
                *request,
                &answer.encode(),
                None,
                Deadline::NEVER,
            )?;
        }
        Ok(())
    }

    fn take_request(&mut self) -> Result<(), ChannelError> {
        let patience = self.shared.config().limits.client_patience;
        let (head, body) = match self.channel.read_message(Deadline::after(patience)) {
            Err(ChannelError::TooSlow) => {
                let why = format!("the message was not whole within {} s", patience.as_secs());
                let refusal = Refusal::new(RefusalCode::MALFORMED, why);
                let _ = self.send(0, &Answer::Reply(Reply::Refused(refusal)), None);
                return Err(ChannelError::TooSlow);
            }
            other => other?,
        };
        // Nobody asks with one.
        drop(self.channel.take_descriptor());
        let answered = match Request::decode(head.kind, &body) {
            Ok(request) => self.answer(head.request, request),
            Err(malformed) => Err(malformed.into()),
        };
        let (reply, control) = answered.unwrap_or_else(|refusal| (Reply::Refused(refusal), None));
        self.send(head.request, &Answer::Reply(reply), control)
    }

    fn send(
        &self,
        request: u32,
        answer: &Answer,
        control: Option<OwnedFd>,
    ) -> Result<(), ChannelError> {
        let deadline = Deadline::after(self.shared.config().limits.client_patience);
        let (mut kind, mut body) = (answer.kind(), answer.encode());
        if body.len() > MAX_BODY {
            let why = format!(
                "the answer would have {} bytes, more than {MAX_BODY}",
                body.len()
            );
            let refusal = Answer::Reply(Reply::Refused(Refusal::new(RefusalCode::LIMIT, why)));
            (kind, body) = (refusal.kind(), refusal.encode());
        }
        self.channel.write_message(
            kind,
            request,
            &body,
            control.as_ref().map(AsFd::as_fd),
            deadline,
        )
    }
}
