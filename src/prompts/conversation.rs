//! Conversations: each prompt holds all earlier messages and one more.
//!
//! Later prompts are built and counted when the answer is there, outside the threads that drive load.

use std::collections::VecDeque;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use serde_json::{Map, Value};

use super::counter::Content;
use super::lengths::{draw, normal};
use super::message::{Message, Role};
use super::source::{PromptPlan, Prompts};
use crate::plan::{Conversation, Length};

/// The state of a conversation.
#[derive(Debug, Clone)]
pub struct Dialogue {
    messages: Vec<Message>,
    /// The other fields of each request.
    fields: Map<String, Value>,
    /// The further turns in the file; `None`: they are generated.
    script: Option<VecDeque<Scripted>>,
    turns: u32,
    /// Turns begun.
    begun: u32,
    rng: ChaCha8Rng,
}

/// A turn of a file.
#[derive(Debug, Clone)]
pub(super) struct Scripted {
    /// The user's messages.
    pub(super) said: Vec<Message>,
    /// Output length of its answer.
    pub(super) osl: Option<u32>,
    /// Time after the answer before it, in place of the load's.
    pub(super) delay: Option<Duration>,
}

/// The next turn of a conversation.
#[derive(Debug, Clone)]
pub struct NextTurn {
    /// What is sent.
    pub plan: PromptPlan,
    /// How long the user thinks before it.
    pub think: Duration,
    /// The conversation after it.
    pub dialogue: Dialogue,
}

impl Dialogue {
    /// Begins with messages and the other fields of their request. A script has its turns, of which as many are taken as are
    /// drawn.
    pub(super) fn new(
        conversation: Conversation,
        (messages, fields): (Vec<Message>, Map<String, Value>),
        script: Option<VecDeque<Scripted>>,
        mut rng: ChaCha8Rng,
    ) -> Self {
        let mut turns = draw(Length::normal(conversation.turns, conversation.turns_stddev), &mut rng);
        if let Some(script) = &script {
            turns = turns.min(u32::try_from(script.len()).unwrap_or(u32::MAX).saturating_add(1));
        }
        Self { messages, fields, script, turns, begun: 1, rng }
    }

    /// Number of the turn that was begun last, from 0.
    pub fn turn(&self) -> u32 {
        self.begun - 1
    }

    pub fn goes_on(&self) -> bool {
        self.begun < self.turns
    }
}

impl Prompts {
    /// The turn after `answer`; `None` when the conversation is over, or would not fit its window any more.
    pub fn next_turn(&self, id: u64, mut dialogue: Dialogue, answer: &str) -> Option<NextTurn> {
        let conversation = self.conversation?;
        if !dialogue.goes_on() {
            return None;
        }
        dialogue.begun += 1;
        let rng = &mut dialogue.rng;
        let think = conversation.think_s + conversation.think_stddev_s * normal(rng);
        let think = Duration::try_from_secs_f64(think).unwrap_or(Duration::ZERO);
        let words = draw(conversation.turn_isl, rng);
        let (_, drawn) = self.lengths.draw(rng);
        let Scripted { said, osl, delay } = match &mut dialogue.script {
            Some(script) => script.pop_front()?,
            None => {
                let said = vec![Message::new(Role::User, self.writer.message(words, rng))];
                Scripted { said, osl: None, delay: None }
            }
        };
        let (osl, think) = (osl.unwrap_or(drawn), delay.unwrap_or(think));
        // An answer of reasoning alone, or of calls of tools, has no text that could be repeated.
        if answer.trim().is_empty() {
            self.unanswered.fetch_add(1, Relaxed);
        } else {
            dialogue.messages.push(Message::new(Role::Assistant, answer));
        }
        let new: u64 = said.iter().map(|message| self.tokenizer().count(&message.text(), false)).sum();
        dialogue.messages.extend(said);
        let whole = dialogue.messages.len();
        let fits =
            |tokens: u32| conversation.max_context.is_none_or(|most| tokens.saturating_add(osl) <= most);
        let (content, isl) = loop {
            let content = Content::Messages(dialogue.messages.clone());
            let isl = self.counter.count_with(&content, &dialogue.fields).ok()?.max(1);
            if fits(isl) {
                break (content, isl);
            }
            // The oldest turn goes: a question and its answer, behind the system prompt.
            let is_system = |message: &&Message| message.is_from(Role::System);
            let start = dialogue.messages.iter().take_while(is_system).count();
            let is_user = |message: &Message| message.is_from(Role::User);
            let turn = dialogue.messages.get(start + 1..)?.iter().position(is_user)?;
            dialogue.messages.drain(start..=start + turn);
        };
        let shared = match &content {
            // The server has seen or generated all but the new message.
            Content::Messages(messages) if messages.len() == whole => {
                isl.saturating_sub(u32::try_from(new).unwrap_or(u32::MAX))
            }
            _ => self.writer.common_start.min(isl),
        };
        let fields = dialogue.fields.clone();
        let plan = PromptPlan { id, content, fields, isl, exact: self.is_exact(), shared, osl };
        Some(NextTurn { plan, think, dialogue })
    }
}
