//! The weights and the image of a recipe, as this machine sees them. Whether nodes can read them, `probe` asks.
//!
//! Arrow: `plan`, `weights` → here → `examine`.

use std::path::Path;

use super::Finding;
use crate::document::InputError;
use crate::plan::{Container, Plan};
use crate::prompts::Shelf;
use crate::weights::{Found, Subject, examine, image};

/// A row for the weights and one for the image, where there is something to say.
pub fn rows(plan: &Plan) -> Vec<Finding> {
    let rows = [of_weights(plan), plan.container.as_ref().map(of_image)];
    rows.into_iter().flatten().map(|row| row.about(&plan.name)).collect()
}

fn of_weights(plan: &Plan) -> Option<Finding> {
    if !plan.launcher.roles.iter().any(|role| role.gpus) {
        return None;
    }
    let Some(subject) = Subject::of(plan) else {
        let found = format!("the engine finds {} by its name: not checked", plan.model.path);
        return Some(Finding::ok("weights", found));
    };
    if !subject.exists() {
        let found = format!("{} is not on this machine: not checked here", subject.folder);
        return Some(Finding::warn("weights", found, "the job looks through it before it starts servers"));
    }
    Some(judged(&subject.folder, &examine(&subject, &Shelf::default())))
}

/// What was found in a folder, as a row: every problem, and what to do about the first.
fn judged(folder: &str, found: &Found) -> Finding {
    let told = |error: &InputError| {
        let expected = error.expected.as_ref().map(|expected| format!(" (expected: {expected})"));
        format!("{}: {}{}", error.origin, error.problem, expected.unwrap_or_default())
    };
    let mut lines = vec![format!("{folder}: {}", found.words())];
    lines.extend(found.problems.iter().map(told));
    lines.extend(found.remarks.iter().cloned());
    let text = lines.join("\n");
    match found.problems.first() {
        Some(first) => Finding::fail("weights", text, first.next.clone().unwrap_or_default()),
        None if found.remarks.is_empty() => Finding::ok("weights", text),
        None => Finding::warn("weights", text, "see whether that is meant to be so"),
    }
}

fn of_image(container: &Container) -> Finding {
    let Some(file) = container.image_file() else {
        return Finding::ok("image", format!("{} of a registry: fetched when a job starts", container.image));
    };
    let shown = file.display();
    match image::verify(file) {
        Ok(()) => Finding::ok("image", format!("{shown}: {}, whole", length(file))),
        Err(problem) if file.exists() => Finding::fail("image", problem, "copy or import it again"),
        Err(_) => {
            let found = format!("{shown} is not on this machine: not checked here");
            Finding::warn("image", found, "the job looks at it before it starts servers")
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

    #[test]
    fn a_folder_is_a_row_with_every_problem() {
        let error =
            |name: &str| InputError::new(format!("/m/{name}"), "is missing").next(format!("get {name}"));
        let whole = Found { shards: 2, bytes: 3 << 30, examined: true, ..Found::default() };
        let remarked = Found { remarks: vec!["an extra file".into()], ..whole.clone() };
        let broken = Found { problems: vec![error("a"), error("b").expected("b1")], ..remarked.clone() };
        let row = |found: &Found| {
            let row = judged("/m", found);
            (row.status, row.found, row.next)
        };
        assert_eq!(row(&whole), (Status::Ok, "/m: 2 shards, 3.0 GiB, whole".into(), None));
        let next = Some("see whether that is meant to be so".into());
        assert_eq!(
            row(&remarked),
            (Status::Warn, "/m: 2 shards, 3.0 GiB, whole\nan extra file".into(), next)
        );
        let text = "/m: 2 shards, 3.0 GiB, and 2 problems\n/m/a: is missing\n/m/b: is missing (expected: b1)\nan extra file";
        assert_eq!(row(&broken), (Status::Fail, text.into(), Some("get a".into())));
    }
}
