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
    fn columns_are_aligned() {
        let mut table = Table::new(["name", "n"]);
        table.push(vec!["é".into(), "10".into()]);
        table.push(vec!["abc".into(), "5".into()]);
        assert_eq!(table.text(&[0]), "name   n\né     10\nabc    5\n");
        assert_eq!(table.markdown(), "| name | n |\n| :-- | --: |\n| é | 10 |\n| abc | 5 |\n");
    }
}
