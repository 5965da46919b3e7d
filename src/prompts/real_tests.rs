//! What is sent of a file of real prompts, and what is said of the rest.

use super::tests::{conversation, point, spec};
use super::*;
use crate::metrics::record::Phase;
use crate::plan::prompts::DatasetKind;
use crate::plan::{Conversation, Dataset, Endpoint, Length, LoadPoint, PromptKind, PromptSpec};

/// Prompts of a file of these rows.
fn of_rows(
    kind: DatasetKind,
    rows: &[serde_json::Value],
    change: impl Fn(&mut LoadPoint, &mut Dataset),
) -> Result<Prompts, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows.jsonl").display().to_string();
    std::fs::write(&path, rows.iter().map(|row| format!("{row}\n")).collect::<String>()).unwrap();
    let mut dataset =
        Dataset { kind, path, min_tokens: None, max_tokens: None, dedupe: true, own_lengths: false };
    let mut point = point(0, PromptSpec { unique: false, ..spec() });
    point.osl = Length::fixed(9);
    change(&mut point, &mut dataset);
    point.prompts.source = PromptKind::Dataset(dataset);
    Prompts::prepare(&point, 0, Learned::default(), &TokenizerCache::default())
        .map_err(|error| error.to_string())
}

fn body(prompts: &Prompts, id: u64) -> serde_json::Value {
    let point = LoadPoint { endpoint: prompts.endpoint, ..point(0, spec()) };
    let body = crate::load::request_body(&point, "m", &prompts.plan(Phase::Measure, id));
    serde_json::from_slice(&body).unwrap()
}

/// A request with history, parts, calls of tools, and other fields of its body.
fn row_with_history() -> serde_json::Value {
    serde_json::json!({
        "id": "r1", "model": "other", "stream": true, "max_tokens": 5, "n": 2,
        "messages": [
            {"role": "system", "content": "be brief"},
            {"role": "user", "name": "ann", "content": [
                {"type": "text", "text": "look"}, {"type": "image_url", "image_url": {"url": "u"}}]},
            {"role": "assistant", "content": null, "reasoning_content": "hm",
                "tool_calls": [{"id": "c", "type": "function", "function": {"name": "w", "arguments": "{\"x\":1}"}}]},
            {"role": "tool", "tool_call_id": "c", "content": "rain"},
            {"role": "user", "content": "second question"}],
        "tools": [{"type": "function", "function": {"name": "w"}}], "tool_choice": "auto", "temperature": 0.7,
        "response_format": {"type": "json_object"}, "top_p": 0.5, "stop": ["x"], "source": "s"})
}

#[test]
fn a_message_list_is_sent_as_it_is_with_the_other_fields_of_its_body() {
    let row = row_with_history();
    let prompts = of_rows(DatasetKind::Jsonl, std::slice::from_ref(&row), |_, _| {}).unwrap();
    let sent = body(&prompts, 0);
    assert_eq!(sent["messages"], row["messages"]);
    for key in ["tools", "tool_choice", "temperature", "response_format", "top_p", "stop"] {
        assert_eq!(sent[key], row[key], "{key}");
    }
    assert_eq!(
        (&sent["model"], &sent["stream"], &sent["max_tokens"]),
        (&"m".into(), &false.into(), &9.into())
    );
    assert!(sent.get("id").is_none() && sent.get("n").is_none() && sent.get("source").is_none());
    let load = "the load decides, not the file: max_tokens (1 entries), model (1 entries), n (1 entries), stream (1 entries)";
    assert_eq!(prompts.notes(), [load, "in the file and not sent: id (1 entries), source (1 entries)"]);
    // The body of a batch is the same request; without an output length of the load its own counts.
    let batch =
        serde_json::json!({"custom_id": "1", "method": "POST", "url": "/v1/chat/completions", "body": row});
    let prompts = of_rows(DatasetKind::Jsonl, &[batch], |_, dataset| dataset.own_lengths = true).unwrap();
    let sent = body(&prompts, 0);
    assert_eq!((&sent["messages"], &sent["max_tokens"]), (&row["messages"], &5.into()));
    assert!(!prompts.notes()[0].contains("max_tokens"), "{:?}", prompts.notes());
}

#[test]
fn unique_words_go_into_the_first_message_of_the_user_and_are_told() {
    let row = row_with_history();
    let prompts =
        of_rows(DatasetKind::Jsonl, std::slice::from_ref(&row), |point, _| point.prompts.unique = true)
            .unwrap();
    let sent = body(&prompts, 0);
    let first = sent["messages"][1]["content"].as_array().unwrap();
    assert!(first.len() == 3 && first[0]["text"].as_str().unwrap().ends_with('.'), "{first:?}");
    assert_eq!((&sent["messages"][0], &sent["messages"][4]), (&row["messages"][0], &row["messages"][4]));
    let note = &prompts.notes()[0];
    assert!(
        note.starts_with("each prompt begins with a few random words that are not the file's")
            && note.contains("--not-unique"),
        "{note}"
    );
    let dolly = serde_json::json!({"instruction": "Name a river.", "context": "", "response": "Po."});
    let prompts = of_rows(DatasetKind::Dolly, &[dolly], |point, _| point.prompts.unique = true).unwrap();
    assert!(
        prompts.notes()[0].starts_with("each prompt begins with a few random words that are not the file's")
    );
}

#[test]
fn a_recorded_answer_is_not_sent_unless_the_server_is_to_continue_it() {
    let with = |more: serde_json::Value| {
        let mut row = serde_json::json!({"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "three plain words"}]});
        row.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        of_rows(DatasetKind::Jsonl, &[row], |_, dataset| dataset.own_lengths = true)
    };
    let prompts = with(serde_json::json!({})).unwrap();
    let plan = prompts.plan(Phase::Measure, 0);
    assert!(matches!(&plan.content, Content::Messages(messages) if messages.len() == 1) && plan.osl >= 3);
    assert!(prompts.notes()[0].contains("the last message is the assistant's: it is the recorded answer"));
    let more =
        serde_json::json!({"continue_final_message": true, "add_generation_prompt": false, "max_tokens": 4});
    let prompts = with(more).unwrap();
    assert_eq!(body(&prompts, 0)["messages"].as_array().unwrap().len(), 2);
    assert_eq!(prompts.notes(), [""; 0]);
}

#[test]
fn messages_that_earlier_entries_begin_with_are_known_to_be_shared() {
    let row = |more: &[&str]| {
        let first = ["user", "assistant"]
            .into_iter()
            .cycle()
            .zip(["a long first question", "an answer of some length"]);
        let messages: Vec<serde_json::Value> = first
            .map(|(role, text)| serde_json::json!({"role": role, "content": text}))
            .chain(more.iter().map(|text| serde_json::json!({"role": "user", "content": text})))
            .collect();
        serde_json::json!({"messages": messages})
    };
    let prompts = of_rows(DatasetKind::Jsonl, &[row(&["one"]), row(&["two"])], |_, _| {}).unwrap();
    let [one, two] = [0, 1].map(|id| prompts.plan(Phase::Measure, id));
    assert!(
        one.shared < 16 && two.shared + 3 >= two.isl - 1 && two.shared < two.isl,
        "{} {}",
        two.shared,
        two.isl
    );
}

#[test]
fn completions_refuse_what_one_text_cannot_hold() {
    let completions = |point: &mut LoadPoint, _: &mut Dataset| point.endpoint = Endpoint::Completions;
    let error = of_rows(DatasetKind::Jsonl, &[row_with_history()], completions).unwrap_err();
    assert!(error.contains("entry 1 has messages, and completions take one text"), "{error}");
    let one = serde_json::json!({"messages": [{"role": "user", "content": "q"}], "temperature": 0.5});
    let sent = body(&of_rows(DatasetKind::Jsonl, &[one], completions).unwrap(), 0);
    assert_eq!((&sent["prompt"], &sent["temperature"]), (&"q".into(), &0.5.into()));
}

fn held(turns: u32) -> impl Fn(&mut LoadPoint, &mut Dataset) {
    move |point, _| {
        let spec = conversation(None).conversation.unwrap();
        point.prompts.conversation = Some(Conversation { turns, ..spec });
    }
}

/// The messages of every turn, each answered with `answer`.
fn hold(prompts: &Prompts, answer: &str) -> Vec<(Vec<String>, std::time::Duration)> {
    let texts = |plan: &PromptPlan| match &plan.content {
        Content::Messages(messages) => {
            messages.iter().map(|message| format!("{}:{}", message.role(), message.text())).collect()
        }
        _ => panic!(),
    };
    let (first, mut dialogue) = prompts.begin(Phase::Measure, 0);
    let mut held = vec![(texts(&first), std::time::Duration::ZERO)];
    while let Some(next) = dialogue.take().and_then(|dialogue| prompts.next_turn(0, dialogue, answer)) {
        held.push((texts(&next.plan), next.think));
        dialogue = Some(next.dialogue);
    }
    held
}

#[test]
fn conversations_of_every_format_are_held_turn_by_turn() {
    let rows = [
        (
            DatasetKind::Sharegpt,
            serde_json::json!({"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}, {"from": "human", "value": "c"}]}),
        ),
        (
            DatasetKind::Sharegpt,
            serde_json::json!({"conversations": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}]}),
        ),
        (
            DatasetKind::Jsonl,
            serde_json::json!({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}]}),
        ),
        (
            DatasetKind::Jsonl,
            serde_json::json!({"session_id": "s", "turns": [{"text": "a"}, {"text": "c", "delay": 250}]}),
        ),
        (DatasetKind::Jsonl, serde_json::json!({"turns": ["a", "c"]})),
    ];
    for (kind, row) in rows {
        let prompts = of_rows(kind, std::slice::from_ref(&row), held(9)).unwrap();
        let held = hold(&prompts, "live");
        assert_eq!(held[0].0, ["user:a"], "{row}");
        assert_eq!(held[1].0, ["user:a", "assistant:live", "user:c"], "{row}");
        let wait = if row.to_string().contains("250") { 250 } else { 500 };
        assert_eq!((held.len(), held[1].1), (2, std::time::Duration::from_millis(wait)), "{row}");
    }
}

#[test]
fn conversations_that_are_not_held_whole_are_told() {
    let turns = serde_json::json!({"turns": ["a", "b", "c"]});
    let alone = of_rows(DatasetKind::Jsonl, std::slice::from_ref(&turns), |_, _| {}).unwrap();
    assert!(alone.notes()[0].contains("the first turn is sent alone; conversations send the others too"));
    let short = of_rows(DatasetKind::Jsonl, &[turns], held(2)).unwrap();
    assert!(short.notes()[0].contains("turns after the first 2 are not sent"), "{:?}", short.notes());
    assert_eq!(hold(&short, "x").len(), 2);
    let tools = of_rows(DatasetKind::Jsonl, &[row_with_history()], held(9)).unwrap();
    assert_eq!(hold(&tools, "x").len(), 1);
    assert!(
        tools.notes().iter().any(|note| note.contains("ends before the result of a tool")),
        "{:?}",
        tools.notes()
    );
}

#[test]
fn an_answer_of_reasoning_alone_is_not_sent_back_as_empty_text() {
    let turns = serde_json::json!({"turns": ["a", "b"], "temperature": 0.5});
    let prompts = of_rows(DatasetKind::Jsonl, &[turns], held(9)).unwrap();
    assert_eq!(hold(&prompts, " \n")[1].0, ["user:a", "user:b"]);
    assert!(
        prompts
            .notes()
            .last()
            .unwrap()
            .starts_with("1 answers had no text (reasoning or calls of tools alone)")
    );
    let (_, dialogue) = prompts.begin(Phase::Measure, 0);
    assert_eq!(prompts.next_turn(0, dialogue.unwrap(), "x").unwrap().plan.fields["temperature"], 0.5);
}
