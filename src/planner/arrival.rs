//! How the requests of a load point arrive and when it ends, from the keys of `[load]`.

use toml::Table;

use super::parsed::Mistakes;
use super::sections::Load;
use super::stages::ramp;
use crate::document::InputError;
use crate::plan::load_point::GAMMA_SHAPES;
use crate::plan::{Arrival, AtEnd, Level, Limit, Spacing, Stop};
use crate::recipe::alternatives::ARRIVALS;
use crate::recipe::units::{OneOrMany, Span};
use crate::recipe::{ArrivalSection, AtEndWord};

/// Keys of which a recipe sets one at most: when the load ends, and how long its warm-up is.
const EITHER: [[&str; 3]; 2] = [
    ["requests", "requests_per_concurrency", "duration"],
    ["warmup_requests", "warmup_per_concurrency", "warmup_duration"],
];

/// The arrivals of one combination of axis values; `table` is `load` as it is written. `None` if a mistake leaves none.
pub(super) fn arrival(load: &Load, table: &Table, mistakes: &mut Mistakes<'_>) -> Option<Arrival> {
    let misplaced = misplaced(load, table, mistakes);
    if !misplaced.is_empty() {
        mistakes.found.extend(misplaced);
        return None;
    }
    if load.prompts.trace.is_some() {
        return Some(Arrival::Trace { limit: limit(load, mistakes)? });
    }
    if let Some(stages) = &load.stages {
        let ramp = ramp(load, stages, mistakes)?;
        return match stages.first().is_some_and(|stage| stage.rate.is_some()) {
            true => open(load, Level::Ramp(ramp), mistakes),
            false => Some(Arrival::Closed { concurrency: Level::Ramp(ramp) }),
        };
    }
    match (&load.rate, &load.concurrency) {
        (Some(OneOrMany(rates)), _) if rates.len() == 1 => open(load, Level::Constant(rates[0]), mistakes),
        (None, Some(OneOrMany(list))) if list.len() == 1 => Some(Arrival::closed(list[0])),
        _ => {
            let expected = "concurrency (closed loop) or rate (open loop), a number or a list";
            mistakes.add("concurrency", "missing", expected);
            None
        }
    }
}

/// Keys that have no meaning beside another one.
fn misplaced(load: &Load, table: &Table, mistakes: &Mistakes<'_>) -> Vec<InputError> {
    let has = |key: &&str| match key.split_once('.') {
        Some((table_key, key)) => table.get(table_key).is_some_and(|table| table.get(key).is_some()),
        None => table.contains_key(*key),
    };
    let at = |key: &str, problem: &str| mistakes.at(key, problem);
    let Some((named, excluded)) = ARRIVALS.iter().find(|(key, _)| has(key)) else { return Vec::new() };
    let first = load.stages.iter().flatten().next();
    let of_open_loops = match first.is_some_and(|stage| stage.concurrency.is_some() && stage.rate.is_none()) {
        true if has(&"max_concurrency") => "arrival max_concurrency",
        true => "arrival when_full",
        false => "",
    };
    let found = excluded.split(' ').chain(of_open_loops.split(' ')).filter(has);
    let mut errors: Vec<InputError> = found
        .map(|key| match (*named, key) {
            ("rate" | "prompts.trace", "requests_per_concurrency" | "warmup_per_concurrency") => {
                at(key, "found in an open loop").expected("a number of requests or a duration")
            }
            ("prompts.trace", _) => {
                at(key, "found beside load.prompts.trace, which says when requests arrive")
                    .next(format!("remove {key}; use max_concurrency to limit the requests in flight"))
            }
            (_, "arrival" | "max_concurrency" | "when_full") => at(key, "found in a closed loop")
                .expected("an open loop: load.rate in place of load.concurrency"),
            ("stages", _) => at(key, "found beside load.stages")
                .expected(match key {
                    "concurrency" | "rate" => "a value in each stage",
                    "warmup_per_concurrency" => "warmup_requests or warmup_duration",
                    _ => "the duration of each stage",
                })
                .next(format!("remove {key}, or the stages")),
            (_, "start_concurrency" | "start_rate") => {
                at(key, "found without stages").expected("[[load.stages]] that start there")
            }
            _ => at("rate", "found beside load.concurrency")
                .expected("one of them: a rate (open loop) or a concurrency (closed loop)")
                .next("remove one; use max_concurrency to limit an open loop"),
        })
        .collect();
    for keys in EITHER {
        let set: Vec<&str> = keys.into_iter().filter(has).collect();
        if let ([first, second, ..], true) = (&set[..], errors.is_empty()) {
            let error = at(second, &format!("found beside load.{first}"));
            errors.push(
                error
                    .expected(format!("one of {}", keys.join(", ")))
                    .next(format!("remove {first} or {second}")),
            );
        }
    }
    errors
}

fn open(load: &Load, rate: Level<f64>, mistakes: &mut Mistakes<'_>) -> Option<Arrival> {
    let (spacing, limit) = (spacing(load.arrival.unwrap_or_default(), mistakes), limit(load, mistakes));
    Some(Arrival::Open { rate, spacing: spacing?, limit: limit? })
}

fn limit(load: &Load, mistakes: &mut Mistakes<'_>) -> Option<Limit> {
    match (load.max_concurrency, load.when_full) {
        (None, None) => return Some(Limit::default()),
        (Some(0), _) => mistakes.add("max_concurrency", "found 0", "1 or more"),
        (None, Some(_)) => {
            mistakes.add("when_full", "found without load.max_concurrency", "a limit to be full at");
        }
        (max_concurrency, when_full) => {
            return Some(Limit { max_concurrency, when_full: when_full.unwrap_or_default() });
        }
    }
    None
}

fn spacing(section: ArrivalSection, mistakes: &mut Mistakes<'_>) -> Option<Spacing> {
    match (section.constant, section.poisson, section.gamma) {
        (Some(_), None, None) => return Some(Spacing::Constant),
        (None, Some(_), None) => return Some(Spacing::Poisson),
        (None, None, Some(gamma)) if GAMMA_SHAPES.contains(&gamma.shape) => {
            return Some(Spacing::Gamma { shape: gamma.shape });
        }
        (None, None, Some(gamma)) => {
            let expected = format!("a number from {} to {}", GAMMA_SHAPES.start(), GAMMA_SHAPES.end());
            mistakes.add("arrival.gamma.shape", format!("found {}", gamma.shape), expected);
        }
        (constant, poisson, gamma) => {
            let tables = [constant.map(|_| "constant"), poisson.map(|_| "poisson"), gamma.map(|_| "gamma")];
            let found = tables.into_iter().flatten().collect::<Vec<_>>().join(" and ");
            let found = if found.is_empty() { "no table" } else { &found };
            let expected =
                "exactly one of [load.arrival.constant], [load.arrival.poisson], [load.arrival.gamma]";
            mistakes.add("arrival", format!("found {found}"), expected);
        }
    }
    None
}

/// `count` times the concurrency, if that is constant.
pub(super) fn of_each(count: u32, arrival: &Arrival) -> Option<u64> {
    match arrival {
        Arrival::Closed { concurrency: Level::Constant(concurrency) } => {
            Some(u64::from(count) * u64::from(*concurrency))
        }
        _ => None,
    }
}

/// When a load point ends.
pub(super) fn stop(load: &Load, arrival: &Arrival, mistakes: &mut Mistakes<'_>) -> Stop {
    let of_each = load.requests_per_concurrency.and_then(|count| of_each(count, arrival));
    let (key, stop) = match (arrival.ramp(), load.requests, load.duration, of_each) {
        (Some(ramp), ..) => ("duration", Stop::DurationS(ramp.duration_s())),
        (_, Some(requests), ..) => ("requests", Stop::Requests(requests)),
        (_, _, Some(span), _) => ("duration", Stop::DurationS(span.seconds())),
        (.., Some(requests)) => ("requests_per_concurrency", Stop::Requests(requests)),
        // Only a trace has no default end.
        (None, None, None, None) => ("prompts.trace", Stop::TraceEnd),
    };
    let is_empty = match stop {
        Stop::Requests(requests) => requests == 0,
        Stop::DurationS(seconds) => seconds <= 0.0,
        Stop::TraceEnd => false,
    };
    if is_empty {
        mistakes.add(key, "found 0: nothing would be sent", "more than 0");
    }
    stop
}

/// What happens to the requests in flight at the end.
pub(super) fn at_end(load: &Load, mistakes: &mut Mistakes<'_>) -> AtEnd {
    match (load.at_end, load.drain_timeout) {
        (AtEndWord::Drain, limit) => AtEnd::Drain { limit_s: limit.map(Span::seconds) },
        (AtEndWord::Cut, None) => AtEnd::Cut,
        (AtEndWord::Cut, Some(_)) => {
            mistakes.add("drain_timeout", "found beside at_end = \"cut\"", "at_end = \"drain\"");
            AtEnd::Cut
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::choices::Choices;
    use crate::plan::ramp::Shape;
    use crate::plan::{LoadPoint, Plan, WhenFull};
    use crate::planner::testing::planned;

    /// The plan of a small recipe with this `[load]`, and these `--set`s.
    fn plan(load: &str, sets: &[&str]) -> Result<Plan, String> {
        let sets = sets.iter().map(|set| (*set).to_owned()).collect();
        let choices = Choices { gpu: Some("h100".into()), sets, ..Choices::default() };
        planned(load, choices).map_err(|error| error.to_string())
    }

    fn points(load: &str, sets: &[&str]) -> Vec<LoadPoint> {
        plan(load, sets).unwrap().deployments.remove(0).points
    }

    fn arrivals(load: &str, sets: &[&str]) -> Vec<Arrival> {
        points(load, sets).into_iter().map(|point| point.arrival).collect()
    }

    fn poisson(rate: f64) -> Arrival {
        Arrival::Open { rate: Level::Constant(rate), spacing: Spacing::Poisson, limit: Limit::default() }
    }

    #[test]
    fn a_rate_makes_an_open_loop() {
        let found = points("rate = 12.5", &[]);
        assert_eq!((found.len(), found[0].id.as_str()), (1, "isl8_osl4_rate12.5"));
        assert_eq!((found[0].arrival.clone(), found[0].stop), (poisson(12.5), Stop::DurationS(60.0)));
        assert_eq!(found[0].at_end, AtEnd::Drain { limit_s: None });
        let all = "rate = 3\nmax_concurrency = 4\nwhen_full = \"drop\"\nrequests = 9\nat_end = \"cut\"\n\
                   warmup_duration = \"2s\"\n[load.arrival.gamma]\nshape = 2.0";
        let found = points(all, &[]).remove(0);
        let open = Arrival::Open {
            rate: Level::Constant(3.0),
            spacing: Spacing::Gamma { shape: 2.0 },
            limit: Limit { max_concurrency: Some(4), when_full: WhenFull::Drop },
        };
        assert_eq!((&found.arrival, found.stop, found.at_end), (&open, Stop::Requests(9), AtEnd::Cut));
        assert_eq!(found.warmup_duration_s, Some(2.0));
        assert_eq!(found.load_words(), "3/s gamma:2, at most 4 in flight (drop)");
    }

    #[test]
    fn rates_are_lists_axes_and_settings() {
        assert_eq!(arrivals("rate = [1, 2.5]", &[]), [poisson(1.0), poisson(2.5)]);
        assert_eq!(arrivals("[sweep.load]\nrate = [1, 2.5]", &[]), [poisson(1.0), poisson(2.5)]);
        assert_eq!(arrivals("concurrency = 4", &["load.rate=7"]), [poisson(7.0)]);
        let closed = Arrival::closed(2);
        assert_eq!(arrivals("rate = 4\nmax_concurrency = 3", &["load.concurrency=2"]), [closed]);
        let shapes = points("rate = 4\n[sweep.load]\n\"arrival.gamma.shape\" = [0.5, 2]", &[]);
        let ids: Vec<&str> = shapes.iter().map(|point| point.id.as_str()).collect();
        assert_eq!(ids, ["isl8_osl4_rate4_shape0.5", "isl8_osl4_rate4_shape2"]);
    }

    #[test]
    fn the_experiment_is_named_after_the_rates() {
        let stem = |load: &str| plan(load, &[]).unwrap().experiment.rsplit_once('_').unwrap().1.to_owned();
        assert_eq!(stem("rate = 12.5"), "rate12.5");
        assert_eq!(stem("rate = [4, 0.5, 2]"), "rate0.5-4");
        assert_eq!(stem("concurrency = [1, 64]"), "1-64");
    }

    const STAGES: &str = "[[load.stages]]\nname = \"up\"\nduration = \"30s\"\nconcurrency = 10\n\
                          [[load.stages]]\nduration = \"1m\"\nconcurrency = 50\nshape = \"hold\"\n\
                          [[load.stages]]\nduration = 10\nconcurrency = 0\ncool_down = true\n";

    #[test]
    fn stages_make_a_ramp_of_concurrency() {
        let found = points(&format!("start_concurrency = 2\n{STAGES}"), &[]);
        assert_eq!((found.len(), found[0].id.as_str()), (1, "isl8_osl4_ramp50"));
        let ramp = found[0].arrival.ramp().unwrap();
        assert_eq!((ramp.start, ramp.stages.len(), ramp.measured_s()), (2.0, 3, 90.0));
        assert_eq!((ramp.stages[0].name.as_deref(), ramp.stages[0].shape), (Some("up"), Shape::Linear));
        assert_eq!((ramp.stages[1].shape, ramp.stages[1].cool_down), (Shape::Hold, false));
        assert!(ramp.stages[2].cool_down);
        assert_eq!((found[0].stop, found[0].concurrency()), (Stop::DurationS(100.0), Some(50)));
        assert_eq!(found[0].arrival.of_warmup(), Arrival::closed(2));
        assert_eq!(found[0].load_words(), "2 → 10 in 30s, 50 for 60s, 50 → 0 in 10s");
        let lists = points(&format!("{STAGES}[sweep.load]\nisl = [8, 16]"), &[]);
        assert_eq!(lists.len(), 2);
    }

    #[test]
    fn stages_make_a_ramp_of_the_rate() {
        let load = "start_rate = 0.5\nmax_concurrency = 4\n[load.arrival.constant]\n\
                    [[load.stages]]\nduration = \"30s\"\nrate = 12.5";
        let found = points(load, &[]).remove(0);
        let Arrival::Open { rate: Level::Ramp(ramp), spacing, limit } = &found.arrival else {
            panic!("{found:?}")
        };
        assert_eq!((ramp.start, *spacing, limit.max_concurrency), (0.5, Spacing::Constant, Some(4)));
        assert_eq!((found.id.as_str(), found.request_rate()), ("isl8_osl4_ramprate12.5", Some(12.5)));
        assert_eq!((found.wave(), found.stop), (4, Stop::DurationS(30.0)));
        assert_eq!(found.load_words(), "0.5 → 12.5 in 30s /s constant, at most 4 in flight (queue)");
        assert_eq!(found.arrival.of_warmup().ramp(), None);
        let set = ["load.stages=[{duration=\"1s\",rate=3}]"];
        let found = points("concurrency = 4", &set).remove(0);
        assert_eq!(found.id, "isl8_osl4_ramprate3");
        assert_eq!(plan(load, &[]).unwrap().experiment.rsplit_once('_').unwrap().1, "ramprate12.5");
        assert_eq!(plan(STAGES, &[]).unwrap().experiment.rsplit_once('_').unwrap().1, "ramp50");
    }

    #[test]
    fn mistakes_in_stages_name_their_line() {
        let stage = |keys: &str| format!("[[load.stages]]\n{keys}\n");
        let good = stage("duration = 1\nconcurrency = 1");
        for (load, place, words) in [
            (format!("concurrency = 4\n{STAGES}"), "r.toml:11: `load.concurrency`", "beside load.stages"),
            (format!("rate = [1, 2]\n{STAGES}"), "r.toml:11: `load.rate`", "a value in each stage"),
            (format!("requests = 4\n{STAGES}"), "r.toml:11: `load.requests`", "the duration of each stage"),
            (format!("duration = 4\n{STAGES}"), "r.toml:11: `load.duration`", "the duration of each stage"),
            (format!("{STAGES}[sweep.load]\nconcurrency = [1]"), "load.concurrency", "beside load.stages"),
            (format!("{STAGES}[sweep.load]\nstages = [[]]"), "sweep.load.stages", "one ramp a recipe"),
            (format!("start_rate = 1\n{STAGES}"), "r.toml:11: `load.start_rate`", "start_concurrency"),
            ("concurrency = 1\nstart_concurrency = 1".into(), "load.start_concurrency", "without stages"),
            (format!("when_full = \"drop\"\n{STAGES}"), "load.when_full", "closed loop"),
            ("stages = []".into(), "r.toml:11: `load.stages`", "one stage or more"),
            (stage("duration = 0\nconcurrency = 1"), "r.toml:12:12: `load.stages.duration`", "above 0"),
            (stage("duration = 1\nrate = -1"), "r.toml:13:8: `load.stages.rate`", "a rate of 0 or more"),
            (stage("concurrency = 1"), "r.toml:11", "duration"),
            (
                stage("duration = 1\nconcurency = 1"),
                "r.toml:13:1: `load.stages.concurency`",
                "`concurrency`?",
            ),
            (stage("duration = 1\nconcurrency = 1\nshape = \"step\""), "r.toml:14:9", "hold"),
            (format!("{good}{}", stage("duration = 1")), "r.toml:14: `load.stages[2]`", "neither"),
            (
                format!("{good}{}", stage("duration = 1\nrate = 1")),
                "r.toml:14: `load.stages[2]`",
                "concurrency, as in the first stage",
            ),
            (stage("duration = 1\nconcurrency = 1\nrate = 1"), "r.toml:11: `load.stages[1]`", "one of them"),
            (stage("duration = 1\nconcurrency = 0"), "r.toml:11: `load.stages`", "nothing would be sent"),
            (
                format!("{}{good}", stage("duration = 1\nconcurrency = 1\ncool_down = true")),
                "r.toml:14: `load.stages[1].cool_down`",
                "no stage would be measured",
            ),
            (format!("{STAGES}{good}"), "r.toml:23: `load.stages[4]`", "at the end of the ramp"),
        ] {
            let error = plan(&load, &[]).unwrap_err();
            assert!(error.contains(place) && error.contains(words), "{load}: {error}");
        }
        let set = ["load.stages=[{duration=1,concurrency=0}]"];
        let error = plan("", &set).unwrap_err();
        assert!(error.contains("--set: `load.stages`") && error.contains("nothing would be sent"), "{error}");
    }

    #[test]
    fn mistakes_name_their_key() {
        for (load, key, words) in [
            ("rate = 1\nconcurrency = 2", "load.rate", "one of them"),
            ("rate = 0", "rate", "a rate above 0"),
            ("concurrency = 2\nmax_concurrency = 4", "load.max_concurrency", "closed loop"),
            ("concurrency = 2\n[load.arrival.poisson]", "load.arrival", "closed loop"),
            ("rate = 1\nwhen_full = \"drop\"", "load.when_full", "a limit"),
            ("rate = 1\nmax_concurrency = 0", "load.max_concurrency", "1 or more"),
            ("rate = 1\nrequests_per_concurrency = 2", "load.requests_per_concurrency", "open loop"),
            ("rate = 1\nduration = \"0s\"", "load.duration", "found 0"),
            ("rate = 1\n[load.arrival]", "load.arrival", "found no table"),
            (
                "rate = 1\n[load.arrival.poisson]\n[load.arrival.constant]",
                "load.arrival",
                "constant and poisson",
            ),
            ("rate = 1\n[load.arrival.gamma]\nshape = 0", "load.arrival.gamma.shape", "0.01 to 1000"),
            ("rate = 1\n[load.arrival.gamma]", "shape", "missing"),
            ("rate = 1\n[load.arrival.gama]\nshape = 1", "gama", "gamma"),
            ("rate = 1\nat_end = \"cut\"\ndrain_timeout = \"1s\"", "load.drain_timeout", "drain"),
        ] {
            let error = plan(load, &[]).unwrap_err();
            assert!(
                error.contains(key) && error.contains(words) && error.contains("r.toml"),
                "{load}: {error}"
            );
        }
    }
}
