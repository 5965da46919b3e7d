//! `report.html`: one self-contained file that asks nobody for anything.

use serde_json::{Value, json};

use super::chart::{Chart, KEPT, json as chart_json, svg};
use super::failures::Failures;
use super::headline::Answer;
use super::parts::{self, Part};
use super::{Header, PointResult, charts, markdown, speculation};
use crate::render::{self, RenderError};

const PAGE: &str = include_str!("../../templates/report.html.tera");
const STYLE: &str = include_str!("../../templates/report.css");
const SCRIPT: &str = include_str!("../../templates/report.js");
const UPLOT: &str = include_str!("../../vendor/uplot/uPlot.iife.min.js");
const UPLOT_STYLE: &str = include_str!("../../vendor/uplot/uPlot.min.css");

/// The whole page.
pub fn page(
    header: &Header,
    rows: &[PointResult],
    charts: &[Chart],
    live: bool,
) -> Result<String, RenderError> {
    let answer = Answer::of(rows, header.reproduced.as_deref());
    let failures = Failures::of_rows(rows);
    let value = json!({
        "title": header.name,
        "summary": header.summary,
        "live": live,
        "warnings": warnings(header, rows),
        "answer": {"verdict": answer.verdict, "headline": answer.headline, "lines": answer.lines},
        "failures": failures.map(|Failures { head, ways }| json!({"head": head, "ways": ways})),
        "charts": charts.iter().map(figure).collect::<Vec<_>>(),
        "sampling": format!(
            "Of a series of more than {KEPT} points, equal parts of the x axis keep their lowest and their highest point each."
        ),
        "parts": parts::all(header, rows).iter().map(Part::json).collect::<Vec<_>>(),
        "data": embedded(&charts.iter().map(chart_json).collect()),
        "script": SCRIPT,
        "css": STYLE,
        "uplot": UPLOT,
        "uplot_css": UPLOT_STYLE,
    });
    render::html("report.html", PAGE, &value)
}

/// What stands above everything.
fn warnings(header: &Header, rows: &[PointResult]) -> Vec<String> {
    let simulated = rows.iter().any(|row| row.summary.simulated).then(|| markdown::SIMULATED.to_owned());
    simulated.into_iter().chain(speculation::banner(rows)).chain(charts::rehearsal(header)).collect()
}

/// A chart with its picture for readers without scripts, and for paper.
fn figure(chart: &Chart) -> Value {
    let picture = svg(chart).unwrap_or_default();
    json!({
        "name": chart.name,
        "title": chart.title,
        "mark": chart.warnings.join(" · "),
        "sentence": chart.sentence,
        "svg": picture.replace(" xmlns=\"http://www.w3.org/2000/svg\"", ""),
    })
}

/// JSON that cannot end the script element it stands in.
fn embedded(value: &Value) -> String {
    value.to_string().replace('<', "\\u003c")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::fixtures::{point, run, sound};
    use crate::metrics::summary::{Context, summarize};

    const HOSTILE: &str = "</script><script>alert(1)</script><!-- \"&'";

    /// Two loads of a recipe whose names try to leave their place.
    fn hostile() -> (Header, Vec<PointResult>) {
        let header = Header {
            name: HOSTILE.into(),
            summary: HOSTILE.into(),
            facts: vec![("model", HOSTILE.into())],
            recipe: Some(HOSTILE.into()),
            commands: Some(HOSTILE.into()),
            ..Header::default()
        };
        let ran = run(sound());
        let row = |load: u32| {
            let mut summary =
                summarize(&point(), &ran, &ran.fold(), &Context { simulated: true, ..Context::default() });
            summary.point.concurrency = Some(load);
            PointResult {
                point: format!("{HOSTILE}{load}"),
                series: HOSTILE.into(),
                deployment: HOSTILE.into(),
                workload: HOSTILE.into(),
                model: HOSTILE.into(),
                configuration: HOSTILE.into(),
                axes: vec![(HOSTILE.into(), HOSTILE.into())],
                gpus: 0,
                price: None,
                summary,
            }
        };
        (header, vec![row(2), row(4)])
    }

    fn shown() -> String {
        let (header, rows) = hostile();
        let source = charts::Source { header: &header, rows: &rows, runs: &[] };
        page(&header, &rows, &charts::charts(source), false).expect("a page")
    }

    #[test]
    fn hostile_names_stay_text() {
        let page = shown();
        assert!(!page.contains("<script>alert"), "{page}");
        // Charts, uPlot, our own: three elements that begin and end.
        assert_eq!((page.matches("<script").count(), page.matches("</script>").count()), (3, 3));
        assert!(page.contains("&lt;/script&gt;"));
    }

    #[test]
    fn the_page_asks_nobody_for_anything() {
        let page = shown();
        assert!(page.contains("default-src 'none'"));
        for word in ["src=", "href=", "@import", "url(", "fetch(", "XMLHttpRequest", "import("] {
            assert!(!page.contains(word), "{word}");
        }
        assert!(!page.contains("xmlns=\"http"), "a namespace looks like an address");
        assert!(page.len() < 200_000, "{}", page.len());
    }

    #[test]
    fn the_same_figures_give_the_same_bytes() {
        assert_eq!(shown(), shown());
    }

    #[test]
    fn every_picture_says_that_its_figures_are_simulated() {
        let (header, rows) = hostile();
        let source = charts::Source { header: &header, rows: &rows, runs: &[] };
        let charts = charts::charts(source);
        assert!(charts.len() >= 3, "{}", charts.len());
        for (name, bytes) in charts::files(&charts, true).expect("files") {
            if name.ends_with(".svg") {
                let text = String::from_utf8(bytes).expect("text");
                assert!(text.contains("SIMULATED: not from a GPU"), "{name}");
                assert!(text.starts_with("<svg ") && text.trim_end().ends_with("</svg>"), "{name}");
            } else {
                // resvg has parsed the SVG.
                assert!(bytes.starts_with(b"\x89PNG"), "{name}");
            }
        }
    }
}
