//! Servers whose count differs from the tokenizer's, and models with a short context.

use super::*;
use crate::load::testing::{Server, whole};
use crate::metrics::summary::Context;
use crate::plan::{Conversation, Length, PromptSpec, Stop};
use crate::prompts::TokenizerCache;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/tokenizer");

/// A server that reports these counts in turn.
fn counts(tokens: &'static [u64]) -> Server {
    Server::play(move |n| {
        let counted = tokens.get(n).copied().unwrap_or(0);
        let answer = format!(
            r#"{{"choices":[{{"index":0,"message":{{"content":"a"}},"finish_reason":"length"}}],"usage":{{"prompt_tokens":{counted},"completion_tokens":1}}}}"#
        );
        whole("200 OK", "application/json", &answer)
    })
}

fn point() -> LoadPoint {
    let tokenizer = TokenizerSpec::File { path: FOLDER.into() };
    let prompts = PromptSpec { tokenizer, unique: true, ..PromptSpec::default() };
    LoadPoint {
        id: "p".into(),
        isl: Length::fixed(100),
        osl: Length::fixed(128),
        stop: Stop::Requests(2),
        prompts,
        streaming: true,
        ignore_eos: true,
        request_timeout_s: 60.0,
        stall_timeout_s: 60.0,
        connect_timeout_s: 30.0,
        ..LoadPoint::default()
    }
}

fn make(server: &Server, point: LoadPoint) -> Result<Calibrated, String> {
    let measure = Measure {
        target: server.target(),
        point,
        dir: None,
        context: Context::default(),
        benchmark_id: "b".into(),
        salt: 3,
        tokenizers: TokenizerCache::default(),
        search: None,
        metrics_pages: Vec::new(),
        deployment: None,
    };
    Calibrated::make(&measure, &CancellationToken::new()).map_err(|error| error.to_string())
}

/// The two texts as the tiny tokenizer and its template count them.
fn known() -> [u64; 2] {
    let counter = Counter::new(&point(), &TokenizerCache::default()).unwrap();
    TELLING.map(|text| u64::from(counter.count(&Content::plain(Endpoint::Chat, text)).unwrap()))
}

#[test]
fn a_server_that_counts_alike_is_asked_once() {
    let [one, _] = known();
    let server = counts(Box::leak(Box::new([one])));
    let calibrated = make(&server, point()).unwrap();
    let facts = PromptFacts {
        tokenizer: format!("{FOLDER}/tokenizer.json"),
        exact: true,
        template: Some(TemplateSource::Known),
        salt: 3,
        notes: Vec::new(),
    };
    assert_eq!(calibrated.facts, facts);
    let requests = server.received().requests.iter().filter(|(_, body)| !body.is_empty()).count();
    assert_eq!(requests, 1);
}

#[test]
fn what_a_server_adds_to_every_prompt_is_taken_off_ours() {
    let [one, two] = known();
    let server = counts(Box::leak(Box::new([one + 70, two + 70])));
    let longer = LoadPoint { isl: Length::fixed(200), ..point() };
    let calibrated = make(&server, longer).unwrap();
    assert_eq!(calibrated.facts.template, Some(TemplateSource::Measured));
    let plan = calibrated.prompts.plan(crate::metrics::Phase::Measure, 0);
    let bare = Counter::new(&point(), &TokenizerCache::default()).unwrap().count(&plan.content);
    assert_eq!((plan.isl, bare), (200, Ok(130)));
}

#[test]
fn another_tokenizer_is_found_out() {
    let [one, two] = known();
    let error = make(&counts(Box::leak(Box::new([one + 3, two + 9]))), point()).unwrap_err();
    assert!(error.contains("does not count as the server does"), "{error}");
    assert!(error.contains("tokenizer.json") && error.contains("next: "), "{error}");
}

#[test]
fn a_server_that_does_not_count_leaves_the_tokenizer_alone() {
    let calibrated = make(&counts(&[0, 0]), point()).unwrap();
    assert_eq!(calibrated.facts.template, Some(TemplateSource::Known));
    assert_eq!(calibrated.prompts.plan(crate::metrics::Phase::Measure, 0).isl, 100);
    // Without the template the tokens around the messages are unknown.
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(format!("{FOLDER}/tokenizer.json"), folder.path().join("tokenizer.json")).unwrap();
    let mut bare = point();
    bare.prompts.tokenizer = TokenizerSpec::Model { folder: folder.path().display().to_string() };
    let calibrated = make(&counts(&[0, 0]), bare).unwrap();
    assert_eq!(calibrated.facts.template, Some(TemplateSource::Unknown));
}

#[test]
fn a_pair_of_messages_is_learned_for_conversations() {
    let [one, _] = known();
    let mut point = point();
    point.prompts.conversation = Some(Conversation {
        turns: 3,
        turns_stddev: 0,
        turn_isl: Length::fixed(10),
        think_s: 0.0,
        think_stddev_s: 0.0,
        max_context: None,
    });
    let counter = Counter::new(&point, &TokenizerCache::default()).unwrap();
    let [first, second] = TELLING;
    let messages = [(Role::User, first), (Role::Assistant, "Yes."), (Role::User, second)];
    let three = messages.map(|(role, text)| Message::new(role, text)).to_vec();
    let three = u64::from(counter.count(&Content::Messages(three)).unwrap());
    let calibrated = make(&counts(Box::leak(Box::new([one, three + 4]))), point).unwrap();
    let (_, dialogue) = calibrated.prompts.begin(crate::metrics::Phase::Measure, 0);
    let next = calibrated.prompts.next_turn(0, dialogue.unwrap(), "Yes.").unwrap();
    assert_eq!(counter.count(&next.plan.content), Ok(next.plan.isl - 4));
}

#[test]
fn prompts_beyond_the_context_are_named_before_the_load() {
    let server =
        Server::play(|_| whole("200 OK", "application/json", r#"{"data":[{"id":"m","max_model_len":200}]}"#));
    let mut long = point();
    long.prompts.tokenizer = TokenizerSpec::Builtin;
    let fits = LoadPoint { osl: Length::fixed(100), ..long.clone() };
    make(&server, fits).unwrap();
    let error = make(&server, LoadPoint { osl: Length::fixed(101), ..long }).unwrap_err();
    assert!(
        error.contains("prompts of 100 tokens and answers of 101, and the model's context is 200"),
        "{error}"
    );
    assert!(error.contains("`load.isl`"), "{error}");
}

#[test]
fn a_cache_that_cannot_be_emptied_stops_the_point() {
    let good = Server::play(|_| whole("200 OK", "text/plain", ""));
    reset_cache(&good.target(), "/reset_prefix_cache").unwrap();
    assert_eq!(good.received().requests.len(), 1);
    let bad = Server::play(|_| whole("404 Not Found", "text/plain", ""));
    let error = reset_cache(&bad.target(), "/flush").unwrap_err().to_string();
    assert!(error.contains("HTTP 404") && error.contains("VLLM_SERVER_DEV_MODE"), "{error}");
}
