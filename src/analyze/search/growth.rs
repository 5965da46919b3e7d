//! Whether the queue of an open loop grows without bound: fewer requests complete than arrive, and the wait for the first token
//! rises all the time.
//!
//! Both must be seen. At the start every server has fewer completions than arrivals, until the first answers are long; and TTFT alone
//! rises while a batch fills.

use crate::metrics::record::Outcome;
use crate::metrics::request_figures::RequestFigures;
use crate::plan::{Arrival, Level, LoadPoint, Stop};

/// Fewest completed requests.
const LEAST: usize = 40;
/// Share of the arrivals by which the completions must stay behind.
const SHARE: f64 = 0.1;
/// Standard deviations of the difference, were both Poisson processes.
const Z: f64 = 4.0;
/// Seconds per second by which TTFT must rise: at a tenth more arrivals than completions it rises by 0.1.
const SLOPE: f64 = 0.05;
/// How often it is looked at in the planned time of a point. More often would find chance more often.
const LOOKS: f64 = 16.0;

/// A request that ended: seconds since the first arrival.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ended {
    pub sent_s: f64,
    pub ended_s: f64,
    /// `None` without streaming, and of a request that failed.
    pub ttft_s: Option<f64>,
}

/// A queue that grows without bound.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Grown {
    /// Of the latter half of the time so far.
    pub arrivals: f64,
    pub completions: usize,
    /// Seconds per second by which TTFT rises.
    pub slope: f64,
}

/// What the requests that ended up to `now_s` tell of a point at this rate; `None` if the queue may be bounded.
pub fn grown(rate: f64, now_s: f64, ended: &[Ended]) -> Option<Grown> {
    if ended.len() < LEAST {
        return None;
    }
    let half = now_s / 2.0;
    let arrivals = rate * half;
    let completions = ended.iter().filter(|one| one.ended_s > half).count();
    let behind = arrivals - completions as f64;
    if behind < SHARE * arrivals || behind < Z * (arrivals + completions as f64).sqrt() {
        return None;
    }
    let slope = slope(ended)?;
    (slope >= SLOPE).then_some(Grown { arrivals, completions, slope })
}

/// By how much TTFT rises from the first third of the requests to the last, by their medians.
fn slope(ended: &[Ended]) -> Option<f64> {
    let mut sent: Vec<(f64, f64)> = ended.iter().filter_map(|one| Some((one.sent_s, one.ttft_s?))).collect();
    sent.sort_by(|a, b| a.0.total_cmp(&b.0));
    let third = sent.len() / 3;
    let (first, last) = (sent.get(..third)?, sent.get(sent.len() - third..)?);
    let of = |part: &[(f64, f64)]| {
        Some((median(part.iter().map(|one| one.0))?, median(part.iter().map(|one| one.1))?))
    };
    let ((from, before), (to, after)) = (of(first)?, of(last)?);
    Some((after - before) / (to - from)).filter(|slope| slope.is_finite())
}

fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

/// Watches a point while it is measured.
#[derive(Debug, Clone)]
pub struct Growth {
    rate: f64,
    planned_s: f64,
    /// Sent, ended and TTFT, µs on the clock of the records.
    ended: Vec<(u64, u64, Option<f64>)>,
    /// The first arrival.
    began_us: u64,
    looked: f64,
}

impl Growth {
    /// Of a point with a constant rate; `None` of any other.
    pub fn of(point: &LoadPoint) -> Option<Self> {
        let Arrival::Open { rate: Level::Constant(rate), .. } = point.arrival else { return None };
        let planned_s = match point.stop {
            Stop::Requests(count) => count as f64 / rate,
            Stop::DurationS(seconds) => seconds,
            Stop::TraceEnd => return None,
        };
        Some(Self { rate, planned_s, ended: Vec::new(), began_us: u64::MAX, looked: 0.0 })
    }

    /// Takes a measured request that has ended. Says once why the point is over-saturated.
    pub fn add(&mut self, request: &RequestFigures) -> Option<String> {
        let ttft = request.ttft_ms().filter(|_| request.outcome == Outcome::Ok);
        self.ended.push((request.sent_us, request.end_us, ttft));
        self.began_us = self.began_us.min(request.sent_us);
        let began = self.began_us;
        let seconds = |us: u64| us.saturating_sub(began) as f64 / 1e6;
        let now_s = seconds(request.end_us);
        let look = (now_s / self.planned_s * LOOKS).floor();
        if look <= self.looked {
            return None;
        }
        self.looked = look;
        let ended: Vec<Ended> = self
            .ended
            .iter()
            .map(|(sent, end, ttft)| Ended {
                sent_s: seconds(*sent),
                ended_s: seconds(*end),
                ttft_s: ttft.map(|ms| ms / 1e3),
            })
            .collect();
        let Grown { arrivals, completions, slope } = grown(self.rate, now_s, &ended)?;
        let (half, planned) = (now_s / 2.0, self.planned_s);
        Some(format!(
            "cut short after {now_s:.1} s of {planned:.1} s: over-saturated: of the {arrivals:.0} requests that arrived in the last \
             {half:.1} s as many as {completions} were answered, and TTFT rose by {slope:.2} s per second, so the queue grows without bound"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::fixtures::record;
    use crate::metrics::record::RequestRecord;
    use crate::plan::load_point::{Limit, Spacing};

    /// Requests at even gaps on a server of `slots` that takes `service_s` for each, in order; the first token comes after a tenth
    /// of that. Those that ended up to `now_s`.
    fn served(rate: f64, slots: usize, service_s: impl Fn(u64) -> f64, now_s: f64) -> Vec<Ended> {
        let mut free = vec![0.0_f64; slots];
        let mut ended = Vec::new();
        for number in 0..(rate * now_s) as u64 {
            let (sent_s, service_s) = (number as f64 / rate, service_s(number));
            let slot = free.iter_mut().min_by(|a, b| a.total_cmp(b)).unwrap();
            let began = slot.max(sent_s);
            *slot = began + service_s;
            ended.push(Ended { sent_s, ended_s: *slot, ttft_s: Some(began - sent_s + service_s / 10.0) });
        }
        ended.retain(|one| one.ended_s <= now_s);
        ended
    }

    #[test]
    fn a_queue_grows_when_more_arrives_than_ten_slots_of_a_second_each_serve() {
        let second = |_| 1.0;
        for (rate, now_s, expected, why) in [
            (20.0, 20.0, true, "twice the capacity: 200 arrive in 10 s, 100 are served"),
            (15.0, 40.0, true, "300 arrive in 20 s, 200 are served: 100 behind, 4 deviations are 89"),
            (15.0, 20.0, false, "150 and 100: 50 behind, 4 deviations are 63"),
            (10.5, 600.0, false, "5 % behind"),
            (9.5, 600.0, false, "below the capacity"),
            (20.0, 3.0, false, "21 requests ended"),
        ] {
            let found = grown(rate, now_s, &served(rate, 10, second, now_s));
            assert_eq!(found.is_some(), expected, "{rate}/s at {now_s} s: {why}: {found:?}");
        }
        let found = grown(20.0, 20.0, &served(20.0, 10, second, 20.0)).unwrap();
        // In a second 20 arrive, which take two: whoever is sent a second later waits a second longer, in steps of half a second.
        assert_eq!((found.arrivals, found.completions), (200.0, 100));
        assert!((found.slope - 1.0).abs() < 0.1, "{found:?}");
    }

    #[test]
    fn long_answers_are_no_queue_while_the_first_ones_run() {
        // A slot for everyone; an answer takes from 5 to 35 s.
        let long = |number: u64| 5.0 + (number * 7 % 31) as f64;
        for now_s in [10.0, 20.0, 30.0, 60.0] {
            assert_eq!(grown(20.0, now_s, &served(20.0, 10_000, long, now_s)), None, "at {now_s} s");
        }
    }

    #[test]
    fn a_point_is_over_saturated_while_it_is_measured() {
        let of = |rate: f64, stop: Stop| {
            let arrival = Arrival::Open {
                rate: Level::Constant(rate),
                spacing: Spacing::Constant,
                limit: Limit::default(),
            };
            let mut growth = Growth::of(&LoadPoint { arrival, stop, ..LoadPoint::default() }).unwrap();
            let mut ended = served(rate, 10, |_| 1.0, 60.0);
            ended.sort_by(|a, b| a.ended_s.total_cmp(&b.ended_s));
            ended.iter().find_map(|one| {
                let us = |seconds: f64| (seconds * 1e6) as u64;
                let first = us(one.sent_s + one.ttft_s.unwrap());
                let record = RequestRecord {
                    sent_us: us(one.sent_s),
                    chunks_us: vec![first, us(one.ended_s)],
                    end_us: us(one.ended_s),
                    ..record(1, 0)
                };
                growth.add(&RequestFigures::of(&record))
            })
        };
        let said = of(20.0, Stop::DurationS(64.0)).unwrap();
        // At 4, 8, 12 s: 40 behind of 80 and 40, of which 4 deviations are 44; at 12 s 60 and 54.
        assert!(
            said.starts_with("cut short after 12.0 s of 64.0 s: over-saturated: of the 120 requests"),
            "{said}"
        );
        assert!(of(20.0, Stop::Requests(1280)).is_some());
        assert_eq!(of(9.0, Stop::DurationS(60.0)), None);
    }
}
