//! Writes synthetic prompts: deterministic, of exact length as the server counts it, and no two with the same beginning.
//!
//! Pure once prepared: the same writer and key give the same text.
//!
//! **Exactness.** A prompt is words of one token each ([`Vocabulary`]). The text around them (chat template, system prompt,
//! BOS) is counted once, with words in it. A sample of whole prompts tests that the sum holds; if it does not, each prompt is
//! counted and corrected.
//!
//! **Prefix caches.** A repeated prompt, or a shared first block of tokens, is answered from the server's prefix cache and makes a
//! result look up to several times better than it is. So the number of the request is spelled in the first
//! [`NUMBER_WORDS`] words, and everything behind it is drawn anew for each request.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::counter::{Content, Counter};
use super::message::{Message, Role};
use super::natural::Prose;
use super::vocabulary::Vocabulary;
use crate::document::InputError;
use crate::metrics::record::Phase;
use crate::plan::{Endpoint, LoadPoint, Style};

/// Words at the start of a prompt that spell its number: 27 bits with the built-in words, up to 36 with a tokenizer's, so no
/// repetition within 67 million requests of a phase. Shorter prompts keep what fits.
pub const NUMBER_WORDS: u32 = 3;

/// Prompts that are counted whole to test that lengths add up.
const SAMPLES: u64 = 24;

/// Attempts to correct a prompt whose length does not add up.
const MAX_CORRECTIONS: usize = 20;

/// Streams of random numbers of one load point, kept apart by the third part of their key. 2 and 3 are those of the schedule.
const TEXT: u64 = 0;
const LENGTHS: u64 = 4;
const SHARED: u64 = 6;
const BLOCKS: u64 = 7;
const TURNS: u64 = 8;

/// Writes the prompts of one load point.
#[derive(Debug)]
pub(super) struct Writer {
    seed: u64,
    /// Hash of the point's name.
    point_hash: u64,
    /// The same, with the salt.
    salted_hash: u64,
    endpoint: Endpoint,
    token_ids: bool,
    unique: bool,
    vocabulary: Vocabulary,
    prose: Option<Prose>,
    /// Words that are one token at the start of the content as well; their number is a power of two.
    first: Vec<u32>,
    system: Option<String>,
    /// Tokens outside the words of the content: the shortest prompt has one more.
    pub(super) overhead: u32,
    /// Tokens at the start that all prompts have in common.
    pub(super) common_start: u32,
    /// Prompts must be counted: their length is not the sum of their words.
    is_inexact: bool,
}

/// The words of one prompt: shared ones, the spelled number, random ones.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct PromptWords<'a> {
    /// Words shared with others, by number.
    pub(super) shared: &'a [u32],
    /// The number to spell, when the prompt must be unique.
    pub(super) number: Option<u64>,
    pub(super) words: u32,
}

impl Writer {
    pub(super) fn new(point: &LoadPoint, salt: u64, counter: &Counter) -> Result<Self, InputError> {
        let spec = &point.prompts;
        let vocabulary = Vocabulary::of(counter.tokenizer())?;
        let natural = matches!(&spec.source, crate::plan::PromptKind::Synthetic(Style::Natural));
        let prose = natural.then(|| Prose::new(counter.tokenizer()));
        // Different salts make different points of the same seed; 0 changes nothing.
        let point_hash = fnv1a(point.id.as_bytes());
        let mut writer = Self {
            seed: point.seed,
            point_hash,
            salted_hash: point_hash ^ salt.wrapping_mul(0x9E37_79B9_7F4A_7C15),
            endpoint: point.endpoint,
            token_ids: spec.token_ids,
            unique: spec.unique,
            vocabulary,
            prose,
            first: Vec::new(),
            system: None,
            overhead: 0,
            common_start: 0,
            is_inexact: false,
        };
        writer.first = writer.vocabulary.indices().collect();
        if spec.prefix.system_tokens > 0 {
            writer.system = Some(writer.join(&writer.drawn(SHARED, 0, spec.prefix.system_tokens)));
        }
        writer.measure(counter)?;
        Ok(writer)
    }

    /// Counts the tokens around the words, and finds the words that can begin a prompt.
    fn measure(&mut self, counter: &Counter) -> Result<(), InputError> {
        if self.token_ids || !counter.is_exact() {
            self.overhead = match (&self.system, self.token_ids) {
                (Some(system), false) => super::tokenizer::count_words(system) as u32,
                (Some(_), true) | (None, _) => 0,
            };
            self.common_start = self.overhead;
            return Ok(());
        }
        let refused = |words: String| {
            let problem = format!("the chat template refuses a prompt: {words}");
            InputError::new(counter.tokenizer().name(), problem)
                .next("leave out load.prompts.prefix.system_tokens, or use the endpoint \"completions\"")
        };
        let count = |writer: &Self, words: &[u32]| counter.count(&writer.wrap(writer.join(words)));
        // A word at the start may be more than one token: there is no space before it.
        let mut by_count = std::collections::BTreeMap::<u32, Vec<u32>>::new();
        for index in self.vocabulary.indices() {
            by_count.entry(count(self, &[index, 1, 2]).map_err(refused)?).or_default().push(index);
        }
        let most = by_count.iter().max_by_key(|(_, words)| words.len());
        let Some((tokens, words)) = most.filter(|(tokens, _)| **tokens >= NUMBER_WORDS) else {
            return Err(InputError::new(counter.tokenizer().name(), "counts no tokens for three words")
                .next("is it the tokenizer of the model?"));
        };
        self.overhead = tokens - NUMBER_WORDS;
        self.first = words[..1 << words.len().ilog2()].to_vec();
        let ids = |number: u64| {
            let words = PromptWords { shared: &[], number: Some(number), words: 8 };
            let text = self.text(words, &mut self.generator(TEXT, number));
            counter.ids(&self.wrap(text)).map_err(refused)
        };
        // The place of the learned tokens is unknown; counted at the start, they may be shared.
        let learned = self.overhead.saturating_sub({
            let bare = counter.ids(&self.wrap(self.join(&[self.first[0], 1, 2]))).map_err(refused)?.len();
            u32::try_from(bare).unwrap_or(0).saturating_sub(NUMBER_WORDS)
        });
        let (one, other) = (ids(0)?, ids(1)?);
        let common = one.iter().zip(&other).take_while(|(a, b)| a == b).count();
        self.common_start = u32::try_from(common).unwrap_or(u32::MAX) + learned;
        self.is_inexact = !(0..SAMPLES).all(|number| {
            let words = 16 + 29 * number as u32;
            let wanted = PromptWords { shared: &[], number: Some(number), words };
            let text = self.text(wanted, &mut self.generator(TEXT, number));
            counter.count(&self.wrap(text)) == Ok(self.overhead + words)
        });
        Ok(())
    }

    /// Random numbers of request `id` for its lengths.
    pub(super) fn lengths(&self, phase: Phase, id: u64) -> ChaCha8Rng {
        // Without the salt: two runs of one seed have the same lengths.
        keyed([self.seed, self.point_hash, LENGTHS + tag(phase), id])
    }

    /// Random numbers of request `id` for its words.
    pub(super) fn words_of(&self, phase: Phase, id: u64) -> ChaCha8Rng {
        self.generator(TEXT + tag(phase), id)
    }

    /// Random numbers of conversation `id` behind its first prompt.
    pub(super) fn turns_of(&self, phase: Phase, id: u64) -> ChaCha8Rng {
        self.generator(TURNS + tag(phase), id)
    }

    /// Word numbers of a block that several prompts may have in common.
    pub(super) fn block(&self, number: u64, words: u32) -> Vec<u32> {
        self.drawn(BLOCKS, number, words)
    }

    /// Word numbers of prefix `number` of the pool.
    pub(super) fn pooled(&self, number: u64, words: u32) -> Vec<u32> {
        self.drawn(SHARED, 1 + number, words)
    }

    fn drawn(&self, stream: u64, id: u64, words: u32) -> Vec<u32> {
        let mut rng = self.generator(stream, id);
        (0..words).map(|_| rng.next_u32() >> 8).collect()
    }

    fn generator(&self, stream: u64, id: u64) -> ChaCha8Rng {
        keyed([self.seed, self.salted_hash, stream, id])
    }

    /// The number that the first words of a request spell: distinct for each phase and id, different for each point and salt.
    pub(super) fn number(&self, phase: Phase, id: u64) -> Option<u64> {
        let mask = self.seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ self.salted_hash;
        self.unique.then_some(((id << 1) | tag(phase)) ^ (mask >> 24))
    }

    /// A prompt of `wanted.words` words, and its length as the server counts it.
    pub(super) fn write(
        &self,
        wanted: PromptWords<'_>,
        rng: &mut ChaCha8Rng,
        counter: &Counter,
    ) -> (Content, u32) {
        if self.token_ids {
            let words = wanted.words as usize;
            let spelled = self.spelled(wanted.number);
            let given = wanted.shared.iter().chain(&spelled).map(|index| self.vocabulary.id(*index));
            let mut ids: Vec<u32> = given.take(words).collect();
            let missing = words - ids.len();
            ids.extend(std::iter::repeat_with(|| self.vocabulary.id(rng.next_u32() >> 8)).take(missing));
            return (Content::Tokens(ids), wanted.words);
        }
        let planned = self.overhead.saturating_add(wanted.words);
        let start = rng.clone();
        let mut content = self.wrap(self.text(wanted, rng));
        if !self.is_inexact {
            return (content, planned);
        }
        let mut words = wanted.words;
        for _ in 0..MAX_CORRECTIONS {
            let Ok(counted) = counter.count(&content) else { break };
            if counted == planned {
                return (content, counted);
            }
            words = words.saturating_add(planned).saturating_sub(counted).max(1);
            content = self.wrap(self.text(PromptWords { words, ..wanted }, &mut start.clone()));
        }
        let counted = counter.count(&content).unwrap_or(planned);
        (content, counted)
    }

    /// A user's message of `words` words in the middle of a conversation.
    pub(super) fn message(&self, words: u32, rng: &mut ChaCha8Rng) -> String {
        self.text(PromptWords { words, ..PromptWords::default() }, rng)
    }

    /// The opening words of a prompt that comes from a file, with a full stop.
    pub(super) fn head(&self, phase: Phase, id: u64) -> Option<String> {
        let spelled = self.spelled(self.number(phase, id));
        (!spelled.is_empty()).then(|| format!("{}.", self.join(&spelled)))
    }

    /// `text` as the user's message, or as the prompt.
    pub(super) fn wrap(&self, text: String) -> Content {
        match (&self.system, self.endpoint) {
            (Some(system), Endpoint::Chat) => Content::Messages(vec![
                Message::new(Role::System, system.clone()),
                Message::new(Role::User, text),
            ]),
            (Some(system), Endpoint::Completions) => Content::Text(format!("{system} {text}")),
            (None, endpoint) => Content::plain(endpoint, text),
        }
    }

    /// The words of a number; the first is one that can begin a prompt.
    fn spelled(&self, number: Option<u64>) -> Vec<u32> {
        let Some(number) = number else { return Vec::new() };
        let mut rest = number >> self.first.len().ilog2();
        let mut words = vec![self.opening(number)];
        for _ in 1..NUMBER_WORDS {
            words.push((rest & ((1 << self.vocabulary.bits()) - 1)) as u32);
            rest >>= self.vocabulary.bits();
        }
        words
    }

    fn text(&self, wanted: PromptWords<'_>, rng: &mut ChaCha8Rng) -> String {
        let mut text = String::with_capacity(wanted.words as usize * 8);
        let mut left = wanted.words;
        let begin = [self.opening(u64::from(rng.next_u32()))];
        let spelled = self.spelled(wanted.number);
        let start: &[u32] = match (wanted.shared, spelled.as_slice()) {
            ([], []) => &begin,
            _ => &[],
        };
        for index in wanted.shared.iter().chain(&spelled).chain(start) {
            if left == 0 {
                return text;
            }
            let index = if text.is_empty() { self.beginning(*index) } else { *index };
            self.push(&mut text, index);
            left -= 1;
        }
        if let Some(prose) = &self.prose {
            left = prose.push(&mut text, left, rng);
        }
        let (bits, each) = (self.vocabulary.bits(), u64::BITS / self.vocabulary.bits());
        while left > 0 {
            let mut drawn = rng.next_u64();
            for _ in 0..left.min(each) {
                self.push(&mut text, drawn as u32);
                drawn >>= bits;
            }
            left -= left.min(each);
        }
        text
    }

    /// The word that stands for word `index` at the start of a prompt: itself, when it can begin.
    fn beginning(&self, index: u32) -> u32 {
        if self.first.contains(&index) {
            return index;
        }
        self.opening(u64::from(index))
    }

    /// The word for `number` among those that can begin a prompt.
    fn opening(&self, number: u64) -> u32 {
        self.first.get(number as usize & (self.first.len() - 1)).copied().unwrap_or_default()
    }

    fn push(&self, text: &mut String, index: u32) {
        if !text.is_empty() {
            text.push(' ');
        }
        text.push_str(self.vocabulary.word(index));
    }

    fn join(&self, words: &[u32]) -> String {
        let mut text = String::new();
        words.iter().for_each(|index| self.push(&mut text, *index));
        text
    }
}

fn tag(phase: Phase) -> u64 {
    match phase {
        Phase::Warmup => 1,
        Phase::Measure | Phase::CoolDown => 0,
    }
}

/// The key is made of the inputs themselves, so different inputs never share a stream.
fn keyed(parts: [u64; 4]) -> ChaCha8Rng {
    let mut key = [0; 32];
    for (part, value) in key.chunks_exact_mut(8).zip(parts) {
        part.copy_from_slice(&value.to_le_bytes());
    }
    ChaCha8Rng::from_seed(key)
}

/// A salt for prompts to servers that may have served others before: no run begins its prompts as another did.
pub fn drawn_salt() -> u64 {
    let now = jiff::Timestamp::now().as_nanosecond().to_le_bytes();
    let whole = fnv1a(&[now.as_slice(), &std::process::id().to_le_bytes()].concat());
    // 32 bits survive every JSON reader, and can be typed.
    (whole ^ (whole >> 32)) & u64::from(u32::MAX)
}

/// FNV-1a, 64 bits: stable between versions and platforms, unlike the standard library's hasher.
pub fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xCBF2_9CE4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01B3)
    })
}
