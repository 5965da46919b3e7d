//! Lists known differences between a published run and a measured one.

use serde_json::Value;

use super::conditions::{gpus, is_near};
use super::published::{Figure, PlannedPoint};
use super::verify::{Difference, MeasuredRun};
use crate::metrics::{Rating, Summary};

/// Report a mean length that is off by more than this, percent.
const LENGTH_TOLD: f64 = 0.5;

impl MeasuredRun<'_> {
    /// Actual and possible differences. Always includes the software, because versions cannot be compared as text.
    pub(super) fn differences(
        &self,
        figure: &Figure,
        planned: &PlannedPoint<'_>,
        summary: &Summary,
    ) -> Vec<Difference> {
        let published = &figure.published;
        let mut differences = vec![Difference {
            what: "software".into(),
            published: published.software.clone(),
            here: self.software(summary),
        }];
        let mut add = |what: &str, published: Option<String>, here: String| {
            differences.push(Difference { what: what.to_owned(), published, here });
        };
        let point = &summary.point;
        let off = |found: Option<f64>, asked: u32| {
            found.is_some_and(|found| !is_near(found, f64::from(asked), LENGTH_TOLD))
        };
        let (isl, osl) = (summary.isl.map(|isl| isl.avg), summary.osl.map(|osl| osl.avg));
        let asked = (published.isl.unwrap_or(point.isl), published.osl.unwrap_or(point.osl));
        if off(isl, asked.0) || off(osl, asked.1) {
            let mean = |length: Option<f64>| length.map_or("N/A".to_owned(), |length| format!("{length:.1}"));
            add(
                "lengths",
                Some(format!("ISL {} OSL {}", asked.0, asked.1)),
                format!("ISL {} OSL {} on average", mean(isl), mean(osl)),
            );
        }
        let here = planned.deployment.gpus;
        if let Some(there) = published.gpus.filter(|there| *there != here && here > 0) {
            add("GPUs", Some(gpus(there)), gpus(here));
        }
        for change in self.changes.iter().filter(|change| !change.narrowed) {
            let here = format!("{} ({})", text(&change.here), change.from);
            add(&change.key, change.own.as_ref().map(text), here);
        }
        if summary.verdict.result == Rating::Suspect {
            summary.verdict.reasons.iter().for_each(|reason| add("verdict", None, reason.clone()));
        }
        differences
    }

    /// What is known of the software of this run.
    pub(super) fn software(&self, summary: &Summary) -> String {
        let image = self.plan.container.as_ref();
        let image = image.map_or("no container".to_owned(), |container| format!("image {}", container.image));
        let (launcher, tokmark) = (&self.plan.launcher().name, &self.plan.input.version);
        let engine = summary.engine_version.as_ref().map(|version| format!(" (engine {version})"));
        format!("{image}, launcher {launcher}{}, tokmark {tokmark}", engine.unwrap_or_default())
    }
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
