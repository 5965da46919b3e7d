//! A ramp from the stages of `[load]`, every mistake in them reported at once.

use super::parsed::Parsed;
use crate::document::InputError;
use crate::plan::{Ramp, Stage};
use crate::recipe::{LoadSection, StageSection};

/// The ramp of `load`, which has `stages`: of the rate if the first stage has one, else of the concurrency.
pub(super) fn ramp(
    load: &LoadSection,
    stages: &[StageSection],
    parsed: &Parsed<'_>,
) -> Result<Ramp, Vec<InputError>> {
    let mut errors = Vec::new();
    let Some(first) = stages.first() else {
        return Err(vec![parsed.at("load.stages", "found an empty list").expected("one stage or more")]);
    };
    let by_rate = first.rate.is_some();
    let (kind, other) = if by_rate { ("rate", "concurrency") } else { ("concurrency", "rate") };
    for (number, stage) in (1..).zip(stages) {
        let at = |problem: String| parsed.at(&format!("load.stages[{number}]"), problem);
        match (stage.concurrency, stage.rate) {
            (Some(_), Some(_)) => errors.push(
                at("found concurrency and rate".into()).expected("one of them, the same in all stages"),
            ),
            (None, None) => errors.push(
                at("neither concurrency nor rate".into()).expected(format!("{kind}: the value at its end")),
            ),
            (_, rate) if rate.is_some() != by_rate => {
                errors.push(at(format!("found {other}")).expected(format!("{kind}, as in the first stage")))
            }
            _ => {}
        }
        let before = stages.iter().take(number - 1).any(|stage| stage.cool_down);
        if before && !stage.cool_down {
            errors.push(
                at("found behind a stage with cool_down".into())
                    .expected("cool-down stages at the end of the ramp alone"),
            );
        }
    }
    if first.cool_down {
        errors.push(
            parsed
                .at("load.stages[1].cool_down", "found true: no stage would be measured")
                .expected("false in the first stage"),
        );
    }
    let (start, wrong_start) = match by_rate {
        true => (load.start_rate, load.start_concurrency.is_some().then_some("start_concurrency")),
        false => (load.start_concurrency.map(f64::from), load.start_rate.is_some().then_some("start_rate")),
    };
    if let Some(key) = wrong_start {
        errors.push(
            parsed
                .at(&format!("load.{key}"), format!("found beside stages of a {kind}"))
                .expected(format!("start_{kind}")),
        );
    }
    let target = |stage: &StageSection| stage.rate.or(stage.concurrency.map(f64::from)).unwrap_or(0.0);
    let stages = stages.iter().map(|stage| Stage {
        name: stage.name.clone(),
        duration_s: stage.duration.seconds(),
        target: target(stage),
        shape: stage.shape,
        cool_down: stage.cool_down,
    });
    let ramp = Ramp { start: start.unwrap_or(0.0), stages: stages.collect() };
    if errors.is_empty() && ramp.peak() <= 0.0 {
        errors.push(
            parsed
                .at("load.stages", format!("found a {kind} of 0 in every stage: nothing would be sent"))
                .expected("a value above 0 somewhere"),
        );
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    Ok(ramp)
}
