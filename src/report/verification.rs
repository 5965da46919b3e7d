//! The page of `verify`: measured against published figures.

use std::path::Path;

use super::markdown::SIMULATED;
use super::reasons::parts;
use super::table::{Table, maybe, number};
use crate::analyze::verify::{ComparedFigure, Difference, Reproduction, Verification};

/// Columns of the table besides the load point.
const OTHER_COLUMNS: usize = 50;

/// The page of one experiment, `width` columns wide: a table per metric, remarks, sources, the totals.
pub fn page(experiment: &Path, verification: &Verification, width: usize) -> String {
    let on = match verification.gpu.as_str() {
        "none" => String::new(),
        kind => format!(" on {kind}"),
    };
    let mut text = match verification.words {
        "reference" => format!("references of {}{on}: {}\n", verification.recipe, verification.file),
        _ => format!("{}{on}: {}\n", verification.recipe, experiment.display()),
    };
    if verification.figures.is_empty() {
        let source = verification.source.as_ref().map(|source| format!(" (source: {source})"));
        text.push_str(&format!("none published{}\n", source.unwrap_or_default()));
        return text;
    }
    if verification.simulated {
        text.push_str(&format!("{SIMULATED}\n"));
    }
    text.push_str(&tables(verification, width.saturating_sub(OTHER_COLUMNS)));
    text.push_str(&remarks(&verification.figures));
    for (source, lines) in said_once(grouped(&verification.figures, |line| Some(line.source.clone()))) {
        text.push_str(&format!("source: {source}{}\n", times(lines.len())));
    }
    text.push_str(&format!("\n{}\n", sum(verification)));
    text
}

/// A table per metric, all with the same column widths; the load point takes at most `widest` columns.
fn tables(verification: &Verification, widest: usize) -> String {
    let words = if verification.words == "reference" { "REFERENCE" } else { "PUBLISHED" };
    let mut text = String::new();
    for (metric, of_metric) in grouped(&verification.figures, |line| Some(line.metric.clone())) {
        let mut table = Table::new(["LOAD POINT", words, "MEASURED", "DIFFERENCE", "OUTCOME"]);
        for line in of_metric {
            let difference = line.difference_percent.map_or("-".to_owned(), |off| format!("{off:+.1} %"));
            table.push(vec![
                line.point.as_deref().map_or("-".to_owned(), |point| shortened(point, widest)),
                if line.published == 0.0 { "-".to_owned() } else { number(line.published) },
                line.measured.map_or("-".to_owned(), |measured| maybe(Some(measured))),
                difference,
                line.outcome.words().to_owned(),
            ]);
        }
        text.push_str(&format!("\n{metric}\n{}", table.text(&[0, 4])));
    }
    text.push('\n');
    text
}

/// Cuts the middle out of a name longer than `widest`.
fn shortened(name: &str, widest: usize) -> String {
    let letters: Vec<char> = name.chars().collect();
    if letters.len() <= widest {
        return name.to_owned();
    }
    let half = widest.saturating_sub(1) / 2;
    let (head, tail) = (&letters[..half], &letters[letters.len() - half..]);
    head.iter().chain(['…'].iter()).chain(tail).collect()
}

/// Figures that were not reproduced one by one, with their differences; the others grouped by reason.
fn remarks(lines: &[ComparedFigure]) -> String {
    let mut text = String::new();
    for line in lines.iter().filter(|line| line.outcome == Reproduction::NotReproduced) {
        let point = line.point.as_ref().map(|point| format!(" of {point}")).unwrap_or_default();
        text.push_str(&format!("! not reproduced: {}{point}\n", line.metric));
        line.reasons.iter().for_each(|reason| text.push_str(&format!("    {reason}\n")));
        for difference in &line.differences {
            text.push_str(&format!("    {}\n", describe(difference)));
        }
    }
    let differs = |line: &&ComparedFigure| {
        let differences = line.differences.iter().filter(|difference| difference.what != "software");
        let text: String = differences.map(|difference| format!("    {}\n", describe(difference))).collect();
        (line.outcome == Reproduction::Reproduced && !text.is_empty()).then_some(text)
    };
    for (differs, lines) in grouped(lines, differs) {
        text.push_str(&format!(
            "reproduced, and not all is as in the recipe{}:\n{differs}",
            times(lines.len())
        ));
    }
    for outcome in [Reproduction::Reproduced, Reproduction::NotComparable, Reproduction::NotMeasured] {
        let of_outcome: Vec<&ComparedFigure> = lines.iter().filter(|line| line.outcome == outcome).collect();
        let reasons = |line: &&ComparedFigure| (!line.reasons.is_empty()).then(|| line.reasons.join("; "));
        for (reasons, lines) in said_once(grouped(of_outcome, reasons)) {
            text.push_str(&format!("{}: {reasons}{}\n", outcome.words(), times(lines.len())));
        }
    }
    let notes = said_once(grouped(lines, |line| line.note.clone()));
    notes.iter().for_each(|(note, _)| text.push_str(&format!("note: {}\n", note.trim_end())));
    text
}

/// A difference in words. A `what` with a dot is a recipe key.
fn describe(Difference { what, published, here }: &Difference) -> String {
    match (published, what.contains('.')) {
        (Some(own), true) => format!("{what}: {here}, in the recipe {own}"),
        (None, true) => format!("{what}: {here}, not in the recipe"),
        (Some(there), false) => format!("{what}: published {there}; here {here}"),
        (None, false) => format!("{what}: here {here}"),
    }
}

/// Groups items by a word in order of first occurrence; drops items without one.
fn grouped<T>(
    items: impl IntoIterator<Item = T>,
    word: impl Fn(&T) -> Option<String>,
) -> Vec<(String, Vec<T>)> {
    let mut groups: Vec<(String, Vec<T>)> = Vec::new();
    for item in items {
        let Some(word) = word(&item) else { continue };
        match groups.iter_mut().find(|(known, _)| *known == word) {
            Some((_, group)) => group.push(item),
            None => groups.push((word, vec![item])),
        }
    }
    groups
}

/// Texts that differ in one figure alone, and what belongs to them.
struct Alike<T> {
    /// Of the first text.
    words: Vec<String>,
    /// Which word differs, and the figures in it.
    differing: Option<(usize, Vec<String>)>,
    all: Vec<T>,
}

impl<T> Alike<T> {
    /// The word in which alone a text differs from the first one: in its figure, and no other text in another word.
    fn differs(&self, words: &[String]) -> Option<usize> {
        let pairs = self.words.iter().zip(words).enumerate();
        let mut differing = pairs.filter(|(_, (own, other))| own != other);
        let (at, (own, other)) = differing.next().filter(|_| self.words.len() == words.len())?;
        let ([before, figure, after], [b, f, a]) = (parts(own), parts(other));
        let is_figure = (before, after) == (b, a) && !figure.is_empty() && !f.is_empty();
        let is_the_same = self.differing.as_ref().is_none_or(|(known, _)| *known == at);
        (differing.next().is_none() && is_figure && is_the_same).then_some(at)
    }

    fn text(&self) -> String {
        let word = |(at, word): (usize, &String)| match &self.differing {
            Some((differing, figures)) if *differing == at => {
                let [before, _, after] = parts(word);
                format!("{before}{}{after}", figures.join(", "))
            }
            _ => word.clone(),
        };
        self.words.iter().enumerate().map(word).collect::<Vec<_>>().join(" ")
    }
}

/// Groups whose words differ in one figure alone as one with all the figures: `concurrency 10, 20, 40`.
fn said_once<T>(groups: Vec<(String, Vec<T>)>) -> Vec<(String, Vec<T>)> {
    let mut merged: Vec<Alike<T>> = Vec::new();
    for (text, group) in groups {
        let words: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
        let found = merged.iter_mut().find_map(|alike| Some((alike.differs(&words)?, alike)));
        let Some((at, alike)) = found else {
            merged.push(Alike { words, differing: None, all: group });
            continue;
        };
        let figure = |words: &[String]| words.get(at).map(|word| parts(word)[1].to_owned());
        let first = figure(&alike.words);
        let (_, figures) = alike.differing.get_or_insert_with(|| (at, first.into_iter().collect()));
        figures.extend(figure(&words));
        alike.all.extend(group);
    }
    merged.into_iter().map(|alike| (alike.text(), alike.all)).collect()
}

fn times(number: usize) -> String {
    if number == 1 { String::new() } else { format!(" ({number} figures)") }
}

/// `3 reproduced, 1 not reproduced, 2 not comparable`
fn sum(verification: &Verification) -> String {
    let counted = verification.counts.iter().filter(|(_, count)| **count > 0);
    counted.map(|(outcome, count)| format!("{count} {}", outcome.words())).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_in_one_figure_is_said_once() {
        let groups = [
            ("README (Concurrency 10)", vec![1, 2]),
            ("README (Concurrency 20)", vec![3]),
            ("125.3 tokens for 100", vec![4]),
            ("README (Concurrency 40)", vec![5]),
            ("124 tokens for 100", vec![6]),
            ("124 tokens for 200", vec![7]),
            ("another note", vec![8]),
        ];
        let groups = groups.map(|(text, group)| (text.to_owned(), group)).to_vec();
        let expected = [
            ("README (Concurrency 10, 20, 40)", vec![1, 2, 3, 5]),
            ("125.3, 124 tokens for 100", vec![4, 6]),
            ("124 tokens for 200", vec![7]),
            ("another note", vec![8]),
        ];
        assert_eq!(said_once(groups), expected.map(|(text, group)| (text.to_owned(), group)));
    }

    #[test]
    fn a_long_name_keeps_both_ends() {
        assert_eq!(shortened("isl1024_osl1024_con1024", 30), "isl1024_osl1024_con1024");
        let short = shortened("tp2_max_num_seqs256_isl1024_osl1024_con64", 30);
        assert_eq!(short, "tp2_max_num_se…_osl1024_con64");
        assert!(short.chars().count() <= 30);
    }
}
