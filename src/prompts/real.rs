//! Prompts from a file of real ones, and what of the file is not sent.

use std::collections::{BTreeMap, HashSet, VecDeque};

use serde_json::json;

use super::dataset::request::{is_length, is_of_the_load};
use super::dataset::select::{Selection, select};
use super::dataset::{Sample, Turn};
use super::message::{Message, Role};
use super::source::{PromptPlan, Prompts, SAMPLE};
use super::tokenizer::Tokenizer;
use super::writer::fnv1a;
use super::{Content, conversation};
use crate::document::InputError;
use crate::metrics::record::Phase;
use crate::plan::{Dataset, Endpoint, LoadPoint, Stop};

/// The entries of a file that a load point sends.
#[derive(Debug)]
pub(super) struct RealPrompts {
    pub(super) chosen: Selection,
    /// Messages at the start of each that an earlier one had as well.
    known: Vec<usize>,
    pub(super) own_lengths: bool,
}

impl RealPrompts {
    /// As many entries of the file as the point needs.
    pub(super) fn choose(
        dataset: &Dataset,
        point: &LoadPoint,
        tokenizer: &Tokenizer,
    ) -> Result<Self, InputError> {
        let measured = match point.stop {
            Stop::Requests(requests) => requests,
            Stop::DurationS(_) | Stop::TraceEnd => SAMPLE,
        };
        let wanted = measured.saturating_add(point.warmup_requests).min(10 * SAMPLE);
        let mut count =
            |sample: &Sample| u32::try_from(tokenizer.count(&sample.words(), false)).unwrap_or(u32::MAX);
        let mut chosen =
            select(dataset, point.seed, usize::try_from(wanted).unwrap_or(usize::MAX), &mut count)?;
        if dataset.own_lengths {
            let has_length = |sample: &Sample| {
                let has_answer = |turn: &Turn| turn.output_tokens.is_some() || turn.answer_text().is_some();
                sample.output_tokens.is_some() || sample.asked().is_some_and(has_answer)
            };
            chosen.picked.retain(|picked| has_length(&picked.sample));
        }
        if chosen.picked.is_empty() {
            return Err(InputError::new(&dataset.path, "has no prompt with an answer or an output length")
                .expected("how many tokens to ask for")
                .next("say it: load.osl, or --osl"));
        }
        if point.endpoint == Endpoint::Completions {
            let is_text =
                |sample: &Sample| matches!(&sample.messages()[..], [one] if one.is_from(Role::User));
            let mut whole = chosen.picked.iter().filter(|picked| picked.sample.whole);
            if let Some(picked) = whole.find(|picked| !is_text(&picked.sample)) {
                let problem = format!("entry {} has messages, and completions take one text", picked.number);
                return Err(InputError::new(&dataset.path, problem)
                    .expected("entries with `prompt`, or one message of the user")
                    .next("endpoint = \"chat\", --endpoint chat"));
            }
        }
        let known = known(&chosen);
        Ok(Self { chosen, known, own_lengths: dataset.own_lengths })
    }

    /// The entry of request `id` and its number, counted from the first; in a warm-up from the last.
    fn entry(&self, phase: Phase, id: u64) -> Option<(usize, &Sample)> {
        let count = self.chosen.picked.len().max(1);
        let index = usize::try_from(id % count as u64).unwrap_or(0);
        let index = if phase == Phase::Warmup { count - 1 - index } else { index };
        Some((index, &self.chosen.picked.get(index)?.sample))
    }

    /// What of the file is not sent as it is; `turns`: those of the conversations that are held.
    fn left_out(&self, turns: Option<u32>) -> Vec<String> {
        let entries = self.chosen.picked.len();
        let say =
            |count: usize, what: &str| (count > 0).then(|| format!("{count} of {entries} entries: {what}"));
        let of = |is: &dyn Fn(&Sample) -> bool| {
            self.chosen.picked.iter().filter(|picked| is(&picked.sample)).count()
        };
        let mut notes: Vec<String> = fields_left_out(&self.chosen.left_out, self.own_lengths);
        let cut = of(&|sample| sample.cut > 0);
        notes.extend(say(
            cut,
            "what follows the message of a tool, an empty message or a late instruction is not sent",
        ));
        match turns {
            None => {
                let alone = of(&|sample| !sample.whole && sample.turns.len() > 1);
                let advice = "the first turn is sent alone; conversations send the others too (load.prompts.conversation, --turns)";
                notes.extend(say(alone, advice));
                let answered = of(&|sample| {
                    sample.whole && sample.turns.last().is_some_and(|turn| !turn.answer.is_empty())
                });
                notes.extend(say(
                    answered,
                    "the last message is the assistant's: it is the recorded answer, and not sent",
                ));
            }
            Some(turns) => {
                let tools = of(&|sample| sample.live().len() < sample.turns.len());
                notes.extend(say(
                    tools,
                    "the conversation ends before the result of a tool: it would not fit a live answer",
                ));
                let longer = of(&|sample| sample.live().len() > turns as usize);
                notes.extend(say(
                    longer,
                    &format!("turns after the first {turns} are not sent (load.prompts.conversation.turns)"),
                ));
                let live = of(&|sample| {
                    sample.live().len() > 1 && sample.turns.iter().any(|turn| !turn.answer.is_empty())
                });
                notes.extend(say(live, "answers of the server take the place of the recorded ones"));
            }
        }
        notes
    }
}

/// Fields of a file that are not sent: those that the load decides, and unknown ones.
fn fields_left_out(left_out: &BTreeMap<String, u64>, own_lengths: bool) -> Vec<String> {
    let (of_load, others): (Vec<_>, Vec<_>) = left_out.iter().partition(|(key, _)| is_of_the_load(key));
    let list = |fields: Vec<(&String, &u64)>, what: &str| {
        let each: Vec<String> =
            fields.iter().map(|(key, count)| format!("{key} ({count} entries)")).collect();
        (!each.is_empty()).then(|| format!("{what}: {}", each.join(", ")))
    };
    let of_load = of_load.into_iter().filter(|(key, _)| !(own_lengths && is_length(key))).collect();
    let of_load = list(of_load, "the load decides, not the file");
    of_load.into_iter().chain(list(others, "in the file and not sent")).collect()
}

/// Messages at the start of each entry that an earlier one had as well.
fn known(chosen: &Selection) -> Vec<usize> {
    let mut seen = HashSet::new();
    let known = chosen.picked.iter().map(|picked| {
        let mut hash = fnv1a(json!(picked.sample.fields.get("tools")).to_string().as_bytes());
        let hashes = picked.sample.messages().into_iter().map(|message| {
            hash = hash.rotate_left(5) ^ fnv1a(json!(message).to_string().as_bytes());
            hash
        });
        let hashes: Vec<u64> = hashes.collect();
        let known = hashes.iter().take_while(|hash| seen.contains(*hash)).count();
        seen.extend(hashes);
        known
    });
    known.collect()
}

impl Prompts {
    /// The prompt of request `id` of `phase`.
    pub(super) fn real(&self, real: &RealPrompts, phase: Phase, id: u64) -> PromptPlan {
        let mut rng = self.writer.lengths(phase, id);
        let (_, osl) = self.lengths.draw(&mut rng);
        let empty = Sample::default();
        let (index, sample) = real.entry(phase, id).unwrap_or((0, &empty));
        // A conversation begins with its first turn, however its entry would be sent.
        let mut messages = match self.conversation {
            Some(_) => sample.live().first().map(|turn| turn.said.clone()).unwrap_or_default(),
            None => sample.messages(),
        };
        let user = messages.iter().position(|message| message.is_from(Role::User)).unwrap_or(0);
        let head = self.writer.head(phase, id);
        if let (Some(head), Some(message)) = (&head, messages.get_mut(user)) {
            message.begin_with(head);
        }
        let known = match id >= real.chosen.picked.len() as u64 {
            true => messages.len(),
            false => real.known.get(index).copied().unwrap_or(0).min(messages.len()),
        };
        let known = if head.is_some() { known.min(user) } else { known };
        let count = |message: &Message| {
            u32::try_from(self.tokenizer().count(&message.text(), false)).unwrap_or(u32::MAX)
        };
        let new: u32 = messages.iter().skip(known).map(count).sum();
        let content = match self.endpoint {
            Endpoint::Chat => Content::Messages(messages),
            Endpoint::Completions => {
                let users = messages.iter().filter(|message| message.is_from(Role::User)).map(Message::text);
                Content::Text(users.collect::<Vec<_>>().join("\n\n"))
            }
        };
        let isl = self.counter.count_with(&content, &sample.fields).unwrap_or(new).max(1);
        let shared = if known == 0 { self.writer.common_start } else { isl.saturating_sub(new) };
        let own = real.own_lengths.then(|| self.own_length(sample)).flatten();
        PromptPlan {
            id,
            content,
            fields: sample.fields.clone(),
            isl,
            exact: self.is_exact(),
            shared: shared.min(isl),
            osl: own.unwrap_or(osl).max(1),
        }
    }

    /// The turns of request `id` after the first.
    pub(super) fn script(
        &self,
        real: &RealPrompts,
        phase: Phase,
        id: u64,
    ) -> Option<VecDeque<conversation::Scripted>> {
        let (_, sample) = real.entry(phase, id)?;
        let each = sample.live().iter().skip(1).map(|turn| conversation::Scripted {
            said: turn.said.clone(),
            osl: real.own_lengths.then(|| self.length_of(turn)).flatten(),
            delay: turn.delay,
        });
        Some(each.collect())
    }

    /// Output length that the file has for an entry.
    pub(super) fn own_length(&self, sample: &Sample) -> Option<u32> {
        let asked = if self.conversation.is_some() { sample.turns.first() } else { sample.asked() };
        sample.output_tokens.or_else(|| self.length_of(asked?))
    }

    fn length_of(&self, turn: &Turn) -> Option<u32> {
        turn.output_tokens.or_else(|| {
            let tokens = self.tokenizer().count(&turn.answer_text()?, false);
            u32::try_from(tokens).ok()
        })
    }

    /// What of a file of real prompts is not sent as it is.
    pub(super) fn real_notes(&self, real: &RealPrompts) -> Vec<String> {
        let mut notes: Vec<String> = self.head_note().into_iter().collect();
        notes.extend(real.left_out(self.conversation.map(|conversation| conversation.turns)));
        let system = |sample: &Sample| sample.messages().iter().any(|message| message.is_from(Role::System));
        if self.endpoint == Endpoint::Completions
            && real.chosen.picked.iter().any(|picked| system(&picked.sample))
        {
            notes.push("instructions of the system are not sent: the endpoint is completions".into());
        }
        notes
    }

    /// That prompts begin with words that are not the file's.
    pub(super) fn head_note(&self) -> Option<String> {
        self.writer.head(Phase::Measure, 0)?;
        Some(
            "each prompt begins with a few random words that are not the file's, so that no two share a cache block; \
             load.prompts.unique = false (--not-unique) sends the file's alone"
                .to_owned(),
        )
    }
}
