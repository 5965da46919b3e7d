//! A ramp from the stages of `[load]`, every mistake in them reported at once.

use super::parsed::Mistakes;
use super::sections::Load;
use crate::plan::{Ramp, Stage};
use crate::recipe::StageSection;

/// The ramp of `load`, which has `stages`: of the rate if the first stage has one, else of the concurrency. `None` if one is wrong.
pub(super) fn ramp(load: &Load, stages: &[StageSection], mistakes: &mut Mistakes<'_>) -> Option<Ramp> {
    let before = mistakes.found.len();
    let Some(first) = stages.first() else {
        mistakes.add("stages", "found an empty list", "one stage or more");
        return None;
    };
    let by_rate = first.rate.is_some();
    let (kind, other) = if by_rate { ("rate", "concurrency") } else { ("concurrency", "rate") };
    for (number, stage) in (1..).zip(stages) {
        let mut wrong = |problem: &str, expected: &str| {
            mistakes.add(&format!("stages[{number}]"), problem, expected);
        };
        match (stage.concurrency, stage.rate) {
            (Some(_), Some(_)) => {
                wrong("found concurrency and rate", "one of them, the same in all stages");
            }
            (None, None) => {
                wrong("neither concurrency nor rate", &format!("{kind}: the value at its end"));
            }
            (_, rate) if rate.is_some() != by_rate => {
                wrong(&format!("found {other}"), &format!("{kind}, as in the first stage"));
            }
            _ => {}
        }
        if !stage.cool_down && stages.iter().take(number - 1).any(|stage| stage.cool_down) {
            wrong("found behind a stage with cool_down", "cool-down stages at the end of the ramp alone");
        }
    }
    if first.cool_down {
        let problem = "found true: no stage would be measured";
        mistakes.add("stages[1].cool_down", problem, "false in the first stage");
    }
    let (of_concurrency, of_rate) = (load.start_concurrency.map(f64::from), load.start_rate);
    let (start, misplaced) = if by_rate { (of_rate, of_concurrency) } else { (of_concurrency, of_rate) };
    if misplaced.is_some() && mistakes.found.len() == before {
        let problem = format!("found beside stages of a {kind}");
        mistakes.add(&format!("start_{other}"), problem, format!("start_{kind}"));
    }
    let stages = stages.iter().map(|stage| Stage {
        name: stage.name.clone(),
        duration_s: stage.duration.seconds(),
        target: stage.rate.or(stage.concurrency.map(f64::from)).unwrap_or_default(),
        shape: stage.shape,
        cool_down: stage.cool_down,
    });
    let ramp = Ramp { start: start.unwrap_or_default(), stages: stages.collect() };
    if mistakes.found.len() == before && ramp.peak() <= 0.0 {
        let problem = format!("found a {kind} of 0 in every stage: nothing would be sent");
        mistakes.add("stages", problem, "a value above 0 somewhere");
    }
    (mistakes.found.len() == before).then_some(ramp)
}
