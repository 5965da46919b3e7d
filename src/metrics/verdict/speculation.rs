//! Whether the acceptance of drafts means anything.

use super::Reason;
use crate::metrics::record::PointRun;
use crate::plan::{LoadPoint, PromptKind, Speculation, Style};

/// Random prompts under real drafts: a model that continues noise is followed by its draft in another way than one that answers users.
/// Speculation is known from the deployment, else from the servers' counters.
pub fn reason(point: &LoadPoint, run: &PointRun, known: Option<&Speculation>) -> Option<Reason> {
    let counted =
        run.servers.iter().flat_map(|view| view.engines()).find_map(|layer| layer.speculation.as_ref());
    let is_synthetic = known.is_some_and(|speculation| speculation.synthetic);
    let is_random = matches!(&point.prompts.source, PromptKind::Synthetic(Style::Random));
    if is_synthetic || !is_random || (known.is_none() && counted.is_none()) {
        return None;
    }
    let length = counted.and_then(|counted| counted.acceptance_length);
    let length = length.map_or_else(String::new, |length| format!(" ({length:.2} tokens a step)"));
    Some(Reason::suspect(format!(
        "speculative decoding on random prompts: the acceptance of drafts{length} is not that of users' text, and neither are ITL, E2E latency and throughput; send real prompts (load.prompts.dataset, or style = \"natural\"), or accept drafts at random (deploy.speculation.synthetic_acceptance)"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::fixtures::{point, run};
    use crate::metrics::server::{LayerView, ServerView, Speculation as Counted};
    use crate::plan::PromptSpec;

    fn with(style: Style) -> LoadPoint {
        LoadPoint {
            prompts: PromptSpec { source: PromptKind::Synthetic(style), ..PromptSpec::default() },
            ..point()
        }
    }

    fn known(synthetic: bool) -> Speculation {
        Speculation { method: Some("eagle3".into()), synthetic, ..Speculation::default() }
    }

    #[test]
    fn drafts_of_random_words_mean_nothing() {
        let ran = run(Vec::new());
        let said =
            |style, known: Option<&Speculation>| reason(&with(style), &ran, known).map(|reason| reason.text);
        assert!(
            said(Style::Random, Some(&known(false)))
                .is_some_and(|text| text.starts_with("speculative decoding on random"))
        );
        assert_eq!(said(Style::Random, Some(&known(true))), None, "the text has no part in it");
        assert_eq!(said(Style::Natural, Some(&known(false))), None);
        assert_eq!(said(Style::Random, None), None);
    }

    /// An endpoint that runs elsewhere does not say that it speculates; its counters do.
    #[test]
    fn counters_of_the_servers_tell_of_speculation() {
        let mut ran = run(Vec::new());
        let speculation = Some(Counted { acceptance_length: Some(1.25), ..Counted::default() });
        let engine = Some(LayerView { speculation, ..LayerView::default() });
        ran.run.servers = Some(ServerView { engine, ..ServerView::default() });
        let text = reason(&with(Style::Random), &ran, None).map(|reason| reason.text).unwrap_or_default();
        assert!(text.contains("(1.25 tokens a step)"), "{text}");
    }
}
