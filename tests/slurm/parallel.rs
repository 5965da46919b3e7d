//! A sweep whose deployments are jobs of their own.

use tokmark::internals::experiment::event::{self, Event};

use crate::lab::{Lab, TINY, slurm};

#[test]
fn the_jobs_of_a_parallel_sweep_are_one_sweep_even_if_one_fails() {
    let Some(lab) = Lab::new() else { return };
    // The first server ends with the first request that it answers.
    let text = format!("{TINY}[sweep.server]\n\"engine.crash_after\" = [1, 100000, 200000]\n");
    let recipe = lab.write("sweep.toml", &text);
    let said = lab.tokmark(&["submit", &recipe, "--parallel", "2", "--wait"]).code(4);
    let suite = said.out.lines().find_map(|line| line.strip_prefix("suite: ")).unwrap().to_owned();
    let suite = std::path::Path::new(&suite);
    for file in [
        "suite.json",
        "summary.md",
        "summary.csv",
        "report.html",
        "capacity-zones.md",
        "latency-ttft-summary.md",
    ] {
        assert!(suite.join(file).is_file(), "{file}");
    }
    let csv = std::fs::read_to_string(suite.join("summary.csv")).unwrap();
    let points: Vec<&str> = csv
        .lines()
        .skip(1)
        .map(|line| line.split(',').next().unwrap())
        .filter(|point| point.contains("00_"))
        .collect();
    let expected = [
        "100000_isl16_osl4_con1",
        "100000_isl16_osl4_con2",
        "200000_isl16_osl4_con1",
        "200000_isl16_osl4_con2",
    ];
    assert_eq!(points, expected.map(|point| format!("crash_after{point}")));
    let page = std::fs::read_to_string(suite.join("summary.md")).unwrap();
    assert!(page.contains("crash_after1"), "{page}");

    // At most two ran at a time: the third waited for the end of the first.
    let receipt: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(suite.join("suite.json")).unwrap()).unwrap();
    let events = |number: usize| {
        let name = receipt["jobs"][number]["experiment"].as_str().unwrap();
        event::read(&suite.with_file_name(name))
    };
    let first_ended =
        events(0).iter().rev().find(|one| matches!(one.event, Event::Finished { .. })).unwrap().at;
    let third_started = events(2).iter().find(|one| matches!(one.event, Event::Started { .. })).unwrap().at;
    assert!(first_ended <= third_started, "{first_ended} {third_started}");

    // The suite as one sweep elsewhere too.
    let zones = lab.tokmark(&["zones", &suite.display().to_string(), "--json"]).code(0).json();
    assert_eq!(zones.as_array().unwrap().len(), 2, "{zones:#}");
}

#[test]
fn cancelling_a_parallel_sweep_ends_running_and_waiting_jobs() {
    let Some(lab) = Lab::new() else { return };
    let text = format!("{}[sweep.server]\n\"engine.max_num_seqs\" = [2, 4, 8]\n", crate::lab::long(60));
    let recipe = lab.write("sweep.toml", &text);
    let told = lab.tokmark(&["submit", &recipe, "--parallel", "1", "--json"]).code(0).json();
    let ids: Vec<String> =
        told.as_array().unwrap().iter().map(|job| job["job"].as_str().unwrap().to_owned()).collect();
    assert!(
        slurm(&["squeue", "--noheader", "--format=%E", "--jobs", &ids[2]])
            .contains(&format!("afterany:{}", ids[1]))
    );
    lab.tokmark(&["jobs", "cancel", "last-suite"]).code(0);
    crate::support::eventually("no job of the sweep is left", || {
        let queued = slurm(&["squeue", "--noheader", "--format=%i"]);
        (!queued.lines().any(|id| ids.iter().any(|own| own == id.trim()))).then_some(())
    });
}
