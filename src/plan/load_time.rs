//! How long the load of a plan takes, where its durations say so.

use super::{Arrival, Level, LoadPoint, Plan, Stop};
use crate::recipe::units::Span;

impl Plan {
    /// Seconds of load on all deployments together, at most: repeats and a search may end earlier. Without the start of the servers
    /// and what is still in flight at the end of a point. `None` if a load point ends by its requests, and nobody knows how long they
    /// take.
    pub fn load_s(&self) -> Option<f64> {
        let of = |(_, point): (_, &LoadPoint)| match &self.search {
            Some(search) => {
                let all = point.load_s().map(|one| one * f64::from(search.points));
                // The point that exceeds the time is measured to its end.
                let limit = search.time_s.map(|most| most + point.load_s().unwrap_or_default());
                [all, limit].into_iter().flatten().reduce(f64::min)
            }
            None => point.load_s(),
        };
        self.points().map(of).sum()
    }

    /// Why the time limit of the job is too short for the load; `None` if it is not, as far as is known.
    pub fn too_short(&self) -> Option<String> {
        let (load_s, limit_s) = (self.load_s()?, self.job.time_s as f64);
        let may = if self.search.is_some() || self.points().any(|(_, point)| point.is_until()) {
            "may last"
        } else {
            "lasts"
        };
        (load_s > limit_s).then(|| {
            format!(
                "slurm.time is {}, and the load {may} {} without the start of the servers: a longer time, e.g. --set slurm.time={}",
                Span(limit_s),
                Span(load_s.ceil()),
                Span((load_s * 1.2 / 60.0).ceil() * 60.0)
            )
        })
    }

    /// What the search looks for and how far, in a line; `None` without one.
    pub fn search_words(&self) -> Option<String> {
        let search = self.search.as_ref()?;
        let (_, template) = self.points().next()?;
        let time = self.load_s().map(|most| format!(", {} of load at most", Span(most.ceil())));
        let each = if self.points().count() > 1 { " each" } else { "" };
        Some(format!(
            "{}, from {} within {} to {}, {} load points at most{each}{}",
            search.goal_words(),
            search.from(template),
            search.min,
            search.max,
            search.points,
            time.unwrap_or_default()
        ))
    }
}

impl LoadPoint {
    /// Seconds in which requests are sent, warm-up included.
    fn load_s(&self) -> Option<f64> {
        let load = match (self.arrival.ramp(), &self.arrival, self.stop) {
            (Some(ramp), ..) => ramp.duration_s(),
            (None, _, Stop::DurationS(seconds)) => seconds,
            (None, Arrival::Open { rate: Level::Constant(rate), .. }, Stop::Requests(count)) => {
                count as f64 / rate
            }
            _ => return None,
        };
        Some(load + self.warmup_duration_s.unwrap_or_default())
    }

    /// Whether its repeats may end before their number.
    fn is_until(&self) -> bool {
        self.repeat.as_ref().is_some_and(|repeat| repeat.until.is_some())
    }
}

#[cfg(test)]
mod tests {
    use crate::plan::choices::Choices;
    use crate::planner::testing::planned;

    #[test]
    fn the_load_lasts_as_long_as_its_points_together() {
        for (load, expected) in [
            ("concurrency = [1, 2]\nduration = \"30s\"", Some(60.0)),
            ("concurrency = [1, 2]\nduration = \"30s\"\nrepeats = 5", Some(300.0)),
            ("concurrency = 1\nduration = \"30s\"\nwarmup_duration = \"10s\"", Some(40.0)),
            ("concurrency = [1, 2]\nrequests = 10", None),
            ("rate = 2\nrequests = 100", Some(50.0)),
            ("concurrency = 1\nduration = \"30s\"\n[search]\ngoal = [\"throughput\"]", Some(900.0)),
            (
                "concurrency = 1\nduration = \"30s\"\n[search]\ngoal = [\"throughput\"]\ntime = \"5m\"",
                Some(330.0),
            ),
            ("concurrency = 1\n[search]\ngoal = [\"throughput\"]\ntime = \"5m\"", Some(300.0)),
        ] {
            assert_eq!(planned(load, Choices::default()).unwrap().load_s(), expected, "{load}");
        }
    }

    #[test]
    fn a_job_that_ends_before_its_load_is_named() {
        let of = |load: &str| planned(load, Choices::default()).unwrap().too_short();
        assert_eq!(of("duration = \"50m\"\n[slurm]\ntime = \"1h\""), None);
        let said = of("duration = \"20m\"\nrepeats = 4\n[slurm]\ntime = \"1h\"").unwrap();
        assert_eq!(
            said,
            "slurm.time is 1h, and the load lasts 80m without the start of the servers: a longer time, e.g. --set slurm.time=96m"
        );
        let search = "duration = \"60s\"\n[search]\ngoal = [\"ttft.p99 < 1s\"]\n[slurm]\ntime = \"10m\"";
        assert!(of(search).unwrap().contains("the load may last 30m"));
    }

    #[test]
    fn a_search_is_told_in_a_line() {
        let of = |load: &str| planned(load, Choices::default()).unwrap().search_words().unwrap();
        assert_eq!(
            of(
                "concurrency = 16\nduration = \"60s\"\n[search]\ngoal = [\"ttft.p99 < 500ms\", \"errors < 1%\"]"
            ),
            "largest concurrency that keeps ttft.p99 < 500ms and errors < 1%, from 16 within 1 to 1024, 30 load points at most, \
             30m of load at most"
        );
        assert_eq!(
            of("rate = 8\nrequests = 10\n[search]\ngoal = [\"throughput\"]\nmax = 64\npoints = 12"),
            "highest throughput over the request rate, from 8 within 0.125 to 64, 12 load points at most, 15s of load at most"
        );
    }
}
