//! What stands before every table when requests failed: how many, and the most frequent ways, in the words of the servers.

use std::cmp::Reverse;

use super::PointResult;
use crate::metrics::failures::Failure;
use crate::metrics::{Outcome, Phase, Summary};

/// Ways that a page lists; `summary.json` has all of them.
const MOST_SHOWN: usize = 5;

/// The failed requests of some load points, for one page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failures {
    /// `32 of 40 requests failed`
    pub head: String,
    /// `30 × HTTP 503: no worker`, the most frequent first.
    pub ways: Vec<String>,
}

/// One way in which requests failed, and at which load points.
struct Way<'a> {
    failure: Failure,
    at: Vec<&'a str>,
}

impl Way<'_> {
    /// Its line on a page about `points` load points.
    fn line(&self, points: usize) -> String {
        let place = match self.at.as_slice() {
            all if all.len() == points => String::new(),
            [one] => format!(" (at {one})"),
            some => format!(" (at {} of {points} load points)", some.len()),
        };
        format!("{} × {}{place}", self.failure.count, self.failure)
    }
}

impl Failures {
    /// Those of the rows of a table; `None` when no request failed.
    pub fn of_rows(rows: &[PointResult]) -> Option<Self> {
        let points: Vec<(String, &Summary)> =
            rows.iter().map(|row| (row.point.clone(), &row.summary)).collect();
        Self::of(&points)
    }

    /// Those of load points, each with the name that the page has for it.
    pub fn of(points: &[(String, &Summary)]) -> Option<Self> {
        let mut found: Vec<Way<'_>> = Vec::new();
        for (name, failure) in points.iter().flat_map(|(name, of)| ways(of).map(move |way| (name, way))) {
            let is_folded = |way: &Way<'_>| way.failure.alike || failure.alike;
            match found.iter_mut().find(|way| way.failure.is_same(&failure, is_folded(way))) {
                Some(way) => {
                    way.failure.join(&failure);
                    way.at.extend((!way.at.contains(&name.as_str())).then_some(name.as_str()));
                }
                None => found.push(Way { failure, at: vec![name] }),
            }
        }
        found.sort_by_key(|way| Reverse(way.failure.count));
        let mut ways: Vec<String> = found.iter().take(MOST_SHOWN).map(|way| way.line(points.len())).collect();
        let others: Vec<u64> = found.iter().skip(MOST_SHOWN).map(|way| way.failure.count).collect();
        let rest = format!(
            "{} in {} other ways (requests.errors in summary.json)",
            others.iter().sum::<u64>(),
            others.len()
        );
        ways.extend((!others.is_empty()).then_some(rest));
        let sum = |of: fn(&Summary) -> u64| points.iter().map(|(_, summary)| of(summary)).sum::<u64>();
        let head = match (sum(|s| s.requests.failed), sum(|s| s.requests.total)) {
            (0, _) => "requests failed that enter no figure".to_owned(),
            (failed, total) => format!("{failed} of {total} requests failed"),
        };
        (!ways.is_empty()).then_some(Self { head, ways })
    }

    /// For a terminal: the head, and a line for each way.
    pub fn text(&self) -> String {
        let ways: String = self.ways.iter().map(|way| format!("  {way}\n")).collect();
        format!("{}:\n{ways}\n", self.head)
    }

    /// For Markdown.
    pub fn markdown(&self) -> String {
        let ways: String = self.ways.iter().map(|way| format!("- {}\n", way.replace('<', "&lt;"))).collect();
        format!("**{}:**\n\n{ways}\n", self.head)
    }
}

/// The ways of a load point. A summary of an earlier version has only their outcomes.
fn ways(summary: &Summary) -> impl Iterator<Item = Failure> + '_ {
    let requests = &summary.requests;
    let outcome = |(name, count): (&String, &u64)| {
        let outcome: Outcome = name.parse().ok()?;
        let failed = !matches!(outcome, Outcome::Ok | Outcome::Cancelled);
        let way = Failure {
            count: *count,
            outcome,
            status: None,
            message: None,
            alike: false,
            phase: Phase::Measure,
            first_us: 0,
        };
        failed.then_some(way)
    };
    let old = requests.by_outcome.iter().filter(|_| requests.errors.is_empty()).filter_map(outcome);
    requests.errors.iter().cloned().chain(old)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::fixtures::{failed, point, record, run};
    use crate::metrics::record::RequestRecord;
    use crate::metrics::summary::{Context, summarize};

    /// A load point of ten requests; each of `errors` is one that failed with a status and a message.
    fn summary(errors: &[(u16, &str)]) -> Summary {
        let mut records: Vec<RequestRecord> = (0..10).map(|id| record(id, 1_000 * id)).collect();
        for (record, (status, message)) in records.iter_mut().zip(errors) {
            let error = Some((*message).to_owned());
            let failed = failed(record.id, record.sent_us, Outcome::Http(*status));
            *record = RequestRecord { error, status: Some(*status), ..failed };
        }
        let ran = run(records);
        summarize(&point(), &ran, &ran.fold(), &Context::default())
    }

    fn page(points: &[(&str, &Summary)]) -> Option<String> {
        let points: Vec<_> = points.iter().map(|(name, summary)| ((*name).to_owned(), *summary)).collect();
        Failures::of(&points).map(|failures| failures.text())
    }

    #[test]
    fn nothing_failed() {
        assert_eq!(page(&[("a", &summary(&[]))]), None);
        assert_eq!(page(&[]), None);
    }

    #[test]
    fn the_ways_of_one_point_by_count() {
        let errors = [(503, "busy"), (404, "no such model"), (404, "no such model")];
        let expected = "3 of 10 requests failed:\n  2 × HTTP 404: no such model\n  1 × HTTP 503: busy\n\n";
        assert_eq!(page(&[("a", &summary(&errors))]).as_deref(), Some(expected));
    }

    #[test]
    fn several_points_say_where() {
        let (a, b, c) = (
            summary(&[(503, "busy"), (500, "x")]),
            summary(&[(503, "busy"), (503, "busy")]),
            summary(&[(503, "busy"), (400, "y")]),
        );
        let expected = "6 of 30 requests failed:\n  4 × HTTP 503: busy\n  1 × HTTP 500: x (at a)\n  \
                        1 × HTTP 400: y (at c)\n\n";
        assert_eq!(page(&[("a", &a), ("b", &b), ("c", &c)]).as_deref(), Some(expected));
        let sound = summary(&[]);
        let expected = "4 of 40 requests failed:\n  3 × HTTP 503: busy (at 2 of 4 load points)\n  \
                        1 × HTTP 500: x (at a)\n\n";
        let points = [("a", &a), ("b", &b), ("s", &sound), ("t", &sound)];
        assert_eq!(page(&points).as_deref(), Some(expected));
    }

    #[test]
    fn messages_with_ids_are_one_way_across_points() {
        let ids = |from: u16| -> Vec<String> {
            (from..from + 9).map(|id| format!("request {id} failed")).collect()
        };
        let of = |ids: &[String]| summary(&ids.iter().map(|id| (500, id.as_str())).collect::<Vec<_>>());
        let (a, b) = (of(&ids(10)), of(&ids(30)));
        let expected = "18 of 20 requests failed:\n  18 × HTTP 500: request 10 failed (and alike)\n\n";
        assert_eq!(page(&[("a", &a), ("b", &b)]).as_deref(), Some(expected));
    }

    #[test]
    fn many_ways_are_summed_up() {
        let messages: Vec<String> =
            (0..7).map(|n| format!("kind {}", ["a", "b", "c", "d", "e", "f", "g"][n])).collect();
        let errors: Vec<(u16, &str)> = messages.iter().map(|message| (500, message.as_str())).collect();
        let text = page(&[("a", &summary(&errors))]).expect("failures");
        assert!(
            text.ends_with("kind e\n  2 in 2 other ways (requests.errors in summary.json)\n\n"),
            "{text}"
        );
    }

    #[test]
    fn a_summary_of_an_earlier_version_has_its_outcomes() {
        let mut old = summary(&[(503, "busy"), (503, "busy")]);
        old.requests.errors.clear();
        assert_eq!(page(&[("a", &old)]).as_deref(), Some("2 of 10 requests failed:\n  2 × HTTP 503\n\n"));
    }

    #[test]
    fn a_page_of_html_in_markdown_stays_text() {
        let failures =
            Failures { head: "1 of 1 requests failed".into(), ways: vec!["1 × HTTP 502: <b>x".into()] };
        assert_eq!(failures.markdown(), "**1 of 1 requests failed:**\n\n- 1 × HTTP 502: &lt;b>x\n\n");
    }
}
