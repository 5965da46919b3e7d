//! The name of an experiment without its job id: model, lengths, batch size, load.

use super::matrix::file_safe;
use crate::plan::{Deployment, LoadPoint, Model, PromptKind};

/// `<model>_<isl>_<osl>_<max_batch_size>_<concurrency>`; an axis is written `1-2048`.
pub(super) fn experiment_name(
    batch_option: Option<&str>,
    model: &Model,
    deployments: &[Deployment],
) -> String {
    let points = || deployments.iter().flat_map(|deployment| &deployment.points);
    let batch = batch_option.and_then(|option| {
        let size = |deployment: &Deployment| {
            // Of prefill and decode the latter's batch is the one that people mean.
            let engine = deployment.pools.last().map_or(&deployment.engine, |pool| &pool.engine);
            engine.get(option).or_else(|| engine.get(&option.replace('_', "-")))?.as_u64()
        };
        let sizes: Option<Vec<u64>> = deployments.iter().map(size).collect();
        Some(range(sizes?.into_iter()))
    });
    let batch = batch.unwrap_or_else(|| "auto".to_owned());
    // Lengths that come from a file are named after it.
    let file = points().find_map(|point| match &point.prompts.source {
        PromptKind::Synthetic(_) => None,
        PromptKind::Dataset(dataset) => Some(dataset.kind.as_str()),
        PromptKind::Trace(trace) => Some(trace.kind.as_str()),
    });
    let lengths = |length: fn(&LoadPoint) -> u32| match file {
        Some(file) if points().any(|point| length(point) == 0) => file.to_owned(),
        _ => range(points().map(|point| u64::from(length(point)))),
    };
    format!(
        "{}_{}_{}_{batch}_{}",
        file_safe(model.name.rsplit('/').next().unwrap_or(&model.name)),
        lengths(|point| point.isl.mean),
        lengths(|point| point.osl.mean),
        load_range(points()),
    )
}

fn load_range<'a>(points: impl Iterator<Item = &'a LoadPoint> + Clone) -> String {
    if let Some(ramp) = points.clone().find(|point| point.arrival.ramp().is_some()) {
        return ramp.request_rate().map_or_else(
            || format!("ramp{}", ramp.concurrency().unwrap_or_default()),
            |rate| format!("ramprate{rate}"),
        );
    }
    let mut rates: Vec<f64> = points.clone().filter_map(LoadPoint::request_rate).collect();
    rates.sort_unstable_by(f64::total_cmp);
    match (rates.first(), rates.last()) {
        (Some(low), Some(high)) if low == high => format!("rate{low}"),
        (Some(low), Some(high)) => format!("rate{low}-{high}"),
        _ => range(points.filter_map(LoadPoint::concurrency).map(u64::from)),
    }
}

fn range(values: impl Iterator<Item = u64> + Clone) -> String {
    match (values.clone().min(), values.max()) {
        (Some(low), Some(high)) if low == high => low.to_string(),
        (Some(low), Some(high)) => format!("{low}-{high}"),
        _ => "none".into(),
    }
}
