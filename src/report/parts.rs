//! The parts of a report below its pictures, in order: a list that `summary.md` and `report.html` both show.
//!
//! A new part is a function that returns a [`Part`] from the summaries, and a line in [`all`].

use serde_json::{Value, json};

use super::table::{Table, is_percentile};
use super::{
    Header, PointResult, best, cost, gpus, limitations, markdown, pareto, processes, servers, speculation,
    unmeasured, words, zones,
};

/// A heading with what stands below it.
#[derive(Debug, Clone, Default)]
pub struct Part {
    pub title: String,
    pub blocks: Vec<Block>,
}

/// A piece of a part.
#[derive(Debug, Clone)]
pub enum Block {
    /// A smaller heading.
    Head(String),
    Text(String),
    List(Vec<String>),
    /// Names with values.
    Facts(Vec<(String, String)>),
    Table(Table),
    /// Lines of a file, under their name.
    Code(String, String),
}

impl Part {
    pub fn new(title: impl Into<String>) -> Self {
        Self { title: title.into(), blocks: Vec::new() }
    }

    /// The part with one block more.
    pub fn with(mut self, block: Block) -> Self {
        self.blocks.push(block);
        self
    }

    /// A list under a title; nothing without lines.
    pub fn list(title: &str, lines: Vec<String>) -> Self {
        let part = Self::new(title);
        if lines.is_empty() { part } else { part.with(Block::List(lines)) }
    }

    /// A table with a sentence below it; nothing without a table.
    pub fn table(title: &str, table: Option<Table>, below: &str) -> Self {
        let part = Self::new(title);
        match table {
            Some(table) => part.with(Block::Table(table)).with(Block::Text(below.to_owned())),
            None => part,
        }
    }

    /// As Markdown, with a heading of the second level.
    pub fn markdown(&self) -> String {
        let mut text = format!("\n## {}\n", self.title);
        for block in &self.blocks {
            text.push('\n');
            text.push_str(&match block {
                Block::Head(head) => format!("### {head}\n"),
                Block::Text(sentence) => format!("{sentence}\n"),
                Block::List(lines) => lines.iter().map(|line| format!("- {line}\n")).collect(),
                Block::Facts(facts) => {
                    facts.iter().map(|(name, value)| format!("- {name}: {value}\n")).collect()
                }
                Block::Table(table) => table.markdown(),
                Block::Code(name, lines) => format!("{name}:\n\n{}\n", indented(lines)),
            });
        }
        text
    }

    /// As the page's template reads it.
    pub fn json(&self) -> Value {
        let block = |block: &Block| match block {
            Block::Head(text) => json!({"kind": "head", "text": text}),
            Block::Text(text) => json!({"kind": "text", "text": text}),
            Block::List(lines) => json!({"kind": "list", "lines": lines}),
            Block::Facts(facts) => json!({"kind": "facts", "facts": facts}),
            Block::Table(table) => json!({"kind": "table", "head": heads(table), "rows": table.rows}),
            Block::Code(name, text) => json!({"kind": "code", "name": name, "text": text}),
        };
        json!({"title": self.title, "blocks": self.blocks.iter().map(block).collect::<Vec<_>>()})
    }
}

/// Four spaces before each line: code in Markdown, whatever it contains.
fn indented(lines: &str) -> String {
    lines.lines().map(|line| format!("    {line}\n")).collect()
}

/// Every part with something in it, in order.
pub fn all(header: &Header, rows: &[PointResult]) -> Vec<Part> {
    let search = Part::list("Search", header.search.0.clone());
    let mut parts = vec![search, markdown::results(header, rows), markdown::each_repeat(rows)];
    parts.extend(markdown::stage_parts(rows));
    parts.extend(markdown::turn_parts(rows));
    parts.extend([
        markdown::latencies(rows),
        zones::part(rows),
        best::part(rows),
        Part::table("Pareto front", pareto::front(rows), pareto::ABOUT),
        cost::part(rows),
        servers::part(rows),
        gpus::part(rows),
        processes::part(rows),
        Part::list("Speculative decoding", speculation::lines(rows)),
        Part::list("Tokens", markdown::tokens(rows)),
        Part::list("Prompts", markdown::prompt_notes(rows)),
        Part::list("Not measured", unmeasured::lines(&header.unmeasured)),
        Part::list("Verdicts", markdown::reasons(rows)),
        what_was_run(header),
        Part::list("Limitations", limitations::lines(header, rows)),
        words::part(rows),
    ]);
    parts.retain(|part| !part.blocks.is_empty());
    parts
}

fn what_was_run(header: &Header) -> Part {
    let facts = header.facts.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
    let mut part = Part::new("What was run").with(Block::Facts(facts));
    if let Some(commands) = &header.commands {
        part = part.with(Block::Code("Command lines of the servers".into(), commands.clone()));
    }
    if let Some(recipe) = &header.recipe {
        part = part.with(Block::Code("Recipe as written".into(), recipe.clone()));
    }
    part
}

/// The heads of a table: those that share a figure, such as TTFT, below its name, which spans them.
fn heads(table: &Table) -> Value {
    let mut groups: Vec<(String, usize)> = Vec::new();
    let mut below = Vec::new();
    for head in &table.head {
        match (head.rsplit_once(' '), groups.last_mut()) {
            (Some((figure, _)), Some((last, span))) if figure == last => *span += 1,
            (Some((figure, _)), _) => groups.push((figure.to_owned(), 1)),
            (None, Some((last, span))) if is_percentile(head) && !last.is_empty() => *span += 1,
            _ => groups.push((String::new(), 1)),
        }
        below.push(head.rsplit_once(' ').map_or(head.as_str(), |(_, statistic)| statistic));
    }
    let groups: Vec<Value> =
        groups.iter().map(|(figure, span)| json!({"figure": figure, "span": span})).collect();
    json!({"groups": groups, "below": below})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_stand_below_the_figure_they_belong_to() {
        let table = Table::new(["conc", "tok/s", "TTFT p50", "p95", "E2E avg", "E2E p50", "p99", "verdict"]);
        let spans = heads(&table)["groups"].as_array().expect("groups").clone();
        let spans: Vec<(&str, u64)> = spans
            .iter()
            .map(|group| (group["figure"].as_str().expect("text"), group["span"].as_u64().expect("number")))
            .collect();
        assert_eq!(spans, [("", 1), ("", 1), ("TTFT", 2), ("E2E", 3), ("", 1)]);
        let expected = json!(["conc", "tok/s", "p50", "p95", "avg", "p50", "p99", "verdict"]);
        assert_eq!(heads(&table)["below"], expected);
    }

    #[test]
    fn a_part_says_the_same_in_both_forms() {
        let part = Part::new("Title")
            .with(Block::Facts(vec![("host".into(), "a".into())]))
            .with(Block::List(vec!["b".into()]))
            .with(Block::Code("file".into(), "c\n\nd".into()));
        assert_eq!(part.markdown(), "\n## Title\n\n- host: a\n\n- b\n\nfile:\n\n    c\n    \n    d\n\n");
        assert_eq!(part.json()["blocks"][1], json!({"kind": "list", "lines": ["b"]}));
    }
}
