//! Why load points are not valid, for a terminal: what several of them have is said once.

use itertools::{Itertools, MinMaxResult};

use crate::metrics::failures::without_figures;

/// A line for each reason, given with the name of its load point, one of `points`. Reasons that differ only in figures share a
/// line, which has the range of each figure.
pub fn folded<'a>(reasons: impl IntoIterator<Item = (String, &'a String)>, points: usize) -> Vec<String> {
    let mut groups: Vec<(Vec<String>, Vec<&String>)> = Vec::new();
    for (name, reason) in reasons {
        let is_alike = |(_, group): &&mut (Vec<String>, Vec<&String>)| {
            without_figures(group[0]).eq(without_figures(reason))
        };
        match groups.iter_mut().find(is_alike) {
            Some((names, group)) => {
                names.push(name);
                group.push(reason);
            }
            None => groups.push((vec![name], vec![reason])),
        }
    }
    let line = |(names, group): &(Vec<String>, Vec<&String>)| {
        let reason = ranges(group);
        match names.as_slice() {
            all if all.len() == points && points > 1 => format!("all {points} load points: {reason}"),
            [one] => format!("{one}: {reason}"),
            [one, other] => format!("{one} and {other}: {reason}"),
            some => format!("{} and {} load points more: {reason}", some[0], some.len() - 1),
        }
    };
    groups.iter().map(line).collect()
}

/// Texts that differ only in figures as one: `5 to 10 of 40 requests failed`.
fn ranges(texts: &[&String]) -> String {
    let words: Vec<Vec<&str>> = texts.iter().map(|text| text.split_whitespace().collect()).collect();
    let range = |(at, first): (usize, &&str)| {
        let [before, _, after] = parts(first);
        let figures = words.iter().filter_map(|words| {
            let [b, figure, a] = parts(words.get(at)?);
            Some((figure.replace(',', "").parse::<f64>().ok()?, figure)).filter(|_| (b, a) == (before, after))
        });
        match figures.minmax_by(|a, b| a.0.total_cmp(&b.0)) {
            MinMaxResult::MinMax((_, low), (_, high)) if low != high => {
                format!("{before}{low} to {high}{after}")
            }
            _ => (*first).to_owned(),
        }
    };
    words.first().into_iter().flatten().enumerate().map(range).join(" ")
}

/// What stands before, in and behind the figure of a word.
pub(super) fn parts(word: &str) -> [&str; 3] {
    let is_digit = |letter: char| letter.is_ascii_digit();
    let start = word.find(is_digit).unwrap_or(word.len());
    let end = word.rfind(is_digit).map_or(start, |last| last + 1);
    [&word[..start], &word[start..end], &word[end..]]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(reasons: &[(&str, &str)], points: usize) -> Vec<String> {
        let reasons: Vec<(String, String)> =
            reasons.iter().map(|(name, reason)| ((*name).to_owned(), (*reason).to_owned())).collect();
        folded(reasons.iter().map(|(name, reason)| (name.clone(), reason)), points)
    }

    #[test]
    fn reasons_that_differ_in_figures_share_a_line() {
        let late = [("a", "late: 6.0 ms"), ("a", "few"), ("b", "late: 7.5 ms"), ("c", "late: 9.1 ms")];
        assert_eq!(of(&late, 3), ["all 3 load points: late: 6.0 to 9.1 ms", "a: few"]);
    }

    #[test]
    fn a_line_has_the_range_of_each_figure() {
        let failed = [
            ("a", "5 of 40 failed (12.5 %)"),
            ("b", "10 of 40 failed (25.0 %)"),
            ("c", "7 of 40 failed (17.5 %)"),
        ];
        assert_eq!(of(&failed, 4), ["a and 2 load points more: 5 to 10 of 40 failed (12.5 to 25.0 %)"]);
        let thousands = [("a", "sent 1,200/s (p99)"), ("b", "sent 900/s (p99)")];
        assert_eq!(of(&thousands, 4), ["a and b: sent 900 to 1,200/s (p99)"]);
    }

    #[test]
    fn a_reason_that_all_points_have_names_none() {
        assert_eq!(
            of(&[("a", "scaled to 0.1"), ("b", "scaled to 0.1")], 2),
            ["all 2 load points: scaled to 0.1"]
        );
        assert_eq!(of(&[("a", "scaled to 0.1")], 1), ["a: scaled to 0.1"]);
        let some = [("a", "scaled to 0.1"), ("b", "scaled to 0.1")];
        assert_eq!(of(&some, 3), ["a and b: scaled to 0.1"]);
    }
}
