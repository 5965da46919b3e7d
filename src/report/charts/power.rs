//! Power and utilization of the GPUs over time.

use super::clock::{Clock, Over, Values, peak};
use crate::report::chart::Series;
use crate::report::material::{GpuSample, Run};
use crate::report::table::number;

/// Power of all GPUs together.
pub(super) fn power(run: &Run, clock: Clock) -> Option<Over> {
    let (gpus, power) = (run.gpus.len(), together(run, clock, |sample| sample.power_w, |a, b| a + b));
    let (at, most) = peak(&power);
    (!power.is_empty()).then(|| Over {
        name: "power-over-time",
        title: "Power of the GPUs",
        unit: "W, all GPUs together",
        series: vec![Series::line("", 4, power)],
        sentence: format!("The {} drew most after {} s: {} W.", called(gpus), number(at), number(most)),
    })
}

/// Mean utilization, and that of the least used GPU where there are several.
pub(super) fn utilization(run: &Run, clock: Clock) -> Option<Over> {
    let gpus = run.gpus.len();
    let of = |join| together(run, clock, |sample| sample.util_pct, join);
    let mean: Values = of(|a, b| a + b).into_iter().map(|(at, sum)| (at, sum / gpus as f64)).collect();
    let average = mean.iter().map(|(_, value)| value).sum::<f64>() / mean.len().max(1) as f64;
    let mut series = vec![Series::line(if gpus > 1 { "mean" } else { "" }, 0, mean)];
    series.extend(
        (gpus > 1).then(|| Series { dashed: true, ..Series::line("least used GPU", 1, of(f64::min)) }),
    );
    series.retain(|series| !series.points.is_empty());
    (!series.is_empty()).then(|| Over {
        name: "gpu-utilization-over-time",
        title: "Utilization of the GPUs",
        unit: "%",
        series,
        sentence: format!("The {} had a kernel running in {} % of the time.", called(gpus), number(average)),
    })
}

fn called(gpus: usize) -> String {
    if gpus == 1 { "GPU".to_owned() } else { format!("{gpus} GPUs") }
}

/// The mean of each GPU in each part of the time, joined over GPUs; parts in which one of them has no sample are left out.
fn together(
    run: &Run,
    clock: Clock,
    figure: fn(&GpuSample) -> Option<f64>,
    join: fn(f64, f64) -> f64,
) -> Values {
    let means = |samples: &Vec<GpuSample>| {
        let mut parts = vec![(0.0, 0u32); clock.parts];
        for sample in samples {
            if let (Some(part), Some(value)) = (clock.part(sample.at), figure(sample)) {
                parts[part] = (parts[part].0 + value, parts[part].1 + 1);
            }
        }
        let mean = |(sum, count): (f64, u32)| (count > 0).then(|| sum / f64::from(count));
        parts.into_iter().map(mean).collect::<Vec<Option<f64>>>()
    };
    let gpus: Vec<Vec<Option<f64>>> = run.gpus.iter().map(means).collect();
    let of_part = |part: usize| {
        let known: Option<Vec<f64>> = gpus.iter().map(|parts| parts[part]).collect();
        Some((clock.middle(part), known?.into_iter().reduce(join)?))
    };
    (0..clock.parts).filter_map(of_part).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::fixtures::record;
    use crate::metrics::request_figures::RequestFigures;

    /// Two requests a second apart, 1 s after instant 0: three parts of 0.5 s. GPU 1 has no sample in the second.
    fn run() -> Run {
        let requests = [1_000_000, 2_000_000];
        let requests = requests.iter().map(|at| RequestFigures::of(&record(0, *at))).collect();
        let sample = |at, util, power| GpuSample { at, util_pct: Some(util), power_w: Some(power) };
        let gpus = vec![
            vec![
                sample(0.2, 0.0, 70.0),
                sample(1.1, 80.0, 300.0),
                sample(1.3, 90.0, 320.0),
                sample(1.6, 90.0, 320.0),
                sample(2.1, 100.0, 400.0),
            ],
            vec![sample(1.2, 50.0, 200.0), sample(2.1, 60.0, 250.0)],
        ];
        Run { requests, gpus, ..Run::default() }
    }

    #[test]
    fn power_is_the_sum_and_utilization_the_mean_of_the_gpus_that_all_have_samples() {
        let run = run();
        let clock = Clock::of(&run).unwrap();
        assert_eq!((clock.width, clock.parts), (0.5, 3));
        let points =
            |series: &Series| series.points.iter().map(|point| (point.x, point.y)).collect::<Vec<_>>();
        let power = power(&run, clock).unwrap();
        assert_eq!(points(&power.series[0]), [(0.25, 510.0), (1.25, 650.0)]);
        assert_eq!(power.sentence, "The 2 GPUs drew most after 1.25 s: 650 W.");
        let used = utilization(&run, clock).unwrap();
        assert_eq!(points(&used.series[0]), [(0.25, 67.5), (1.25, 80.0)]);
        assert_eq!(points(&used.series[1]), [(0.25, 50.0), (1.25, 60.0)]);
    }

    #[test]
    fn without_telemetry_there_is_no_chart() {
        let run = Run { gpus: Vec::new(), ..run() };
        let clock = Clock::of(&run).unwrap();
        assert!(power(&run, clock).is_none() && utilization(&run, clock).is_none());
    }
}
