//! A search for a load: what it looks for and how far, and the load points that it may measure.

use serde::{Deserialize, Serialize};

use super::load_point::{Repeat, Stop};
use super::{Arrival, Level, LoadPoint, point_id};
pub use crate::recipe::objective::{Figure, Objective, Unit};
pub use crate::recipe::search::Goal;

/// A search on every load point of the plan, from its own load.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Search {
    /// Objectives, or the throughput alone.
    pub goals: Vec<Goal>,
    /// The rate is searched, not the concurrency.
    pub is_rate: bool,
    pub min: f64,
    pub max: f64,
    pub tolerance: f64,
    /// Most measurements.
    pub points: u32,
    /// Longest measured time, seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_s: Option<f64>,
    /// Measurements at the limit.
    pub repeats: u32,
    /// Requests and warm-up requests grow with the concurrency.
    pub grows: (bool, bool),
}

impl Search {
    pub fn axis(&self) -> &'static str {
        if self.is_rate { "request rate" } else { "concurrency" }
    }

    /// What it looks for: `largest concurrency that keeps ttft.p99 < 500ms`.
    pub fn goal_words(&self) -> String {
        let goals: Vec<String> = self.goals.iter().map(Goal::to_string).collect();
        match self.is_for_throughput() {
            true => format!("highest throughput over the {}", self.axis()),
            false => format!("largest {} that keeps {}", self.axis(), goals.join(" and ")),
        }
    }

    /// Whether the throughput is looked for.
    pub fn is_for_throughput(&self) -> bool {
        self.goals.contains(&Goal::Throughput)
    }

    /// The objectives.
    pub fn objectives(&self) -> impl Iterator<Item = &Objective> {
        self.goals.iter().filter_map(|goal| match goal {
            Goal::Keep(objective) => Some(objective),
            Goal::Throughput => None,
        })
    }

    /// The load that the search on a point of the plan begins with.
    pub fn from(&self, template: &LoadPoint) -> f64 {
        let load = template.request_rate().filter(|_| self.is_rate);
        load.or(template.concurrency().map(f64::from)).unwrap_or(1.0).clamp(self.min, self.max)
    }

    /// The point of the plan under another load, for the `number`th time.
    pub fn point(&self, template: &LoadPoint, load: f64, number: u32) -> LoadPoint {
        let plain = point_id(template.isl, template.osl, &template.prompts, &template.arrival);
        let axes = template.id.strip_prefix(&plain).unwrap_or_default();
        let arrival = match &template.arrival {
            Arrival::Open { spacing, limit, .. } => {
                Arrival::Open { rate: Level::Constant(load), spacing: *spacing, limit: *limit }
            }
            // `as` saturates.
            _ => Arrival::closed(load.round() as u32),
        };
        let own = template.concurrency().map_or(1.0, f64::from);
        let grown =
            |count: u64, grows: bool| if grows { (count as f64 * load / own).round() as u64 } else { count };
        let id = point_id(template.isl, template.osl, &template.prompts, &arrival);
        let repeat = (self.repeats > 1).then_some(Repeat { number, of: self.repeats, until: None });
        let repeated = repeat.as_ref().map(|repeat| format!("_r{}", repeat.number)).unwrap_or_default();
        LoadPoint {
            id: format!("{id}{axes}{repeated}"),
            stop: match template.stop {
                Stop::Requests(count) => Stop::Requests(grown(count, self.grows.0).max(1)),
                other => other,
            },
            warmup_requests: grown(template.warmup_requests, self.grows.1),
            seed: template.seed.wrapping_add(u64::from(number) - 1),
            arrival,
            repeat,
            ..template.clone()
        }
    }
}
