use super::*;

fn search(goal: &str, is_rate: bool) -> Search {
    Search {
        goals: vec![goal.parse().unwrap()],
        is_rate,
        min: if is_rate { 0.25 } else { 1.0 },
        max: 64.0,
        tolerance: 0.05,
        points: 40,
        time_s: None,
        repeats: 1,
        grows: (true, true),
    }
}

fn slo() -> Search {
    search("ttft.p99 < 500ms", false)
}

/// Runs a search against a server; `keeps` and the throughput by load and number of the measurement.
fn run(search: &Search, from: f64, server: impl Fn(f64, u32) -> (bool, f64)) -> (Vec<Evaluated>, Found) {
    let mut seen: Vec<Evaluated> = Vec::new();
    loop {
        assert!(seen.len() <= search.points as usize, "it does not end: {seen:?}");
        match next(search, from, &seen) {
            Step::Done(found) => return (seen, found),
            Step::Measure { load, number } => {
                let (keeps, throughput) = server(load, number);
                let broken = (!keeps).then(|| "ttft.p99 is 540 ms".to_owned());
                seen.push(Evaluated { load, keeps, throughput, seconds: 1.0, broken });
            }
        }
    }
}

fn loads(seen: &[Evaluated]) -> Vec<f64> {
    seen.iter().map(|one| one.load).collect()
}

#[test]
fn doubling_then_bisection_finds_the_largest_concurrency() {
    let (seen, found) = run(&slo(), 1.0, |load, _| (load <= 23.0, 0.0));
    assert_eq!(loads(&seen), [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 24.0, 20.0, 22.0, 23.0]);
    assert_eq!(found, Found { limit: Limit::Between(23.0, 24.0), end: End::Converged });
    let expected = "The largest concurrency that keeps ttft.p99 < 500ms is 23 (24 does not: ttft.p99 is 540 ms); each measured once.";
    assert_eq!(sentence(&slo(), &found, &seen), expected);
}

#[test]
fn a_start_beyond_the_limit_goes_down() {
    let (seen, found) = run(&slo(), 16.0, |load, _| (load <= 3.0, 0.0));
    assert_eq!(loads(&seen), [16.0, 8.0, 4.0, 2.0, 3.0]);
    assert_eq!(found.limit, Limit::Between(3.0, 4.0));
}

#[test]
fn limits_beyond_the_range_are_not_invented() {
    let (seen, found) = run(&Search { max: 12.0, ..slo() }, 1.0, |_, _| (true, 0.0));
    assert_eq!((loads(&seen), found.limit), (vec![1.0, 2.0, 4.0, 8.0, 12.0], Limit::NotReached(12.0)));
    let text = sentence(&slo(), &found, &seen);
    assert_eq!(
        text,
        "Not reached: concurrency 12, the largest that was measured, still keeps ttft.p99 < 500ms."
    );
    let (seen, found) = run(&slo(), 4.0, |_, _| (false, 0.0));
    assert_eq!((loads(&seen), found.limit), (vec![4.0, 2.0, 1.0], Limit::Nowhere(1.0)));
    let text = sentence(&slo(), &found, &seen);
    assert!(
        text.starts_with("Not even concurrency 1, the smallest that was measured, keeps ttft.p99"),
        "{text}"
    );
}

#[test]
fn the_loads_at_the_limit_are_repeated_and_the_majority_counts() {
    let three = Search { repeats: 3, ..slo() };
    let (seen, found) = run(&three, 4.0, |load, _| (load <= 5.0, 0.0));
    assert_eq!(loads(&seen), [4.0, 8.0, 6.0, 5.0, 5.0, 5.0, 6.0, 6.0]);
    let text = sentence(&three, &found, &seen);
    assert!(text.ends_with("3 of 3 repeats agree at 5, 3 of 3 at 6."), "{text}");
    // 5 keeps it once by luck: the limit moves down.
    let (seen, found) = run(&three, 4.0, |load, number| (load <= 4.0 || load == 5.0 && number == 1, 0.0));
    assert_eq!(found.limit, Limit::Between(4.0, 5.0), "{seen:?}");
}

#[test]
fn noise_and_odd_servers_end_and_are_named() {
    // Kept at even loads only.
    let (seen, found) = run(&Search { repeats: 3, ..slo() }, 1.0, |load, _| (load % 2.0 == 0.0, 0.0));
    assert_eq!((found.end, found.limit), (End::Converged, Limit::Nowhere(1.0)), "{seen:?}");
    // Another answer each time.
    let all = Search { repeats: 5, points: 12, ..slo() };
    let (seen, _) = run(&all, 8.0, |load, number| ((load as u32 + number).is_multiple_of(3), 0.0));
    assert!(seen.len() <= 12);
    let seen: Vec<Evaluated> = [(4.0, true), (8.0, false), (16.0, true)]
        .map(|(load, keeps)| Evaluated { load, keeps, throughput: 0.0, seconds: 1.0, broken: None })
        .into();
    let found = Found { limit: Limit::Between(4.0, 8.0), end: End::Points };
    let text = sentence(&all, &found, &seen);
    assert!(
        text.contains(" Noise: 16 keeps it, although 8 does not. The search ended at its 12 measurements"),
        "{text}"
    );
}

#[test]
fn measurements_and_time_are_bounded() {
    let (seen, found) = run(&Search { points: 4, ..slo() }, 1.0, |load, _| (load <= 23.0, 0.0));
    assert_eq!((seen.len(), found), (4, Found { limit: Limit::NotReached(8.0), end: End::Points }));
    let (seen, found) = run(&Search { time_s: Some(7.0), ..slo() }, 1.0, |load, _| (load <= 23.0, 0.0));
    assert_eq!((seen.len(), found), (7, Found { limit: Limit::Between(16.0, 24.0), end: End::Time }));
}

#[test]
fn rates_are_found_within_the_tolerance() {
    let rates = search("ttft.p99 < 500ms", true);
    let (seen, found) = run(&rates, 1.0, |load, _| (load <= 7.3, 0.0));
    let Limit::Between(keeps, fails) = found.limit else { panic!("{found:?}") };
    assert_eq!(loads(&seen), [1.0, 2.0, 4.0, 8.0, 6.0, 7.0, 7.5, 7.25]);
    assert_eq!((keeps, fails), (7.25, 7.5));
}

#[test]
fn the_ceiling_of_throughput_and_the_load_that_reaches_it() {
    // 100 tok/s for each of at most 10 requests: 9 give 900, less than 95 % of 1000.
    let ceiling = search("throughput", false);
    let (seen, found) = run(&ceiling, 1.0, |load, _| (true, load.min(10.0) * 100.0));
    assert_eq!(loads(&seen), [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 12.0, 10.0, 9.0]);
    assert_eq!(found.limit, Limit::Between(9.0, 10.0));
    let text = sentence(&ceiling, &found, &seen);
    assert_eq!(
        text,
        "The highest throughput is 1000 tok/s, reached within 5 % from concurrency 10 (9 gives 900 tok/s)."
    );
    let (_, found) = run(&ceiling, 1.0, |load, _| (true, load * 100.0));
    assert_eq!(found.limit, Limit::NotReached(64.0));
}

#[test]
fn a_throughput_is_repeated_at_both_ends_and_at_its_peak() {
    // 32 requests give 2 % more than 16, within the tolerance.
    let three = Search { repeats: 3, ..search("throughput", false) };
    let flat = |load: f64| load.min(16.0) * 100.0 + load;
    let (seen, found) = run(&three, 8.0, |load, number| (true, flat(load) + f64::from(number)));
    assert_eq!(found.limit, Limit::Between(15.0, 16.0), "{seen:?}");
    for load in [15.0, 16.0, 32.0] {
        assert_eq!(seen.iter().filter(|one| one.load == load).count(), 3, "{load}: {seen:?}");
    }
    // 1633, 1634 and 1635: t(0.975; 2) · 1 / √3 is 2.48.
    let text = sentence(&three, &found, &seen);
    assert!(text.starts_with("The highest throughput is 1634 ± 2.48 tok/s, reached within 5 %"), "{text}");
    assert!(text.ends_with("(15 gives 1517 ± 2.48 tok/s)."), "{text}");
}

#[test]
fn a_knee_is_found_although_repeats_scatter_more_than_the_tolerance() {
    // 8 slots, and a machine on which the same load gives 8 % more or less, without a pattern.
    let chance = |load: f64, number: u32| ((load * 7.0 + f64::from(number) * 13.0) * 12.9898).sin() * 0.11;
    let server = |load: f64, number| (true, load.min(8.0) * 100.0 * (1.0 + chance(load, number)));
    let three = Search { repeats: 3, ..search("throughput", false) };
    for from in [1.0, 2.0, 3.0, 5.0] {
        let (seen, found) = run(&three, from, server);
        let Limit::Between(_, reaches) = found.limit else { panic!("{found:?}: {seen:?}") };
        assert!((6.0..=9.0).contains(&reaches), "from {from}: {found:?}: {seen:?}");
        let text = sentence(&three, &found, &seen);
        assert!(text.contains(" so that smaller differences are noise."), "{text}");
    }
}

#[test]
fn the_same_measurements_lead_to_the_same_step() {
    let (seen, found) = run(&slo(), 1.0, |load, _| (load <= 23.0, 0.0));
    for known in 0..seen.len() {
        let Step::Measure { load, number } = next(&slo(), 1.0, &seen[..known]) else { panic!("{known}") };
        assert_eq!((load, number), (seen[known].load, 1), "a search that was interrupted after {known}");
    }
    assert_eq!(next(&slo(), 1.0, &seen), Step::Done(found));
}
