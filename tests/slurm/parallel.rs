//! A sweep whose deployments are jobs of their own.

use tokmark::internals::experiment::event::{self, Event};

use crate::lab::{Job, Lab, TINY, slurm};

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
    let names: Vec<&str> =
        zones.as_array().unwrap().iter().map(|one| one["series"].as_str().unwrap()).collect();
    assert_eq!(names, ["crash_after100000_isl16_osl4", "crash_after200000_isl16_osl4"], "by the axis alone");
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

#[test]
fn a_requeued_job_keeps_its_place_in_its_lane() {
    let Some(lab) = Lab::new() else { return };
    let text = format!("{}[sweep.server]\n\"engine.max_num_seqs\" = [2, 4]\n", crate::lab::long(3));
    let recipe = lab.write("sweep.toml", &text);
    let told = lab.tokmark(&["submit", &recipe, "--parallel", "1", "--json"]).code(0).json();
    let job = |at: usize| Job {
        id: told[at]["job"].as_str().unwrap().to_owned(),
        dir: told[at]["experiment"].as_str().unwrap().into(),
    };
    let (first, second) = (job(0), job(1));
    first.until_point(2);
    slurm(&["scontrol", "requeue", &first.id]);
    lab.tokmark(&["jobs", "wait", "last-suite"]).code(0);
    let at = |job: &Job, wanted: fn(&Event) -> bool| {
        let events = event::read(&job.dir).into_iter();
        events.filter(|one| wanted(&one.event)).map(|one| one.at).collect::<Vec<_>>()
    };
    let is_start = |event: &Event| matches!(event, Event::Started { .. });
    let is_end = |event: &Event| matches!(event, Event::Finished { .. });
    let (starts, ends) = (at(&first, is_start), at(&first, is_end));
    assert_eq!(starts.len(), 2, "it ran again: {:#?}", first.events());
    let next = at(&second, is_start);
    assert!(
        next.len() == 1 && *ends.last().unwrap() <= next[0],
        "the next one waited for its second end: {ends:?} {next:?}"
    );
    assert_eq!((first.exit_code(), second.exit_code()), (Some(0), Some(0)));
    let kept = |event: &Event| matches!(event, Event::PointKept { .. });
    assert_eq!(at(&first, kept).len(), 1, "what was measured before is kept");
    let suite = lab.tokmark(&["jobs", "show", "last-suite", "--json"]).code(0).json();
    let points: usize =
        suite.as_array().unwrap().iter().map(|job| job["results"].as_array().unwrap().len()).sum();
    assert_eq!(points, 4, "{suite:#}");
}

#[test]
fn repeated_jobs_are_one_row_with_their_interval() {
    let Some(lab) = Lab::new() else { return };
    let recipe = lab.write("tiny.toml", TINY);
    let told = lab.tokmark(&["submit", &recipe, "-r", "3", "--wait", "--json"]).code(0).json();
    let ids: Vec<&str> = told.as_array().unwrap().iter().map(|job| job["job"].as_str().unwrap()).collect();
    let together = lab.path("together");
    let words = [&["report"], ids.as_slice(), &["--out", together.to_str().unwrap()]].concat();
    lab.tokmark(&words).code(0);
    let analysis: serde_json::Value = serde_json::from_str(&lab.read("together/analysis.json")).unwrap();
    let repeats: Vec<u64> = analysis["points"]
        .as_array()
        .unwrap()
        .iter()
        .map(|point| point["repeats"]["n"].as_u64().unwrap())
        .collect();
    assert_eq!(repeats, [3, 3], "{analysis:#}");
    let zones = lab.tokmark(&[&["zones"], ids.as_slice(), &["--json"]].concat()).code(0).json();
    assert_eq!(zones["points"].as_array().unwrap().len(), 2, "{zones:#}");
}
