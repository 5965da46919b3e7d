//! An aligned table for terminals and Markdown.

use crate::metrics::stats::with_thousands;

/// A table of text: the first column is left-aligned, the others right.
#[derive(Debug, Clone, Default)]
pub struct Table {
    /// Column heads.
    pub head: Vec<String>,
    /// Rows, each as long as the head.
    pub rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these heads.
    pub fn new<const N: usize>(head: [&str; N]) -> Self {
        Self { head: head.map(str::to_owned).to_vec(), rows: Vec::new() }
    }

    /// Adds a row.
    pub fn push(&mut self, row: Vec<String>) {
        self.rows.push(row);
    }

    fn widths(&self) -> Vec<usize> {
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column)).chain(self.head.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        (0..self.head.len()).map(width).collect()
    }

    /// The table for a terminal: `left` columns are left-aligned, the others right.
    pub fn text(&self, left: &[usize]) -> String {
        let widths = self.widths();
        let line = |cells: &[String]| {
            let cells = cells.iter().zip(&widths).enumerate().map(|(column, (cell, width))| {
                if left.contains(&column) { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
            });
            cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        };
        let mut text = line(&self.head);
        for row in &self.rows {
            text.push('\n');
            text.push_str(&line(row));
        }
        text.push('\n');
        text
    }

    /// The same within `width` columns: a cell of `column` that is longer than the room beside the others stands, wrapped, below
    /// its row, and a first cell of more than half the width above it. `more` has further lines below the head and each row, or is
    /// empty.
    pub fn within(&self, left: &[usize], column: usize, width: usize, more: &[String]) -> String {
        let mut table = self.clone();
        let mut above = vec![String::new()];
        for row in &mut table.rows {
            let first = row.first_mut().filter(|first| column > 0 && first.chars().count() > width / 2);
            above.push(first.map(|first| std::mem::take(first) + "\n").unwrap_or_default());
        }
        let others = table.widths().into_iter().enumerate().filter(|(at, _)| *at != column);
        let room = width.saturating_sub(others.map(|(_, width)| width + 2).sum());
        let mut below = vec![String::new()];
        for cell in table.rows.iter_mut().filter_map(|row| row.get_mut(column)) {
            let is_long = cell.chars().count() > room;
            let long = if is_long { std::mem::take(cell) } else { String::new() };
            let lines = lines(long.split_whitespace(), width.saturating_sub(4));
            below.push(lines.iter().map(|line| format!("    {line}\n")).collect());
        }
        let more = more.iter().map(String::as_str).chain(std::iter::repeat(""));
        let text = table.text(left);
        let rows = text.lines().zip(above).zip(below).zip(more);
        rows.map(|(((line, above), below), more)| format!("{above}{line}\n{below}{more}")).collect()
    }

    /// The table in Markdown.
    pub fn markdown(&self) -> String {
        let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
        let mut text = line(self.head.clone());
        let rule = (0..self.head.len()).map(|column| if column == 0 { ":--" } else { "--:" }.to_owned());
        text.push_str(&line(rule.collect()));
        for row in &self.rows {
            text.push_str(&line(row.iter().map(|cell| cell.replace('|', "\\|")).collect()));
        }
        text
    }
}

/// Words in lines of at most `width` columns. A longer word, such as a path, has a line of its own.
pub fn lines<'a>(words: impl IntoIterator<Item = &'a str>, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in words {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// Text with its long lines wrapped at `width` columns, what follows indented. A row of a table stays whole, and so does a path,
/// which stands at the start of a line of its own.
pub fn wrapped(text: &str, width: usize) -> String {
    text.split_inclusive('\n').map(|line| wrapped_line(line, width)).collect()
}

fn wrapped_line(line: &str, width: usize) -> String {
    let (body, end) = line.strip_suffix('\n').map_or((line, ""), |body| (body, "\n"));
    let words = body.trim_start();
    if body.chars().count() <= width || words.contains("  ") || !words.contains(' ') {
        return line.to_owned();
    }
    let indent = " ".repeat(body.len() - words.len());
    let mut parts = lines(words.split(' '), width.saturating_sub(indent.len() + 2)).into_iter();
    let mut text = format!("{indent}{}", parts.next().unwrap_or_default());
    for part in parts {
        text.push_str(&if part.starts_with('/') {
            format!("\n{part}")
        } else {
            format!("\n{indent}  {part}")
        });
    }
    text + end
}

/// Formats a number for people: few decimals, thousands separators.
pub fn number(value: f64) -> String {
    let digits = match value.abs() {
        v if v >= 100.0 || v == 0.0 => 0,
        v if v >= 10.0 => 1,
        v if v >= 0.1 => 2,
        _ => 4,
    };
    with_thousands(&format!("{value:.digits$}"))
}

/// The same; `N/A` if the figure does not apply.
pub fn maybe(value: Option<f64>) -> String {
    value.map_or_else(|| "N/A".to_owned(), number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_for_people() {
        for (value, text) in [
            (0.0, "0"),
            (1234567.0, "1,234,567"),
            (123.4, "123"),
            (12.34, "12.3"),
            (1.234, "1.23"),
            (0.01234, "0.0123"),
            (-4321.0, "-4,321"),
        ] {
            assert_eq!(number(value), text);
        }
        assert_eq!(maybe(None), "N/A");
    }

    #[test]
    fn prose_is_wrapped_at_words_and_tables_and_paths_stay_whole() {
        let text =
            "warning: one two three four\n  next: one two three\na  table of more columns than fit\nshort\n";
        let expected = "warning: one two\n  three four\n  next: one two\n    three\na  table of more columns than fit\nshort\n";
        assert_eq!(wrapped(text, 18), expected);
        assert_eq!(wrapped("results: /a/long/path/to/results", 18), "results:\n/a/long/path/to/results");
        assert_eq!(wrapped("results: /a/path", 18), "results: /a/path");
    }

    #[test]
    fn a_cell_too_long_for_its_column_stands_below() {
        let mut table = Table::new(["key", "value", "from"]);
        table.push(vec!["k".into(), "[1, 2]".into(), "r:1".into()]);
        table.push(vec!["k2".into(), "[1, 2, 3, 4, 5, 6]".into(), "r:2".into()]);
        table.push(vec!["the.key.of.it".into(), "1".into(), "r:3".into()]);
        let expected = "key  value   from\nk    [1, 2]  r:1\nk2           r:2\n    [1, 2, 3, 4,\n    5, 6]\n\
                        the.key.of.it\n     1       r:3\n";
        assert_eq!(table.within(&[0, 1, 2], 1, 17, &[]), expected);
    }

    #[test]
    fn columns_are_aligned() {
        let mut table = Table::new(["name", "n"]);
        table.push(vec!["é".into(), "10".into()]);
        table.push(vec!["abc".into(), "5".into()]);
        assert_eq!(table.text(&[0]), "name   n\né     10\nabc    5\n");
        assert_eq!(table.markdown(), "| name | n |\n| :-- | --: |\n| é | 10 |\n| abc | 5 |\n");
    }
}
