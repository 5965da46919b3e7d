//! The table: what a server does, and what must come of it. `docs/bench.md` shows it; a test compares.

use super::server::{Step, send};

/// One behaviour.
pub(crate) struct Row {
    /// What the server does, for people.
    pub(crate) name: String,
    /// The answer to one request.
    pub(crate) steps: Vec<Step>,
    /// DESIGN §4.4; several where the protocol leaves it to the client.
    pub(crate) outcomes: &'static [&'static str],
    pub(crate) status: Option<u16>,
    /// Content chunks that must be in the record.
    pub(crate) chunks: usize,
    /// What had arrived when it broke is a matter of timing: status and chunks are not compared.
    pub(crate) raced: bool,
    /// What the record's error must contain.
    pub(crate) words: &'static str,
    /// Body bytes received, framing not counted; `None`: not told.
    pub(crate) bytes: Option<usize>,
    /// Short limits: `request_timeout_s`, `stall_timeout_s`.
    pub(crate) limits: (f64, f64),
    /// In the documentation.
    pub(crate) shown: bool,
}

impl Row {
    fn words(self, words: &'static str) -> Self {
        Self { words, ..self }
    }

    fn chunks(self, chunks: usize) -> Self {
        Self { chunks, ..self }
    }

    fn bytes(self, bytes: usize) -> Self {
        Self { bytes: Some(bytes), ..self }
    }

    fn status(self, status: u16) -> Self {
        Self { status: Some(status), ..self }
    }

    fn limits(self, request: f64, stall: f64) -> Self {
        Self { limits: (request, stall), ..self }
    }

    fn raced(self) -> Self {
        Self { raced: true, ..self }
    }

    /// A variant of a row that the documentation need not tell apart.
    fn unshown(self) -> Self {
        Self { shown: false, ..self }
    }
}

fn row(name: impl Into<String>, outcomes: &'static [&'static str], steps: Vec<Step>) -> Row {
    Row {
        name: name.into(),
        steps,
        outcomes,
        status: None,
        chunks: 0,
        raced: false,
        words: "",
        bytes: None,
        limits: (60.0, 60.0),
        shown: true,
    }
}

pub(crate) const ROLE: &str =
    "data: {\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n";
pub(crate) const TOKEN: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\" a\"}}]}\n\n";
pub(crate) const FINISH: &str =
    "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"length\"}]}\n\n";
pub(crate) const USAGE: &str =
    "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":20,\"completion_tokens\":4}}\n\n";
pub(crate) const DONE: &str = "data: [DONE]\n\n";
const ERROR: &str = "data: {\"error\":{\"message\":\"boom\",\"type\":\"x\",\"code\":500}}\n\n";

/// The body of a good answer of two chunks.
pub(crate) fn good_body() -> String {
    [ROLE, TOKEN, TOKEN, FINISH, USAGE, DONE].concat()
}

/// A head with these lines below the status line; CRLF everywhere.
fn head(status: &str, lines: &[&str]) -> String {
    let lines: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
    format!("HTTP/1.1 {status}\r\n{lines}\r\n")
}

const SSE: &str = "content-type: text/event-stream";
const CHUNKED: &str = "transfer-encoding: chunked";

/// The head of a chunked event stream.
pub(crate) fn stream_head() -> String {
    head("200 OK", &[SSE, CHUNKED])
}

/// Each text as one HTTP chunk.
pub(crate) fn parts(texts: &[&str]) -> String {
    texts.iter().map(|text| format!("{:x}\r\n{text}\r\n", text.len())).collect()
}

pub(crate) const TAIL: &str = "0\r\n\r\n";

/// A whole stream of these events, chunked, in good order.
pub(crate) fn stream(texts: &[&str]) -> String {
    [stream_head(), parts(texts), TAIL.to_owned()].concat()
}

/// A good answer of two chunks.
pub(crate) fn good() -> Vec<Step> {
    vec![send(stream(&[ROLE, TOKEN, TOKEN, FINISH, USAGE, DONE]))]
}

/// An answer with a length.
fn whole(status: &str, kind: &str, body: &str) -> Vec<Step> {
    let kind = format!("content-type: {kind}");
    let length = format!("content-length: {}", body.len());
    vec![send(head(status, &[&kind, &length]) + body)]
}

/// A good body behind this head, closed by the connection's end.
fn closing(head: &str) -> Vec<Step> {
    vec![send(head.to_owned() + &good_body()), Step::Close]
}

/// Rows that the documentation leaves out: variants of their neighbours.
const VARIANTS: [&str; 17] = [
    "a status line without reason (`HTTP/1.1 503`)",
    "204, which has no body",
    "an error body that stalls",
    "text where JSON belongs",
    "bytes that are no UTF-8 in a `data` line",
    "data lines without end and no blank line",
    "the head stops in the middle",
    "reset before the head",
    "closed inside the head",
    "a status line without reason and without the blank",
    "header names in capitals, no space behind the colon",
    "blanks around header values",
    "`Connection: close`",
    "no `Content-Type`",
    "HTTP chunks of one byte",
    "an HTTP chunk size of more than 64 bits",
    "a `Content-Length` that is no number",
];

pub(crate) fn rows() -> Vec<Row> {
    let groups = [refusals(), bodies(), silence(), ends(), framing(), heads(), odd_but_good()];
    let marked = |row: Row| Row { shown: row.shown && !VARIANTS.contains(&row.name.as_str()), ..row };
    groups.into_iter().flatten().map(marked).collect()
}

/// Another status than 200.
fn refusals() -> Vec<Row> {
    let json = "application/json";
    let slow = "{\"error\":{\"message\":\"slow down\"}}";
    let length = format!("content-length: {}", slow.len());
    let mut rows = vec![
        row(
            "429 with `Retry-After` (never retried)",
            &["http_429"],
            vec![send(head("429 Too Many Requests", &["retry-after: 0", &length]) + slow)],
        )
        .words("slow down")
        .bytes(slow.len())
        .status(429),
        row(
            "a status line without reason (`HTTP/1.1 503`)",
            &["http_503"],
            vec![send("HTTP/1.1 503\r\ncontent-length: 0\r\n\r\n")],
        )
        .words("(empty body)")
        .status(503),
        row(
            "a status that only one server uses (`529 <none>`)",
            &["http_529"],
            whole("529 <none>", json, "{\"message\":\"overloaded\",\"code\":529}"),
        )
        .words("overloaded")
        .status(529),
        row("204, which has no body", &["http_204"], vec![send(head("204 No Content", &[]))])
            .words("(empty body)")
            .status(204),
        row(
            "an error body without end",
            &["http_500"],
            vec![
                send(head("500 x", &[CHUNKED])),
                Step::Repeat(parts(&[&"x".repeat(1 << 16)]).into_bytes(), 1 << 13),
            ],
        )
        .words("xxx")
        .status(500),
        row(
            "an error body that stalls",
            &["http_500"],
            vec![send(head("500 x", &["content-length: 100"]) + "boom"), Step::Hold],
        )
        .words("boom")
        .status(500)
        .bytes(4)
        .limits(60.0, 1.0),
    ];
    let bodies = [
        (
            "400 Bad Request",
            json,
            "{\"error\":{\"message\":\"boom\",\"type\":\"BadRequestError\",\"param\":null,\"code\":400}}",
            "boom",
        ),
        ("401 Unauthorized", json, "{\"error\":\"Unauthorized\"}", "Unauthorized"),
        (
            "404 Not Found",
            json,
            "{\"message\":\"Model not found\",\"type\":\"Not Found\",\"code\":404}",
            "Model not found",
        ),
        ("405 Method Not Allowed", json, "{\"detail\":\"Method Not Allowed\"}", "Method Not Allowed"),
        (
            "422 Unprocessable Entity",
            json,
            "{\"detail\":[{\"loc\":[\"body\"],\"msg\":\"field required\"}]}",
            "field required",
        ),
        ("500 Internal Server Error", "text/plain", "Internal Server Error", "Internal Server Error"),
        ("502 Bad Gateway", "text/html", "<html><title>502 Bad Gateway</title></html>", "502 Bad Gateway"),
        ("404 Not Found", "text/plain", "", "(empty body)"),
        ("503 Service Unavailable", json, "{\"error\":{\"mess", "{\"error\":{\"mess"),
    ];
    let codes: [&'static [&'static str]; 9] = [
        &["http_400"],
        &["http_401"],
        &["http_404"],
        &["http_405"],
        &["http_422"],
        &["http_500"],
        &["http_502"],
        &["http_404"],
        &["http_503"],
    ];
    for ((status, kind, body, words), outcome) in bodies.into_iter().zip(codes) {
        let code = status[..3].parse().unwrap();
        let name = "an error status; the body may be an object, a string, `detail`, text, HTML, nothing";
        rows.push(row(name, outcome, whole(status, kind, body)).words(words).bytes(body.len()).status(code));
    }
    for (status, outcome) in
        [("301 Moved Permanently", &["http_301"]), ("307 Temporary Redirect", &["http_307"])]
    {
        let lines = ["location: /v1/chat/completions", "content-length: 0"];
        rows.push(
            row("a redirect (not followed)", outcome, vec![send(head(status, &lines))])
                .words("(empty body)")
                .status(status[..3].parse().unwrap()),
        );
    }
    rows
}

/// Status 200 and a body that is no answer.
fn bodies() -> Vec<Row> {
    let gzip =
        b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\x4b\x49\x2c\x49\xb4\x52\xa8\xe6\x02\x00\x0a\x0a\x0a\x0a";
    let zipped =
        [head("200 OK", &[SSE, "content-encoding: gzip", "content-length: 24"]).as_bytes(), gzip.as_slice()]
            .concat();
    let long =
        format!("data: {{\"choices\":[{{\"delta\":{{\"content\":\"{}\"}}}}]}}\n\n", "x".repeat(4 << 20));
    let html = "<html>\n<h1>It works!</h1>\n</html>\n";
    vec![
        row("HTML with status 200", &["malformed"], whole("200 OK", "text/html", html))
            .words("no events")
            .bytes(html.len()),
        row("an empty 200", &["empty"], whole("200 OK", "text/event-stream", "")).bytes(0),
        row("an empty 200, chunked", &["empty"], vec![send(stream(&[]))]).bytes(0).unshown(),
        row("an empty 200, JSON", &["empty"], whole("200 OK", "application/json", "")).bytes(0).unshown(),
        row("a stream of comments only", &["empty"], vec![send(stream(&[":\n\n", ": keep-alive\n\n"]))]),
        row("a stream without content", &["empty"], vec![send(stream(&[ROLE, FINISH, USAGE, DONE]))])
            .words("no content"),
        row(
            "malformed JSON in a `data` line",
            &["malformed"],
            vec![send(stream(&[TOKEN, "data: {\"choices\":\n\n", TOKEN]))],
        )
        .chunks(1)
        .words("event 2"),
        row("text where JSON belongs", &["malformed"], vec![send(stream(&["data: hello\n\n"]))])
            .words("event 1"),
        row(
            "bytes that are no UTF-8 in a `data` line",
            &["malformed"],
            vec![send(
                [
                    stream_head().as_bytes(),
                    b"2c\r\ndata: {\"choices\":[{\"text\":\"\xff\xfe bad utf8\"}]}\n\n\r\n0\r\n\r\n",
                ]
                .concat(),
            )],
        )
        .words("event 1"),
        row("an event of 4 MiB", &["ok"], vec![send(stream(&[TOKEN, &long, FINISH, DONE]))])
            .chunks(2)
            .bytes(TOKEN.len() + long.len() + FINISH.len() + DONE.len()),
        row(
            "a line without end",
            &["malformed"],
            vec![
                send(stream_head() + &parts(&["data: "])),
                Step::Repeat(parts(&[&"x".repeat(1 << 16)]).into_bytes(), 1 << 13),
            ],
        )
        .words("longer than 16777216 bytes"),
        row(
            "data lines without end and no blank line",
            &["malformed"],
            vec![
                send(stream_head()),
                Step::Repeat(parts(&[&"data: x\n".repeat(1 << 13)]).into_bytes(), 1 << 13),
            ],
        )
        .words("longer than 16777216 bytes"),
        row("an error object inside a stream", &["server_error"], vec![send(stream(&[TOKEN, ERROR, DONE]))])
            .chunks(1)
            .words("boom"),
        row("an error object as the whole stream", &["server_error"], vec![send(stream(&[ERROR, DONE]))])
            .words("boom")
            .unshown(),
        row(
            "`event: error`",
            &["server_error"],
            vec![send(stream(&[TOKEN, "event: error\ndata: {\"detail\":\"boom\"}\n\n"]))],
        )
        .chunks(1)
        .words("boom"),
        row(
            "an error object as a JSON body with status 200",
            &["server_error"],
            whole("200 OK", "application/json", "{\"error\":\"boom\"}"),
        )
        .words("boom"),
        row(
            "`finish_reason` `abort` or `error`",
            &["server_error"],
            vec![send(stream(&[
                TOKEN,
                "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"abort\"}]}\n\n",
                DONE,
            ]))],
        )
        .chunks(1)
        .words("abort"),
        row("a compressed answer, which was not asked for", &["malformed"], vec![send(zipped)]).bytes(24),
    ]
    .into_iter()
    .map(|row| row.status(200))
    .collect()
}

/// Nothing comes, or nothing more.
fn silence() -> Vec<Row> {
    vec![
        row("the head never comes", &["timeout"], vec![Step::Hold]).limits(1.5, 60.0).bytes(0),
        row(
            "the head stops in the middle",
            &["timeout"],
            vec![send("HTTP/1.1 200 OK\r\ncontent-ty"), Step::Hold],
        )
        .limits(1.5, 60.0)
        .bytes(0),
        row(
            "a head, and no body (the wait for the first byte belongs to the TTFT)",
            &["timeout"],
            vec![send(stream_head()), Step::Hold],
        )
        .status(200)
        .limits(1.5, 0.3)
        .bytes(0),
        row("the body stalls", &["stalled"], vec![send(stream_head() + &parts(&[TOKEN])), Step::Hold])
            .status(200)
            .chunks(1)
            .words("no byte for 1.0 s")
            .limits(60.0, 1.0)
            .bytes(TOKEN.len()),
        row(
            "the body stalls inside an HTTP chunk",
            &["stalled"],
            vec![send(stream_head() + "fff\r\n" + TOKEN + "data: {"), Step::Hold],
        )
        .status(200)
        .chunks(1)
        .limits(60.0, 1.0)
        .bytes(TOKEN.len() + 7)
        .unshown(),
        row(
            "tokens for longer than the request's time limit",
            &["timeout"],
            vec![send(stream_head()), Step::Repeat(parts(&[TOKEN]).into_bytes(), usize::MAX)],
        )
        .raced()
        .limits(1.5, 60.0),
        row(
            "everything came, and the body never ends",
            &["ok"],
            vec![send(stream_head() + &parts(&[&good_body()])), Step::Hold],
        )
        .status(200)
        .chunks(2)
        .bytes(good_body().len()),
    ]
}

/// The connection ends too early.
fn ends() -> Vec<Row> {
    let two = parts(&[TOKEN, TOKEN]);
    let cut = &["disconnected"];
    let ok: &[&str] = &["ok"];
    let long = format!("content-length: {}", good_body().len() + 100);
    vec![
        row("closed before the head", cut, vec![Step::Close]).bytes(0),
        row("reset before the head", cut, vec![Step::Reset]).bytes(0),
        row("closed inside the head", cut, vec![send("HTTP/1.1 200 OK\r\ncontent-ty"), Step::Close]).bytes(0),
        row("reset inside the head", cut, vec![send("HTTP/1.1 200 OK\r\ncontent-ty"), Step::Reset])
            .bytes(0)
            .unshown(),
        row("closed mid-stream", cut, vec![send(stream_head() + &two), Step::Close]).status(200).chunks(2),
        row("reset mid-stream", cut, vec![send(stream_head() + &two), Step::Reset]).raced(),
        row(
            "closed inside an HTTP chunk",
            cut,
            vec![send(stream_head() + &two + "ff\r\ndata: {"), Step::Close],
        )
        .status(200)
        .chunks(2),
        row("closed inside an HTTP chunk size", cut, vec![send(stream_head() + &two + "f"), Step::Close])
            .status(200)
            .chunks(2)
            .unshown(),
        row(
            "closed behind `finish_reason`, before the last HTTP chunk",
            cut,
            vec![send(stream_head() + &parts(&[TOKEN, FINISH])), Step::Close],
        )
        .status(200)
        .chunks(1),
        row(
            "closed behind `[DONE]`, before the last HTTP chunk",
            ok,
            vec![send(stream_head() + &parts(&[TOKEN, FINISH, DONE])), Step::Close],
        )
        .status(200)
        .chunks(1),
        row(
            "ended in good order without `finish_reason` and `[DONE]`",
            cut,
            vec![send(stream(&[TOKEN, TOKEN]))],
        )
        .status(200)
        .chunks(2)
        .words("finish_reason"),
        row("ended in good order without `[DONE]`", ok, vec![send(stream(&[TOKEN, FINISH]))])
            .status(200)
            .chunks(1),
        row(
            "fewer bytes than `Content-Length`",
            cut,
            vec![send(head("200 OK", &[SSE, "content-length: 5000"]) + TOKEN), Step::Close],
        )
        .status(200)
        .chunks(1)
        .bytes(TOKEN.len()),
        row(
            "fewer bytes than `Content-Length`, `[DONE]` among them",
            ok,
            vec![send(head("200 OK", &[SSE, &long]) + &good_body()), Step::Close],
        )
        .status(200)
        .chunks(2)
        .unshown(),
    ]
}

/// Bytes that are no HTTP.
fn framing() -> Vec<Row> {
    let bad = &["malformed"];
    let filler = "x-filler: 0123456789abcdef0123456789abcdef0123456789abcdef\r\n".repeat(1 << 10);
    let broken = |rest: &str| vec![send(stream_head() + &parts(&[TOKEN]) + rest), Step::Hold];
    vec![
        row("another protocol", bad, vec![send("SSH-2.0-OpenSSH_9.2\r\n\r\n"), Step::Close]).bytes(0),
        row("TLS on the plain port", bad, vec![send(b"\x15\x03\x01\x00\x02\x02\x46"), Step::Close]).bytes(0),
        row(
            "a head without end",
            bad,
            vec![send("HTTP/1.1 200 OK\r\n"), Step::Repeat(filler.into_bytes(), 1 << 10)],
        )
        .bytes(0),
        row(
            "a header line without end",
            bad,
            vec![send("HTTP/1.1 200 OK\r\nx: "), Step::Repeat(vec![b'x'; 1 << 16], 1 << 10)],
        )
        .bytes(0)
        .unshown(),
        row("a bad HTTP chunk size", bad, broken("zz\r\n")).status(200).chunks(1),
        row("an HTTP chunk size of more than 64 bits", bad, broken("fffffffffffffffff\r\n"))
            .status(200)
            .chunks(1),
        row("an HTTP chunk longer than its size", bad, broken("3\r\nabcdef\r\n")).status(200).chunks(1),
        row(
            "HTTP chunk extensions without end",
            bad,
            vec![send(stream_head() + &parts(&[TOKEN]) + "5;"), Step::Repeat(vec![b'x'; 1 << 16], 1 << 10)],
        )
        .status(200)
        .chunks(1),
        row(
            "trailers without end",
            &["malformed"],
            vec![
                send(stream_head() + &parts(&[TOKEN]) + "0\r\n"),
                Step::Repeat(b"x: y\r\n".repeat(1 << 10), 1 << 14),
            ],
        )
        .status(200)
        .chunks(1),
        row(
            "a `Content-Length` that is no number",
            bad,
            vec![send(head("200 OK", &[SSE, "content-length: many"]) + TOKEN), Step::Close],
        )
        .bytes(0),
        row(
            "two `Content-Length`s that differ",
            bad,
            vec![
                send(head("200 OK", &[SSE, "content-length: 3", "content-length: 4"]) + "abcd"),
                Step::Close,
            ],
        )
        .bytes(0),
    ]
}

/// Heads that are unusual.
fn heads() -> Vec<Row> {
    let ok: &[&str] = &["ok"];
    let body = good_body();
    let length = format!("CONTENT-LENGTH:{}", body.len());
    let plain = |lines: &[&str]| vec![send(head("200 OK", lines) + &body)];
    let interim = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n";
    let mut rows = vec![
        row("`100` and `103` before the answer", ok, vec![send(interim), send(stream(&[&body]))]),
        row(
            "HTTP/1.0, the body ended by the connection's end",
            ok,
            closing("HTTP/1.0 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"),
        ),
        row(
            "HTTP/1.1 without length or chunks, ended by the connection's end",
            ok,
            closing(&head("200 OK", &[SSE])),
        ),
        row("`Connection: close`", ok, closing(&head("200 OK", &[SSE, "connection: close"]))),
        row(
            "header names in capitals, no space behind the colon",
            ok,
            plain(&["CONTENT-TYPE:text/event-stream", &length]),
        ),
        row(
            "blanks around header values",
            ok,
            plain(&["content-type: \t text/event-stream \t", &format!("content-length:   {}  ", body.len())]),
        ),
        row(
            "a status line without reason and without the blank",
            ok,
            vec![send(format!("HTTP/1.1 200\r\n{SSE}\r\n{CHUNKED}\r\n\r\n{}{TAIL}", parts(&[&body])))],
        ),
        row(
            "`Transfer-Encoding: Chunked` beside a `Content-Length`",
            ok,
            vec![
                send(
                    head("200 OK", &[SSE, "content-length: 3", "transfer-encoding: Chunked"])
                        + &parts(&[&body])
                        + TAIL,
                ),
                Step::Close,
            ],
        ),
        row("no `Content-Type`", ok, plain(&[&length])),
        row("hundred headers", ok, plain(&[vec!["x-filler: x"; 97], vec![SSE, &length]].concat())).unshown(),
    ];
    for row in &mut rows {
        (row.chunks, row.bytes, row.status) = (2, Some(body.len()), Some(200));
    }
    rows.push(row(
        "a folded header line (obsolete)",
        &["ok", "malformed"],
        vec![
            send(head("200 OK", &[SSE, "connection: close", "x-folded: a", " b", &length]) + &body),
            Step::Close,
        ],
    ));
    rows
}

/// Strange, and allowed.
fn odd_but_good() -> Vec<Row> {
    let body = good_body();
    let whole_answer = stream(&[&body]);
    let stray = "HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    let extended = format!(
        "{:x};ext=\"1\" ; b\r\n{body}\r\n00;last\r\nx-trailer: 1\r\nserver-timing: a\r\n\r\n",
        body.len()
    );
    let crlf = body.replace('\n', "\r\n");
    let bytewise: String = body.chars().map(|letter| format!("1\r\n{letter}\r\n")).collect();
    let ok: &[&str] = &["ok"];
    let mut rows = vec![
        row("bytes that come one at a time", ok, vec![Step::Drip(whole_answer.clone().into_bytes())]),
        row("HTTP chunks of one byte", ok, vec![send(stream_head() + &bytewise + TAIL)]),
        row("HTTP chunk extensions and trailers", ok, vec![send(stream_head() + &extended)]),
        row(
            "two answers in one segment (the second is nobody's)",
            ok,
            vec![send([whole_answer.as_str(), &stream(&[ERROR])].concat())],
        ),
        row(
            "an answer and the 408 of an idle connection in one segment",
            ok,
            vec![send([whole_answer.as_str(), stray].concat()), Step::Close],
        )
        .unshown(),
        row(
            "a byte order mark, comments, `id`, `retry` and unknown fields",
            ok,
            vec![send(stream(&["\u{feff}: hello\nid: 1\nretry: 5\nfoo: bar\n\n", &body]))],
        )
        .unshown(),
    ];
    for row in &mut rows {
        (row.chunks, row.bytes, row.status) = (2, Some(body.len()), Some(200));
    }
    if let Some(last) = rows.last_mut() {
        last.bytes = None;
    }
    let lines = row("CRLF lines in the stream", ok, vec![send(stream(&[&crlf]))])
        .chunks(2)
        .bytes(crlf.len())
        .status(200);
    rows.push(lines);
    rows
}
