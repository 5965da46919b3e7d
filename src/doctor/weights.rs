//! Checks a recipe's weights and image on this machine, and its weights on nodes.

use std::path::Path;

use super::Finding;
use crate::node::{Report, WeightsQuery, WeightsReport};
use crate::plan::{Container, Plan};
use crate::prompts::TokenizerCache;
use crate::weights::{drafts_of_plan, examine, image, of_plan};

/// A finding for the weights, one for each draft model given as a folder, and one for the image, if they apply.
pub fn rows(plan: &Plan) -> Vec<Finding> {
    let drafts = drafts_of_plan(plan);
    let rows = of_weights(plan).into_iter().chain(drafts.iter().map(of_folder));
    rows.chain(plan.container.as_ref().map(of_image)).map(|row| row.about(&plan.name)).collect()
}

fn of_weights(plan: &Plan) -> Option<Finding> {
    if !plan.launcher().roles.iter().any(|role| role.gpus) {
        return None;
    }
    let Some(folder) = of_plan(plan) else {
        let found = if plan.model.is_path() {
            "the engine generates them: not checked".to_owned()
        } else {
            format!("the engine resolves {} by name: not checked", plan.model.path)
        };
        return Some(Finding::ok("weights", found));
    };
    Some(of_folder(&folder))
}

fn of_folder(folder: &WeightsQuery) -> Finding {
    if !Path::new(&folder.folder).exists() {
        let found = format!("{} is not on this machine: not checked here", shown(folder));
        return Finding::warn("weights", found, "the job checks it before it starts servers");
    }
    finding(&shown(folder), &examine(folder, &TokenizerCache::default()).into())
}

/// `/models/m`, `the draft model in /models/d`
fn shown(folder: &WeightsQuery) -> String {
    let what = if folder.is_draft { "the draft model in " } else { "" };
    format!("{what}{}", folder.folder)
}

/// Findings for model folders on nodes, one for all nodes with the same result. Unreadable folders are already reported as paths.
pub fn of_nodes(queries: &[WeightsQuery], reports: &[&Report]) -> Vec<Finding> {
    let mut rows = Vec::new();
    for (at, query) in queries.iter().enumerate() {
        let unread =
            |report: &Report| report.paths.iter().any(|path| path.path == query.folder && !path.readable);
        let mut results: Vec<(&WeightsReport, Vec<&str>)> = Vec::new();
        for report in reports.iter().filter(|report| !unread(report)) {
            let Some(found) = report.weights.get(at) else { continue };
            match results.iter_mut().find(|(known, _)| *known == found) {
                Some((_, hosts)) => hosts.push(&report.host),
                None => results.push((found, vec![&report.host])),
            }
        }
        let row = |(found, hosts): &(&WeightsReport, Vec<&str>)| {
            finding(&format!("{} on {}", shown(query), hosts.join(", ")), found)
        };
        rows.extend(results.iter().map(row));
    }
    rows
}

/// One finding for a folder: every problem, and what to do about the first.
fn finding(folder: &str, found: &WeightsReport) -> Finding {
    let mut lines = vec![format!("{folder}: {}", found.found)];
    lines.extend(found.problems.iter().chain(&found.remarks).cloned());
    let text = lines.join("\n");
    if found.problems.is_empty() && found.remarks.is_empty() {
        Finding::ok("weights", text)
    } else if found.problems.is_empty() {
        Finding::warn("weights", text, "check that this is intended")
    } else {
        Finding::fail("weights", text, found.next.clone().unwrap_or_default())
    }
}

fn of_image(container: &Container) -> Finding {
    let Some(file) = container.image_file() else {
        return Finding::ok(
            "image",
            format!("{} from a registry: fetched when a job starts", container.image),
        );
    };
    let shown = file.display();
    match image::verify(file) {
        Ok(()) => Finding::ok("image", format!("{shown}: {}, whole", length(file))),
        Err(problem) if file.exists() => Finding::fail("image", problem, "copy or import it again"),
        Err(_) => {
            let found = format!("{shown} is not on this machine: not checked here");
            Finding::warn("image", found, "the job checks it before it starts servers")
        }
    }
}

fn length(file: &Path) -> String {
    let bytes = std::fs::metadata(file).map_or(0, |found| found.len());
    format!("{bytes} bytes")
}

#[cfg(test)]
mod tests {
    use super::super::Status;
    use super::*;
    use crate::node::PathReport;

    fn report(problems: &[&str], remarks: &[&str]) -> WeightsReport {
        let all = |of: &[&str]| of.iter().map(|one| (*one).to_owned()).collect();
        let found = "2 shards, 3.0 GiB".to_owned();
        let next = problems.first().map(|first| format!("get {first}"));
        WeightsReport { found, problems: all(problems), remarks: all(remarks), next }
    }

    fn row(found: &Finding) -> (Status, &str, Option<&str>) {
        (found.status, &found.found, found.next.as_deref())
    }

    #[test]
    fn a_folder_is_one_finding_with_every_problem() {
        let see = Some("check that this is intended");
        let table: [(&[&str], &[&str], _); 3] = [
            (&[], &[], (Status::Ok, "/m: 2 shards, 3.0 GiB", None)),
            (&[], &["extra"], (Status::Warn, "/m: 2 shards, 3.0 GiB\nextra", see)),
            (&["a", "b"], &["extra"], (Status::Fail, "/m: 2 shards, 3.0 GiB\na\nb\nextra", Some("get a"))),
        ];
        for (problems, remarks, expected) in table {
            assert_eq!(row(&finding("/m", &report(problems, remarks))), expected);
        }
    }

    #[test]
    fn nodes_with_the_same_result_are_one_finding() {
        let query =
            WeightsQuery { folder: "/m".into(), model: "m".into(), weights_gib: None, is_draft: false };
        let node = |host: &str, weights: Vec<WeightsReport>| {
            let known = crate::node::report(&crate::node::Query::default());
            Report { host: host.into(), weights, ..known }
        };
        let unread = PathReport { path: "/m".into(), readable: false, is_dir: false, problem: None };
        let (whole, broken) = (report(&[], &[]), report(&["a"], &[]));
        let nodes = [
            node("n1", vec![whole.clone()]),
            node("n2", vec![broken]),
            node("n3", vec![whole]),
            node("n4", vec![]),
            Report { paths: vec![unread], ..node("n5", vec![report(&["gone"], &[])]) },
        ];
        let rows = of_nodes(&[query], &nodes.iter().collect::<Vec<_>>());
        let rows: Vec<_> = rows.iter().map(row).collect();
        assert_eq!(
            rows,
            [
                (Status::Ok, "/m on n1, n3: 2 shards, 3.0 GiB", None),
                (Status::Fail, "/m on n2: 2 shards, 3.0 GiB\na", Some("get a")),
            ]
        );
    }
}
