//! The first columns of tables with a row per load point: what tells one row from another.

use super::{PointResult, load_of};

/// The columns that name the rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyColumns {
    /// Heads, at least one.
    pub heads: Vec<String>,
    /// The cells of each row.
    pub cells: Vec<Vec<String>>,
}

type Property = fn(&PointResult) -> String;

/// What load points of one deployment may differ in beside their load.
const SHAPES: [(&str, Property); 4] = [
    ("isl", |row| row.summary.point.isl.to_string()),
    ("osl", |row| row.summary.point.osl.to_string()),
    ("stream", |row| (if row.summary.point.streaming { "on" } else { "off" }).to_owned()),
    ("endpoint", |row| row.summary.point.endpoint.as_str().to_owned()),
];

impl KeyColumns {
    /// A column for each axis and property in which the rows differ, then the load; the names of the points where these do not
    /// tell them apart.
    pub fn of(rows: &[PointResult]) -> Self {
        Self::by_axes(rows).unwrap_or_else(|| Self {
            heads: vec!["point".to_owned()],
            cells: rows.iter().map(|row| vec![row.point.clone()]).collect(),
        })
    }

    fn by_axes(rows: &[PointResult]) -> Option<Self> {
        let (mut heads, mut columns) = axes(rows);
        let shapes = SHAPES.iter().filter(|_| rows.iter().any(|row| row.workload != rows[0].workload));
        for (head, property) in shapes {
            let column: Vec<String> = rows.iter().map(property).collect();
            if differ(&column) {
                heads.push((*head).to_owned());
                columns.push(column);
            }
        }
        let open = rows.iter().filter(|row| row.summary.point.request_rate.is_some()).count();
        let loads = rows.iter().map(|row| Some(load_of(&row.summary)?.to_string()));
        columns.push(loads.collect::<Option<Vec<String>>>().filter(|_| [0, rows.len()].contains(&open))?);
        heads.push(if open > 0 { "rate" } else { "conc" }.to_owned());
        if rows.iter().any(|row| row.summary.point.measurement().is_some()) {
            let repeat =
                |row: &PointResult| row.summary.point.measurement().unwrap_or_else(|| "mean".to_owned());
            heads.push("repeat".to_owned());
            columns.push(rows.iter().map(repeat).collect());
        }
        let cells: Vec<Vec<String>> = (0..rows.len())
            .map(|row| columns.iter().filter_map(|column| column.get(row).cloned()).collect())
            .collect();
        let mut apart: Vec<&Vec<String>> = cells.iter().collect();
        apart.sort_unstable();
        apart.dedup();
        (apart.len() == rows.len()).then_some(Self { heads, cells })
    }
}

/// The server axes in which the rows differ; all of them when there is one deployment. Heads and columns.
fn axes(rows: &[PointResult]) -> (Vec<String>, Vec<Vec<String>>) {
    let mut names: Vec<&String> = Vec::new();
    for (name, _) in rows.iter().flat_map(|row| &row.axes) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let cell = |row: &PointResult, name: &String| {
        let found = row.axes.iter().find(|(known, _)| known == name);
        found.map_or_else(|| "-".to_owned(), |(_, value)| value.clone())
    };
    let column = |name: &String| rows.iter().map(|row| cell(row, name)).collect::<Vec<_>>();
    let all: Vec<(String, Vec<String>)> =
        names.into_iter().map(|name| (name.clone(), column(name))).collect();
    let is_one = !all.iter().any(|(_, column)| differ(column));
    all.into_iter().filter(|(_, column)| is_one || differ(column)).unzip()
}

fn differ(column: &[String]) -> bool {
    column.iter().any(|cell| Some(cell) != column.first())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::fixtures::{point, run, sound};
    use crate::metrics::summary::{Context, summarize};
    use crate::plan::{Arrival, LoadPoint};

    fn row(axes: &[(&str, &str)], shape: &str, isl: u32, concurrency: u32) -> PointResult {
        let ran = run(sound());
        let of = LoadPoint { arrival: Arrival::closed(concurrency), ..point() };
        let mut summary = summarize(&of, &ran, &ran.fold(), &Context::default());
        summary.point.isl = isl;
        let axes: Vec<_> =
            axes.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let deployment: Vec<String> = axes.iter().map(|(name, value)| format!("{name}{value}")).collect();
        let deployment = deployment.join("_");
        let series = if deployment.is_empty() { shape.to_owned() } else { format!("{deployment}_{shape}") };
        let point = format!("{series}_con{concurrency}");
        PointResult {
            point,
            series,
            deployment,
            workload: shape.to_owned(),
            model: String::new(),
            configuration: String::new(),
            axes,
            gpus: 1,
            price: None,
            summary,
        }
    }

    fn of(rows: &[PointResult]) -> (String, Vec<String>) {
        let keys = KeyColumns::of(rows);
        (keys.heads.join(" "), keys.cells.iter().map(|cells| cells.join(" ")).collect())
    }

    #[test]
    fn each_axis_in_which_rows_differ_has_a_column() {
        let rows = [
            row(&[("tp", "1"), ("dtype", "auto"), ("len", "4096")], "a", 100, 8),
            row(&[("tp", "1"), ("dtype", "fp8"), ("len", "4096")], "a", 101, 8),
            row(&[("tp", "2"), ("dtype", "auto"), ("len", "4096")], "a", 100, 8),
        ];
        // Prompt lengths from a file differ a little between points of one shape: that is no axis.
        assert_eq!(
            of(&rows),
            ("tp dtype conc".into(), ["1 auto 8", "1 fp8 8", "2 auto 8"].map(str::to_owned).to_vec())
        );
        // The first deployment of a sweep shows what it is.
        assert_eq!(of(&rows[..1]), ("tp dtype len conc".into(), vec!["1 auto 4096 8".into()]));
    }

    #[test]
    fn lengths_are_axes_of_points_of_several_shapes() {
        let rows = [row(&[], "a", 100, 8), row(&[], "b", 200, 8)];
        assert_eq!(of(&rows), ("isl conc".into(), vec!["100 8".into(), "200 8".into()]));
    }

    #[test]
    fn names_stand_where_no_axis_tells_rows_apart() {
        let rows = [row(&[], "a", 100, 8), row(&[], "b", 100, 8)];
        assert_eq!(of(&rows), ("point".into(), vec!["a_con8".into(), "b_con8".into()]));
        assert_eq!(KeyColumns::of(&[]).heads, ["conc"]);
    }
}
