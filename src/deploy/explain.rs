//! What a plan starts, for `render --explain`.

use super::{place, spawn};
use crate::plan::Plan;
use crate::recipe::secret;
use crate::render::{self, Addresses, Placed, RenderError};

/// Every process with sample addresses, as comments, so that the whole output remains a script.
pub fn comments(plan: &Plan) -> Result<String, RenderError> {
    let mut text = String::from("\n# What this starts, with made-up hosts and the preferred ports:\n");
    if let Some(search) = plan.search_words() {
        text.push_str(&format!("# search: {search}\n"));
    }
    for deployment in &plan.deployments {
        let addresses = Addresses::sample(plan, deployment);
        let placed = Placed { plan, deployment, addresses: &addresses };
        if !deployment.id.is_empty() {
            text.push_str(&format!("# deployment {}\n", deployment.id));
        }
        if let Some(speculation) = &deployment.speculation {
            text.push_str(&format!("#   speculation: {}\n", speculation.words()));
        }
        for process in &deployment.processes {
            let spawn = placed.process(process)?;
            let nodes: Vec<&str> = process
                .nodes
                .iter()
                .filter_map(|node| addresses.nodes.get(*node as usize))
                .map(String::as_str)
                .collect();
            let gpus = if process.gpus.is_empty() {
                "no GPU".into()
            } else {
                format!("GPUs {}", place::visible_gpus(&process.gpus, None))
            };
            let address = addresses.processes.get(&process.name).map(|address| &address.ports);
            let ports: String =
                address.into_iter().flatten().map(|(name, port)| format!(", {name} {port}")).collect();
            text.push_str(&format!(
                "#   {} on {}, {} task(s), {gpus}{ports}\n",
                process.name,
                nodes.join(","),
                process.tasks
            ));
            let bare = plan.launcher().role(&process.role).is_some_and(|role| role.bare);
            if let (Some(container), false) = (&plan.container, bare) {
                let mounts: String =
                    container.mounts.iter().map(|mount| format!(", mount {mount}")).collect();
                text.push_str(&comment("     container", &format!("{}{mounts}", container.image)));
            }
            for (name, value) in &spawn.env {
                text.push_str(&comment(
                    "     env",
                    &format!("{name}={}", render::quote(secret::shown(name, value))),
                ));
            }
            text.push_str(&comment("     argv", &spawn::shell_line(&spawn.argv, &Default::default())));
            for (path, content) in &spawn.files {
                text.push_str(&comment(&format!("     file {path}"), &format!("\n{content}")));
            }
        }
        let urls = placed.endpoint_urls()?;
        if urls.is_empty() {
            text.push_str("#   endpoint not given: set URL= or deploy.url\n");
        }
        for url in urls {
            text.push_str(&format!("#   endpoint {url}\n"));
        }
    }
    Ok(text)
}

fn comment(label: &str, value: &str) -> String {
    let mut lines = value.lines();
    let first = lines.next().unwrap_or_default();
    let rest: String = lines.map(|line| format!("#       {line}\n")).collect();
    format!("{}\n{rest}", format!("#{label} {first}").trim_end())
}
