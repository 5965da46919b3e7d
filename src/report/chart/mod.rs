//! A chart as plain data: axes, series, bands, lines, and the sentence below it. Renderers make SVG, PNG and the charts of
//! `report.html` of it.

mod axis;
mod draw;
mod png;
mod sample;
mod web;

pub use axis::{Axis, Scale};
pub use draw::svg;
pub use png::png;
pub use sample::{KEPT, sampled};
pub use web::json;

use crate::metrics::Rating;

/// Colours that colour-blind readers can tell apart (Okabe and Ito, 2008), darkest first.
pub const COLOURS: [(u8, u8, u8); 7] = [
    (0x00, 0x72, 0xb2),
    (0xd5, 0x5e, 0x00),
    (0x00, 0x9e, 0x73),
    (0xcc, 0x79, 0xa7),
    (0xe6, 0x9f, 0x00),
    (0x56, 0xb4, 0xe9),
    (0x00, 0x00, 0x00),
];

/// One picture.
#[derive(Debug, Clone, PartialEq)]
pub struct Chart {
    /// Stem of its file.
    pub name: String,
    /// What is shown.
    pub title: String,
    /// Recipe and model, because a picture is shown without its page.
    pub about: String,
    /// What a reader must know before using it: simulated, scaled, suspect or invalid.
    pub warnings: Vec<String>,
    pub x: Axis,
    pub y: Axis,
    pub series: Vec<Series>,
    /// Shaded ranges of x.
    pub bands: Vec<Band>,
    /// Vertical lines.
    pub lines: Vec<Line>,
    /// What it shows, taken from the data.
    pub sentence: String,
    /// Charts of one clock are read, and zoomed, together.
    pub clock: Option<String>,
}

/// How a series is drawn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Draw {
    /// A line through points, each with its mark.
    Marked,
    /// A line alone.
    Line,
    /// Points alone.
    Dots,
    /// Points alone, each with its name beside it.
    Labelled,
    /// Bars from 0, this wide.
    Bars(f64),
}

/// Points of one colour and name.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// Name; empty for the only one.
    pub name: String,
    /// Number in [`COLOURS`].
    pub colour: usize,
    pub dashed: bool,
    pub draw: Draw,
    /// In order of x.
    pub points: Vec<Point>,
}

/// One point.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Point {
    pub x: f64,
    pub y: f64,
    pub mark: Mark,
    /// Its name, where x does not say which it is.
    pub name: Option<String>,
}

/// How a point is drawn.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Mark {
    #[default]
    Valid,
    /// A ring.
    Suspect,
    /// A cross.
    Invalid,
    /// A large dot: the best of all.
    Best,
}

impl From<Rating> for Mark {
    fn from(rating: Rating) -> Self {
        match rating {
            Rating::Valid => Self::Valid,
            Rating::Suspect => Self::Suspect,
            Rating::Invalid => Self::Invalid,
        }
    }
}

/// A shaded range of x.
#[derive(Debug, Clone, PartialEq)]
pub struct Band {
    pub from: f64,
    pub to: f64,
    pub name: String,
    /// 0: good; higher is worse, up to 3.
    pub tone: usize,
}

/// The colour of a band by its tone.
pub const TONES: [(u8, u8, u8); 4] =
    [(0x00, 0x9e, 0x73), (0xf0, 0xe4, 0x42), (0xe6, 0x9f, 0x00), (0xd5, 0x5e, 0x00)];

/// A vertical line with its name.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    pub x: f64,
    pub name: String,
}

impl Point {
    pub fn new(x: f64, y: f64) -> Self {
        Self { x, y, ..Self::default() }
    }
}

impl Series {
    /// A line of these points, down-sampled.
    pub fn line(name: impl Into<String>, colour: usize, points: Vec<(f64, f64)>) -> Self {
        let points = sampled(points, KEPT).into_iter().map(|(x, y)| Point::new(x, y)).collect();
        Self { name: name.into(), colour, dashed: false, draw: Draw::Line, points }
    }

    /// Points without a name, as dots.
    pub fn bare(points: Vec<Point>) -> Self {
        Self { name: String::new(), colour: 0, dashed: false, draw: Draw::Dots, points }
    }

    /// Values of y.
    fn ys(&self) -> impl Iterator<Item = f64> + '_ {
        self.points.iter().map(|point| point.y)
    }
}

impl Chart {
    /// Without points, bands and lines that cannot be drawn on these axes; `None` if no point is left.
    pub fn checked(mut self) -> Option<Self> {
        for series in &mut self.series {
            series.points.retain(|point| self.x.takes(point.x) && self.y.takes(point.y));
        }
        self.series.retain(|series| !series.points.is_empty());
        for band in &mut self.bands {
            (band.from, band.to) = (band.from.max(self.x.from), band.to.min(self.x.to));
        }
        self.bands.retain(|band| band.from < band.to);
        self.lines.retain(|line| (self.x.from..=self.x.to).contains(&line.x));
        (!self.series.is_empty()).then_some(self)
    }

    /// Names the load point in file and title, because others have the same chart.
    pub fn is_of(&mut self, point: &str) {
        self.name = format!("{point}-{}", self.name);
        self.title = format!("{} ({point})", self.title);
    }

    /// The names of several series, in order; a picture of one series needs no legend.
    fn legend(&self) -> Vec<&Series> {
        let mut shown: Vec<&Series> = Vec::new();
        for series in self.series.iter().filter(|series| !series.name.is_empty()) {
            if !shown.iter().any(|known| known.name == series.name) {
                shown.push(series);
            }
        }
        shown
    }

    /// All values of y.
    pub fn values(series: &[Series]) -> Vec<f64> {
        series.iter().flat_map(Series::ys).collect()
    }
}

/// Escapes text for XML.
pub fn escape(text: &str) -> String {
    let text: String = text.chars().filter(|letter| !letter.is_control() || *letter == '\n').collect();
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
