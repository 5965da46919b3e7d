//! The server over loopback, spoken to in plain HTTP/1.1 so that every byte is seen.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Instant;

use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::*;
use crate::sim::{Faults, Overrides};

const PATIENCE: Duration = Duration::from_secs(20);

/// A server on its own thread. Dropping it stops it.
#[derive(Debug)]
struct SimHandle {
    address: SocketAddr,
    stop: CancellationToken,
    thread: Option<std::thread::JoinHandle<Result<ServeEnd, SimError>>>,
}

impl SimHandle {
    /// Starts a server and waits until it listens.
    fn start(config: SimConfig) -> Result<Self, SimError> {
        let stop = CancellationToken::new();
        let (announce, listening) = oneshot::channel();
        let stopped = stop.clone().cancelled_owned();
        let thread = std::thread::Builder::new().name("tokmark-sim".into()).spawn(move || {
            // The receiver waits below while this thread lives, so sending does not fail.
            let ready = |address| {
                let _ = announce.send(address);
            };
            run_until(config, ready, stopped)
        })?;
        match listening.blocking_recv() {
            Ok(address) => Ok(Self { address, stop, thread: Some(thread) }),
            Err(_) => Err(match thread.join() {
                Ok(Err(error)) => error,
                _ => SimError::Start(std::io::Error::other("it ended before it could listen")),
            }),
        }
    }

    /// The address it listens on.
    fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops it and waits for the end. `None` when its thread failed.
    fn stop(mut self) -> Option<ServeEnd> {
        self.stop.cancel();
        self.thread.take()?.join().ok()?.ok()
    }
}

impl Drop for SimHandle {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A fast server: the quick profile, 10 times faster.
fn server() -> SimHandle {
    server_with(Overrides::default(), Faults::default())
}

fn server_with(overrides: Overrides, faults: Faults) -> SimHandle {
    let speed = overrides.speed.or(Some(10.0));
    let overrides = Overrides { model: Some("m".into()), speed, ..overrides };
    let config = SimConfig::new("quick", &overrides).expect("sound").with_faults(faults).expect("sound");
    SimHandle::start(config).expect("starts")
}

struct Reply {
    status: u16,
    head: String,
    body: String,
}

impl Reply {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    /// The payloads of the `data:` lines.
    fn events(&self) -> Vec<&str> {
        self.body.lines().filter_map(|line| line.strip_prefix("data: ")).collect()
    }
}

struct Client(BufReader<TcpStream>);

impl Client {
    fn new(server: &SimHandle) -> Self {
        let stream = TcpStream::connect(server.address()).expect("connects");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        Self(BufReader::new(stream))
    }

    fn send(&mut self, method: &str, path: &str, headers: &str, body: &str) {
        let length = body.len();
        let request =
            format!("{method} {path} HTTP/1.1\r\nhost: t\r\ncontent-length: {length}\r\n{headers}\r\n{body}");
        self.0.get_mut().write_all(request.as_bytes()).expect("sent");
    }

    fn post(&mut self, path: &str, body: &Value) -> Reply {
        self.send("POST", path, "content-type: application/json\r\n", &body.to_string());
        self.reply()
    }

    fn get(&mut self, path: &str) -> Reply {
        self.send("GET", path, "", "");
        self.reply()
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).expect("a line");
        line
    }

    fn head(&mut self) -> String {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            let line = self.line();
            assert!(!line.is_empty(), "closed: {head}");
            head.push_str(&line);
        }
        head.to_lowercase()
    }

    fn bytes(&mut self, length: usize) -> String {
        let mut bytes = vec![0; length];
        self.0.read_exact(&mut bytes).expect("a body");
        String::from_utf8(bytes).expect("UTF-8")
    }

    fn reply(&mut self) -> Reply {
        let head = self.head();
        assert!(head.contains("\r\nx-tokmark-simulated: true\r\n"), "{head}");
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        let length =
            head.split_once("content-length: ").map(|(_, rest)| rest.split('\r').next().expect("a value"));
        let body = match length {
            Some(length) => self.bytes(length.parse().expect("a number")),
            None => std::iter::from_fn(|| self.chunk()).collect(),
        };
        Reply { status, head, body }
    }

    /// The next HTTP chunk; `None` after the last.
    fn chunk(&mut self) -> Option<String> {
        let length = usize::from_str_radix(self.line().trim_end(), 16).expect("a chunk length");
        let chunk = self.bytes(length);
        self.line();
        (length > 0).then_some(chunk)
    }
}

/// The value of the first sample of this metric whose labels contain `label`.
fn metric(server: &SimHandle, name: &str, label: &str) -> f64 {
    let page = Client::new(server).get("/metrics").body;
    let line = page.lines().find(|line| line.starts_with(&format!("{name}{{")) && line.contains(label));
    line.and_then(|line| line.rsplit(' ').next()?.parse().ok())
        .unwrap_or_else(|| panic!("no {name} in {page}"))
}

fn wait_for(what: &str, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "never: {what}");
        std::thread::yield_now();
    }
}

fn chat(extra: Value) -> Value {
    let mut body = json!({"model": "m", "messages": [{"role": "user", "content": "four words in here"}],
        "max_tokens": 5, "ignore_eos": true});
    merge(&mut body, extra);
    body
}

fn completion(extra: Value) -> Value {
    let mut body = json!({"model": "m", "prompt": "three words here", "max_tokens": 5, "ignore_eos": true});
    merge(&mut body, extra);
    body
}

fn merge(body: &mut Value, extra: Value) {
    let (Value::Object(body), Value::Object(extra)) = (body, extra) else { panic!("two objects") };
    body.extend(extra);
}

#[test]
fn a_chat_streams_role_tokens_usage_and_done() {
    let server = server();
    let body = chat(json!({"stream": true, "stream_options": {"include_usage": true}}));
    let reply = Client::new(&server).post("/v1/chat/completions", &body);
    assert_eq!(reply.status, 200);
    assert!(reply.head.contains("content-type: text/event-stream; charset=utf-8\r\n"), "{}", reply.head);
    let events = reply.events();
    assert_eq!(events.len(), 1 + 5 + 1 + 1, "{}", reply.body);
    assert_eq!(events.last(), Some(&"[DONE]"));
    let last: Value = serde_json::from_str(events[5]).expect("JSON");
    assert_eq!(last["choices"][0]["finish_reason"], "length");
    let usage: Value = serde_json::from_str(events[6]).expect("JSON");
    assert_eq!(usage["usage"], json!({"prompt_tokens": 4, "total_tokens": 9, "completion_tokens": 5}));
}

#[test]
fn tokens_come_one_step_at_a_time() {
    let server = server();
    let mut client = Client::new(&server);
    let body = completion(json!({"stream": true})).to_string();
    client.send("POST", "/v1/completions", "content-type: application/json\r\n", &body);
    client.head();
    let chunks: Vec<String> = std::iter::from_fn(|| client.chunk()).collect();
    // A client that is slow may find two tokens in a chunk, never all of them.
    assert!(chunks.len() > 1 && chunks.len() <= 5, "{chunks:?}");
}

#[test]
fn without_streaming_the_answer_comes_whole_with_usage() {
    let server = server();
    let mut client = Client::new(&server);
    let chat = client.post("/v1/chat/completions", &chat(json!({}))).json();
    assert_eq!(chat["object"], "chat.completion");
    assert_eq!(chat["usage"]["completion_tokens"], 5);
    assert_eq!(chat["system_fingerprint"], "tokmark-sim");
    let text = chat["choices"][0]["message"]["content"].as_str().expect("content");
    assert_eq!(crate::sim::count_words(text), 5);
    let completion = client.post("/v1/completions", &completion(json!({"prompt": [1, 2, 3, 4]}))).json();
    assert_eq!(
        (&completion["object"], &completion["usage"]["prompt_tokens"]),
        (&json!("text_completion"), &json!(4))
    );
}

#[test]
fn ids_come_from_the_request_or_from_the_seed() {
    let server = server();
    let mut client = Client::new(&server);
    let first = client.post("/v1/completions", &completion(json!({}))).json();
    let again = Client::new(&self::server()).post("/v1/completions", &completion(json!({}))).json();
    assert_eq!(first["id"], again["id"]);
    assert_eq!(first["choices"], again["choices"]);
    let headers = "content-type: application/json\r\nx-request-id: bench-7\r\n";
    client.send("POST", "/v1/completions", headers, &completion(json!({})).to_string());
    assert_eq!(client.reply().json()["id"], "cmpl-bench-7");
}

#[test]
fn other_routes_are_marked_as_simulated() {
    let server = server();
    let mut client = Client::new(&server);
    let health = client.get("/health");
    assert_eq!((health.status, health.body.as_str()), (200, ""));
    let model = &client.get("/v1/models").json()["data"][0];
    assert_eq!((&model["id"], &model["owned_by"]), (&json!("m"), &json!("tokmark-sim")));
    assert_eq!((&model["simulated"], &model["max_model_len"]), (&json!(true), &json!(32_768)));
    assert_eq!(client.get("/version").json()["simulated"], true);
}

#[test]
fn errors_have_vllms_status_and_shape() {
    let server = server();
    let mut client = Client::new(&server);
    let json_type = "content-type: application/json\r\n";
    let cases = [
        ("GET", "/nothing", "", "", 404, "{\"detail\":\"Not Found\"}"),
        ("GET", "/v1/completions", "", "", 405, "{\"detail\":\"Method Not Allowed\"}"),
        ("POST", "/health", "", "", 405, "{\"detail\":\"Method Not Allowed\"}"),
        ("POST", "/v1/completions", json_type, "{", 400, "JSON decode error"),
        ("POST", "/v1/completions", "content-type: text/plain\r\n", "{}", 400, "Unsupported Media Type"),
        ("POST", "/v1/completions", json_type, r#"{"model":"x","prompt":"a"}"#, 404, "NotFoundError"),
        ("POST", "/v1/chat/completions", json_type, r#"{"model":"m"}"#, 400, "body.messages"),
    ];
    for (method, path, headers, body, status, expected) in cases {
        client.send(method, path, headers, body);
        let reply = client.reply();
        assert_eq!(reply.status, status, "{method} {path} {body}");
        assert!(reply.body.contains(expected), "{method} {path} {body}: {}", reply.body);
        assert_eq!(reply.head.contains("\r\nallow: "), status == 405, "{}", reply.head);
    }
}

#[test]
fn a_body_over_the_limit_is_refused_with_413() {
    let server = server();
    let mut client = Client::new(&server);
    let headers = "host: t\r\ncontent-type: application/json\r\ncontent-length: 99999999\r\n";
    let head = format!("POST /v1/completions HTTP/1.1\r\n{headers}\r\n");
    client.0.get_mut().write_all(head.as_bytes()).expect("sent");
    assert_eq!(client.reply().status, 413);
}

#[test]
fn a_connection_is_reused_after_a_stream() {
    let server = server();
    let mut client = Client::new(&server);
    for _ in 0..3 {
        let reply = client.post("/v1/completions", &completion(json!({"stream": true})));
        assert_eq!(reply.events().len(), 6);
        assert_eq!(client.get("/health").status, 200);
    }
    assert_eq!(metric(&server, "vllm:generation_tokens_total", ""), 15.0);
}

#[test]
fn metrics_count_what_was_served() {
    let server = server();
    Client::new(&server).post("/v1/completions", &completion(json!({})));
    assert_eq!(metric(&server, "vllm:prompt_tokens_total", ""), 3.0);
    assert_eq!(metric(&server, "vllm:generation_tokens_total", ""), 5.0);
    assert_eq!(metric(&server, "vllm:request_success_total", "\"length\""), 1.0);
    assert_eq!(metric(&server, "vllm:time_to_first_token_seconds_count", ""), 1.0);
    assert_eq!(metric(&server, "vllm:inter_token_latency_seconds_count", ""), 4.0);
    assert_eq!(metric(&server, "vllm:prefix_cache_hits_total", ""), 0.0);
    assert_eq!(metric(&server, "vllm:num_requests_running", ""), 0.0);
}

#[test]
fn a_client_that_leaves_frees_its_sequence_streaming_or_not() {
    let server = server_with(Overrides { max_num_seqs: Some(1), ..Overrides::default() }, Faults::default());
    for stream in [true, false] {
        let mut client = Client::new(&server);
        let body = completion(json!({"stream": stream, "max_tokens": 30_000})).to_string();
        client.send("POST", "/v1/completions", "content-type: application/json\r\n", &body);
        wait_for("it runs", || metric(&server, "vllm:num_requests_running", "") == 1.0);
        assert!(metric(&server, "vllm:kv_cache_usage_perc", "") > 0.0);
        drop(client);
        wait_for("it is gone", || metric(&server, "vllm:num_requests_running", "") == 0.0);
        assert_eq!(metric(&server, "vllm:kv_cache_usage_perc", ""), 0.0);
    }
    // As vLLM: an abort is not counted as a finished request.
    assert_eq!(metric(&server, "vllm:request_success_total", "\"length\""), 0.0);
}

#[test]
fn requests_beyond_max_num_seqs_wait() {
    let server = server_with(Overrides { max_num_seqs: Some(2), ..Overrides::default() }, Faults::default());
    let body = completion(json!({"stream": true, "max_tokens": 30_000})).to_string();
    let clients: Vec<Client> = (0..5)
        .map(|_| {
            let mut client = Client::new(&server);
            client.send("POST", "/v1/completions", "content-type: application/json\r\n", &body);
            client
        })
        .collect();
    wait_for("two run and three wait", || {
        metric(&server, "vllm:num_requests_running", "") == 2.0
            && metric(&server, "vllm:num_requests_waiting", "") == 3.0
    });
    drop(clients);
}

#[test]
fn stopping_ends_streams_with_an_error_and_requests_with_500() {
    let server = server_with(Overrides { speed: Some(1.0), ..Overrides::default() }, Faults::default());
    let send = |stream: bool| {
        let mut client = Client::new(&server);
        let body = completion(json!({"stream": stream, "max_tokens": 30_000})).to_string();
        client.send("POST", "/v1/completions", "content-type: application/json\r\n", &body);
        client
    };
    let (mut streaming, mut unary) = (send(true), send(false));
    let address = server.address();
    wait_for("both run", || metric(&server, "vllm:num_requests_running", "") == 2.0);
    assert_eq!(server.stop(), Some(ServeEnd::Stopped));
    let reply = streaming.reply();
    let (last, rest) =
        reply.events().split_last().map(|(last, rest)| (*last, rest.to_vec())).expect("events");
    assert_eq!(last, "[DONE]");
    let error: Value = serde_json::from_str(rest.last().expect("an error")).expect("JSON");
    assert_eq!(error["error"]["code"], 500);
    assert_eq!(unary.reply().status, 500);
    assert!(TcpStream::connect(address).is_err(), "the port is closed");
}

#[test]
fn faults_fail_stall_and_crash() {
    let failing = server_with(Overrides::default(), Faults { fail_rate: 1.0, ..Faults::default() });
    let reply = Client::new(&failing).post("/v1/completions", &completion(json!({})));
    assert_eq!((reply.status, &reply.json()["error"]["code"]), (503, &json!(503)));

    let stalling = server_with(Overrides::default(), Faults { stall_after: Some(2), ..Faults::default() });
    let mut client = Client::new(&stalling);
    assert_eq!(client.post("/v1/completions", &completion(json!({"stream": true}))).events().len(), 6);
    let body = completion(json!({"stream": true, "max_tokens": 10})).to_string();
    client.send("POST", "/v1/completions", "content-type: application/json\r\n", &body);
    client.head();
    let mut tokens = 0;
    while tokens < 5 {
        tokens += client.chunk().expect("not the end").matches("data: ").count();
    }
    wait_for("the engine is done with it", || metric(&stalling, "vllm:generation_tokens_total", "") == 15.0);
    client.0.get_mut().set_read_timeout(Some(Duration::from_millis(50))).expect("a timeout");
    assert!(client.0.fill_buf().is_err(), "nothing more comes, and no end either");
    assert_eq!(tokens, 5);

    let crashing = server_with(Overrides::default(), Faults { crash_after: Some(2), ..Faults::default() });
    let mut client = Client::new(&crashing);
    for _ in 0..2 {
        assert_eq!(client.post("/v1/completions", &completion(json!({}))).status, 200);
    }
    wait_for("it crashes", || TcpStream::connect(crashing.address()).is_err());
    assert_eq!(crashing.stop(), Some(ServeEnd::Crashed));
}

#[test]
fn a_port_in_use_is_a_clear_error() {
    let first = server();
    let mut config = SimConfig::new("quick", &Overrides::default()).expect("sound");
    config.port = first.address().port();
    let message = SimHandle::start(config).expect_err("taken").to_string();
    assert!(message.contains("cannot listen on 127.0.0.1:") && message.contains("--port"), "{message}");
}
