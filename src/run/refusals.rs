//! Leaves out of the load what the server refuses, and notes it in the summary.

use tokio_util::sync::CancellationToken;

use super::point::{Measure, PointError};
use crate::load::{self, Refusal, Target};
use crate::metrics::Summary;
use crate::metrics::summary::{DroppedExtension, ServerAccess, TlsCheck};
use crate::plan::{LoadPoint, Proxy};

#[derive(Debug, Clone)]
pub(super) struct Refusals {
    dropped: Vec<DroppedExtension>,
    connection: ServerAccess,
}

impl Refusals {
    /// Tries what the server accepts; returns the measurement without the refused fields.
    pub(super) fn reach(measure: Measure, stop: &CancellationToken) -> Result<(Measure, Self), PointError> {
        let refused = load::refused_extensions(&measure.target, &measure.point, stop)?;
        let several = measure.target.base_urls.len() > 1;
        let mut left_out = measure.point.left_out.clone();
        left_out.extend(refused.iter().map(|refusal| refusal.extension));
        let dropped = refused.iter().map(|Refusal { extension, message, server }| {
            let answer = if several { format!("{server}: {message}") } else { message.clone() };
            DroppedExtension::new(*extension, &answer, &left_out)
        });
        let refusals = Self { dropped: dropped.collect(), connection: connection(&measure.target) };
        let point = LoadPoint { left_out, ..measure.point };
        Ok((Measure { point, ..measure }, refusals))
    }

    pub(super) fn note(self, summary: &mut Summary) {
        for reason in self.dropped.iter().filter_map(DroppedExtension::reason) {
            summary.verdict.suspect(reason);
        }
        summary.dropped_extensions = self.dropped;
        summary.connection = Some(self.connection);
    }
}

fn connection(target: &Target) -> ServerAccess {
    let tls = target.base_urls.iter().any(|url| url.starts_with("https:"));
    let check = match (&target.tls.ca_file, target.tls.insecure) {
        (_, true) => TlsCheck::Unverified,
        (Some(_), false) => TlsCheck::CaFile,
        (None, false) => TlsCheck::System,
    };
    ServerAccess {
        address: Some(target.address()),
        model: Some(target.model.clone()),
        urls: u32::try_from(target.base_urls.len()).unwrap_or(u32::MAX),
        http_version: target.http,
        tls: tls.then_some(check),
        proxy: target.proxy != Proxy::Off,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::LiveCounters;
    use crate::load::testing::{Server, good, point, whole};
    use crate::metrics::Rating;

    /// The POSTed requests; GET requests of the model list are left out.
    fn posted(server: &Server) -> Vec<(String, String)> {
        server.received().requests.iter().filter(|(_, body)| !body.is_empty()).cloned().collect()
    }

    #[test]
    fn what_a_server_refuses_is_left_out_and_noted() {
        let server = Server::play(|n| match n {
            0 => whole(
                "422 Unprocessable Entity",
                "text/plain",
                "Unexpected fields in the request: {'ignore_eos'}",
            ),
            _ => good(),
        });
        let dir = tempfile::tempdir().unwrap();
        let measure =
            Measure { dir: Some(dir.path().to_path_buf()), ..Measure::new(server.target(), point(2)) };
        let stop = CancellationToken::new();
        let summary = measure.run(&LiveCounters::default(), &stop).unwrap();
        assert_eq!(summary.verdict.result, Rating::Suspect);
        let reason = "ignore_eos is not understood and was left out: output lengths rest on min_tokens alone \
                      (the server said: Unexpected fields in the request: {'ignore_eos'})";
        assert!(summary.verdict.reasons.iter().any(|found| found == reason), "{:?}", summary.verdict);
        assert_eq!((summary.requests.completed, summary.dropped_extensions.len()), (2, 1));
        assert_eq!(summary.dropped_extensions[0].field, "ignore_eos");
        let sent = posted(&server);
        assert_eq!(sent.len(), 4, "two probes, then the load");
        assert!(
            sent[2..].iter().all(|(_, body)| !body.contains("ignore_eos") && body.contains("min_tokens"))
        );
        let inputs = std::fs::read_to_string(dir.path().join("inputs.json")).unwrap();
        assert!(!inputs.contains("ignore_eos") && inputs.contains("min_tokens"));
        let written = crate::report::summary_in(dir.path()).unwrap();
        assert_eq!(
            (written.dropped_extensions, written.connection),
            (summary.dropped_extensions, summary.connection)
        );
    }

    #[test]
    fn a_renamed_length_is_noted_and_is_no_reason_for_suspicion() {
        let server = Server::play(|n| match n {
            0 => whole(
                "400 Bad Request",
                "text/plain",
                "'max_tokens' is not supported, use 'max_completion_tokens'",
            ),
            _ => good(),
        });
        let measure = Measure::new(server.target(), LoadPoint { ignore_eos: false, ..point(1) });
        let summary = measure.run(&LiveCounters::default(), &CancellationToken::new()).unwrap();
        let [dropped] = &summary.dropped_extensions[..] else { panic!("{summary:?}") };
        assert_eq!(
            (dropped.field.as_str(), dropped.replaced_by.as_deref()),
            ("max_tokens", Some("max_completion_tokens"))
        );
        assert!(!summary.verdict.reasons.iter().any(|reason| reason.contains("max_tokens")));
        assert!(posted(&server)[2].1.contains(r#""max_completion_tokens":4"#));
    }
}
