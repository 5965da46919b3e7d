//! Shortens the error of an inference server, of whatever shape, to one line.
//!
//! Pure. Shapes seen in real servers: `{"error":{"message":…}}` (vLLM, Dynamo in a stream), `{"error":"…"}` (vLLM, bad key),
//! `{"message":…,"type":…,"code":…}` (Dynamo), `{"detail":"…"}` and `{"detail":[{"msg":…}]}` (FastAPI), plain text, HTML, nothing.

use serde_json::Value;

/// Longest message kept, characters.
const MAX_CHARS: usize = 300;

/// Keys under which servers say what is wrong, the most telling first. `choices` may hold an error of their own.
const KEYS: [&str; 15] = [
    "error",
    "errors",
    "message",
    "detail",
    "msg",
    "error_msg",
    "error_message",
    "errorMessage",
    "error_description",
    "fault",
    "faultstring",
    "exception",
    "reason",
    "title",
    "choices",
];

/// Bytes of a body that are parsed: a parsed JSON tree can be some thirty times as large as its text.
const MAX_BYTES: usize = 64 << 10;

/// The server's own words, shortened; `(empty body)` when it sent none.
pub fn message(body: &[u8]) -> String {
    let body = body.get(..MAX_BYTES).unwrap_or(body);
    let text = String::from_utf8_lossy(body);
    if text.trim().is_empty() {
        return "(empty body)".to_owned();
    }
    // RFC 1952: an encoding that nobody asked for.
    if body.starts_with(&[0x1f, 0x8b]) {
        return "(a body packed with gzip, which was not asked for)".to_owned();
    }
    match serde_json::from_slice::<Value>(body) {
        Ok(value) => shorten(&words(&value).unwrap_or_else(|| text.into_owned())),
        Err(_) if text.trim_start().starts_with('<') => shorten(&of_page(&text)),
        Err(_) => shorten(&text),
    }
}

/// The beginning of bytes that may be anything, as [`shorten`] gives it.
pub fn excerpt(bytes: &[u8]) -> String {
    shorten(&String::from_utf8_lossy(bytes.get(..MAX_BYTES).unwrap_or(bytes)))
}

/// One line of at most 300 characters: runs of white space become one space, the rest is cut with `…`. Control characters,
/// and those that turn or hide text, become U+FFFD: what a server sends must not steer a terminal.
pub fn shorten(text: &str) -> String {
    let mut line = String::new();
    for (count, part) in text.split_whitespace().enumerate() {
        if count > 0 {
            line.push(' ');
        }
        line.extend(part.chars().map(|letter| if is_visible(letter) { letter } else { '\u{fffd}' }));
        if line.len() > 4 * MAX_CHARS {
            break;
        }
    }
    if line.chars().count() > MAX_CHARS {
        line = line.chars().take(MAX_CHARS - 1).collect();
        line.push('…');
    }
    line
}

/// Neither a control character nor one without width: directions, joiners, tags.
fn is_visible(letter: char) -> bool {
    !letter.is_control()
        && !matches!(letter, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
        && !matches!(letter, '\u{e0000}'..='\u{e007f}')
}

fn words(value: &Value) -> Option<String> {
    match value {
        Value::String(text) if !text.trim().is_empty() => Some(text.clone()),
        Value::Array(items) => items.first().and_then(words),
        Value::Object(fields) => KEYS.iter().find_map(|key| fields.get(*key).and_then(words)),
        _ => None,
    }
}

/// The title of an HTML page, because proxies answer with pages; without one its text, without text the page as it is.
fn of_page(page: &str) -> String {
    let lower = page.to_ascii_lowercase();
    let title = || {
        let start = lower.find("<title>")? + "<title>".len();
        let end = lower.get(start..)?.find("</title>")?;
        page.get(start..start + end).filter(|title| !title.trim().is_empty())
    };
    title().map_or_else(|| visible_text(page), str::to_owned)
}

/// The page without its tags.
fn visible_text(page: &str) -> String {
    let parts = page.split('<').map(|part| part.split_once('>').map_or("", |(_, text)| text));
    let text = parts.collect::<Vec<_>>().join(" ");
    if text.trim().is_empty() { page.to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shape_gives_its_message() {
        for (body, expected) in [
            (
                r#"{"error":{"message":"The model `x` does not exist.","type":"NotFoundError","code":404}}"#,
                "The model `x` does not exist.",
            ),
            (r#"{"error":"Unauthorized"}"#, "Unauthorized"),
            (r#"{"message":"Model not found","type":"Not Found","code":404}"#, "Model not found"),
            (r#"{"detail":"Not Found"}"#, "Not Found"),
            (r#"{"detail":[{"loc":["body"],"msg":"field required"}]}"#, "field required"),
            (r#"{"choices":[{"index":0,"error":{"message":"boom"}}]}"#, "boom"),
            (r#"{"fault":{"faultstring":"quota"}}"#, "quota"),
            (r#"{"statusCode":500,"reason":"no worker"}"#, "no worker"),
            (r#"{"title":"Internal error","status":500}"#, "Internal error"),
            (r#"{"error":{"code":500}}"#, r#"{"error":{"code":500}}"#),
            ("Internal Server Error\n", "Internal Server Error"),
            ("<html><head><title>502 Bad Gateway</title></head></html>", "502 Bad Gateway"),
            ("null", "null"),
            (r#"{"error":{"message":" "},"detail":"no"}"#, "no"),
            ("<title> </title>x", "x"),
            ("<HTML><TITLE>502 Bad Gateway</TITLE>", "502 Bad Gateway"),
            ("<!DOCTYPE html><H1>Unavailable</H1><p>no upstream</p>", "Unavailable no upstream"),
            ("<html/>", "<html/>"),
            (r#"{"object":"error","message":"too long","code":400}"#, "too long"),
            ("a\u{202e}b\u{200b}c\u{9b}", "a\u{fffd}b\u{fffd}c\u{fffd}"),
            ("a\u{1b}[31mred\u{7}", "a\u{fffd}[31mred\u{fffd}"),
            ("", "(empty body)"),
            (" \n", "(empty body)"),
        ] {
            assert_eq!(message(body.as_bytes()), expected, "{body}");
        }
        assert_eq!(message(b"\xff\xfe"), "\u{fffd}\u{fffd}");
        assert_eq!(message(b"\x1f\x8b\x08\0"), "(a body packed with gzip, which was not asked for)");
    }

    #[test]
    fn long_ones_are_cut() {
        let line = message("é".repeat(100_000).as_bytes());
        assert_eq!(line.chars().count(), MAX_CHARS);
        assert!(line.ends_with('…'));
        assert_eq!(shorten("a \n\t b"), "a b");
        // A cut object is no JSON any more; its beginning still names the error.
        let echo = format!(r#"{{"detail":"bad prompt {}"}}"#, "x".repeat(MAX_BYTES));
        assert!(message(echo.as_bytes()).starts_with(r#"{"detail":"bad prompt x"#));
    }
}
