//! Whether what answers at an address is an API at all.
//!
//! A server that starts refuses connections (vLLM), answers 503 (llama-server) or lists no model yet (Dynamo, whose requests meet
//! 404 meanwhile). One that answers 404 to the list of models and to the requests alike, and says nothing about a model, is another
//! program, or its API lies under another path.

use std::time::Duration;

/// How long a running endpoint may answer 404 to everything: a gateway gets its routes some seconds after it listens.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// The same for a server that this run started, whose address is its own.
pub(super) const PATIENCE_WITH_OWN: Duration = Duration::from_secs(120);

/// One path that was tried, and the answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tried {
    /// `GET http://h:1/v1/models`
    pub request: String,
    pub status: u16,
    pub message: String,
}

/// Words of a server that is there and whose model is not.
const OF_A_MODEL: [&str; 8] =
    ["model", "load", "ready", "warm", "starting", "initializ", "worker", "unavailable"];

impl Tried {
    /// Whether the answer means that nothing is served at this path.
    pub fn is_unknown_path(&self) -> bool {
        let message = self.message.to_lowercase();
        matches!(self.status, 404 | 405) && !OF_A_MODEL.iter().any(|word| message.contains(word))
    }
}

impl std::fmt::Display for Tried {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} answers {}: {}", self.request, self.status, self.message)
    }
}

/// What to do about it.
pub const NEXT: &str = "give the address of an OpenAI-compatible API; if its paths do not lie below /v1, give that of the \
                        requests, deploy.connection.path, or --endpoint /v1beta/openai/chat/completions";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_404_that_speaks_of_a_model_comes_from_an_api() {
        let is_unknown = |status, message: &str| {
            Tried { request: String::new(), status, message: message.into() }.is_unknown_path()
        };
        // Go, nginx, FastAPI, Envoy.
        for message in ["404 page not found", "404 Not Found", "Not Found", "(empty body)"] {
            assert!(is_unknown(404, message), "{message}");
        }
        for message in ["Model not found", "The model `x` does not exist.", "no workers", "Loading model"] {
            assert!(!is_unknown(404, message), "{message}");
        }
        assert!(is_unknown(405, "Method Not Allowed") && !is_unknown(503, "") && !is_unknown(401, ""));
    }
}
