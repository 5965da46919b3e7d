use super::*;

fn run(throughput: f64, latency_ms: f64) -> Run {
    Run { throughput, latency_ms, latency_error: Some(0.001), is_closed: true }
}

/// A cell of two axes with a run per load: concurrency, throughput and latency.
fn cell(a: &str, b: &str, loads: &[(f64, &[Run])]) -> Configuration {
    let loads = loads.iter().map(|(load, runs)| LoadRuns { load: Some(*load), runs: runs.to_vec() });
    let axes = [("a", a), ("b", b)].map(|(name, value)| (name.to_owned(), value.to_owned()));
    Configuration { axes: axes.to_vec(), loads: loads.collect() }
}

fn at_one_load(a: &str, b: &str, throughputs: &[f64]) -> Configuration {
    // Latency by Little's law at 8 requests of 10 tokens in flight.
    let runs: Vec<Run> = throughputs.iter().map(|of| run(*of, 80_000.0 / of)).collect();
    cell(a, b, &[(8.0, &runs)])
}

fn ranking(best: &Best, criterion: Criterion) -> &Ranking {
    best.rankings.iter().find(|ranking| ranking.criterion == criterion).expect("every criterion")
}

#[test]
fn each_objective_has_its_own_best_at_its_own_load() {
    let grid = vec![
        // Low latency: 10 ms at 1 in flight. Power at most 100 / 10 = 10.
        cell("1", "x", &[(1.0, &[run(100.0, 10.0)]), (8.0, &[run(200.0, 40.0)])]),
        // Balance: 300 / 24 = 12.5.
        cell("2", "x", &[(1.0, &[run(80.0, 12.0)]), (8.0, &[run(300.0, 24.0)])]),
        // Throughput 400, power 400 / 50 = 8.
        cell("1", "y", &[(1.0, &[run(50.0, 20.0)]), (8.0, &[run(400.0, 50.0)])]),
    ];
    let best = Best::of(grid).expect("three cells");
    for (criterion, cell, load, value) in [
        (Criterion::Throughput, 2, 8.0, 400.0),
        (Criterion::Latency, 0, 1.0, 10.0),
        (Criterion::Balance, 1, 8.0, 12.5),
    ] {
        let ranking = ranking(&best, criterion);
        let score = ranking.scores[ranking.best].as_ref().expect("figures");
        assert_eq!((ranking.best, score.load, score.value), (cell, Some(load), value), "{criterion:?}");
        assert_eq!((ranking.noise, ranking.ties.as_slice()), (Noise::WithinRun, [].as_slice()));
    }
    assert_eq!((best.size(), best.usable(), best.configurations.len()), (4, 3, 3));
}

#[test]
fn without_repeats_two_percent_are_noise() {
    let grid =
        vec![at_one_load("1", "x", &[100.0]), at_one_load("2", "x", &[98.5]), at_one_load("3", "x", &[97.0])];
    let best = Best::of(grid).expect("three cells");
    let throughput = ranking(&best, Criterion::Throughput);
    assert_eq!((throughput.best, throughput.ties.as_slice()), (0, [1].as_slice()));
}

#[test]
fn a_wide_spread_within_runs_makes_larger_differences_noise() {
    let with = |throughput: f64, error: f64| {
        let run = Run { latency_error: Some(error), ..run(throughput, 10.0) };
        cell(&throughput.to_string(), "x", &[(8.0, &[run])])
    };
    // 1.96 · √2 · 3 % = 8.3 %.
    for (worse, ties) in [(93.0, vec![1]), (91.0, vec![])] {
        let best = Best::of(vec![with(100.0, 0.03), with(worse, 0.03)]).expect("two cells");
        assert_eq!(ranking(&best, Criterion::Throughput).ties, ties, "{worse}");
    }
}

#[test]
fn repeats_tell_smaller_differences() {
    // Deviations ±1 %: s² = 4 · 0.0001 / 2, s = 1.41 % with 2 degrees; t(0.975; 2) = 4.303, · √(1/2 + 1/2) · s = 6.1 %.
    for (worse, ties) in [(95.0, vec![1]), (93.0, vec![])] {
        let grid =
            vec![at_one_load("1", "x", &[99.0, 101.0]), at_one_load("2", "x", &[worse * 0.99, worse * 1.01])];
        let best = Best::of(grid).expect("two cells");
        let throughput = ranking(&best, Criterion::Throughput);
        assert_eq!(throughput.ties, ties, "{worse}");
        let Noise::Student { deviation, degrees_of_freedom } = throughput.noise else { panic!("repeats") };
        assert!((deviation - 0.01 * 2.0_f64.sqrt()).abs() < 1e-9 && degrees_of_freedom == 2.0);
        // 100 ± 4.303 · 1.41 / √2.
        let half = throughput.scores[0].as_ref().expect("figures").half_width;
        assert!((half - 4.3027).abs() < 1e-3, "{half}");
    }
}

#[test]
fn equal_cells_are_ties_and_one_cell_is_no_grid() {
    let best =
        Best::of(vec![at_one_load("1", "x", &[100.0]), at_one_load("2", "x", &[100.0])]).expect("two cells");
    for ranking in &best.rankings {
        assert_eq!((ranking.best, ranking.ties.as_slice()), (0, [1].as_slice()), "the first of equal ones");
        assert!(ranking.effects.iter().flatten().all(|axis| !axis.matters));
    }
    assert_eq!(Best::of(vec![at_one_load("1", "x", &[100.0])]), None);
    assert_eq!(Best::of(Vec::new()), None);
}

#[test]
fn failed_and_missing_cells_are_left_out() {
    let failed = cell("2", "y", &[(8.0, &[])]);
    let silent = at_one_load("3", "x", &[0.0]);
    let grid = vec![at_one_load("1", "x", &[100.0]), failed, at_one_load("2", "x", &[150.0]), silent];
    let best = Best::of(grid).expect("two cells with figures");
    assert_eq!((best.size(), best.usable()), (6, 2));
    let throughput = ranking(&best, Criterion::Throughput);
    assert_eq!(throughput.best, 2);
    assert!(throughput.scores[1].is_none() && throughput.scores[3].is_none());
    let a = throughput.effects[0].as_ref().expect("two values of a");
    assert!((a.difference.percent - 50.0).abs() < 1e-9 && a.matters);
    assert_eq!(throughput.effects[1], None, "b has one value left");
}

#[test]
fn the_axis_that_matters_is_found() {
    // a doubles the throughput, b changes it by 0.5 %.
    let grid = vec![
        at_one_load("1", "x", &[100.0]),
        at_one_load("1", "y", &[100.5]),
        at_one_load("2", "x", &[200.0]),
        at_one_load("2", "y", &[201.0]),
    ];
    let best = Best::of(grid).expect("four cells");
    for (criterion, more) in [(Criterion::Throughput, 1), (Criterion::Latency, 0)] {
        let effects = &ranking(&best, criterion).effects;
        let a = effects[0].as_ref().expect("a");
        assert!((a.difference.percent - 100.0).abs() < 1e-9 && a.matters && a.highest == more);
        assert!(!effects[1].as_ref().expect("b").matters);
    }
}
