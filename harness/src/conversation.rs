//! One conversation of commands and answers, over `qapi`.
//!
//! Where answers carry no numbers, an answer belongs to the last command. A command that was given up would leave its
//! answer to the next one, and one that could not be sent would leave its place taken. After either, a conversation
//! does not go on: every later command is refused at once.

use std::io;

use futures_util::Sink;
use qapi::{Command, Execute, ExecuteError, futures::QapiService};
use tokio::sync::Mutex;

/// A command that got no answer.
#[derive(Debug)]
pub(crate) enum CommandError {
    /// The other side refused, in its own words.
    Refused(String),
    /// The connection is gone, or what came over it is no answer.
    Connection(io::Error),
    /// An earlier command ended the conversation.
    Over,
}

/// A conversation, one command at a time.
pub(crate) struct Conversation<W> {
    service: QapiService<W>,
    /// Whether nothing is outstanding and nothing ever got lost.
    sound: Mutex<bool>,
}

impl<W> Conversation<W> {
    /// Begins one.
    pub(crate) fn new(service: QapiService<W>) -> Self {
        Self { service, sound: Mutex::new(true) }
    }

    /// Sends a command and waits for its answer.
    pub(crate) async fn execute<C: Command>(&self, command: C) -> Result<C::Ok, CommandError>
    where
        W: Sink<Execute<C, u32>, Error = io::Error> + Unpin,
    {
        let mut sound = self.sound.lock().await;
        if !*sound {
            return Err(CommandError::Over);
        }
        // Stays so where this future is dropped before the answer.
        *sound = false;
        let answer = self.service.execute(command).await.map_err(|error| match error {
            ExecuteError::Qapi(error) => CommandError::Refused(error.desc),
            ExecuteError::Io(error) => CommandError::Connection(error),
        });
        *sound = !matches!(answer, Err(CommandError::Connection(_)));
        answer
    }
}
