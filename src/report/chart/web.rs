//! Charts as JSON for the script of `report.html`.

use serde_json::{Value, json};

use super::{Axis, COLOURS, Chart, Draw, Mark, Scale, Series, TONES};

/// A chart with columns in place of points, which are shorter.
pub fn json(chart: &Chart) -> Value {
    json!({
        "name": chart.name,
        "x": axis(&chart.x),
        "y": axis(&chart.y),
        "series": chart.series.iter().map(series).collect::<Vec<_>>(),
        "bands": chart.bands.iter().map(|band| json!({
            "from": short(band.from), "to": short(band.to), "name": band.name, "colour": hex(TONES[band.tone.min(TONES.len() - 1)]),
        })).collect::<Vec<_>>(),
        "clock": chart.clock,
        "lines": chart.lines.iter().map(|line| json!({"x": short(line.x), "name": line.name})).collect::<Vec<_>>(),
    })
}

fn axis(axis: &Axis) -> Value {
    let scale = match axis.scale {
        Scale::Linear => "linear",
        Scale::Log => "log",
        Scale::Named => "named",
    };
    let ticks: Vec<Value> = axis.ticks.iter().map(|tick| json!([short(tick.at), tick.text])).collect();
    json!({"label": axis.label, "scale": scale, "from": short(axis.from), "to": short(axis.to), "ticks": ticks})
}

fn series(series: &Series) -> Value {
    let (draw, width) = match series.draw {
        Draw::Marked => ("marked", None),
        Draw::Line => ("line", None),
        Draw::Dots => ("dots", None),
        Draw::Labelled => ("labelled", None),
        Draw::Bars(width) => ("bars", Some(short(width))),
    };
    let mut value = json!({
        "name": series.name,
        "colour": series.colour % COLOURS.len(),
        "draw": draw,
        "x": series.points.iter().map(|point| short(point.x)).collect::<Vec<_>>(),
        "y": series.points.iter().map(|point| short(point.y)).collect::<Vec<_>>(),
    });
    if let Some(width) = width {
        value["width"] = width;
    }
    if series.dashed {
        value["dashed"] = json!(true);
    }
    let marks: Vec<u8> = series.points.iter().map(|point| mark(point.mark)).collect();
    if marks.iter().any(|mark| *mark > 0) {
        value["marks"] = json!(marks);
    }
    if series.points.iter().any(|point| point.name.is_some()) {
        value["names"] = json!(series.points.iter().map(|point| &point.name).collect::<Vec<_>>());
    }
    value
}

fn mark(mark: Mark) -> u8 {
    match mark {
        Mark::Valid => 0,
        Mark::Suspect => 1,
        Mark::Invalid => 2,
        Mark::Best => 3,
    }
}

/// `#rrggbb`
pub fn hex((red, green, blue): (u8, u8, u8)) -> String {
    format!("#{red:02x}{green:02x}{blue:02x}")
}

/// Six digits are more than a screen shows.
fn short(value: f64) -> Value {
    if value == 0.0 {
        return json!(0);
    }
    let digits = (5.0 - value.abs().log10().floor()).clamp(0.0, 9.0) as usize;
    let text = format!("{value:.digits$}");
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    serde_json::from_str(text).unwrap_or(Value::Null)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_six_digits_at_most() {
        for (value, text) in [
            (0.0, "0"),
            (1.0, "1"),
            (1234.5678, "1234.57"),
            (0.000123456789, "0.000123457"),
            (1e7, "10000000"),
            (-2.5, "-2.5"),
        ] {
            assert_eq!(short(value).to_string(), text);
        }
    }
}
