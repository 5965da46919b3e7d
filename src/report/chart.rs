//! A chart model and its SVG: lines over concurrency, labelled directly, without external resources.

use super::table::number;

/// A line chart.
#[derive(Debug, Clone, PartialEq)]
pub struct Chart {
    /// Title.
    pub title: String,
    /// A line below it: what it is about.
    pub note: String,
    /// Name of the x axis.
    pub x_label: String,
    /// Unit of the y axis.
    pub y_label: String,
    /// Lines.
    pub series: Vec<Series>,
}

/// One line.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// Name; empty for the only line.
    pub name: String,
    /// Points in order of x.
    pub points: Vec<(f64, f64)>,
}

const WIDTH: f64 = 520.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 62.0;
/// Room for the line labels.
const RIGHT: f64 = 100.0;
/// The same if the only line is unnamed.
const RIGHT_BARE: f64 = 24.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 46.0;
/// Colours that colour-blind readers can tell apart (Okabe and Ito, 2008), darkest first.
const COLOURS: [&str; 6] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00"];

impl Chart {
    /// The chart as a stand-alone SVG document.
    pub fn svg(&self) -> String {
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" height=\"{HEIGHT}\" \
             font-family=\"system-ui, sans-serif\" font-size=\"12\" role=\"img\" aria-label=\"{}\">\n\
             <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n\
             <text x=\"{LEFT}\" y=\"18\" font-size=\"14\" font-weight=\"600\" fill=\"#1a1a1a\">{} ({})</text>\n\
             <text x=\"{LEFT}\" y=\"32\" font-size=\"10\" fill=\"#555555\">{}</text>\n",
            escape(&self.title),
            escape(&self.title),
            escape(&self.y_label),
            escape(&self.note)
        );
        let x = XScale::of(self.points().map(|(x, _)| x), WIDTH - self.right());
        let top = nice_top(self.points().map(|(_, y)| y).fold(0.0, f64::max));
        let y = |value: f64| HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (value / top);
        self.grid(&mut svg, &x, &y, top);
        let mut labels = Vec::new();
        for (index, series) in self.series.iter().enumerate() {
            let colour = COLOURS[index % COLOURS.len()];
            let path: Vec<String> =
                series.points.iter().map(|(px, py)| format!("{:.1},{:.1}", x.at(*px), y(*py))).collect();
            svg.push_str(&format!(
                "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>\n",
                path.join(" ")
            ));
            for (px, py) in &series.points {
                svg.push_str(&format!(
                    "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"3.5\" fill=\"{colour}\"><title>{} {}: {} {}</title></circle>\n",
                    x.at(*px), y(*py), escape(&self.x_label), number(*px), number(*py), escape(&self.y_label)
                ));
            }
            if let Some((_, last)) = series.points.last() {
                labels.push((y(*last), series.name.as_str(), colour));
            }
        }
        push_labels(&mut svg, labels, WIDTH - self.right() + 8.0);
        svg.push_str("</svg>\n");
        svg
    }

    fn right(&self) -> f64 {
        if self.series.iter().all(|series| series.name.is_empty()) { RIGHT_BARE } else { RIGHT }
    }

    fn points(&self) -> impl Iterator<Item = (f64, f64)> + '_ {
        self.series.iter().flat_map(|series| series.points.iter().copied())
    }

    fn grid(&self, svg: &mut String, x: &XScale, y: &dyn Fn(f64) -> f64, top: f64) {
        let end = WIDTH - self.right();
        for step in 0..=4 {
            let value = top * f64::from(step) / 4.0;
            svg.push_str(&format!(
                "<line x1=\"{LEFT}\" x2=\"{end}\" y1=\"{py:.1}\" y2=\"{py:.1}\" stroke=\"#e3e3e3\"/>\n\
                 <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\" fill=\"#555555\">{}</text>\n",
                LEFT - 8.0,
                y(value) + 4.0,
                tick_text(value),
                py = y(value),
            ));
        }
        let mut previous = f64::NEG_INFINITY;
        for tick in &x.ticks {
            let at = x.at(*tick);
            if at - previous < 30.0 {
                continue;
            }
            previous = at;
            svg.push_str(&format!(
                "<text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\" fill=\"#555555\">{}</text>\n",
                HEIGHT - BOTTOM + 18.0,
                tick_text(*tick)
            ));
        }
        svg.push_str(&format!(
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\" fill=\"#555555\">{}</text>\n",
            (LEFT + end) / 2.0,
            HEIGHT - 8.0,
            escape(&self.x_label)
        ));
    }
}

/// An axis label; whole numbers without decimals.
fn tick_text(value: f64) -> String {
    let text = number(value);
    match text.split_once('.') {
        Some((whole, decimals)) if decimals.bytes().all(|digit| digit == b'0') => whole.to_owned(),
        _ => text,
    }
}

/// Labels beside the last points, moved apart if they would overlap.
fn push_labels(svg: &mut String, mut labels: Vec<(f64, &str, &str)>, x: f64) {
    labels.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut lowest = f64::NEG_INFINITY;
    for (at, name, colour) in labels {
        let at = at.max(lowest + 14.0);
        lowest = at;
        svg.push_str(&format!(
            "<text x=\"{x}\" y=\"{:.1}\" fill=\"{colour}\" font-weight=\"600\">{}</text>\n",
            at + 4.0,
            escape(name)
        ));
    }
}

/// The x axis: logarithmic when the values span a factor of 8 or more.
struct XScale {
    low: f64,
    high: f64,
    /// Position of the axis's end in the picture.
    end: f64,
    log: bool,
    ticks: Vec<f64>,
}

impl XScale {
    fn of(values: impl Iterator<Item = f64>, end: f64) -> Self {
        let mut ticks: Vec<f64> = values.collect();
        ticks.sort_by(f64::total_cmp);
        ticks.dedup();
        let (low, high) = (ticks.first().copied().unwrap_or(0.0), ticks.last().copied().unwrap_or(1.0));
        Self { log: low > 0.0 && high / low >= 8.0, low, high, end, ticks }
    }

    fn at(&self, value: f64) -> f64 {
        let (low, high, value) =
            if self.log { (self.low.ln(), self.high.ln(), value.ln()) } else { (self.low, self.high, value) };
        let share = if high > low { (value - low) / (high - low) } else { 0.5 };
        LEFT + (self.end - LEFT) * share
    }
}

/// The smallest of 1, 1.5, 2, 3, 4, 6, 8 × 10ⁿ that is not below `value`.
fn nice_top(value: f64) -> f64 {
    if value <= 0.0 || !value.is_finite() {
        return 1.0;
    }
    let power = 10f64.powf(value.log10().floor());
    [1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 10.0]
        .iter()
        .map(|step| step * power)
        .find(|top| *top >= value)
        .unwrap_or(value)
}

/// Escapes text for XML.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axis_ends_are_round() {
        for (value, top) in [(0.0, 1.0), (1.0, 1.0), (1.2, 1.5), (95.0, 100.0), (640.0, 800.0), (0.03, 0.03)]
        {
            assert!((nice_top(value) - top).abs() < 1e-9, "{value}: {}", nice_top(value));
        }
    }

    #[test]
    fn whole_numbers_have_no_decimals_at_an_axis() {
        for (value, text) in [(1.0, "1"), (16.0, "16"), (1.5, "1.50"), (3000.0, "3,000")] {
            assert_eq!(tick_text(value), text);
        }
    }

    #[test]
    fn text_is_escaped() {
        let chart = Chart {
            title: "<a>&\"".into(),
            note: String::new(),
            x_label: "x".into(),
            y_label: "ms".into(),
            series: vec![Series { name: "p<50".into(), points: vec![(1.0, 2.0), (16.0, 3.0)] }],
        };
        let svg = chart.svg();
        assert!(svg.contains("&lt;a&gt;&amp;&quot;") && svg.contains("p&lt;50") && !svg.contains("<a>"));
    }
}
