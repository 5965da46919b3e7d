//! Where the servers of a deployment publish their metrics.

/// A metrics page in the Prometheus text format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetricsPage {
    pub url: String,
    /// The process that serves it, or host and port of one that runs elsewhere.
    pub process: String,
    /// `prefill` or `decode`, when the deployment has them apart.
    pub pool: Option<&'static str>,
}
