//! A load that changes over time: stages one after the other, and what they ask for at every instant.

use serde::{Deserialize, Serialize};

use crate::recipe::units::{MAX_RATE, Span};

pub use crate::recipe::Shape;

/// A concurrency (requests in flight) or a rate (arrivals per second) over time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ramp {
    /// Value at the start, before the first stage.
    pub start: f64,
    /// Never empty.
    pub stages: Vec<Stage>,
}

/// A part of a ramp.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stage {
    /// Name for people; unnamed ones go by their number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    pub duration_s: f64,
    /// Value at its end.
    pub target: f64,
    /// How the value gets there.
    pub shape: Shape,
    /// Driven and recorded, and left out of the figures. Such stages are the last ones.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cool_down: bool,
}

impl std::str::FromStr for Stage {
    type Err = String;

    /// k6's `30s:10` (length:target), with `:hold` and `:cool-down` behind it where they apply.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |what: &str| format!("{text:?} is not a stage such as 30s:10 or 1m:50:hold: {what}");
        let mut parts = text.trim().split(':');
        let duration: Span =
            parts.next().unwrap_or_default().parse().map_err(|error: String| wrong(&error))?;
        if duration.seconds() <= 0.0 {
            return Err(wrong("a stage lasts longer than 0; a jump is :hold"));
        }
        let target = parts.next().ok_or_else(|| wrong("the target is missing"))?;
        let target: f64 = target.trim().parse().map_err(|_| wrong("the target is not a number"))?;
        if !(0.0..=MAX_RATE).contains(&target) {
            return Err(wrong(&format!("the target is not from 0 to {MAX_RATE}")));
        }
        let (mut shape, mut cool_down) = (Shape::Linear, false);
        for word in parts {
            match word.trim() {
                "linear" => shape = Shape::Linear,
                "hold" => shape = Shape::Hold,
                "cool-down" | "cool_down" => cool_down = true,
                other => return Err(wrong(&format!("unknown word {other:?}; expected hold or cool-down"))),
            }
        }
        Ok(Self { name: None, duration_s: duration.seconds(), target, shape, cool_down })
    }
}

impl std::str::FromStr for Ramp {
    type Err = String;

    /// Stages as [`Stage`] reads them, with commas between them; from 0.
    fn from_str(text: &str) -> Result<Self, String> {
        let stages: Vec<Stage> = text.split(',').map(str::parse).collect::<Result<_, _>>()?;
        if !stages.is_sorted_by_key(|stage| stage.cool_down) {
            return Err("a cool-down is the end of a ramp: no other stage comes behind it".into());
        }
        if stages.first().is_some_and(|stage| stage.cool_down) {
            return Err("no stage would be measured: all of them are cool-down".into());
        }
        Ok(Self { start: 0.0, stages })
    }
}

/// A stage laid on the time line: the value goes in a straight line from `from` to `to`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Leg {
    /// Seconds from the start of the ramp.
    pub start_s: f64,
    /// Seconds from the start of the ramp.
    pub end_s: f64,
    pub from: f64,
    pub to: f64,
}

impl Leg {
    pub fn length_s(&self) -> f64 {
        self.end_s - self.start_s
    }

    /// The integral of the value over the stage: for a rate the mean number of arrivals.
    pub fn area(&self) -> f64 {
        (self.from + self.to) / 2.0 * self.length_s()
    }

    /// The instant, in seconds from the start of the ramp, at which the line passes `value`, which lies between its ends.
    fn passes(&self, value: f64) -> f64 {
        let at_s = self.start_s + self.length_s() * (value - self.from) / (self.to - self.from);
        // Rounding may carry it over an end.
        at_s.max(self.start_s).min(self.end_s)
    }

    /// The instant at which the integral from the start of the stage has grown to `area`, which is at least 0 and below
    /// [`Leg::area`].
    fn reaches(&self, area: f64) -> f64 {
        let slope = (self.to - self.from) / self.length_s();
        // The root of from · x + slope / 2 · x² = area, in the form that neither divides by a slope of 0 nor cancels.
        let root = (self.from * self.from + 2.0 * slope * area).max(0.0).sqrt();
        let x = if area > 0.0 { 2.0 * area / (self.from + root) } else { 0.0 };
        self.start_s + x.max(0.0).min(self.length_s())
    }
}

impl Ramp {
    /// The stages on the time line.
    pub fn legs(&self) -> impl Iterator<Item = Leg> + '_ {
        self.stages.iter().scan((0.0, self.start), |(at_s, value), stage| {
            let (start_s, end_s) = (*at_s, *at_s + stage.duration_s);
            let from = match stage.shape {
                Shape::Linear => *value,
                Shape::Hold => stage.target,
            };
            (*at_s, *value) = (end_s, stage.target);
            Some(Leg { start_s, end_s, from, to: stage.target })
        })
    }

    /// Length of all stages, seconds.
    pub fn duration_s(&self) -> f64 {
        self.legs().last().map_or(0.0, |leg| leg.end_s)
    }

    /// Length of the stages that enter the figures, seconds.
    pub fn measured_s(&self) -> f64 {
        self.legs()
            .zip(&self.stages)
            .take_while(|(_, stage)| !stage.cool_down)
            .last()
            .map_or(0.0, |(leg, _)| leg.end_s)
    }

    pub fn peak(&self) -> f64 {
        self.legs().flat_map(|leg| [leg.from, leg.to]).fold(0.0, f64::max)
    }

    /// Slots of a closed loop at the highest value. `as` saturates.
    pub fn slots(&self) -> u32 {
        self.peak().ceil() as u32
    }

    /// The first value above 0: where a warm-up happens.
    pub fn first_level(&self) -> f64 {
        self.legs().flat_map(|leg| [leg.from, leg.to]).find(|value| *value > 0.0).unwrap_or(0.0)
    }

    /// When slot number `slot` of a closed loop sends: from each first instant to each second, seconds from the start.
    ///
    /// As in k6, the number of slots changes at the instant the line reaches a whole number: it is the line rounded down
    /// while it rises and rounded up while it falls. The slots that came last go first.
    pub fn spans(&self, slot: u32) -> Vec<(f64, f64)> {
        let (below, above) = (f64::from(slot), f64::from(slot) + 1.0);
        let mut spans: Vec<(f64, f64)> = Vec::new();
        for leg in self.legs() {
            let span = match (leg.from >= above, leg.to >= above) {
                (true, true) => (leg.start_s, leg.end_s),
                (false, true) => (leg.passes(above), leg.end_s),
                (true, false) => (leg.start_s, leg.passes(below)),
                (false, false) => continue,
            };
            match spans.last_mut() {
                Some(last) if last.1 >= span.0 => last.1 = span.1,
                _ => spans.push(span),
            }
        }
        spans
    }

    /// The instant, in seconds from the start, at which the integral of the rate passes `area`: where an arrival of a process
    /// of rate 1 at `area` falls. `None` when the ramp ends before. Where the rate is 0 for a while, its end.
    pub fn reaches(&self, area: f64) -> Option<f64> {
        let mut left = area;
        for leg in self.legs() {
            let here = leg.area();
            if left < here {
                return Some(leg.reaches(left));
            }
            left -= here;
        }
        None
    }
}

impl std::fmt::Display for Ramp {
    /// `0 → 10 in 30s, 10 for 60s`
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, leg) in self.legs().enumerate() {
            let separator = if index > 0 { ", " } else { "" };
            let length_s = self.stages.get(index).map_or(0.0, |stage| stage.duration_s);
            if leg.from == leg.to {
                write!(f, "{separator}{} for {length_s}s", leg.to)?;
            } else {
                write!(f, "{separator}{} → {} in {length_s}s", leg.from, leg.to)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn stage(duration_s: f64, target: f64, shape: Shape) -> Stage {
        Stage { name: None, duration_s, target, shape, cool_down: false }
    }

    /// `0 → 4` in 4 s, 4 for 2 s, `4 → 1` in 3 s, 3 for 1 s.
    fn ramp() -> Ramp {
        let stages = vec![
            stage(4.0, 4.0, Shape::Linear),
            stage(2.0, 4.0, Shape::Linear),
            stage(3.0, 1.0, Shape::Linear),
            stage(1.0, 3.0, Shape::Hold),
        ];
        Ramp { start: 0.0, stages }
    }

    /// Slots that send at an instant.
    fn slots(ramp: &Ramp, at_s: f64) -> usize {
        let sends = |slot: &u32| ramp.spans(*slot).iter().any(|(from, to)| (*from..*to).contains(&at_s));
        (0..20).filter(sends).count()
    }

    #[test]
    fn slots_start_and_end_where_the_line_reaches_whole_numbers() {
        let ramp = ramp();
        assert_eq!(ramp.spans(0), [(1.0, 10.0)]);
        assert_eq!(ramp.spans(1), [(2.0, 10.0)]);
        assert_eq!(ramp.spans(2), [(3.0, 8.0), (9.0, 10.0)]);
        assert_eq!(ramp.spans(3), [(4.0, 7.0)]);
        assert_eq!(ramp.spans(4), []);
        let counts: Vec<usize> =
            [0.5, 1.0, 1.5, 3.9, 4.0, 5.9, 6.5, 7.5, 8.5, 9.5].map(|at| slots(&ramp, at)).to_vec();
        assert_eq!(counts, [0, 1, 1, 3, 4, 4, 4, 3, 2, 3]);
    }

    #[test]
    fn stages_in_k6_notation() {
        let good = |text: &str| text.parse::<Stage>().unwrap();
        assert_eq!(good("30s:10"), stage(30.0, 10.0, Shape::Linear));
        assert_eq!(good("1.5m:0.5:hold").duration_s, 90.0);
        assert!(good("1m:0:cool-down").cool_down);
        for (text, words) in [
            ("", "length of time"),
            ("30s", "target is missing"),
            ("0s:10", ":hold"),
            ("30s:ten", "not a number"),
            ("30s:-1", "from 0 to"),
            ("30s:nan", "from 0 to"),
            ("30s:10:sine", "hold or cool-down"),
        ] {
            let error = text.parse::<Stage>().unwrap_err();
            assert!(error.contains(words), "{text}: {error}");
        }
        let ramp: Ramp = "30s:10, 1m:10,30s:0:cool-down".parse().unwrap();
        assert_eq!((ramp.start, ramp.stages.len(), ramp.measured_s()), (0.0, 3, 90.0));
        assert!("1s:1,1s:0:cool-down,1s:1".parse::<Ramp>().is_err_and(|error| error.contains("behind")));
        assert!("1s:1:cool-down".parse::<Ramp>().is_err_and(|error| error.contains("measured")));
    }

    #[test]
    fn the_figures_of_a_ramp() {
        let mut ramp = ramp();
        assert_eq!((ramp.duration_s(), ramp.measured_s(), ramp.peak()), (10.0, 10.0, 4.0));
        assert_eq!(ramp.first_level(), 4.0);
        ramp.stages[3].cool_down = true;
        assert_eq!((ramp.duration_s(), ramp.measured_s()), (10.0, 9.0));
        ramp.start = 2.0;
        assert_eq!(ramp.first_level(), 2.0);
        assert_eq!(ramp.to_string(), "2 → 4 in 4s, 4 for 2s, 4 → 1 in 3s, 3 for 1s");
        let held = Ramp { start: 9.0, stages: vec![stage(1.0, 2.0, Shape::Hold)] };
        assert_eq!(
            (held.peak(), held.first_level()),
            (2.0, 2.0),
            "the start of a held stage is never reached"
        );
    }

    #[test]
    fn areas_are_reached_where_the_integral_says() {
        // 0 → 10 in 2 s: t² · 10 / 4; area 10. Then nothing for 1 s, then 10 → 0 in 2 s.
        let stages = vec![
            stage(2.0, 10.0, Shape::Linear),
            stage(1.0, 0.0, Shape::Hold),
            stage(1.0, 10.0, Shape::Hold),
            stage(2.0, 0.0, Shape::Linear),
        ];
        let ramp = Ramp { start: 0.0, stages };
        for (area, at_s) in [
            (0.0, Some(0.0)),
            (2.5, Some(1.0)),
            (10.0, Some(3.0)),
            (15.0, Some(3.5)),
            (20.0, Some(4.0)),
            (27.5, Some(5.0)),
            (30.0, None),
            (f64::INFINITY, None),
        ] {
            let found = ramp.reaches(area);
            let near = match (found, at_s) {
                (Some(found), Some(at_s)) => (found - at_s).abs() < 1e-9,
                (found, at_s) => found == at_s,
            };
            assert!(near, "{area}: {found:?}, expected {at_s:?}");
        }
        let still = Ramp { start: 0.0, stages: vec![stage(1.0, 0.0, Shape::Linear)] };
        assert_eq!(still.reaches(0.0), None);
    }

    fn any_ramp() -> impl Strategy<Value = Ramp> {
        let shape = prop_oneof![Just(Shape::Linear), Just(Shape::Hold)];
        let stage = (0.01..100.0_f64, 0..20_u32, shape)
            .prop_map(|(duration_s, target, shape)| stage(duration_s, f64::from(target), shape));
        (0..20_u32, prop::collection::vec(stage, 1..6))
            .prop_map(|(start, stages)| Ramp { start: f64::from(start), stages })
    }

    proptest! {
        #[test]
        fn the_number_of_slots_is_the_line_rounded(ramp in any_ramp(), part in 0.0..1.0_f64) {
            let at_s = ramp.duration_s() * part;
            let leg = ramp.legs().find(|leg| at_s < leg.end_s).unwrap();
            let line = leg.from + (leg.to - leg.from) * (at_s - leg.start_s) / leg.length_s();
            // At a whole number rounding of the arithmetic decides.
            prop_assume!((line - line.round()).abs() > 1e-6 || leg.from == leg.to);
            let expected = if leg.to < leg.from { line.ceil() } else { line.floor() };
            prop_assert_eq!(slots(&ramp, at_s) as f64, expected);
        }

        #[test]
        fn spans_are_ordered_and_within_the_ramp(ramp in any_ramp(), slot in 0..20_u32) {
            let ends: Vec<f64> = ramp.spans(slot).into_iter().flat_map(|(from, to)| [from, to]).collect();
            prop_assert!(ends.is_sorted(), "{:?}", ends);
            prop_assert!(ends.iter().all(|at| (0.0..=ramp.duration_s()).contains(at)));
        }

        #[test]
        fn reaching_is_the_inverse_of_the_integral(ramp in any_ramp(), part in 0.0..0.999_f64) {
            let whole: f64 = ramp.legs().map(|leg| leg.area()).sum();
            prop_assume!(whole > 0.0);
            let at_s = ramp.reaches(whole * part).unwrap();
            let until = |leg: Leg| {
                let x = (at_s - leg.start_s).clamp(0.0, leg.length_s());
                leg.from * x + (leg.to - leg.from) / leg.length_s() * x * x / 2.0
            };
            let integral: f64 = ramp.legs().map(until).sum();
            prop_assert!((integral - whole * part).abs() <= 1e-9 * whole.max(1.0), "{} {}", integral, whole * part);
        }
    }
}
