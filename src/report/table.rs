//! An aligned table for terminals and Markdown.

use crate::metrics::stats::with_thousands;

/// Longer names do not fit beside many columns.
const SHORT: usize = 12;

/// A table of text: the first column is left-aligned, the others right.
#[derive(Debug, Clone, Default)]
pub struct Table {
    /// Column heads.
    pub head: Vec<String>,
    /// Rows, each as long as the head.
    pub rows: Vec<Vec<String>>,
    /// First columns that name a row, which every block of a wide table begins with.
    keys: usize,
}

impl Table {
    /// A table with these heads.
    pub fn new<const N: usize>(head: [&str; N]) -> Self {
        Self { head: head.map(str::to_owned).to_vec(), rows: Vec::new(), keys: 1 }
    }

    /// A table whose rows are named by these columns together. More heads follow.
    pub fn keyed(keys: Vec<String>) -> Self {
        Self { keys: keys.len(), head: keys, rows: Vec::new() }
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

    /// The same within `width` columns. A table that is too wide has its heads on two lines and long names above their rows; if that is
    /// not enough, its columns stand in blocks below one another, each beginning with the columns that name a row.
    pub fn fitted(&self, left: &[usize], width: usize) -> String {
        let names = self.names_above();
        let (heads, two) = (vec![self.head.clone()], two_lines(&self.head));
        let tries = [(self, &heads), (self, &two), (&names, &heads), (&names, &two)];
        let (table, heads, blocks) = tries
            .into_iter()
            .map(|(table, heads)| (table, heads, table.blocks(heads, width)))
            .min_by_key(|(.., blocks)| blocks.len())
            .unwrap_or((self, &heads, vec![(0..self.head.len()).collect()]));
        let above = table.rows.iter().zip(&self.rows).map(|(row, own)| match (row.first(), own.first()) {
            (Some(first), Some(own)) if first != own => format!("{own}\n"),
            _ => String::new(),
        });
        let above: Vec<String> = vec![String::new(); heads.len()].into_iter().chain(above).collect();
        let block = |columns: &Vec<usize>| {
            let laid = table.part(columns, heads).text(&own_columns(left, columns));
            let mut lines: Vec<&str> = laid.lines().collect();
            // The last line of the heads comes first.
            lines[..heads.len()].rotate_left(1);
            let lines = lines.iter().zip(&above).filter(|(line, _)| !line.is_empty());
            lines.map(|(line, above)| format!("{above}{line}\n")).collect::<String>()
        };
        blocks.iter().map(block).collect::<Vec<_>>().join("\n")
    }

    /// The table without its first cells where some are long names.
    fn names_above(&self) -> Self {
        let mut table = self.clone();
        if self.keys < 2
            && self.rows.iter().filter_map(|row| row.first()).any(|name| name.chars().count() > SHORT)
        {
            table.rows.iter_mut().filter_map(|row| row.first_mut()).for_each(String::clear);
        }
        table
    }

    /// The columns of a block, with the last line of the heads as head and those above it as first rows.
    fn part(&self, columns: &[usize], heads: &[Vec<String>]) -> Self {
        let cells = |row: &Vec<String>| columns.iter().filter_map(|at| row.get(*at)).cloned().collect();
        let (last, above) = heads.split_last().map_or((&self.head, heads), |(last, above)| (last, above));
        Self { head: cells(last), rows: above.iter().chain(&self.rows).map(cells).collect(), keys: self.keys }
    }

    /// Columns that fit in a line together, each time with those that name a row. A percentile stays with the first of its figure.
    fn blocks(&self, heads: &[Vec<String>], width: usize) -> Vec<Vec<usize>> {
        let head = |column: usize| heads.iter().filter_map(move |line| line.get(column));
        let room = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column)).chain(head(column));
            cells.map(|cell| cell.chars().count() + 2).max().unwrap_or(0)
        };
        let goes_on = |column: usize| self.head.get(column).is_some_and(|head| is_percentile(head));
        let keys = self.keys.max(1);
        let mut blocks: Vec<Vec<usize>> = vec![(0..keys).collect()];
        let mut column = keys;
        while column < self.head.len() {
            let end = (column + 1..self.head.len()).find(|next| !goes_on(*next)).unwrap_or(self.head.len());
            let used = |block: &Vec<usize>| block.iter().map(|column| room(*column)).sum::<usize>();
            let more: usize = (column..end).map(room).sum();
            match blocks.last_mut() {
                Some(block) if block.len() == keys || used(block) + more <= width + 2 => {
                    block.extend(column..end)
                }
                _ => blocks.push((0..keys).chain(column..end).collect()),
            }
            column = end;
        }
        blocks
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

/// Which columns of a block are left-aligned.
fn own_columns(left: &[usize], columns: &[usize]) -> Vec<usize> {
    let places = (0..).zip(columns);
    places.filter(|(_, column)| left.contains(column)).map(|(place, _)| place).collect()
}

/// `p99`, which belongs to the column before it.
pub(super) fn is_percentile(head: &str) -> bool {
    head.strip_prefix('p').is_some_and(|digits| digits.bytes().all(|digit| digit.is_ascii_digit()))
}

/// Heads on two lines: `TTFT p50` below one another, `tok/s/gpu` as `tok/s` and `/gpu`, the long name of an option at its middle
/// underscore.
fn two_lines(heads: &[String]) -> Vec<Vec<String>> {
    let split = |head: &String| match (head.rsplit_once(' '), head.rsplit_once('/')) {
        (Some((above, below)), _) => (above.to_owned(), below.to_owned()),
        (None, Some((above, below))) if above.contains('/') => (above.to_owned(), format!("/{below}")),
        (None, None) if head.len() > SHORT => at_underscore(head),
        _ => (String::new(), head.clone()),
    };
    let (above, below) = heads.iter().map(split).unzip();
    vec![above, below]
}

/// The name of an option in two parts that are about as long.
fn at_underscore(name: &str) -> (String, String) {
    let places = name.match_indices('_').map(|(at, _)| at + 1);
    let middle = places.min_by_key(|at| (2 * at).abs_diff(name.len())).unwrap_or(0);
    let (above, below) = name.split_at(middle);
    (above.to_owned(), below.to_owned())
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
    let digits = digits(value);
    with_thousands(&format!("{value:.digits$}"))
}

fn digits(value: f64) -> usize {
    match value.abs() {
        v if v >= 100.0 || v == 0.0 => 0,
        v if v >= 10.0 => 1,
        v if v >= 0.1 => 2,
        _ => 4,
    }
}

/// Half the width of the interval of a value, with one digit more than the value: ` ±1.6`; nothing without one.
pub fn plus_minus(value: f64, half: Option<f64>) -> String {
    let digits = digits(value) + 1;
    half.map_or_else(String::new, |half| format!(" ±{}", with_thousands(&format!("{half:.digits$}"))))
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
        assert_eq!(plus_minus(1621.0, Some(1.57)), " ±1.6");
        assert_eq!(plus_minus(14.4, Some(0.0165)), " ±0.02");
        assert_eq!(plus_minus(14.4, None), "");
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
    fn a_wide_table_has_its_heads_on_two_lines_and_then_its_columns_in_blocks() {
        let mut table = Table::new(["conc", "tok/s/gpu", "TTFT p50", "p99", "verdict"]);
        table.push(["8", "1,234", "50.0", "~60.1", "valid"].map(str::to_owned).to_vec());
        assert_eq!(table.fitted(&[0, 4], 41), table.text(&[0, 4]));
        let stacked =
            "      tok/s  TTFT\nconc   /gpu   p50    p99  verdict\n8     1,234  50.0  ~60.1  valid\n";
        assert_eq!(table.fitted(&[0, 4], 40), stacked);
        assert_eq!(table.fitted(&[0, 4], 33), stacked);
        let blocks = "conc  tok/s/gpu  TTFT p50    p99\n8         1,234      50.0  ~60.1\n\nconc  verdict\n8     valid\n";
        assert_eq!(table.fitted(&[0, 4], 32), blocks);
        table.rows[0][0] = "a_name_of_a_point".into();
        let named = "       tok/s  TTFT\npoint   /gpu   p50    p99  verdict\na_name_of_a_point\n       1,234  50.0  ~60.1  valid\n";
        table.head[0] = "point".into();
        assert_eq!(table.fitted(&[0, 4], 34), named);
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
