//! SVG, drawn by plotters: head, legend, plot and sentence, in black on white.

use std::ops::Range;

use plotters::coord::Shift;
use plotters::coord::cartesian::Cartesian2d;
use plotters::coord::ranged1d::{DefaultFormatting, KeyPointHint, Ranged};
use plotters::element::DashedPathElement;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::{Axis, COLOURS, Chart, Draw, Mark, Series, TONES, escape};

/// Size of a picture. plotters places everything on whole units, so that it draws in units of a quarter.
const WIDTH: i32 = 760;
const FINE: i32 = 4;

const LEFT: i32 = 78;
const RIGHT: i32 = 20;
const PLOT: i32 = 270;
const LINE: i32 = 16;
/// Room of ticks and label below the plot.
const BELOW: i32 = 44;

const TEXT: RGBColor = RGBColor(0x1a, 0x1a, 0x1a);
const QUIET: RGBColor = RGBColor(0x55, 0x55, 0x55);
const GRID: RGBColor = RGBColor(0xe0, 0xe0, 0xe0);
const WARNING: RGBColor = RGBColor(0xa8, 0x40, 0x00);

type Failed = Box<dyn std::error::Error>;
type Area<'a, Coord> = DrawingArea<SVGBackend<'a>, Coord>;
type Plot<'a> = Area<'a, Cartesian2d<Laid, Laid>>;

/// The chart as a stand-alone document.
///
/// # Errors
/// plotters draws nothing that fits this chart.
pub fn svg(chart: &Chart) -> std::io::Result<String> {
    drawn(chart).map_err(|error| std::io::Error::other(format!("chart {}: {error}", chart.name)))
}

fn drawn(chart: &Chart) -> Result<String, Failed> {
    let (warnings, sentence) = (wrapped(&chart.warnings.join(" · "), true), wrapped(&chart.sentence, false));
    let legend = legend_rows(&chart.legend());
    let plot_top = 46 + LINE * (warnings.len() + legend.len()) as i32 + 10;
    let below = plot_top + PLOT + BELOW;
    let height = below + LINE * sentence.len() as i32 + 10;
    let mut text = String::new();
    {
        let root = SVGBackend::with_string(&mut text, fine2(WIDTH, height)).into_drawing_area();
        root.fill(&WHITE)?;
        put(&root, &chart.title, (14, 10), &font(15, true, TEXT))?;
        put(&root, &chart.about, (14, 29), &font(11, false, QUIET))?;
        for (row, line) in warnings.iter().enumerate() {
            put(&root, line, (14, 46 + LINE * row as i32), &font(11, true, WARNING))?;
        }
        draw_legend(&root, &legend, 46 + LINE * warnings.len() as i32)?;
        draw_plot(&root, chart, plot_top)?;
        for (row, line) in sentence.iter().enumerate() {
            put(&root, line, (14, below + LINE * row as i32), &font(11, false, TEXT))?;
        }
        root.present()?;
    }
    let head = format!("width=\"{}\" height=\"{}\" viewBox", WIDTH * FINE, height * FINE);
    let sized = format!(
        "role=\"img\" aria-label=\"{}\" width=\"{WIDTH}\" height=\"{height}\" viewBox",
        escape(&format!("{}. {}", chart.title, chart.sentence))
    );
    Ok(text.replacen(&head, &sized, 1))
}

fn fine2(x: i32, y: i32) -> (u32, u32) {
    ((x * FINE).unsigned_abs(), (y * FINE).unsigned_abs())
}

fn font(size: i32, bold: bool, colour: RGBColor) -> TextStyle<'static> {
    // plotters divides the size by 1.24 in SVG.
    let style = if bold { FontStyle::Bold } else { FontStyle::Normal };
    let family = FontFamily::Name("DejaVu Sans, Verdana, sans-serif");
    FontDesc::new(family, f64::from(size * FINE) * 1.24, style).color(&colour)
}

/// Text whose upper left corner is at `at`.
fn put(root: &Area<Shift>, text: &str, at: (i32, i32), style: &TextStyle) -> Result<(), Failed> {
    let text: String = text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect();
    Ok(root.draw(&Text::new(text, (at.0 * FINE, at.1 * FINE), style.clone()))?)
}

/// About the width of a letter, of the size of 11.
const LETTER: f64 = 6.3;

fn wrapped(text: &str, bold: bool) -> Vec<String> {
    let columns = f64::from(WIDTH - 28) / if bold { LETTER * 1.15 } else { LETTER };
    if text.is_empty() { Vec::new() } else { crate::report::table::lines(text.split(' '), columns as usize) }
}

fn legend_rows<'a>(shown: &[&'a Series]) -> Vec<Vec<(i32, &'a Series)>> {
    let mut rows: Vec<Vec<(i32, &Series)>> = Vec::new();
    let mut x = 14;
    for series in shown {
        let width = 30 + (series.name.chars().count() as f64 * LETTER) as i32 + 14;
        if rows.is_empty() || x + width > WIDTH - RIGHT {
            rows.push(Vec::new());
            x = 14;
        }
        rows.last_mut().into_iter().for_each(|row| row.push((x, *series)));
        x += width;
    }
    rows
}

fn draw_legend(root: &Area<Shift>, rows: &[Vec<(i32, &Series)>], top: i32) -> Result<(), Failed> {
    for (row, shown) in rows.iter().enumerate() {
        let y = top + LINE * row as i32;
        for (x, series) in shown {
            let middle = (y + 7) * FINE;
            let ends = vec![(x * FINE, middle), ((x + 22) * FINE, middle)];
            match series.draw {
                Draw::Dots | Draw::Labelled => {
                    mark(root, (((x + 11) * FINE), middle), Mark::Valid, colour(series), RADIUS)?
                }
                Draw::Bars(_) => {
                    root.draw(&PathElement::new(ends, colour(series).stroke_width(8 * FINE as u32)))?
                }
                Draw::Line | Draw::Marked => line(root, ends, series)?,
            }
            put(root, &series.name, (x + 27, y + 1), &font(11, false, TEXT))?;
        }
    }
    Ok(())
}

fn colour(series: &Series) -> RGBColor {
    let (red, green, blue) = COLOURS[series.colour % COLOURS.len()];
    RGBColor(red, green, blue)
}

fn line<Coord: CoordTranslate>(
    area: &Area<Coord>,
    points: Vec<Coord::From>,
    series: &Series,
) -> Result<(), Failed>
where
    Coord::From: Clone + 'static,
{
    let style = colour(series).stroke_width(2 * FINE as u32);
    if series.dashed {
        Ok(area.draw(&DashedPathElement::new(points, 6 * FINE as u32, 4 * FINE as u32, style))?)
    } else {
        Ok(area.draw(&PathElement::new(points, style))?)
    }
}

/// Radius of a mark, and that of each of more points than can be told apart.
const RADIUS: i32 = FINE * 7 / 2;
const SMALL: i32 = FINE * 3 / 2;
const MANY: usize = 200;

/// The mark of a point at a place in fine units.
fn mark(root: &Area<Shift>, at: (i32, i32), mark: Mark, colour: RGBColor, radius: i32) -> Result<(), Failed> {
    match mark {
        Mark::Valid => root.draw(&Circle::new(at, radius, colour.filled()))?,
        Mark::Suspect => {
            root.draw(&Circle::new(at, radius, WHITE.filled()))?;
            root.draw(&Circle::new(at, radius, colour.stroke_width(FINE as u32 * 3 / 2)))?;
        }
        Mark::Invalid => root.draw(&Cross::new(at, radius * 3 / 2, colour.stroke_width(2 * FINE as u32)))?,
        Mark::Best => {
            root.draw(&Circle::new(at, radius * 2, colour.stroke_width(FINE as u32 * 3 / 2)))?;
            root.draw(&Circle::new(at, radius, colour.filled()))?;
        }
    }
    Ok(())
}

/// An axis for plotters.
struct Laid(Axis);

impl Ranged for Laid {
    type FormatOption = DefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, (start, end): (i32, i32)) -> i32 {
        start + (f64::from(end - start) * self.0.share(*value)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, _: Hint) -> Vec<f64> {
        self.0.ticks.iter().map(|tick| tick.at).collect()
    }

    fn range(&self) -> Range<f64> {
        self.0.from..self.0.to
    }
}

fn draw_plot(root: &Area<Shift>, chart: &Chart, top: i32) -> Result<(), Failed> {
    let (x, y) = (LEFT * FINE..(WIDTH - RIGHT) * FINE, (top + PLOT) * FINE..top * FINE);
    let laid = Cartesian2d::new(Laid(chart.x.clone()), Laid(chart.y.clone()), (x, y));
    let plot: Plot = root.apply_coord_spec(laid);
    for band in &chart.bands {
        let (red, green, blue) = TONES[band.tone.min(TONES.len() - 1)];
        let corners = [(band.from, chart.y.from), (band.to, chart.y.to)];
        plot.draw(&Rectangle::new(corners, RGBColor(red, green, blue).mix(0.16).filled()))?;
    }
    grid(root, &plot, chart, top)?;
    for series in &chart.series {
        draw_series(root, &plot, series)?;
    }
    Ok(())
}

fn grid(root: &Area<Shift>, plot: &Plot, chart: &Chart, top: i32) -> Result<(), Failed> {
    let at = |horizontal, vertical| Pos::new(horizontal, vertical);
    let small = font(11, false, QUIET);
    for tick in &chart.y.ticks {
        let ends = vec![(chart.x.from, tick.at), (chart.x.to, tick.at)];
        plot.draw(&PathElement::new(ends, GRID.stroke_width(FINE as u32)))?;
        let y = plot.map_coordinate(&(chart.x.from, tick.at)).1;
        let style = small.pos(at(HPos::Right, VPos::Center));
        root.draw(&Text::new(tick.text.clone(), ((LEFT - 7) * FINE, y), style))?;
    }
    for line in &chart.lines {
        let ends = vec![(line.x, chart.y.from), (line.x, chart.y.to)];
        plot.draw(&DashedPathElement::new(
            ends,
            4 * FINE as u32,
            3 * FINE as u32,
            QUIET.stroke_width(FINE as u32),
        ))?;
    }
    let bottom = top + PLOT;
    let room = f64::from(WIDTH - LEFT - RIGHT) / LETTER;
    let all: usize = chart.x.ticks.iter().map(|tick| tick.text.chars().count() + 2).sum();
    for (number, tick) in chart.x.ticks.iter().enumerate() {
        let x = plot.map_coordinate(&(tick.at, chart.y.from)).0;
        // Names that do not fit side by side stand on two lines in turn.
        let lower = if all as f64 > room && number % 2 == 1 { 13 } else { 0 };
        let style = small.pos(at(HPos::Center, VPos::Top));
        root.draw(&Text::new(tick.text.clone(), (x, (bottom + 6 + lower) * FINE), style))?;
    }
    let style = small.pos(at(HPos::Center, VPos::Top));
    let middle = (LEFT + WIDTH - RIGHT) / 2 * FINE;
    root.draw(&Text::new(chart.x.label.clone(), (middle, (bottom + 24) * FINE), style))?;
    let style = small.pos(at(HPos::Center, VPos::Top)).transform(FontTransform::Rotate270);
    root.draw(&Text::new(chart.y.label.clone(), (8 * FINE, (top + PLOT / 2) * FINE), style))?;
    names(root, plot, chart)
}

/// The names of bands and lines, at the top of the plot, each on a line of its own where they would overlap.
fn names(root: &Area<Shift>, plot: &Plot, chart: &Chart) -> Result<(), Failed> {
    let bands = chart.bands.iter().map(|band| (band.from, &band.name));
    let mut ends: Vec<i32> = Vec::new();
    for (x, name) in bands.chain(chart.lines.iter().map(|line| (line.x, &line.name))) {
        let (x, y) = plot.map_coordinate(&(x, chart.y.to));
        let width = (name.chars().count() as f64 * LETTER) as i32 * FINE;
        let x = (x + 4 * FINE).min((WIDTH - RIGHT - 2) * FINE - width);
        let row = ends.iter().position(|end| *end < x).unwrap_or(ends.len());
        let end = x + width;
        if row == ends.len() {
            ends.push(end)
        } else {
            ends[row] = end
        }
        let style = font(10, false, QUIET);
        root.draw(&Text::new(name.clone(), (x, y + (3 + 12 * row as i32) * FINE), style))?;
    }
    Ok(())
}

fn draw_series(root: &Area<Shift>, plot: &Plot, series: &Series) -> Result<(), Failed> {
    let points: Vec<(f64, f64)> = series.points.iter().map(|point| (point.x, point.y)).collect();
    match series.draw {
        Draw::Bars(width) => {
            for (x, y) in points {
                let corners = [(x - width / 2.0, 0.0), (x + width / 2.0, y)];
                plot.draw(&Rectangle::new(corners, colour(series).mix(0.75).filled()))?;
            }
            return Ok(());
        }
        Draw::Line | Draw::Marked if points.len() > 1 => line(plot, points, series)?,
        _ => {}
    }
    if matches!(series.draw, Draw::Line) && series.points.len() > 1 {
        return Ok(());
    }
    let radius = if series.points.len() > MANY { SMALL } else { RADIUS };
    let mut labelled: Option<(i32, i32)> = None;
    for point in &series.points {
        let (x, y) = plot.map_coordinate(&(point.x, point.y));
        mark(root, (x, y), point.mark, colour(series), radius)?;
        let is_free = |(left, top): (i32, i32)| (x - left).abs() > 24 * FINE || (y - top).abs() > 11 * FINE;
        if let (Draw::Labelled, Some(name), true) = (series.draw, &point.name, labelled.is_none_or(is_free)) {
            labelled = Some((x, y));
            root.draw(&Text::new(name.clone(), (x + 6 * FINE, y - 15 * FINE), font(11, false, TEXT)))?;
        }
    }
    Ok(())
}
