//! The prompts of one load point, by number, as `load` sends and `tokmark prompts` shows them.
//!
//! Pure once prepared: the same point, salt, learned tokens and files give the same prompts, in any wanted.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use rand::Rng;
use serde_json::{Map, Value};

use super::conversation::Dialogue;
use super::counter::{Content, Counter, Learned};
use super::dataset::select::Selection;
use super::lengths::{Lengths, unit};
use super::real::RealPrompts;
use super::tokenizer::{Tokenizer, TokenizerCache};
use super::trace::{self, Replay, TraceRequest};
use super::writer::{PromptWords, Writer};
use crate::document::InputError;
use crate::metrics::record::Phase;
use crate::plan::{Conversation, Endpoint, LoadPoint, Prefix, PromptKind, Stop};

/// Requests listed of a point that ends by time.
const SHOWN: u64 = 1000;

/// Tokens reserved for the opening words of a real prompt.
const HEAD_TOKENS: u32 = 16;

/// Real prompts kept when the number needed is unknown.
pub(super) const SAMPLE: u64 = 10_000;

/// One prompt and the requested length of its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PromptPlan {
    /// Number of the request, or of its conversation, within its phase.
    pub id: u64,
    pub content: Content,
    /// Other fields of the request's body, from a file.
    pub fields: Map<String, Value>,
    /// Its length as the server counts it, tokens.
    pub isl: u32,
    /// Whether that was counted with a tokenizer.
    pub exact: bool,
    /// Tokens at its start that earlier requests may have had.
    pub shared: u32,
    /// Output length to ask for, tokens.
    pub osl: u32,
}

impl PromptPlan {
    /// A prompt of one word, for a request outside any load.
    pub fn one_word(endpoint: Endpoint) -> Self {
        let content = Content::plain(endpoint, "hello");
        Self { id: 0, content, fields: Map::new(), isl: 1, exact: false, shared: 0, osl: 1 }
    }
}

/// The one of these prompts and answers that is longest altogether.
fn longest_of(requests: impl Iterator<Item = (u32, u32)>) -> (u32, u32) {
    requests.max_by_key(|(isl, osl)| u64::from(*isl) + u64::from(*osl)).unwrap_or_default()
}

/// The prompts of one load point.
#[derive(Debug)]
pub struct Prompts {
    pub(super) counter: Counter,
    pub(super) writer: Writer,
    pub(super) conversation: Option<Conversation>,
    pub(super) lengths: Lengths,
    pub(super) endpoint: Endpoint,
    /// Answers without text, which later turns do not repeat.
    pub(super) unanswered: AtomicU64,
    prefix: Prefix,
    source: Source,
    salt: u64,
}

#[derive(Debug)]
enum Source {
    Synthetic,
    Dataset(RealPrompts),
    /// The trace, and how many tokens of each request an earlier one had as well.
    Trace(Replay, Vec<u32>),
}

impl Prompts {
    /// Prepares the prompts of `point`. `salt` changes the opening words unless the point has its own; `learned`: tokens that
    /// the server counts beyond the tokenizer's.
    ///
    /// # Errors
    /// A missing or unsuitable file, a tokenizer that cannot make prompts, prompts shorter than the chat template.
    pub fn prepare(
        point: &LoadPoint,
        salt: u64,
        learned: Learned,
        tokenizers: &TokenizerCache,
    ) -> Result<Self, InputError> {
        let spec = &point.prompts;
        let salt = spec.salt.unwrap_or(salt);
        let mut counter = Counter::new(point, tokenizers)?;
        counter.learn(learned);
        let writer = Writer::new(point, salt, &counter)?;
        let source = match &spec.source {
            PromptKind::Synthetic(_) => Source::Synthetic,
            PromptKind::Dataset(dataset) => {
                Source::Dataset(RealPrompts::choose(dataset, point, counter.tokenizer())?)
            }
            PromptKind::Trace(trace) => {
                let count =
                    |text: &str| u32::try_from(counter.tokenizer().count(text, false)).unwrap_or(u32::MAX);
                let replay = trace::load(trace, &count)?;
                let shared = shared_blocks(&replay);
                Source::Trace(replay, shared)
            }
        };
        let prompts = Self {
            counter,
            writer,
            conversation: spec.conversation,
            lengths: Lengths::new(point),
            endpoint: point.endpoint,
            unanswered: AtomicU64::new(0),
            prefix: spec.prefix,
            source,
            salt,
        };
        prompts.check(point)?;
        Ok(prompts)
    }

    /// Fails on lengths below what the template and the shared prefix take.
    fn check(&self, point: &LoadPoint) -> Result<(), InputError> {
        let least = self.writer.overhead.saturating_add(self.prefix.pool_tokens);
        let short = self.lengths.shapes().iter().map(|shape| shape.isl.mean).find(|isl| *isl <= least);
        let Some(isl) = short.filter(|_| matches!(self.source, Source::Synthetic)) else { return Ok(()) };
        let takes = match self.prefix.pool_tokens {
            0 => "chat template alone takes",
            _ => "chat template and shared prefix alone take",
        };
        Err(InputError::new(&point.id, format!("found {isl} tokens, and the {takes} {least}"))
            .key("load.isl")
            .expected(format!("{} or more", least.saturating_add(1)))
            .next("raise isl, or use the endpoint \"completions\""))
    }

    /// Salt of the opening words.
    pub fn salt(&self) -> u64 {
        self.salt
    }

    /// Whether lengths are counted with a tokenizer.
    pub fn is_exact(&self) -> bool {
        self.counter.is_exact()
    }

    pub fn tokenizer(&self) -> &Arc<Tokenizer> {
        self.counter.tokenizer()
    }

    pub fn counter(&self) -> &Counter {
        &self.counter
    }

    /// Number of requests, when the source ends: a trace does.
    pub fn total(&self) -> Option<u64> {
        let Source::Trace(replay, _) = &self.source else { return None };
        Some(replay.requests.len() as u64)
    }

    /// Number of requests listed before the point runs: all of them, or a thousand when it ends by time.
    pub fn planned(&self, point: &LoadPoint) -> u64 {
        let wanted = match point.stop {
            Stop::Requests(requests) => requests,
            Stop::DurationS(_) => SHOWN,
            Stop::TraceEnd => u64::MAX,
        };
        wanted.min(self.total().unwrap_or(wanted))
    }

    /// Prompt and answer of the longest possible request, tokens; approximate for a dataset.
    pub fn longest(&self, point: &LoadPoint) -> (u32, u32) {
        let shapes = self.lengths.shapes();
        let osl = shapes.iter().map(|shape| shape.osl.longest()).max().unwrap_or(0);
        let (isl, osl) = match &self.source {
            Source::Synthetic => (shapes.iter().map(|shape| shape.isl.longest()).max().unwrap_or(0), osl),
            Source::Trace(Replay { requests, .. }, _) => {
                let around = self.writer.overhead.saturating_add(HEAD_TOKENS);
                let isl = |request: &TraceRequest| match request.text {
                    Some(_) => request.isl.saturating_add(around),
                    None => request.isl,
                };
                longest_of(requests.iter().map(|request| (isl(request), request.osl)))
            }
            Source::Dataset(RealPrompts { chosen, own_lengths, .. }) => {
                let around = self.writer.overhead.saturating_add(HEAD_TOKENS);
                longest_of(chosen.picked.iter().map(|picked| {
                    let own = if *own_lengths { self.own_length(&picked.sample) } else { None };
                    (picked.tokens.saturating_add(around), own.unwrap_or(osl))
                }))
            }
        };
        match point.prompts.conversation.and_then(|conversation| conversation.max_context) {
            Some(most) => (most.saturating_sub(osl).max(isl), osl),
            None => (isl, osl),
        }
    }

    /// The arrivals of a trace, measured from its start, ascending.
    pub fn arrivals(&self) -> Option<Vec<Duration>> {
        let Source::Trace(replay, _) = &self.source else { return None };
        Some(replay.requests.iter().map(|request| request.at).collect())
    }

    /// The prompts selected from a file.
    pub fn selection(&self) -> Option<&Selection> {
        let Source::Dataset(real) = &self.source else { return None };
        Some(&real.chosen)
    }

    /// What a reader must know of how the prompts were made.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = match &self.source {
            Source::Synthetic => Vec::new(),
            Source::Dataset(real) => self.real_notes(real),
            Source::Trace(replay, _) => {
                let has_text = replay.requests.iter().any(|request| request.text.is_some());
                let head = has_text.then(|| self.head_note()).flatten();
                head.into_iter().chain(replay.notes.iter().cloned()).collect()
            }
        };
        let unanswered = self.unanswered.load(Relaxed);
        if unanswered > 0 {
            notes.push(format!(
                "{unanswered} answers had no text (reasoning or calls of tools alone) and are not in the prompts of later turns"
            ));
        }
        notes
    }

    /// Whether requests are turns of conversations.
    pub fn is_conversation(&self) -> bool {
        self.conversation.is_some()
    }

    /// Prompt number `id` of `phase`; the first one of a conversation.
    pub fn plan(&self, phase: Phase, id: u64) -> PromptPlan {
        match &self.source {
            Source::Synthetic => self.synthetic(phase, id),
            Source::Dataset(real) => self.real(real, phase, id),
            Source::Trace(replay, shared) => self.traced(replay, shared, phase, id),
        }
    }

    /// The same, and the conversation that it begins.
    pub fn begin(&self, phase: Phase, id: u64) -> (PromptPlan, Option<Dialogue>) {
        let plan = self.plan(phase, id);
        let dialogue = self.conversation.and_then(|conversation| {
            let Content::Messages(messages) = &plan.content else { return None };
            let script = match &self.source {
                Source::Dataset(real) => Some(self.script(real, phase, id)?),
                Source::Synthetic | Source::Trace(..) => None,
            };
            let rng = self.writer.turns_of(phase, id);
            Some(Dialogue::new(conversation, (messages.clone(), plan.fields.clone()), script, rng))
        });
        (plan, dialogue)
    }

    fn synthetic(&self, phase: Phase, id: u64) -> PromptPlan {
        let mut rng = self.writer.lengths(phase, id);
        let (isl, osl) = self.lengths.draw(&mut rng);
        let pooled = if self.prefix.pool > 0 && unit(&mut rng) < self.prefix.hit_ratio {
            let number = (u64::from(rng.next_u32()) * u64::from(self.prefix.pool)) >> 32;
            self.writer.pooled(number, self.prefix.pool_tokens)
        } else {
            Vec::new()
        };
        let wanted = PromptWords {
            shared: &pooled,
            number: self.writer.number(phase, id),
            words: isl.saturating_sub(self.writer.overhead).max(1),
        };
        let shared = self.writer.common_start + pooled.len() as u32;
        self.written(phase, id, wanted, shared, osl)
    }

    fn written(&self, phase: Phase, id: u64, wanted: PromptWords<'_>, shared: u32, osl: u32) -> PromptPlan {
        let mut rng = self.writer.words_of(phase, id);
        let (content, isl) = self.writer.write(wanted, &mut rng, &self.counter);
        PromptPlan {
            id,
            content,
            fields: Map::new(),
            isl,
            exact: self.is_exact(),
            shared: shared.min(isl),
            osl,
        }
    }

    fn traced(&self, replay: &Replay, shared: &[u32], phase: Phase, id: u64) -> PromptPlan {
        let index = usize::try_from(id).unwrap_or(0) % replay.requests.len().max(1);
        let nothing = TraceRequest { at: Duration::ZERO, isl: 1, osl: 1, blocks: Vec::new(), text: None };
        let request = replay.requests.get(index).unwrap_or(&nothing);
        if let Some(text) = &request.text {
            let content = self.writer.wrap(self.headed(phase, id, text));
            let isl = self.counter.count(&content).unwrap_or(0).max(1);
            let shared = self.writer.common_start.min(isl);
            let (fields, exact) = (Map::new(), self.is_exact());
            return PromptPlan { id, content, fields, isl, exact, shared, osl: request.osl };
        }
        let words = request.isl.saturating_sub(self.writer.overhead).max(1);
        // A warm-up shares no block with the measured requests.
        let known = if phase == Phase::Warmup { &[] } else { request.blocks.as_slice() };
        let blocks = known.iter().flat_map(|block| self.writer.block(*block, replay.block_tokens));
        let blocks: Vec<u32> = blocks.take(words as usize).collect();
        let number = if blocks.is_empty() { self.writer.number(phase, id) } else { None };
        let common = shared.get(index).copied().unwrap_or(0).min(blocks.len() as u32);
        let wanted = PromptWords { shared: &blocks, number, words };
        self.written(phase, id, wanted, self.writer.common_start + common, request.osl)
    }

    /// The user's words behind those that no other request begins with.
    fn headed(&self, phase: Phase, id: u64, user: &str) -> String {
        match self.writer.head(phase, id) {
            Some(head) => format!("{head}\n\n{user}"),
            None => user.to_owned(),
        }
    }
}

/// Tokens at the start of each request of a trace that an earlier one had as well. A block's number includes all blocks
/// before it, so each is looked up alone.
fn shared_blocks(replay: &Replay) -> Vec<u32> {
    let mut seen = HashSet::new();
    let shared = replay.requests.iter().map(|request| {
        let known = request.blocks.iter().take_while(|block| seen.contains(*block)).count();
        seen.extend(request.blocks.iter().copied());
        u32::try_from(known).unwrap_or(u32::MAX).saturating_mul(replay.block_tokens)
    });
    shared.collect()
}
