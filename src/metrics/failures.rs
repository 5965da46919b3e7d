//! The ways in which requests failed: each once, with its count and the server's own words.
//!
//! Servers put request ids, times and token counts into their errors. Once one outcome has several messages, those that differ
//! only in such words count as one, so that memory and pages stay small however many requests fail.

use super::record::{Outcome, Phase, RequestRecord};
use serde::{Deserialize, Serialize};
use std::cmp::Reverse;
use std::fmt;

/// Messages of one outcome that are kept apart word by word; more than these differ in ids or figures.
const MOST_EXACT: usize = 8;
/// Ways that are kept at all; beyond them only the outcome is counted.
const MOST: usize = 64;
/// Characters of a message that are shown to people: two lines of a terminal.
const SHOWN_CHARS: usize = 150;

/// One way in which requests failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Failure {
    /// Requests that failed so.
    pub count: u64,
    /// How they ended: `http_503`, `timeout` …
    #[schemars(with = "String")]
    pub outcome: Outcome,
    /// HTTP status; `null` when no answer began.
    pub status: Option<u16>,
    /// What the server said, else what the client saw, of the first of them: one line, shortened. `null` when other messages
    /// of this outcome are counted together.
    pub message: Option<String>,
    /// Messages that differ from it in ids or figures are counted here, too.
    #[serde(default)]
    pub alike: bool,
    /// `measure`, or the part of the load point that enters no figure: `warmup`, `cool_down`.
    #[schemars(with = "String")]
    pub phase: Phase,
    /// When the first of them ended, µs since instant 0 of the records.
    pub first_us: u64,
}

impl Failure {
    fn of(record: &RequestRecord) -> Option<Self> {
        let RequestRecord { outcome, status, phase, end_us, .. } = *record;
        (!matches!(outcome, Outcome::Ok | Outcome::Cancelled)).then(|| Self {
            count: 1,
            outcome,
            status,
            message: record.error.clone(),
            alike: false,
            phase,
            first_us: end_us,
        })
    }

    fn words(&self) -> &str {
        self.message.as_deref().unwrap_or_default()
    }

    fn is_of(&self, other: &Self) -> bool {
        self.outcome == other.outcome && self.phase == other.phase
    }

    /// Whether these are requests that failed in the same way: with the same message, or, when several messages count as one way,
    /// with one that differs only in words with a digit.
    pub fn is_same(&self, other: &Self, is_folded: bool) -> bool {
        let alike = || without_figures(self.words()).eq(without_figures(other.words()));
        self.is_of(other) && (self.message == other.message || is_folded && alike())
    }

    /// Takes the requests of another way into this one.
    pub fn join(&mut self, other: &Self) {
        self.count += other.count;
        self.first_us = self.first_us.min(other.first_us);
        self.alike |= other.alike || self.message != other.message;
    }
}

/// `HTTP 503: no worker`, `server_error after HTTP 200: out of memory`, `connect: connection refused`.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.outcome, self.status) {
            (Outcome::Http(status), _) => write!(f, "HTTP {status}")?,
            (outcome, Some(status)) => write!(f, "{outcome} after HTTP {status}")?,
            (outcome, None) => write!(f, "{outcome}")?,
        }
        match self.phase {
            Phase::Measure => {}
            Phase::Warmup => f.write_str(" in the warm-up")?,
            Phase::CoolDown => f.write_str(" in the cool-down")?,
        }
        let Some(message) = &self.message else { return Ok(()) };
        match message.char_indices().nth(SHOWN_CHARS) {
            Some((end, _)) => write!(f, ": {}…", message.get(..end).unwrap_or_default())?,
            None => write!(f, ": {message}")?,
        }
        f.write_str(if self.alike { " (and alike)" } else { "" })
    }
}

/// Counts failures by their way, record by record.
#[derive(Debug, Clone, Default)]
pub struct FailureTally {
    /// In order of first appearance.
    ways: Vec<Failure>,
    /// Outcomes with so many messages that those which differ in figures count as one.
    folded: Vec<(Phase, Outcome)>,
}

impl FailureTally {
    /// Counts a record that failed; returns it when no record before failed so.
    pub fn add(&mut self, record: &RequestRecord) -> Option<Failure> {
        let mut failure = Failure::of(record)?;
        let key = (failure.phase, failure.outcome);
        let ways = self.ways.iter().filter(|way| way.is_of(&failure));
        let is_new = ways.clone().all(|way| way.message != failure.message);
        if is_new && ways.count() >= MOST_EXACT && !self.folded.contains(&key) {
            self.folded.push(key);
            self.fold(key);
        }
        let is_folded = self.folded.contains(&key);
        if self.count(&failure, is_folded) {
            return None;
        }
        if self.ways.len() >= MOST {
            failure.message = None;
            if self.count(&failure, false) {
                return None;
            }
        }
        self.ways.push(failure.clone());
        Some(failure)
    }

    /// Counts a failure with the first way that is like it; `false` when there is none.
    fn count(&mut self, failure: &Failure, is_folded: bool) -> bool {
        let way = self.ways.iter_mut().find(|way| way.is_same(failure, is_folded));
        way.map(|way| way.join(failure)).is_some()
    }

    /// Joins the ways of an outcome that differ only in figures.
    fn fold(&mut self, (phase, outcome): (Phase, Outcome)) {
        for way in std::mem::take(&mut self.ways) {
            let is_meant = (way.phase, way.outcome) == (phase, outcome);
            if !is_meant || !self.count(&way, true) {
                self.ways.push(way);
            }
        }
    }

    /// The failures of the measured requests, else, when none of these failed, of the others; the most frequent first, of
    /// equally frequent ones the earliest.
    pub fn ranked(&self) -> Vec<Failure> {
        let mut ways = self.ways.clone();
        if ways.iter().any(|way| way.phase == Phase::Measure) {
            ways.retain(|way| way.phase == Phase::Measure);
        }
        ways.sort_by_key(|way| (Reverse(way.count), way.first_us));
        ways
    }
}

/// The words of a text, those with a digit as `#`.
pub fn without_figures(text: &str) -> impl Iterator<Item = &str> {
    text.split_whitespace()
        .map(|word| if word.bytes().any(|byte| byte.is_ascii_digit()) { "#" } else { word })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::fixtures::{failed, record};

    fn with(outcome: Outcome, error: &str, end_us: u64) -> RequestRecord {
        let status = if let Outcome::Http(status) = outcome { Some(status) } else { None };
        RequestRecord { error: Some(error.into()), status, end_us, ..failed(0, 0, outcome) }
    }

    fn tally(records: impl IntoIterator<Item = RequestRecord>) -> (FailureTally, usize) {
        let mut tally = FailureTally::default();
        let new = records.into_iter().filter_map(|record| tally.add(&record)).count();
        (tally, new)
    }

    fn words(tally: &FailureTally) -> Vec<String> {
        tally.ranked().iter().map(|way| format!("{} × {way}", way.count)).collect()
    }

    #[test]
    fn ways_are_ranked_by_count_and_then_by_time() {
        let (tally, new) = tally([
            record(0, 0),
            with(Outcome::Timeout, "no answer in 5 s", 40),
            with(Outcome::Http(404), "The model `x` does not exist.", 30),
            with(Outcome::Connect, "connection refused", 20),
            with(Outcome::Http(404), "The model `x` does not exist.", 50),
            with(Outcome::Http(404), "no such path", 60),
            RequestRecord { outcome: Outcome::Cancelled, ..record(9, 0) },
        ]);
        let expected = [
            "2 × HTTP 404: The model `x` does not exist.",
            "1 × connect: connection refused",
            "1 × timeout: no answer in 5 s",
            "1 × HTTP 404: no such path",
        ];
        assert_eq!((words(&tally), new), (expected.map(str::to_owned).to_vec(), 4));
        assert_eq!(tally.ranked()[0].first_us, 30);
    }

    #[test]
    fn an_error_inside_an_answer_has_its_status() {
        let inside = RequestRecord { status: Some(200), ..with(Outcome::ServerError, "out of memory", 1) };
        assert_eq!(words(&tally([inside]).0), ["1 × server_error after HTTP 200: out of memory"]);
        let silent = RequestRecord { error: None, status: Some(200), ..failed(0, 0, Outcome::Empty) };
        assert_eq!(words(&tally([silent]).0), ["1 × empty after HTTP 200"]);
    }

    #[test]
    fn messages_that_each_name_their_request_are_one_way() {
        let each = |id: u64| with(Outcome::Http(500), &format!("request cmpl-{id:x}0 failed"), id);
        let (tally, new) = tally((0..5_000).map(each));
        assert_eq!(
            (words(&tally), new),
            (vec!["5000 × HTTP 500: request cmpl-00 failed (and alike)".into()], MOST_EXACT)
        );
        assert_eq!(tally.ranked()[0].first_us, 0);
    }

    #[test]
    fn a_few_messages_that_differ_in_a_figure_stay_apart() {
        let each = |id: u64| with(Outcome::Http(500), &format!("worker {} is down", id % 3), id);
        let expected = ["4 × HTTP 500: worker 0", "3 × HTTP 500: worker 1", "3 × HTTP 500: worker 2"];
        assert_eq!(words(&tally((0..10).map(each)).0), expected.map(|way| format!("{way} is down")));
    }

    #[test]
    fn messages_without_end_do_not_pile_up() {
        let name = |id: u64| format!("{id}").bytes().map(|digit| char::from(digit + 49)).collect::<String>();
        let each = |id| with(Outcome::Http(400), &format!("echo {}", name(id)), id);
        let (tally, new) = tally((0..1_000).map(each));
        assert_eq!((tally.ways.len(), new), (MOST + 1, MOST + 1));
        assert_eq!(words(&tally)[0], "936 × HTTP 400");
    }

    #[test]
    fn a_warm_up_is_told_when_nothing_measured_failed() {
        let warmup =
            |id| RequestRecord { phase: Phase::Warmup, ..with(Outcome::Http(401), "Invalid API key", id) };
        let (mut tally, _) = tally([warmup(0), warmup(1)]);
        assert_eq!(words(&tally), ["2 × HTTP 401 in the warm-up: Invalid API key"]);
        tally.add(&with(Outcome::Timeout, "why", 9));
        assert_eq!(words(&tally), ["1 × timeout: why"]);
    }

    #[test]
    fn a_long_message_is_cut_for_people_and_whole_in_the_file() {
        let (tally, _) = tally([with(Outcome::Http(400), &"é".repeat(300), 0)]);
        assert_eq!(words(&tally)[0].chars().count(), "1 × HTTP 400: …".chars().count() + SHOWN_CHARS);
        let json = serde_json::to_value(tally.ranked()).expect("json");
        assert_eq!(json[0]["message"].as_str().map(|text| text.chars().count()), Some(300));
        assert_eq!((&json[0]["outcome"], &json[0]["phase"]), (&"http_400".into(), &"measure".into()));
        let again: Vec<Failure> = serde_json::from_value(json).expect("parse");
        assert_eq!(again, tally.ranked());
    }
}
