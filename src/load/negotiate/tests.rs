use std::cell::Cell;

use proptest::prelude::*;

use super::*;
use crate::load::testing::{Server, good, point, whole};
use crate::plan::{Endpoint, MaxTokensField};

/// Settles with a server that refuses every request holding one of `refused`, in the words of `complaint`.
fn settled(refused: &[Extension], complaint: impl Fn(&[Extension]) -> String) -> (Vec<Extension>, usize) {
    let asked = Cell::new(0);
    let ask = async |left_out: &[Extension]| {
        asked.set(asked.get() + 1);
        let present: Vec<Extension> =
            refused.iter().copied().filter(|extension| !left_out.contains(extension)).collect();
        if present.is_empty() { Acceptance::Accepted } else { Acceptance::Refused(complaint(&present)) }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let found = runtime.block_on(settle(&Extension::ALL, ask));
    (found.into_iter().map(|(extension, _)| extension).collect(), asked.get())
}

proptest! {
    #[test]
    fn only_refused_extensions_are_given_up(
        refused in proptest::sample::subsequence(Extension::ALL.to_vec(), 0..=5),
        words in 0..4,
    ) {
        let names = |present: &[Extension]| present.iter().map(|e| e.key()).collect::<Vec<_>>().join(", ");
        let (found, asked) = settled(&refused, |present| match words {
            // Nothing, one of them, all of them, the whole request.
            0 => String::new(),
            1 => format!("unknown field `{}`", present[0].key()),
            2 => format!("Unexpected fields in the request: {{{}}}", names(present)),
            _ => format!("1 validation error: input: {{{}}}", names(&Extension::ALL)),
        });
        prop_assert_eq!(found, refused.clone());
        prop_assert!(asked <= 1 + 2 * Extension::ALL.len(), "{} requests", asked);
        if refused.is_empty() {
            prop_assert_eq!(asked, 1);
        }
    }
}

#[test]
fn a_refusal_of_something_else_gives_nothing_up() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let never = async |_: &[Extension]| Acceptance::Refused("prompt too long".into());
    assert_eq!(runtime.block_on(settle(&Extension::ALL, never)), []);
    let busy = async |_: &[Extension]| Acceptance::Other;
    assert_eq!(runtime.block_on(settle(&Extension::ALL, busy)), []);
}

#[test]
fn refusals_of_real_servers() {
    let page = |status, body: &str| Page { status, body: body.into() };
    let dynamo =
        r#"{"message":"Validation: Unsupported parameter(s): `min_tokens`","type":"Bad Request","code":400}"#;
    assert_eq!(read(&page(400, dynamo)), Acceptance::Refused(dynamo.into()));
    assert!(names(dynamo, "min_tokens") && !names(dynamo, "max_tokens"));
    let openai = "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.";
    assert!(names(openai, "max_tokens") && !names(openai, "ignore_eos"));
    assert!(!names("max_completion_tokens, the_max_tokens", "max_tokens"));
    assert!(matches!(
        read(&page(422, "Unexpected fields in the request: {'ignore_eos'}")),
        Acceptance::Refused(_)
    ));
    let stream = "data: {\"error\":{\"message\":\"min_tokens\",\"type\":\"BadRequestError\",\"code\":400}}\n\ndata: [DONE]\n\n";
    assert!(
        matches!(read(&page(200, stream)), Acceptance::Refused(words) if words.contains("BadRequestError"))
    );
    let failed = "data: {\"error\":{\"message\":\"Internal server error\",\"code\":500}}\n\ndata: [DONE]\n\n";
    assert_eq!(read(&page(200, failed)), Acceptance::Accepted);
    for status in [401, 404, 429, 500, 503] {
        assert_eq!(read(&page(status, dynamo)), Acceptance::Other, "{status}");
    }
}

#[test]
fn an_extension_that_one_server_refuses_is_sent_to_none() {
    let strict = Server::play(|n| match n {
        0 => whole(
            "422 Unprocessable Entity",
            "text/plain",
            "Unexpected fields in the request: {'ignore_eos'}",
        ),
        _ => good(),
    });
    let other = Server::play(|n| match n {
        0 => whole("400 Bad Request", "application/json", r#"{"error":"unknown field min_tokens"}"#),
        _ => good(),
    });
    let mut target = strict.target();
    target.base_urls.extend(other.target().base_urls);
    let refused = refused_extensions(&target, &point(4), &CancellationToken::new()).unwrap();
    assert_eq!(
        refused,
        [
            Refusal {
                extension: Extension::IgnoreEos,
                message: "Unexpected fields in the request: {'ignore_eos'}".into(),
                server: strict.target().address(),
            },
            Refusal {
                extension: Extension::MinTokens,
                message: "unknown field min_tokens".into(),
                server: other.target().address(),
            },
        ]
    );
    let bodies = |server: &Server| -> Vec<Value> {
        server.received().requests.iter().map(|(_, body)| serde_json::from_str(body).unwrap()).collect()
    };
    let (first, second) = (bodies(&strict), bodies(&other));
    assert_eq!((first.len(), second.len()), (2, 2));
    assert_eq!((&first[0]["ignore_eos"], &first[1]["ignore_eos"]), (&true.into(), &Value::Null));
    assert_eq!((&second[0]["ignore_eos"], &second[0]["min_tokens"]), (&Value::Null, &1.into()));
    assert_eq!((&second[1]["min_tokens"], &second[1]["max_tokens"]), (&Value::Null, &1.into()));
}

#[test]
fn a_server_that_accepts_all_sees_one_request() {
    let server = Server::play(|_| good());
    let none = refused_extensions(&server.target(), &point(1), &CancellationToken::new()).unwrap();
    assert_eq!((none, server.received().requests.len()), (vec![], 1));
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let gone = Target::new(format!("http://{}", listener.local_addr().unwrap()), "m");
    drop(listener);
    assert_eq!(refused_extensions(&gone, &point(1), &CancellationToken::new()).unwrap(), []);
    let cancelled = CancellationToken::new();
    cancelled.cancel();
    let silent = Server::play(|_| vec![crate::load::testing::Step::Hold]);
    assert_eq!(refused_extensions(&silent.target(), &point(1), &cancelled).unwrap(), []);
}

#[test]
fn a_name_of_the_length_that_is_set_is_not_changed() {
    let server = Server::play(|_| whole("400 Bad Request", "text/plain", "max_tokens is not supported"));
    let asked = |max_tokens_field, endpoint| {
        let point = LoadPoint { max_tokens_field, endpoint, ignore_eos: false, streaming: false, ..point(1) };
        let before = server.received().requests.len();
        assert_eq!(refused_extensions(&server.target(), &point, &CancellationToken::new()).unwrap(), []);
        server.received().requests.len() - before
    };
    assert_eq!(asked(MaxTokensField::MaxTokens, Endpoint::Chat), 1);
    assert_eq!(asked(MaxTokensField::Auto, Endpoint::Completions), 1);
    assert_eq!(asked(MaxTokensField::Auto, Endpoint::Chat), 2);
}
