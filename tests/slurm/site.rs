//! A site file written by asking the cluster, accepted by `doctor`, and every way to spoil it found.

use serde_json::Value;

use crate::lab::{Lab, TINY};

/// Findings as `status check about`, and what was found.
fn rows(findings: &Value) -> Vec<(String, String)> {
    let word = |finding: &Value, key: &str| finding[key].as_str().unwrap_or("-").to_owned();
    let row = |finding: &Value| {
        (["status", "check", "about"].map(|key| word(finding, key)).join(" "), word(finding, "found"))
    };
    findings.as_array().unwrap().iter().map(row).collect()
}

#[test]
fn what_init_writes_doctor_accepts_and_a_job_runs_with() {
    let Some(lab) = Lab::new() else { return };
    let printed = lab.tokmark(&["init", "--print"]).code(0).out;
    lab.tokmark(&["init"]).code(0);
    assert_eq!(lab.read("site.toml"), printed);
    for part in ["partition = \"gpu\"", "gres = \"typed-gres\"", "[gpus.h100]", "[gpus.gb200]", "[gpus.b200]"]
    {
        assert!(printed.contains(part), "{part} in {printed}");
    }
    assert_eq!(printed.matches("per_node = 4").count(), 3, "{printed}");
    let found =
        rows(&lab.tokmark(&["doctor", "--json", "--wait", "100", "--recipe", "quickstart"]).code(0).json());
    for row in ["ok slurm -", "ok mpi -", "ok sbatch quickstart"] {
        assert!(found.iter().any(|(is, _)| is == row), "{row} in {found:#?}");
    }
    for gpu in ["h100", "gb200", "b200"] {
        for check in ["partition", "gres", "arch", "sbatch", "node", "paths", "ports", "clocks"] {
            let row = format!("ok {check} {gpu}");
            assert!(found.iter().any(|(is, _)| *is == row), "{row} in {found:#?}");
        }
    }
    let nodes = crate::lab::nodes();
    let (_, of_gb200) = found.iter().find(|(is, _)| is == "ok node gb200").unwrap();
    assert!(of_gb200.ends_with(&format!("runs on {}", nodes[2])), "the third node has them: {of_gb200}");
    let recipe = lab.write("tiny.toml", TINY);
    lab.tokmark(&["submit", &recipe, "--wait"]).code(0);
}

/// A site file that asks for GPUs by type: the nodes of this cluster have several.
fn typed(site: &str) -> String {
    match site.split_once("[slurm]\n") {
        Some((before, after)) => format!("schema = 1\n{before}[slurm]\ngres = \"typed-gres\"\n{after}"),
        None => format!("schema = 1\n[slurm]\ngres = \"typed-gres\"\n{site}"),
    }
}

#[test]
fn what_is_wrong_with_a_site_has_its_row_and_exit_code_2() {
    let Some(lab) = Lab::new() else { return };
    let h100 = "[gpus.h100]\nper_node = 4\n";
    let table = [
        (format!("[slurm]\npartition = \"nope\"\n{h100}"), "fail partition h100", "nope"),
        ("[gpus.h100]\nper_node = 5\n".to_owned(), "fail gres h100", "per_node = 5"),
        (
            "[gpus.h100]\nper_node = 5\n".to_owned(),
            "fail sbatch h100",
            "Requested node configuration is not available",
        ),
        (
            "[gpus.h100]\nper_node = 4\ngres_type = \"H200\"\n".to_owned(),
            "fail gres h100",
            "no node of gpu has gpu:H200",
        ),
        (format!("[slurm]\nmpi = \"nope\"\n{h100}"), "fail mpi -", "no \"nope\""),
        (format!("{h100}constraint = \"nope\"\n"), "fail constraint h100", "nope"),
        (format!("[slurm]\nreservation = \"nope\"\n{h100}"), "fail sbatch h100", "reservation is invalid"),
    ];
    for (site, row, part) in table {
        lab.write("site.toml", &typed(&site));
        let found = rows(&lab.tokmark(&["doctor", "--json", "--no-job"]).code(2).json());
        assert!(
            found.iter().any(|(is, says)| is == row && says.contains(part)),
            "{row} {part} in {found:#?}"
        );
    }
    // Slurm from 23.11 on has --segment, though no version's `srun --help` says so.
    let asked = std::process::Command::new("srun").args(["--version"]).output().unwrap();
    let has_segment = !String::from_utf8_lossy(&asked.stdout).contains(" 22.");
    lab.write("site.toml", &typed(&format!("{h100}nodes_per_domain = 18\n")));
    let said = lab.tokmark(&["doctor", "--json", "--no-job"]).code(if has_segment { 0 } else { 2 });
    let says_none = rows(&said.json()).iter().any(|(is, _)| is == "fail segment h100");
    assert_eq!(says_none, !has_segment, "{}", said.out);
    // Whether the cluster keeps accounts or not: nobody has this one, and nobody is stopped.
    lab.write("site.toml", &typed(&format!("[slurm]\naccount = \"nope\"\n{h100}")));
    let found = rows(&lab.tokmark(&["doctor", "--json", "--no-job"]).code(0).json());
    assert!(found.iter().any(|(is, _)| is == "warn account -"), "{found:#?}");
}

#[test]
fn what_only_a_node_can_say() {
    let Some(lab) = Lab::new() else { return };
    let foreign = lab.write("not a program", "xx");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&foreign, mode).unwrap();
    let h100 = "[gpus.h100]\nper_node = 4\n";
    let table = [
        (format!("{h100}[models]\nm = \"/no/such/weights\"\n"), "fail paths h100", "/no/such/weights on "),
        (
            format!("{h100}[binary]\nx86_64 = \"/no/such/tokmark\"\n"),
            "fail node h100",
            "/no/such/tokmark cannot be started",
        ),
        (format!("{h100}[binary]\nx86_64 = {foreign:?}\n"), "fail node h100", "is for another architecture"),
        (format!("{h100}[network]\ninterface = \"ib7\"\n"), "fail network h100", "no IPv4 address on ib7"),
    ];
    for (site, row, part) in table {
        lab.write("site.toml", &typed(&site));
        let found = rows(&lab.tokmark(&["doctor", "--json", "--wait", "100"]).code(2).json());
        assert!(
            found.iter().any(|(is, says)| is == row && says.contains(part)),
            "{row} {part} in {found:#?}"
        );
    }
}
