//! The stopping rule of a load point: whether the requests that are left can still bring a figure within its bound, and whether the
//! server is over-saturated, so that no figure will last.
//!
//! A percentile of N requests is beyond its bound for certain once more than its share of N is: that many of the highest values are
//! beyond it, whatever the others will be. Averages are never certain.

use super::growth::Growth;
use crate::metrics::cut_short::CutShort;
use crate::metrics::record::{Outcome, Phase};
use crate::metrics::request_figures::RequestFigures;
use crate::plan::load_point::Stop;
use crate::plan::search::{Figure, Objective, Search};
use crate::plan::{Arrival, Level, LoadPoint, Slo};

/// Counts the requests beyond each bound.
#[derive(Debug, Clone)]
pub struct Hopeless {
    /// Requests of the whole point, at most.
    requests: u64,
    ended: u64,
    slo: Slo,
    counts: Vec<Count>,
    /// `None` of a point that no queue can grow on.
    growth: Option<Growth>,
}

#[derive(Debug, Clone)]
struct Count {
    name: String,
    what: What,
    bound: f64,
    /// So many requests beyond the bound can still be made good.
    allowed: u64,
    beyond: u64,
}

#[derive(Debug, Clone, Copy)]
enum What {
    Ttft,
    Itl,
    E2e,
    Failed,
    Missed,
}

impl Hopeless {
    /// For one point of a search; `None` if nothing can be certain before its end.
    pub fn new(search: &Search, point: &LoadPoint) -> Option<Self> {
        let requests = most_requests(point)?;
        let counts: Vec<Count> =
            search.objectives().filter_map(|objective| count(objective, requests)).collect();
        let growth = Growth::of(point).filter(|_| !search.is_for_throughput());
        let is_any = !counts.is_empty() || growth.is_some();
        is_any.then_some(Self { requests, ended: 0, slo: point.slo, counts, growth })
    }

    /// Takes a request that has ended. Returns why the point cannot keep an objective any more.
    pub fn add(&mut self, request: &RequestFigures) -> Option<CutShort> {
        if request.phase != Phase::Measure || request.outcome == Outcome::Cancelled {
            return None;
        }
        self.ended += 1;
        let beyond = self.beyond(request);
        let (over_saturated, reason) = match beyond {
            Some(reason) => (false, reason),
            None => (true, self.growth.as_mut()?.add(request)?),
        };
        Some(CutShort { planned_requests: self.requests, over_saturated, reason })
    }

    fn beyond(&mut self, request: &RequestFigures) -> Option<String> {
        let slo = self.slo;
        for count in &mut self.counts {
            let over = |value: Option<f64>| value.is_some_and(|value| value > count.bound);
            let good = request.outcome == Outcome::Ok;
            let missed = |bound: Option<f64>, value: Option<f64>| {
                bound.is_some_and(|bound| value.is_none_or(|value| value > bound))
            };
            let is_beyond = match count.what {
                What::Ttft => good && over(request.ttft_ms()),
                What::Itl => good && over(request.itl_ms()),
                What::E2e => good && over(request.e2e_ms()),
                What::Failed => !good,
                What::Missed => {
                    good && (missed(slo.ttft_ms, request.ttft_ms())
                        || missed(slo.itl_ms, request.itl_ms())
                        || missed(slo.e2e_ms, request.e2e_ms()))
                }
            };
            count.beyond += u64::from(is_beyond);
            if count.beyond > count.allowed {
                return Some(format!(
                    "cut short after {} of {} requests: {} of them are beyond the bound of {}, and at most {} may be",
                    self.ended, self.requests, count.beyond, count.name, count.allowed
                ));
            }
        }
        None
    }
}

/// Requests that a point sends at most; `None` if only the server decides that.
fn most_requests(point: &LoadPoint) -> Option<u64> {
    match (&point.arrival, point.stop) {
        (_, Stop::Requests(count)) => Some(count),
        (Arrival::Open { rate: Level::Constant(rate), .. }, Stop::DurationS(seconds)) => {
            let mean = rate * seconds;
            // Four standard deviations of Poisson arrivals above the mean.
            Some((mean + 4.0 * mean.sqrt()).ceil() as u64)
        }
        _ => None,
    }
}

fn count(objective: &Objective, requests: u64) -> Option<Count> {
    let share = |share: f64| (share * requests as f64).floor() as u64;
    let (what, allowed) = match &objective.figure {
        Figure::ErrorRate => (What::Failed, share(objective.bound)),
        Figure::Goodput => (What::Missed, share(1.0 - objective.bound)),
        Figure::Latency(name) => {
            let (metric, percentile) = name.split_once(".p")?;
            let percentile: f64 = percentile.parse().ok()?;
            let what = match metric {
                "ttft" => What::Ttft,
                "itl" => What::Itl,
                "e2e" => What::E2e,
                _ => return None,
            };
            // The lower of the two values that a linear percentile lies between.
            let rank = (percentile / 100.0 * requests.saturating_sub(1) as f64).floor() as u64;
            (what, requests.saturating_sub(rank + 1))
        }
        _ => return None,
    };
    Some(Count { name: objective.name().to_owned(), what, bound: objective.bound, allowed, beyond: 0 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::fixtures::record;
    use crate::metrics::record::RequestRecord;

    fn search(goal: &str) -> Search {
        Search {
            goals: vec![goal.parse().unwrap()],
            is_rate: false,
            min: 1.0,
            max: 64.0,
            tolerance: 0.05,
            points: 20,
            time_s: None,
            repeats: 1,
            grows: (true, true),
        }
    }

    /// The number of the request at which it is certain; every request of the fixture has a TTFT of 50 ms and an ITL of 10 ms.
    fn certain_at(goal: &str, stop: Stop, outcome: impl Fn(u64) -> Outcome) -> Option<u64> {
        let point = LoadPoint { stop, arrival: Arrival::closed(4), ..LoadPoint::default() };
        let mut rule = Hopeless::new(&search(goal), &point)?;
        (1..=100).find(|id| {
            let record = RequestRecord { outcome: outcome(*id), ..record(*id, id * 1000) };
            rule.add(&RequestFigures::of(&record)).is_some()
        })
    }

    #[test]
    fn a_point_is_given_up_once_no_rest_can_save_it() {
        let ok = |_| Outcome::Ok;
        let all = Stop::Requests(100);
        for (goal, expected) in [
            // The 99th of 0..=99 lies between the 99th and the 100th value: two beyond the bound are certain.
            ("ttft.p99 < 40ms", Some(2)),
            // Rank 49.5: 50 values lie above the 50th.
            ("ttft.p50 < 40ms", Some(51)),
            ("ttft.p99 < 60ms", None),
            ("itl.p95 < 9ms", Some(6)),
            ("ttft.avg < 1ms", None),
            ("errors < 1%", None),
        ] {
            assert_eq!(certain_at(goal, all, ok), expected, "{goal}");
        }
        let every_second = |id: u64| if id.is_multiple_of(2) { Outcome::Timeout } else { Outcome::Ok };
        assert_eq!(certain_at("errors < 1%", all, every_second), Some(4), "the second failure of 100");
        assert_eq!(
            certain_at("ttft.p99 < 40ms", Stop::DurationS(9.0), ok),
            None,
            "nobody knows how many come"
        );
    }
}
