//! Conversations: each prompt holds all earlier messages and one more.
//!
//! Later prompts are built and counted when the answer is there, outside the threads that drive load.

use std::collections::VecDeque;
use std::time::Duration;

use rand_chacha::ChaCha8Rng;

use super::counter::Content;
use super::lengths::{draw, normal};
use super::source::{PromptPlan, Prompts};
use super::template::{Message, Role};
use crate::plan::{Conversation, Length};

/// The state of a conversation.
#[derive(Debug, Clone)]
pub struct Dialogue {
    messages: Vec<Message>,
    /// The user's further messages and the output lengths of their answers in the file; `None`: they are generated.
    script: Option<VecDeque<(String, Option<u32>)>>,
    turns: u32,
    /// Turns begun.
    begun: u32,
    rng: ChaCha8Rng,
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
    /// Begins with `messages`. A script decides the number of turns.
    pub(super) fn new(
        conversation: Conversation,
        messages: Vec<Message>,
        script: Option<VecDeque<(String, Option<u32>)>>,
        mut rng: ChaCha8Rng,
    ) -> Self {
        let mut turns = draw(Length::normal(conversation.turns, conversation.turns_stddev), &mut rng);
        if let Some(script) = &script {
            turns = turns.min(u32::try_from(script.len()).unwrap_or(u32::MAX).saturating_add(1));
        }
        Self { messages, script, turns, begun: 1, rng }
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
        let words = draw(conversation.turn_isl, rng);
        let (_, drawn) = self.lengths.draw(rng);
        let (message, osl) = match &mut dialogue.script {
            Some(script) => script.pop_front().map(|(text, own)| (text, own.unwrap_or(drawn)))?,
            None => (self.writer.message(words, rng), drawn),
        };
        dialogue.messages.push(Message::new(Role::Assistant, answer));
        dialogue.messages.push(Message::new(Role::User, message));
        let whole = dialogue.messages.len();
        let fits =
            |tokens: u32| conversation.max_context.is_none_or(|most| tokens.saturating_add(osl) <= most);
        let (content, isl) = loop {
            let content = Content::Messages(dialogue.messages.clone());
            let isl = self.counter.count(&content).ok()?.max(1);
            if fits(isl) {
                break (content, isl);
            }
            // The oldest turn goes: a question and its answer, behind the system prompt.
            let start =
                usize::from(dialogue.messages.first().is_some_and(|first| first.role == Role::System));
            if dialogue.messages.len() < start + 3 {
                return None;
            }
            dialogue.messages.drain(start..start + 2);
        };
        let shared = match &content {
            // The server has seen or generated all but the new message.
            Content::Messages(messages) if messages.len() == whole => {
                let new = messages.last().map(|last| self.tokenizer().count(&last.content, false));
                isl.saturating_sub(u32::try_from(new.unwrap_or(0)).unwrap_or(u32::MAX))
            }
            _ => self.writer.common_start.min(isl),
        };
        let plan = PromptPlan { id, content, isl, exact: self.is_exact(), shared, osl };
        let think = Duration::try_from_secs_f64(think).unwrap_or(Duration::ZERO);
        Some(NextTurn { plan, think, dialogue })
    }
}
