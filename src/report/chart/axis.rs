//! Axes: scale, ends and round ticks.

use crate::report::table::number;

/// How values are laid on an axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    Linear,
    /// Every factor takes the same room; values are above 0.
    Log,
    /// Names at 0, 1, 2 …
    Named,
}

/// A value with its label.
#[derive(Debug, Clone, PartialEq)]
pub struct Tick {
    pub at: f64,
    pub text: String,
}

/// One axis.
#[derive(Debug, Clone, PartialEq)]
pub struct Axis {
    /// Name and unit.
    pub label: String,
    pub scale: Scale,
    pub from: f64,
    pub to: f64,
    pub ticks: Vec<Tick>,
}

/// From this ratio of the largest to the smallest value on, loads stand on a logarithmic axis.
const LOG_FROM: f64 = 8.0;
/// Most labels on an axis.
const LABELS: usize = 12;

impl Axis {
    /// From 0 (or the lowest value, if it is negative) to a round number.
    pub fn from_zero(label: impl Into<String>, values: impl IntoIterator<Item = f64>) -> Self {
        let (low, high) = ends(values);
        Self::linear(label, low.min(0.0), high.max(0.0))
    }

    /// Between round numbers around the values; from 0 if they span more than half of the way to it.
    pub fn around(label: impl Into<String>, values: impl IntoIterator<Item = f64>) -> Self {
        let (low, high) = ends(values);
        Self::linear(label, if low > high / 2.0 { low } else { low.min(0.0) }, high.max(0.0))
    }

    /// From `low` to `high` exactly, with round ticks between them: time.
    pub fn span(label: impl Into<String>, low: f64, high: f64) -> Self {
        let axis = Self::linear(label, low, high);
        let high = if high > low { high } else { low + 1.0 };
        let ticks = axis.ticks.into_iter().filter(|tick| (low..=high).contains(&tick.at)).collect();
        Self { from: low, to: high, ticks, ..axis }
    }

    fn linear(label: impl Into<String>, low: f64, high: f64) -> Self {
        let step = step(high - low);
        let (first, last) = ((low / step).floor(), (high / step).ceil().max((low / step).floor() + 1.0));
        let count = (last - first).min(100.0) as usize;
        let ticks = (0..=count).map(|at| tick((first + at as f64) * step, step)).collect();
        Self { label: label.into(), scale: Scale::Linear, from: first * step, to: last * step, ticks }
    }

    /// Loads: a tick at each, as far as there is room; logarithmic when they span a factor of 8 or more.
    pub fn loads(label: impl Into<String>, values: impl IntoIterator<Item = f64>) -> Self {
        let mut loads: Vec<f64> = values.into_iter().filter(|load| load.is_finite()).collect();
        loads.sort_by(f64::total_cmp);
        loads.dedup();
        let (low, high) = (loads.first().copied().unwrap_or(0.0), loads.last().copied().unwrap_or(1.0));
        let log = low > 0.0 && high / low >= LOG_FROM;
        let scale = if log { Scale::Log } else { Scale::Linear };
        let place = |load: f64| if log { load.ln() } else { load };
        let room = if high > low { (place(high) - place(low)) * 0.04 } else { 0.0 };
        let (from, to) = match (log, high > low) {
            (true, _) => ((low.ln() - room).exp(), (high.ln() + room).exp()),
            (false, true) => (low - room, high + room),
            (false, false) => (low - 1.0, high + 1.0),
        };
        let apart = (place(high) - place(low)) / LABELS as f64;
        let (mut ticks, mut last): (Vec<Tick>, f64) = (Vec::new(), f64::NEG_INFINITY);
        for load in loads {
            if place(load) - last >= apart {
                last = place(load);
                ticks.push(Tick { at: load, text: plain(load) });
            }
        }
        Self { label: label.into(), scale, from, to, ticks }
    }

    /// A logarithmic axis with a tick at each power of ten; the ends are powers of ten, too.
    pub fn log(label: impl Into<String>, values: impl IntoIterator<Item = f64>) -> Self {
        let (low, high) = ends(values.into_iter().filter(|value| *value > 0.0));
        let (low, high) = if low > 0.0 { (low, high) } else { (1.0, 10.0) };
        let first = low.log10().floor();
        let last = high.log10().ceil().max(first + 1.0);
        let powers = (0..=(last - first) as i32).map(|at| 10f64.powf(first + f64::from(at)));
        let ticks = powers.map(|at| Tick { at, text: plain(at) }).collect();
        Self { label: label.into(), scale: Scale::Log, from: 10f64.powf(first), to: 10f64.powf(last), ticks }
    }

    /// Names side by side.
    pub fn named(label: impl Into<String>, names: &[String]) -> Self {
        let ticks = names.iter().enumerate();
        let ticks = ticks.map(|(at, text)| Tick { at: at as f64, text: text.clone() }).collect();
        let to = names.len() as f64 - 0.5;
        Self { label: label.into(), scale: Scale::Named, from: -0.5, to, ticks }
    }

    /// Whether a value can stand on it.
    pub fn takes(&self, value: f64) -> bool {
        value.is_finite() && (self.scale != Scale::Log || value > 0.0)
    }

    /// Where a value stands: 0 at the start of the axis, 1 at its end.
    pub fn share(&self, value: f64) -> f64 {
        let place = |value: f64| match self.scale {
            Scale::Log => value.max(f64::MIN_POSITIVE).ln(),
            Scale::Linear | Scale::Named => value,
        };
        let (from, to) = (place(self.from), place(self.to));
        if to > from { (place(value) - from) / (to - from) } else { 0.5 }
    }
}

fn ends(values: impl IntoIterator<Item = f64>) -> (f64, f64) {
    let finite = values.into_iter().filter(|value| value.is_finite());
    let (low, high) = finite
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
    if low <= high { (low, high) } else { (0.0, 1.0) }
}

/// The smallest of 1, 2, 2.5 and 5 × 10ⁿ that gives at most five steps.
fn step(span: f64) -> f64 {
    if span <= 0.0 || !span.is_finite() {
        return 1.0;
    }
    let rough = span / 5.0;
    let power = 10f64.powf(rough.log10().floor());
    let round = [1.0, 2.0, 2.5, 5.0, 10.0].into_iter().find(|factor| factor * power >= rough * (1.0 - 1e-9));
    round.unwrap_or(10.0) * power
}

fn tick(at: f64, step: f64) -> Tick {
    // As many decimals as tell two ticks apart; 2.5 needs one more than its power of ten.
    let mut decimals = (-step.log10().floor()).max(0.0) as usize;
    let scaled = step * 10f64.powi(decimals as i32);
    decimals += usize::from((scaled - scaled.round()).abs() > 1e-6);
    let at = if at.abs() < step / 1e6 { 0.0 } else { at };
    Tick { at, text: crate::metrics::stats::with_thousands(&format!("{at:.decimals$}")) }
}

/// A number without decimals that say nothing.
pub fn plain(value: f64) -> String {
    if value.abs() >= 100.0 { number(value) } else { format!("{}", (value * 1e4).round() / 1e4) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(axis: &Axis) -> Vec<&str> {
        axis.ticks.iter().map(|tick| tick.text.as_str()).collect()
    }

    #[test]
    fn ticks_are_round_and_the_axis_ends_at_one() {
        let axis = Axis::from_zero("tok/s", [3185.0, 120.0]);
        assert_eq!(texts(&axis), ["0", "1,000", "2,000", "3,000", "4,000"]);
        assert_eq!((axis.from, axis.to), (0.0, 4000.0));
        assert_eq!(texts(&Axis::from_zero("ms", [0.9])), ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
        assert_eq!(texts(&Axis::from_zero("ms", [12.0])), ["0.0", "2.5", "5.0", "7.5", "10.0", "12.5"]);
        assert_eq!(texts(&Axis::from_zero("ms", [])), ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
        assert_eq!(texts(&Axis::from_zero("ms", [0.0])), ["0", "1"]);
        assert_eq!(texts(&Axis::from_zero("ms", [-3.0, 2.0])), ["-3", "-2", "-1", "0", "1", "2"]);
    }

    #[test]
    fn an_axis_around_values_leaves_out_zero_only_where_it_is_far() {
        assert_eq!(texts(&Axis::around("tok/s", [227.0, 249.0])), ["225", "230", "235", "240", "245", "250"]);
        assert_eq!(texts(&Axis::around("tok/s", [25.0, 100.0])), ["0", "20", "40", "60", "80", "100"]);
        assert_eq!(texts(&Axis::around("tok/s", [7.0, 7.0])), ["7", "8"]);
    }

    #[test]
    fn a_span_keeps_its_ends() {
        let axis = Axis::span("s", 0.0, 41.0);
        assert_eq!((axis.from, axis.to), (0.0, 41.0));
        assert_eq!(texts(&axis), ["0", "10", "20", "30", "40"]);
    }

    #[test]
    fn loads_stand_at_ticks_and_powers_of_two_are_equally_far_apart() {
        let axis = Axis::loads("concurrency", [16.0, 1.0, 4.0, 4.0, 2.0, 8.0]);
        assert_eq!((axis.scale, texts(&axis)), (Scale::Log, vec!["1", "2", "4", "8", "16"]));
        let (two, four, eight) = (axis.share(2.0), axis.share(4.0), axis.share(8.0));
        assert!(((four - two) - (eight - four)).abs() < 1e-9);
        assert_eq!(Axis::loads("rate", [1.5, 3.0]).scale, Scale::Linear);
        let many = Axis::loads("concurrency", (1..=200).map(f64::from));
        assert!(many.ticks.len() <= LABELS + 1, "{}", many.ticks.len());
        let one = Axis::loads("concurrency", [8.0]);
        assert_eq!((one.from, one.to, one.share(8.0)), (7.0, 9.0, 0.5));
    }

    #[test]
    fn a_logarithmic_axis_has_powers_of_ten() {
        let axis = Axis::log("ms", [0.0, 3.0, 4200.0]);
        assert_eq!(texts(&axis), ["1", "10", "100", "1,000", "10,000"]);
        assert!(!axis.takes(0.0) && axis.takes(3.0) && !axis.takes(f64::NAN));
        assert_eq!(axis.share(100.0), 0.5);
    }
}
