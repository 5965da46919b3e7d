//! The text of `/metrics`: vLLM's names and labels, and a few of our own that say how far the model could be kept.
//!
//! Pure.

use std::fmt::Write as _;

use super::driver::Lag;
use super::stats::{EngineStats, Histogram};

/// What is rendered.
pub(super) struct Snapshot<'a> {
    pub(super) model: &'a str,
    pub(super) profile: &'a str,
    pub(super) running: usize,
    pub(super) waiting: usize,
    /// 0 to 1.
    pub(super) kv_usage: f64,
    pub(super) block_size: u32,
    pub(super) num_blocks: u32,
    pub(super) stats: &'a EngineStats,
    pub(super) lag: Lag,
    /// User and system time of the process, seconds.
    pub(super) cpu_s: f64,
}

/// Name, type and help of each metric.
const METRICS: &str = "\
vllm:num_requests_running gauge Number of requests in model execution batches.
vllm:num_requests_waiting gauge Number of requests waiting to be processed.
vllm:kv_cache_usage_perc gauge KV-cache usage. 1 means 100 percent usage.
vllm:cache_config_info gauge Information of the LLMEngine CacheConfig
vllm:prefix_cache_queries_total counter Prefix cache queries, in tokens.
vllm:prefix_cache_hits_total counter Prefix cache hits, in tokens.
vllm:num_preemptions_total counter Cumulative number of preemption from the engine.
vllm:prompt_tokens_total counter Number of prefill tokens processed.
vllm:generation_tokens_total counter Number of generation tokens processed.
vllm:request_success_total counter Count of successfully processed requests.
vllm:time_to_first_token_seconds histogram Histogram of time to first token in seconds.
vllm:inter_token_latency_seconds histogram Histogram of inter-token latency in seconds.
vllm:e2e_request_latency_seconds histogram Histogram of e2e request latency in seconds.
tokmark_sim_info gauge These results are simulated.
tokmark_sim_steps_total counter Engine steps.
tokmark_sim_step_lag_seconds_total counter Emission behind the model, summed over steps.
tokmark_sim_step_lag_seconds_max gauge Emission behind the model, worst step.
tokmark_sim_slipped_seconds_total counter Time the model was put off because this machine could not keep up; above 0, \
results are not the model's.
process_cpu_seconds_total counter Total user and system CPU time spent in seconds.";

struct Page {
    text: String,
    /// `engine="0",model_name="…"`
    labels: String,
}

impl Snapshot<'_> {
    /// The page in the Prometheus text format.
    pub(super) fn render(&self) -> String {
        let labels = format!("engine=\"0\",model_name=\"{}\"", escape(self.model));
        let mut page = Page { text: String::with_capacity(16 * 1024), labels };
        let stats = self.stats;
        page.value("vllm:num_requests_running", self.running as f64);
        page.value("vllm:num_requests_waiting", self.waiting as f64);
        page.value("vllm:kv_cache_usage_perc", self.kv_usage);
        let blocks = format!("block_size=\"{}\",num_gpu_blocks=\"{}\"", self.block_size, self.num_blocks);
        page.labelled("vllm:cache_config_info", &[(blocks, 1.0)]);
        page.value("vllm:prefix_cache_queries_total", stats.prefix_cache_queries as f64);
        page.value("vllm:prefix_cache_hits_total", 0.0);
        page.value("vllm:num_preemptions_total", stats.preemptions as f64);
        page.value("vllm:prompt_tokens_total", stats.prompt_tokens as f64);
        page.value("vllm:generation_tokens_total", stats.generation_tokens as f64);
        let finished =
            [("stop", stats.finished_stop), ("length", stats.finished_length), ("abort", 0), ("error", 0)];
        let finished =
            finished.map(|(reason, count)| (format!("finished_reason=\"{reason}\""), count as f64));
        page.labelled("vllm:request_success_total", &finished);
        page.histogram("vllm:time_to_first_token_seconds", &stats.ttft);
        page.histogram("vllm:inter_token_latency_seconds", &stats.itl);
        page.histogram("vllm:e2e_request_latency_seconds", &stats.e2e);
        let profile = format!("simulated=\"true\",profile=\"{}\"", escape(self.profile));
        page.labelled("tokmark_sim_info", &[(profile, 1.0)]);
        let seconds = |us: u64| us as f64 / 1e6;
        page.value("tokmark_sim_steps_total", stats.steps as f64);
        page.value("tokmark_sim_step_lag_seconds_total", seconds(self.lag.sum_us));
        page.value("tokmark_sim_step_lag_seconds_max", seconds(self.lag.max_us));
        page.value("tokmark_sim_slipped_seconds_total", seconds(self.lag.slipped_us));
        page.header("process_cpu_seconds_total");
        let _ = writeln!(page.text, "process_cpu_seconds_total {}", number(self.cpu_s));
        page.text
    }
}

// Writing to a String cannot fail.
impl Page {
    fn header(&mut self, name: &str) {
        let metrics = METRICS.lines().filter_map(|line| line.split_once(' '));
        let kind_and_help =
            metrics.filter(|(metric, _)| *metric == name).find_map(|(_, rest)| rest.split_once(' '));
        if let Some((kind, help)) = kind_and_help {
            let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        }
    }

    fn value(&mut self, name: &str, value: f64) {
        self.labelled(name, &[(String::new(), value)]);
    }

    fn labelled(&mut self, name: &str, samples: &[(String, f64)]) {
        self.header(name);
        for (labels, value) in samples {
            self.sample(name, labels, *value);
        }
    }

    fn sample(&mut self, name: &str, extra: &str, value: f64) {
        let comma = if extra.is_empty() { "" } else { "," };
        let _ = writeln!(self.text, "{name}{{{}{comma}{extra}}} {}", self.labels, number(value));
    }

    fn histogram(&mut self, name: &str, histogram: &Histogram) {
        self.header(name);
        let bounds = histogram.bounds.iter().map(|bound| number(*bound)).chain(["+Inf".to_owned()]);
        let (mut cumulative, bucket) = (0, format!("{name}_bucket"));
        for (bound, count) in bounds.zip(&histogram.counts) {
            cumulative += count;
            self.sample(&bucket, &format!("le=\"{bound}\""), cumulative as f64);
        }
        self.sample(&format!("{name}_count"), "", cumulative as f64);
        self.sample(&format!("{name}_sum"), "", histogram.sum);
    }
}

/// A number as Python writes a float: 1 is `1.0`.
fn number(value: f64) -> String {
    format!("{value:?}")
}

fn escape(label: &str) -> String {
    label.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_vllms_names_labels_and_cumulative_buckets() {
        let mut stats = EngineStats { preemptions: 3, finished_length: 2, ..EngineStats::default() };
        stats.itl.counts[0] = 5;
        stats.itl.counts[2] = 1;
        stats.itl.sum = 0.25;
        let lag = Lag { sum_us: 1_500_000, max_us: 500, slipped_us: 0 };
        let (running, waiting, kv_usage) = (64, 32, 0.5);
        let (model, profile) = ("a\"b", "quick");
        let page = Snapshot {
            model,
            profile,
            running,
            waiting,
            kv_usage,
            block_size: 16,
            num_blocks: 99,
            stats: &stats,
            lag,
            cpu_s: 0.125,
        }
        .render();
        for line in [
            r#"vllm:num_requests_running{engine="0",model_name="a\"b"} 64.0"#,
            r#"vllm:num_requests_waiting{engine="0",model_name="a\"b"} 32.0"#,
            r#"vllm:kv_cache_usage_perc{engine="0",model_name="a\"b"} 0.5"#,
            r#"vllm:num_preemptions_total{engine="0",model_name="a\"b"} 3.0"#,
            r#"vllm:request_success_total{engine="0",model_name="a\"b",finished_reason="length"} 2.0"#,
            r#"vllm:inter_token_latency_seconds_bucket{engine="0",model_name="a\"b",le="0.01"} 5.0"#,
            r#"vllm:inter_token_latency_seconds_bucket{engine="0",model_name="a\"b",le="0.05"} 6.0"#,
            r#"vllm:inter_token_latency_seconds_bucket{engine="0",model_name="a\"b",le="+Inf"} 6.0"#,
            r#"vllm:inter_token_latency_seconds_sum{engine="0",model_name="a\"b"} 0.25"#,
            r#"tokmark_sim_info{engine="0",model_name="a\"b",simulated="true",profile="quick"} 1.0"#,
            r#"tokmark_sim_step_lag_seconds_total{engine="0",model_name="a\"b"} 1.5"#,
            "process_cpu_seconds_total 0.125",
            "# HELP vllm:num_requests_running Number of requests in model execution batches.",
            "# TYPE vllm:num_requests_running gauge",
            "# TYPE vllm:inter_token_latency_seconds histogram",
            "# TYPE process_cpu_seconds_total counter",
        ] {
            assert!(page.lines().any(|found| found == line), "{line}\nnot in\n{page}");
        }
        assert_eq!(page.matches("# HELP ").count(), METRICS.lines().count());
    }
}
