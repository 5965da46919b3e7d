//! How the requests of a load point arrive and when it ends, from the keys of `[load]`.
//!
//! Arrow: `recipe` → here → `build`.

use super::build::Blame;
use super::load_point::GAMMA_SHAPES;
use super::{Arrival, AtEnd, OpenLoop, Spacing, Stop};
use crate::document::InputError;
use crate::recipe::units::OneOrMany;
use crate::recipe::{ArrivalSection, AtEndWord, LoadSection};

/// How long an open loop lasts when nothing says so, seconds: the shortest time that shows a queue that grows.
const OPEN_LOOP_S: f64 = 60.0;

/// Requests per unit of concurrency of a closed loop when nothing says so.
const REQUESTS_PER_CONCURRENCY: u32 = 8;

/// The arrivals of one combination of axis values.
pub(super) fn arrival(load: &LoadSection, blame: &Blame<'_>) -> Result<Arrival, Vec<InputError>> {
    let rate = load.rate.as_ref().map(|rates| rates.0.as_slice());
    match (rate, load.concurrency.as_ref()) {
        (Some(_), Some(_)) => Err(vec![
            blame
                .at("load.rate", "found beside load.concurrency")
                .expected("one of them: a rate (open loop) or a concurrency (closed loop)")
                .next("remove one; use max_concurrency to limit an open loop"),
        ]),
        (Some([rate]), None) => open(*rate, load, blame),
        (None, Some(OneOrMany(list))) if list.len() == 1 => closed(list[0], load, blame),
        _ => Err(vec![
            blame
                .at("load.concurrency", "missing")
                .expected("concurrency (closed loop) or rate (open loop), a number or a list"),
        ]),
    }
}

fn closed(concurrency: u32, load: &LoadSection, blame: &Blame<'_>) -> Result<Arrival, Vec<InputError>> {
    let open_only = [
        ("arrival", load.arrival.is_some()),
        ("max_concurrency", load.max_concurrency.is_some()),
        ("when_full", load.when_full.is_some()),
    ];
    let errors: Vec<InputError> = open_only
        .into_iter()
        .filter(|(_, set)| *set)
        .map(|(key, _)| {
            blame
                .at(&format!("load.{key}"), "found in a closed loop")
                .expected("an open loop: load.rate in place of load.concurrency")
        })
        .collect();
    if errors.is_empty() { Ok(Arrival::Closed { concurrency }) } else { Err(errors) }
}

fn open(rate: f64, load: &LoadSection, blame: &Blame<'_>) -> Result<Arrival, Vec<InputError>> {
    let mut errors = Vec::new();
    let spacing = spacing(load.arrival.as_ref(), blame).unwrap_or_else(|error| {
        errors.push(error);
        Spacing::Poisson
    });
    if load.max_concurrency == Some(0) {
        errors.push(blame.at("load.max_concurrency", "found 0").expected("1 or more"));
    }
    if load.when_full.is_some() && load.max_concurrency.is_none() {
        errors.push(
            blame
                .at("load.when_full", "found without load.max_concurrency")
                .expected("a limit to be full at"),
        );
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    Ok(Arrival::Open(OpenLoop {
        rate,
        spacing,
        max_concurrency: load.max_concurrency,
        when_full: load.when_full.unwrap_or_default(),
    }))
}

fn spacing(section: Option<&ArrivalSection>, blame: &Blame<'_>) -> Result<Spacing, InputError> {
    let Some(section) = section else { return Ok(Spacing::Poisson) };
    match (section.constant, section.poisson, section.gamma) {
        (Some(_), None, None) => Ok(Spacing::Constant),
        (None, Some(_), None) => Ok(Spacing::Poisson),
        (None, None, Some(gamma)) if GAMMA_SHAPES.contains(&gamma.shape) => {
            Ok(Spacing::Gamma { shape: gamma.shape })
        }
        (None, None, Some(gamma)) => Err(blame
            .at("load.arrival.gamma.shape", format!("found {}", gamma.shape))
            .expected(format!("a number from {} to {}", GAMMA_SHAPES.start(), GAMMA_SHAPES.end()))),
        (constant, poisson, gamma) => {
            let tables = [
                ("constant", constant.is_some()),
                ("poisson", poisson.is_some()),
                ("gamma", gamma.is_some()),
            ];
            let found: Vec<&str> = tables.into_iter().filter(|(_, set)| *set).map(|(name, _)| name).collect();
            let found = if found.is_empty() { "no table".to_owned() } else { found.join(" and ") };
            Err(blame.at("load.arrival", format!("found {found}")).expected(
                "exactly one of [load.arrival.constant], [load.arrival.poisson], [load.arrival.gamma]",
            ))
        }
    }
}

/// When a load point ends, and what comes before it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Ends {
    pub(super) stop: Stop,
    pub(super) warmup_requests: u64,
    pub(super) warmup_duration_s: Option<f64>,
    pub(super) at_end: AtEnd,
}

pub(super) fn ends(
    load: &LoadSection,
    arrival: &Arrival,
    blame: &Blame<'_>,
) -> Result<Ends, Vec<InputError>> {
    let mut errors = Vec::new();
    let concurrency = match arrival {
        Arrival::Closed { concurrency } => Some(u64::from(*concurrency)),
        Arrival::Open(_) => None,
    };
    let per = |count: u32| concurrency.map(|concurrency| u64::from(count) * concurrency);
    let per_concurrency = [
        ("requests_per_concurrency", load.requests_per_concurrency.is_some()),
        ("warmup_per_concurrency", load.warmup_per_concurrency.is_some()),
    ];
    for (key, _) in per_concurrency.into_iter().filter(|(_, set)| *set && concurrency.is_none()) {
        errors.push(
            blame
                .at(&format!("load.{key}"), "found in an open loop")
                .expected("a number of requests or a duration"),
        );
    }
    let stop = match (load.requests, load.duration) {
        (Some(requests), _) => Stop::Requests(requests),
        (None, Some(span)) => Stop::DurationS(span.seconds()),
        (None, None) => per(load.requests_per_concurrency.unwrap_or(REQUESTS_PER_CONCURRENCY))
            .map_or(Stop::DurationS(OPEN_LOOP_S), Stop::Requests),
    };
    let (key, empty) = match stop {
        Stop::Requests(requests) if load.requests.is_some() => ("load.requests", requests == 0),
        Stop::Requests(requests) => ("load.requests_per_concurrency", requests == 0),
        Stop::DurationS(seconds) => ("load.duration", seconds <= 0.0),
    };
    if empty {
        errors.push(blame.at(key, "found 0: nothing would be sent").expected("more than 0"));
    }
    let at_end = match (load.at_end.unwrap_or_default(), load.drain_timeout) {
        (AtEndWord::Drain, limit) => AtEnd::Drain { limit_s: limit.map(|span| span.seconds()) },
        (AtEndWord::Cut, None) => AtEnd::Cut,
        (AtEndWord::Cut, Some(_)) => {
            errors.push(
                blame
                    .at("load.drain_timeout", "found beside at_end = \"cut\"")
                    .expected("at_end = \"drain\""),
            );
            AtEnd::Cut
        }
    };
    if !errors.is_empty() {
        return Err(errors);
    }
    Ok(Ends {
        stop,
        warmup_requests: load
            .warmup_per_concurrency
            .and_then(per)
            .unwrap_or_else(|| load.warmup_requests.unwrap_or(0)),
        warmup_duration_s: load.warmup_duration.map(|span| span.seconds()).filter(|seconds| *seconds > 0.0),
        at_end,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::Document;
    use crate::plan::build::{Input, build};
    use crate::plan::resolve::{Choice, resolve};
    use crate::plan::{LoadPoint, Plan, WhenFull};
    use crate::recipe::find::RecipeFile;
    use crate::site::SiteFile;

    /// The plan of a small recipe with this `[load]`, and these `--set`s.
    fn plan(load: &str, sets: &[&str]) -> Result<Plan, String> {
        let text = format!(
            "schema = 1\nname = \"r\"\nsummary = \"s\"\n[model]\nname = \"a/m\"\n\
             [deploy]\nlauncher = \"sim\"\n[load]\nisl = 8\nosl = 4\n{load}"
        );
        let document = Document { file: "r.toml".into(), text };
        let recipe = document.parse().map_err(|error| error.to_string())?;
        let file = RecipeFile { document, folder: None, recipe };
        let site = SiteFile::default();
        let sets: Vec<String> = sets.iter().map(|set| (*set).to_owned()).collect();
        let resolved = resolve(&file, &site, &Choice { gpu: Some("h100"), sets: &sets, env: &|_| None })
            .map_err(|error| error.to_string())?;
        let launcher = crate::launcher::named("sim", None, "r.toml").unwrap();
        let (experiments, version) = ("/x".to_owned(), "0".to_owned());
        let input = Input { file: &file, resolved: &resolved, site: &site, launcher, experiments, version };
        build(input).map_err(|error| error.to_string())
    }

    fn points(load: &str, sets: &[&str]) -> Vec<LoadPoint> {
        plan(load, sets).unwrap().deployments.remove(0).points
    }

    fn arrivals(load: &str, sets: &[&str]) -> Vec<Arrival> {
        points(load, sets).into_iter().map(|point| point.arrival).collect()
    }

    fn poisson(rate: f64) -> Arrival {
        let (max_concurrency, when_full) = (None, WhenFull::Queue);
        Arrival::Open(OpenLoop { rate, spacing: Spacing::Poisson, max_concurrency, when_full })
    }

    #[test]
    fn a_rate_makes_an_open_loop() {
        let found = points("rate = 12.5", &[]);
        assert_eq!((found.len(), found[0].id.as_str()), (1, "isl8_osl4_rate12.5"));
        assert_eq!((found[0].arrival, found[0].stop), (poisson(12.5), Stop::DurationS(60.0)));
        assert_eq!(found[0].at_end, AtEnd::Drain { limit_s: None });
        let all = "rate = 3\nmax_concurrency = 4\nwhen_full = \"drop\"\nrequests = 9\nat_end = \"cut\"\n\
                   warmup_duration = \"2s\"\n[load.arrival.gamma]\nshape = 2.0";
        let found = points(all, &[]).remove(0);
        let open = OpenLoop {
            rate: 3.0,
            spacing: Spacing::Gamma { shape: 2.0 },
            max_concurrency: Some(4),
            when_full: WhenFull::Drop,
        };
        assert_eq!(
            (found.arrival, found.stop, found.at_end),
            (Arrival::Open(open), Stop::Requests(9), AtEnd::Cut)
        );
        assert_eq!(found.warmup_duration_s, Some(2.0));
        assert_eq!(found.load_words(), "3/s gamma:2, at most 4 in flight (drop)");
    }

    #[test]
    fn rates_are_lists_axes_and_settings() {
        assert_eq!(arrivals("rate = [1, 2.5]", &[]), [poisson(1.0), poisson(2.5)]);
        assert_eq!(arrivals("[sweep.load]\nrate = [1, 2.5]", &[]), [poisson(1.0), poisson(2.5)]);
        assert_eq!(arrivals("concurrency = 4", &["load.rate=7"]), [poisson(7.0)]);
        let closed = Arrival::Closed { concurrency: 2 };
        assert_eq!(arrivals("rate = 4\nmax_concurrency = 3", &["load.concurrency=2"]), [closed]);
        let shapes = points("rate = 4\n[sweep.load]\n\"arrival.gamma.shape\" = [0.5, 2]", &[]);
        let ids: Vec<&str> = shapes.iter().map(|point| point.id.as_str()).collect();
        assert_eq!(ids, ["isl8_osl4_rate4_shape0.5", "isl8_osl4_rate4_shape2"]);
    }

    #[test]
    fn the_experiment_is_named_after_the_rates() {
        let stem = |load: &str| plan(load, &[]).unwrap().stem.rsplit_once('_').unwrap().1.to_owned();
        assert_eq!(stem("rate = 12.5"), "rate12.5");
        assert_eq!(stem("rate = [4, 0.5, 2]"), "rate0.5-4");
        assert_eq!(stem("concurrency = [1, 64]"), "1-64");
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
