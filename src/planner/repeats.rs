//! Repeats of load points: each point several times on one deployment, in shuffled order.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::parsed::Parsed;
use crate::document::InputErrors;
use crate::plan::load_point::{MIN_UNTIL, Repeat, Until};
use crate::plan::{Deployment, LoadPoint};

/// The points with each of their repeats; unchanged without `repeats`. A repeat draws prompts and arrivals of its own, so that
/// none is answered from a cache that an earlier one filled.
pub(super) fn expand(points: Vec<LoadPoint>, parsed: &Parsed<'_>) -> Result<Vec<LoadPoint>, InputErrors> {
    let load = &parsed.resolved.recipe.load;
    let wrong = |key: &str, problem: &str| parsed.at(&format!("load.{key}"), problem);
    let until = load.until.as_ref();
    let of = match (load.repeats, until) {
        (Some(0), _) => return Err(wrong("repeats", "found 0").expected("1 or more").into()),
        (None, Some(_)) => {
            let expected = "repeats = N beside it, the most repeats of a point";
            return Err(wrong("until", "found without load.repeats").expected(expected).into());
        }
        (Some(repeats), Some(_)) if repeats < MIN_UNTIL => {
            let expected = format!("{MIN_UNTIL} or more: fewer repeats tell too little of their spread");
            return Err(wrong("repeats", &format!("found {repeats} beside load.until"))
                .expected(expected)
                .into());
        }
        (None | Some(1), _) => return Ok(points),
        (Some(repeats), _) => repeats,
    };
    let until = until.map(|until| Until { share: until.share, figure: until.figure.clone() });
    let repeat = |point: &LoadPoint, number: u32| LoadPoint {
        id: format!("{}_r{number}", point.id),
        seed: point.seed.wrapping_add(u64::from(number) - 1),
        repeat: Some(Repeat { number, of, until: until.clone() }),
        ..point.clone()
    };
    Ok(points.iter().flat_map(|point| (1..=of).map(move |number| repeat(point, number))).collect())
}

/// Sets the order of the points: all first repeats, then all second ones and so on, each round shuffled, so that what drifts
/// over time falls on every load alike. `number` is that of the deployment.
pub(super) fn shuffle(deployment: &mut Deployment, number: u64) {
    let rounds =
        |at: &usize| deployment.points.get(*at).and_then(|point| Some(point.repeat.as_ref()?.number));
    let mut order: Vec<usize> = (0..deployment.points.len()).collect();
    if order.first().and_then(rounds).is_none() {
        return;
    }
    let seed = deployment.points.first().map_or(0, |point| point.seed);
    let mut rng = ChaCha8Rng::seed_from_u64(seed.wrapping_add(number));
    for last in (1..order.len()).rev() {
        let chosen = rng.next_u64() % (last as u64 + 1);
        order.swap(last, chosen as usize);
    }
    order.sort_by_key(rounds);
    deployment.order = order;
}

#[cfg(test)]
mod tests {
    use itertools::Itertools;

    use super::*;
    use crate::plan::choices::Choices;
    use crate::planner::testing::planned;

    fn repeated(load: &str, sweep: &str) -> Result<Vec<Deployment>, String> {
        let load = format!("concurrency = [1, 2, 4, 8]\nseed = 5\n{load}\n[sweep.server]\n{sweep}");
        planned(&load, Choices::default()).map(|plan| plan.deployments).map_err(|errors| errors.to_string())
    }

    #[test]
    fn every_point_is_repeated_with_a_name_and_a_seed_of_its_own() {
        let plain = repeated("repeats = 1", "").unwrap().remove(0);
        assert_eq!(
            (plain.points.len(), plain.order.len(), plain.points[0].id.as_str()),
            (4, 0, "isl8_osl4_con1")
        );
        assert_eq!(plain, repeated("", "").unwrap().remove(0));
        let deployment = repeated("repeats = 3", "").unwrap().remove(0);
        let ids: Vec<&str> = deployment.points.iter().map(|point| point.id.as_str()).take(4).collect();
        assert_eq!(ids, ["isl8_osl4_con1_r1", "isl8_osl4_con1_r2", "isl8_osl4_con1_r3", "isl8_osl4_con2_r1"]);
        assert_eq!(
            deployment.points.iter().map(|point| point.seed).take(4).collect::<Vec<_>>(),
            [5, 6, 7, 5]
        );
        assert!(deployment.points.iter().all(|point| point.series() == "isl8_osl4"));
        assert_eq!(deployment.points[2].load_id(), "isl8_osl4_con1");
    }

    #[test]
    fn each_round_holds_every_point_once_in_an_order_that_a_seed_fixes() {
        let deployments = repeated("repeats = 3", "\"engine.max_num_seqs\" = [4, 8]").unwrap();
        for deployment in &deployments {
            let order = deployment.in_order();
            let rounds: Vec<u32> =
                order.iter().filter_map(|point| point.repeat.as_ref()).map(|repeat| repeat.number).collect();
            assert_eq!(rounds, [1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3]);
            for round in order.chunks(4) {
                assert_eq!(round.iter().map(|point| point.load_id()).unique().count(), 4);
            }
            assert_ne!(deployment.order, (0..12).collect::<Vec<_>>());
        }
        assert_eq!(deployments, repeated("repeats = 3", "\"engine.max_num_seqs\" = [4, 8]").unwrap());
        assert_ne!(deployments[0].order, deployments[1].order);
    }

    #[test]
    fn until_has_a_bound() {
        let deployment = repeated("repeats = 5\nuntil = \"ci 2%\"", "").unwrap().remove(0);
        let until = Until { share: 0.02, figure: "throughput.output_tokens_per_s".into() };
        assert_eq!(deployment.points[7].repeat, Some(Repeat { number: 3, of: 5, until: Some(until) }));
        for (load, problem) in [
            ("until = \"ci 2%\"", "`load.until`: found without load.repeats"),
            ("repeats = 2\nuntil = \"ci 2%\"", "`load.repeats`: found 2 beside load.until"),
            ("repeats = 0", "`load.repeats`: found 0"),
            ("repeats = 3\nuntil = \"2%\"", "is not like"),
            ("[sweep.load]\nrepeats = [1, 2]", "`sweep.load.repeats`: found a list"),
        ] {
            let error = repeated(load, "").unwrap_err();
            assert!(error.contains(problem), "{error}");
        }
    }
}
