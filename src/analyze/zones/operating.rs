//! Operating points: which level to choose for which purpose.

use super::{Efficiency, Judged, Thresholds};

/// Loads to choose. `None` where no level has the figures.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct OperatingPoints {
    /// The load with the lowest average latency.
    pub optimal_latency: Option<f64>,
    /// The lowest load whose throughput is the highest one, but for noise.
    pub peak_throughput: Option<f64>,
    /// Lowest and highest load around the best ratio of throughput to latency. `None` for a single level.
    pub sweet_spot: Option<(f64, f64)>,
}

pub(super) fn points(
    points: &[Judged],
    saturation_beyond: Option<f64>,
    thresholds: &Thresholds,
) -> OperatingPoints {
    let usable: Vec<&Judged> = points.iter().filter(|judged| judged.level.is_whole()).collect();
    let latencies =
        usable.iter().filter_map(|judged| Some((judged.level.load, judged.level.latency_avg_ms?)));
    let optimal = latencies.min_by(|a, b| a.1.total_cmp(&b.1));
    let throughputs =
        || usable.iter().filter_map(|judged| Some((judged.level.load, judged.level.throughput()?)));
    let highest = throughputs().map(|(_, throughput)| throughput).fold(0.0, f64::max);
    let peak = throughputs().find(|(_, throughput)| *throughput >= highest * (1.0 - thresholds.noise));
    OperatingPoints {
        optimal_latency: optimal.map(|(load, _)| load),
        peak_throughput: peak.map(|(load, _)| load),
        sweet_spot: sweet_spot(&usable, saturation_beyond, thresholds),
    }
}

/// The levels around the highest power, throughput divided by latency, that are near it and worth their latency. A level beyond
/// saturation is never among them.
///
/// Source: L. Kleinrock, "Power and deterministic rules of thumb for probabilistic problems in computer communications", 1979.
fn sweet_spot(
    usable: &[&Judged],
    saturation_beyond: Option<f64>,
    thresholds: &Thresholds,
) -> Option<(f64, f64)> {
    let power = |judged: &&&Judged| Some(judged.level.throughput()? / judged.level.latency_avg_ms?);
    let growing =
        usable.iter().filter(|judged| saturation_beyond.is_none_or(|bound| judged.level.load <= bound));
    let levels: Vec<(&Judged, f64)> = growing.filter_map(|judged| Some((*judged, power(&judged)?))).collect();
    let (best, highest) =
        levels.iter().map(|(_, power)| *power).enumerate().max_by(|a, b| a.1.total_cmp(&b.1))?;
    if usable.len() < 2 {
        return None;
    }
    let near = |(_, power): &&(&Judged, f64)| *power >= highest * thresholds.sweet_spot;
    let below = levels.iter().take(best + 1).rev().take_while(near).last();
    let is_good = |(judged, _): &&(&Judged, f64)| judged.efficiency == Some(Efficiency::Good);
    let above = levels.iter().skip(best + 1).take_while(|level| near(level) && is_good(level)).last();
    let top = above.or(levels.get(best));
    Some((below?.0.level.load, top?.0.level.load))
}
