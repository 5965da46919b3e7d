//! From the title of a CSV row to the tag that the JSON of the same run uses.

/// Titles whose tag is not the title in small letters.
const IRREGULAR: [(&str, &str); 11] = [
    ("Completed Requests (Success + Error)", "completed_request_count"),
    ("Effective Latency (CO-aware)", "effective_latency"),
    ("GoodRequestFraction", "good_request_fraction"),
    ("OSL Mismatch Diff %", "osl_mismatch_diff_pct"),
    ("Overall Usage Prompt Cache Read %", "overall_usage_prompt_cache_read_pct"),
    ("Total Input Sequence Length", "total_isl"),
    ("Total Output Sequence Length", "total_osl"),
    ("Usage Completion Diff %", "usage_completion_tokens_diff_pct"),
    ("Usage Prompt Diff %", "usage_prompt_tokens_diff_pct"),
    ("Error Input Sequence Length", "error_isl"),
    ("Total Error Input Sequence Length", "total_error_isl"),
];

/// AIPerf's title of a metric that counts failures as infinitely late ends in this; its tag starts with `adj_`.
const ADJUSTED: &str = " (error-adjusted)";

/// The tag and the unit of a title such as `Time to First Token (ms)`; the unit is empty when there is none.
pub(super) fn tag_and_unit(title: &str) -> (String, String) {
    let title = title.trim();
    if let Some(tag) = irregular(title) {
        return (tag.to_owned(), String::new());
    }
    let split = title.strip_suffix(')').and_then(|inner| inner.rsplit_once(" ("));
    let (name, unit) = split.unwrap_or((title, ""));
    // genai-perf's CSV says `per sec` where its JSON says `requests/sec`.
    let unit = if unit == "per sec" { "requests/sec" } else { unit };
    let tag = match name.strip_suffix(ADJUSTED) {
        Some(name) => format!("adj_{}", tag(name)),
        None => tag(name),
    };
    (tag, unit.to_owned())
}

fn irregular(name: &str) -> Option<&'static str> {
    IRREGULAR.iter().find(|(title, _)| *title == name).map(|(_, tag)| *tag)
}

fn tag(name: &str) -> String {
    if let Some(tag) = irregular(name) {
        return tag.to_owned();
    }
    let words: String = name
        .chars()
        .map(|c| if c.is_whitespace() || c == '-' { '_' } else { c.to_ascii_lowercase() })
        .collect();
    match words.strip_prefix("http_") {
        Some(rest) => format!("http_req_{rest}"),
        None => words,
    }
}
