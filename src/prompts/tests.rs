//! Each pitfall of synthetic prompts that other tools fell into (research/load-generators.md §5), against a real tokenizer: the
//! tiny one of the test servers, whose vocabulary was learned from Python's standard library.

use std::collections::HashSet;

use super::*;
use crate::document::InputErrors;
use crate::metrics::record::Phase;
use crate::plan::prompts::{DatasetKind, Trace, TraceKind};
use crate::plan::{
    Conversation, Dataset, Endpoint, Length, LoadPoint, Prefix, PromptKind, PromptSpec, Spread, Stop, Style,
    TokenizerSpec,
};
use crate::prompts::tokenizer::count_words;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/tokenizer");
const FILES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/prompts");

fn tiny() -> TokenizerSpec {
    TokenizerSpec::File { path: FOLDER.into() }
}

pub(super) fn spec() -> PromptSpec {
    PromptSpec { tokenizer: tiny(), unique: true, ..PromptSpec::default() }
}

pub(super) fn point(isl: u32, prompts: PromptSpec) -> LoadPoint {
    let (isl, osl, stop) = (Length::fixed(isl), Length::fixed(9), Stop::Requests(20));
    LoadPoint { id: "p".into(), isl, osl, stop, prompts, ..LoadPoint::default() }
}

fn prepare(point: &LoadPoint) -> Prompts {
    Prompts::prepare(point, 0, Learned::default(), &TokenizerCache::default()).unwrap()
}

fn refused(point: &LoadPoint) -> String {
    Prompts::prepare(point, 0, Learned::default(), &TokenizerCache::default()).unwrap_err().to_string()
}

/// The text of the last message, or the prompt.
fn text(content: &Content) -> std::borrow::Cow<'_, str> {
    match content {
        Content::Messages(messages) => messages.last().unwrap().text(),
        Content::Text(text) => text.into(),
        Content::Tokens(_) => panic!("tokens"),
    }
}

/// Counts every prompt anew, as the server would.
fn assert_exact(prompts: &Prompts, ids: std::ops::Range<u64>) {
    for phase in [Phase::Warmup, Phase::Measure] {
        for id in ids.clone() {
            let plan = prompts.plan(phase, id);
            assert_eq!(prompts.counter().count(&plan.content), Ok(plan.isl), "{phase:?} {id}");
        }
    }
}

#[test]
fn lengths_are_exact_after_the_round_trip() {
    for tokenizer in [tiny(), TokenizerSpec::O200kHarmony] {
        for style in [Style::Random, Style::Natural] {
            for endpoint in [Endpoint::Chat, Endpoint::Completions] {
                for isl in [12, 13, 40, 128, 1000] {
                    let prompts = PromptSpec {
                        tokenizer: tokenizer.clone(),
                        source: PromptKind::Synthetic(style),
                        ..spec()
                    };
                    let prompts = prepare(&LoadPoint { endpoint, ..point(isl, prompts) });
                    assert_exact(&prompts, 0..4);
                    assert_eq!(
                        prompts.plan(Phase::Measure, 7).isl,
                        isl,
                        "{tokenizer:?} {style:?} {endpoint:?}"
                    );
                }
            }
        }
    }
}

#[test]
fn drawn_lengths_are_exact_too() {
    let spread = Spread::Uniform { low: 80, high: 100 };
    let point = LoadPoint { isl: Length { mean: 100, spread }, ..point(100, spec()) };
    let prompts = prepare(&point);
    assert_exact(&prompts, 0..50);
    let lengths: HashSet<u32> = (0..200).map(|id| prompts.plan(Phase::Measure, id).isl).collect();
    assert!(lengths.iter().all(|isl| (80..=100).contains(isl)) && lengths.len() > 15, "{lengths:?}");
}

#[test]
fn a_start_token_is_counted_once_and_only_where_the_server_adds_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut json: serde_json::Value =
        serde_json::from_slice(&std::fs::read(format!("{FOLDER}/tokenizer.json")).unwrap()).unwrap();
    json["post_processor"] = serde_json::json!({
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "<|endoftext|>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {"<|endoftext|>": {"id": "<|endoftext|>", "ids": [8187], "tokens": ["<|endoftext|>"]}}
    });
    std::fs::write(folder.path().join("tokenizer.json"), json.to_string()).unwrap();
    std::fs::copy(format!("{FOLDER}/chat_template.jinja"), folder.path().join("chat_template.jinja"))
        .unwrap();
    let tokenizer = TokenizerSpec::Model { folder: folder.path().display().to_string() };
    let with = PromptSpec { tokenizer, ..spec() };
    let words = |prompts: &PromptSpec, endpoint| {
        let plan = prepare(&LoadPoint { endpoint, ..point(50, prompts.clone()) }).plan(Phase::Measure, 0);
        assert_eq!(plan.isl, 50);
        count_words(&text(&plan.content))
    };
    // One word makes room for it in a completion; the chat template has its own tokens and the server adds none.
    assert_eq!(words(&spec(), Endpoint::Completions), 50);
    assert_eq!(words(&with, Endpoint::Completions), 49);
    assert_eq!(words(&with, Endpoint::Chat), words(&spec(), Endpoint::Chat));
}

#[test]
fn the_chat_template_is_part_of_the_length() {
    let prompts = prepare(&point(40, spec()));
    // <|im_start|> user \n … <|im_end|> \n <|im_start|> assistant \n, cut by this vocabulary.
    let words = count_words(&text(&prompts.plan(Phase::Measure, 0).content));
    let overhead = 40 - words;
    assert!((5..20).contains(&overhead), "{overhead}");
    let error = refused(&point(u32::try_from(overhead).unwrap(), spec()));
    assert!(error.contains("`load.isl`") && error.contains("the chat template alone takes"), "{error}");
    assert!(error.contains(&format!("expected: {} or more", overhead + 1)), "{error}");
    prepare(&point(u32::try_from(overhead).unwrap() + 1, spec()));
}

#[test]
fn what_the_server_was_found_to_add_makes_prompts_shorter() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(format!("{FOLDER}/tokenizer.json"), folder.path().join("tokenizer.json")).unwrap();
    let tokenizer = TokenizerSpec::File { path: folder.path().join("tokenizer.json").display().to_string() };
    let point = point(100, PromptSpec { tokenizer, ..spec() });
    let words = |each| {
        let learned = Learned { each, pair: 0 };
        let prompts = Prompts::prepare(&point, 0, learned, &TokenizerCache::default()).unwrap();
        assert!(!prompts.counter().knows_template());
        let plan = prompts.plan(Phase::Measure, 0);
        assert_eq!((plan.isl, prompts.counter().count(&plan.content)), (100, Ok(100)));
        count_words(&text(&plan.content))
    };
    assert_eq!((words(0), words(70)), (100, 30));
}

#[test]
fn no_two_requests_share_a_cache_block() {
    let tokenizers = TokenizerCache::default();
    let base = point(64, spec());
    let mut starts = HashSet::new();
    let mut add = |point: &LoadPoint, salt: u64| {
        let prompts = Prompts::prepare(point, salt, Learned::default(), &tokenizers).unwrap();
        for phase in [Phase::Warmup, Phase::Measure] {
            for id in 0..300 {
                let plan = prompts.plan(phase, id);
                let ids = prompts.counter().ids(&plan.content).unwrap();
                assert!(plan.shared < 16, "the template's start alone is shared: {}", plan.shared);
                assert!(starts.insert(ids[..16].to_vec()), "{} {salt} {phase:?} {id}", point.id);
            }
        }
    };
    add(&base, 0);
    add(&base, 1);
    add(&LoadPoint { id: "other".into(), ..base.clone() }, 0);
    add(&LoadPoint { seed: 7, ..base }, 0);
}

#[test]
fn the_same_salt_sends_the_same_and_another_only_other_words() {
    let point = LoadPoint { isl: Length::normal(100, 20), ..point(100, spec()) };
    let make = |salt| Prompts::prepare(&point, salt, Learned::default(), &TokenizerCache::default()).unwrap();
    let (one, same, other) = (make(5), make(5), make(6));
    for id in 0..20 {
        let plan = one.plan(Phase::Measure, id);
        assert_eq!(plan, same.plan(Phase::Measure, id));
        let stirred = other.plan(Phase::Measure, id);
        assert_eq!((plan.isl, plan.osl), (stirred.isl, stirred.osl));
        assert_ne!(plan.content, stirred.content);
    }
    let fixed = PromptSpec { salt: Some(5), ..spec() };
    let fixed = Prompts::prepare(
        &LoadPoint { prompts: fixed, ..point.clone() },
        99,
        Learned::default(),
        &TokenizerCache::default(),
    );
    assert_eq!(fixed.unwrap().plan(Phase::Measure, 3), one.plan(Phase::Measure, 3));
}

#[test]
fn no_word_falls_apart_or_is_special() {
    for tokenizer in [tiny(), TokenizerSpec::O200kHarmony] {
        let loaded = TokenizerCache::default().tokenizer(&tokenizer).unwrap();
        let vocabulary = vocabulary::Vocabulary::of(&loaded).unwrap();
        assert!(vocabulary.bits() >= 10);
        for index in vocabulary.indices() {
            let word = vocabulary.word(index);
            assert!(word.bytes().all(|byte| byte.is_ascii_lowercase()), "{word}");
            assert_eq!(loaded.decode(&[vocabulary.id(index)]), Some(format!(" {word}")));
        }
    }
}

#[test]
fn natural_text_is_sentences() {
    let natural = PromptSpec { source: PromptKind::Synthetic(Style::Natural), ..spec() };
    let prompts = prepare(&point(400, natural));
    let plan = prompts.plan(Phase::Measure, 1);
    assert!(text(&plan.content).matches(". ").count() > 5, "{}", text(&plan.content));
    assert_ne!(text(&plan.content), text(&prompts.plan(Phase::Measure, 2).content));
}

#[test]
fn token_ids_are_as_many_as_asked_for() {
    let ids = PromptSpec { token_ids: true, ..spec() };
    let prompts = prepare(&LoadPoint { endpoint: Endpoint::Completions, ..point(77, ids) });
    let Content::Tokens(ids) = prompts.plan(Phase::Measure, 3).content else { panic!() };
    assert_eq!(ids.len(), 77);
}

#[test]
fn shared_prefixes_are_shared_and_counted() {
    let prefix = Prefix { system_tokens: 50, pool: 3, pool_tokens: 32, hit_ratio: 0.5 };
    let prompts = prepare(&point(200, PromptSpec { prefix, ..spec() }));
    assert_exact(&prompts, 0..20);
    let mut hits = 0;
    let mut starts = HashSet::new();
    for id in 0..200 {
        let plan = prompts.plan(Phase::Measure, id);
        let Content::Messages(messages) = &plan.content else { panic!() };
        assert_eq!((messages.len(), messages[0].role()), (2, "system"));
        let content = messages[1].text();
        let words: Vec<&str> = content.split(' ').take(32).collect();
        let hit = plan.shared > 80;
        hits += u32::from(hit);
        if hit {
            starts.insert(words.join(" "));
        }
    }
    assert!((70..130).contains(&hits), "{hits}");
    assert_eq!(starts.len(), 3);
    let error = refused(&point(80, PromptSpec { prefix, ..spec() }));
    assert!(error.contains("chat template and shared prefix alone take"), "{error}");
}

pub(super) fn conversation(max_context: Option<u32>) -> PromptSpec {
    let turn_isl = Length::fixed(20);
    let conversation =
        Conversation { turns: 6, turns_stddev: 0, turn_isl, think_s: 0.5, think_stddev_s: 0.0, max_context };
    PromptSpec { conversation: Some(conversation), ..spec() }
}

#[test]
fn a_conversation_grows_by_the_answers_and_is_counted_whole() {
    let prompts = prepare(&point(60, conversation(None)));
    let (first, dialogue) = prompts.begin(Phase::Measure, 4);
    let (mut last, mut dialogue) = (first, dialogue.unwrap());
    let mut turns = 1;
    while let Some(next) = prompts.next_turn(4, dialogue, "def answer(): return 'ünïcode 🙂'") {
        assert_eq!(next.think, std::time::Duration::from_millis(500));
        assert_eq!(prompts.counter().count(&next.plan.content), Ok(next.plan.isl));
        assert!(
            next.plan.isl >= last.isl + 20 && next.plan.shared >= last.isl,
            "{} {}",
            next.plan.isl,
            last.isl
        );
        let Content::Messages(messages) = &next.plan.content else { panic!() };
        turns += 1;
        assert_eq!((messages.len(), next.dialogue.turn()), (2 * turns - 1, turns as u32 - 1));
        (last, dialogue) = (next.plan, next.dialogue);
    }
    assert_eq!(turns, 6);
}

#[test]
fn a_conversation_stays_within_its_window() {
    let prompts = prepare(&point(60, conversation(Some(150))));
    let (_, dialogue) = prompts.begin(Phase::Measure, 4);
    let mut dialogue = dialogue.unwrap();
    let (mut dropped, mut before) = (false, 1);
    while let Some(next) =
        prompts.next_turn(4, dialogue, "one two three four five six seven eight nine ten eleven")
    {
        assert!(next.plan.isl + next.plan.osl <= 150);
        let Content::Messages(messages) = &next.plan.content else { panic!() };
        assert!(messages.last().unwrap().is_from(Role::User));
        let fell = messages.len() < before + 2;
        (dropped, before) = (dropped || fell, messages.len());
        // What was in front of the rest is gone, and with it what a cache could know.
        assert!(!fell || next.plan.shared < 16, "{}", next.plan.shared);
        dialogue = next.dialogue;
    }
    assert!(dropped);
}

#[test]
fn real_prompts_are_sent_with_a_head_and_counted_whole() {
    let dataset = Dataset {
        kind: DatasetKind::Dolly,
        path: format!("{FILES}/dolly.jsonl"),
        min_tokens: None,
        max_tokens: None,
        dedupe: true,
        own_lengths: true,
    };
    let real = PromptSpec { source: PromptKind::Dataset(dataset.clone()), ..spec() };
    let prompts = prepare(&point(0, real.clone()));
    assert_exact(&prompts, 0..20);
    let chosen = prompts.selection().unwrap();
    let user = chosen.picked[0].sample.words();
    assert!(text(&prompts.plan(Phase::Measure, 0).content).ends_with(&format!(".\n\n{user}")));
    let bare = prepare(&point(0, PromptSpec { unique: false, ..real.clone() }));
    let plan = bare.plan(Phase::Measure, 0);
    assert_eq!(text(&plan.content), user);
    let again = bare.plan(Phase::Measure, chosen.picked.len() as u64);
    assert_eq!((again.content, again.shared), (plan.content, again.isl), "a repetition is known to be one");
    let missing = Dataset { path: "/nowhere/d.jsonl".into(), ..dataset };
    let error = refused(&point(0, PromptSpec { source: PromptKind::Dataset(missing), ..real }));
    assert!(error.starts_with("/nowhere/d.jsonl: "), "{error}");
}

#[test]
fn a_trace_gives_lengths_clock_and_shared_blocks() {
    let trace = Trace {
        kind: TraceKind::Mooncake,
        path: format!("{FILES}/mooncake.jsonl"),
        speedup: 2.0,
        start_s: 0.0,
        block_size: None,
        max_isl: None,
        max_osl: Some(30),
        share: None,
    };
    let prompts = prepare(&point(0, PromptSpec { source: PromptKind::Trace(trace), ..spec() }));
    assert_exact(&prompts, 0..4);
    let plans: Vec<PromptPlan> = (0..4).map(|id| prompts.plan(Phase::Measure, id)).collect();
    let lengths: Vec<(u32, u32)> = plans.iter().map(|plan| (plan.isl, plan.osl)).collect();
    assert_eq!(lengths, [(1100, 30), (1024, 30), (513, 1), (700, 9)]);
    assert_eq!(prompts.arrivals().unwrap()[1], std::time::Duration::from_millis(1500));
    assert_eq!(prompts.total(), Some(4));
    let ids: Vec<Vec<u32>> = plans.iter().map(|plan| prompts.counter().ids(&plan.content).unwrap()).collect();
    let common = |a: usize, b: usize| ids[a].iter().zip(&ids[b]).take_while(|(a, b)| a == b).count();
    assert!(common(0, 1) >= 1000, "two blocks in common: {}", common(0, 1));
    assert!((500..540).contains(&common(0, 2)), "one block in common: {}", common(0, 2));
    assert!(plans[0].shared < 16 && plans[1].shared >= 1000 && plans[2].shared >= 500);
}

#[test]
fn blocks_of_64_tokens_stay_shared() {
    let folder = tempfile::tempdir().unwrap();
    let line = |i: u64| {
        let ids = [1, 2, 3, 4, 100 + 2 * i, 101 + 2 * i];
        format!(
            "{{\"timestamp\":{},\"input_length\":384,\"output_length\":4,\"hash_ids\":{ids:?}}}\n",
            100 * i
        )
    };
    let path = folder.path().join("t.jsonl").display().to_string();
    std::fs::write(&path, (0..3).map(line).collect::<String>()).unwrap();
    let base = Trace {
        kind: TraceKind::Mooncake,
        path,
        speedup: 1.0,
        start_s: 0.0,
        block_size: None,
        max_isl: None,
        max_osl: None,
        share: None,
    };
    let prompts = prepare(&point(0, PromptSpec { source: PromptKind::Trace(base), ..spec() }));
    let plans: Vec<PromptPlan> = (0..3).map(|id| prompts.plan(Phase::Measure, id)).collect();
    let ids: Vec<Vec<u32>> = plans.iter().map(|plan| prompts.counter().ids(&plan.content).unwrap()).collect();
    let common = ids[0].iter().zip(&ids[1]).take_while(|(a, b)| a == b).count() as u32;
    assert!((256..270).contains(&common) && plans[1].shared == common, "{common}, {}", plans[1].shared);
    assert_eq!(
        prompts.notes(),
        ["blocks of 64 tokens, the one power of two that fits every row: 3 of 3 rows have blocks"]
    );
}

#[test]
fn tokenizers_that_are_none_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tokenizer.json");
    let with = |path: &std::path::Path| {
        let tokenizer = TokenizerSpec::File { path: path.display().to_string() };
        refused(&point(40, PromptSpec { tokenizer, ..spec() }))
    };
    assert!(with(&folder.path().join("nothing")).contains("there is no such file"));
    std::fs::write(&file, "{}").unwrap();
    assert!(with(folder.path()).contains("cannot be read as a tokenizer"));
    std::fs::write(&file, "version https://git-lfs.github.com/spec/v1\n").unwrap();
    assert!(with(&file).contains("git lfs pull"));
    // A model's folder without one is counted in words.
    let model = TokenizerSpec::Model { folder: "/nowhere".into() };
    assert!(!prepare(&point(40, PromptSpec { tokenizer: model, ..spec() })).is_exact());
}

#[test]
fn a_plan_is_checked_against_the_models_context() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(format!("{FOLDER}/tokenizer.json"), folder.path().join("tokenizer.json")).unwrap();
    std::fs::write(folder.path().join("config.json"), r#"{"text_config":{"max_position_embeddings":108}}"#)
        .unwrap();
    let tokenizer = TokenizerSpec::Model { folder: folder.path().display().to_string() };
    let with = |isl| point(isl, PromptSpec { tokenizer: tokenizer.clone(), ..spec() });
    let check = |points: &[LoadPoint]| {
        InputErrors::check(check::problems(
            points.iter().map(|point| (None, point)),
            &TokenizerCache::default(),
        ))
    };
    check(&[with(99)]).unwrap();
    let error = check(&[with(99), with(100), with(100)]).unwrap_err();
    assert_eq!(error.0.len(), 1);
    assert!(error.to_string().contains("answers of 9, and the model's context is 108"), "{error}");
}

/// `cargo test --release --lib ten_thousand_prompts -- --ignored --nocapture`
#[test]
#[ignore = "measures; run with --ignored --nocapture"]
fn ten_thousand_prompts_of_a_thousand_tokens() {
    for style in [Style::Random, Style::Natural] {
        let prompts = PromptSpec {
            source: PromptKind::Synthetic(style),
            tokenizer: TokenizerSpec::O200kHarmony,
            ..spec()
        };
        let point = point(1000, prompts);
        let began = std::time::Instant::now();
        let prompts = prepare(&point);
        let ready = began.elapsed();
        let bytes: usize = (0..10_000)
            .map(|id| crate::load::request_body(&point, "m", &prompts.plan(Phase::Measure, id)).len())
            .sum();
        println!(
            "{style:?}: ready after {ready:?}, 10,000 bodies, {bytes} bytes, after {:?} on one core",
            began.elapsed()
        );
    }
}
