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
        self.gauges(&mut page);
        self.counters(&mut page);
        let stats = self.stats;
        page.histogram(
            "vllm:time_to_first_token_seconds",
            "Histogram of time to first token in seconds.",
            &stats.ttft,
        );
        page.histogram(
            "vllm:inter_token_latency_seconds",
            "Histogram of inter-token latency in seconds.",
            &stats.itl,
        );
        page.histogram(
            "vllm:e2e_request_latency_seconds",
            "Histogram of e2e request latency in seconds.",
            &stats.e2e,
        );
        self.own(&mut page);
        page.text
    }

    fn gauges(&self, page: &mut Page) {
        let value = self.running as f64;
        page.single(
            "vllm:num_requests_running",
            "gauge",
            "Number of requests in model execution batches.",
            value,
        );
        let value = self.waiting as f64;
        page.single(
            "vllm:num_requests_waiting",
            "gauge",
            "Number of requests waiting to be processed.",
            value,
        );
        let help = "KV-cache usage. 1 means 100 percent usage.";
        page.single("vllm:kv_cache_usage_perc", "gauge", help, self.kv_usage);
        page.header("vllm:cache_config_info", "gauge", "Information of the LLMEngine CacheConfig");
        let blocks = format!("block_size=\"{}\",num_gpu_blocks=\"{}\"", self.block_size, self.num_blocks);
        page.sample("vllm:cache_config_info", &blocks, 1.0);
    }

    fn counters(&self, page: &mut Page) {
        let stats = self.stats;
        let counters = [
            (
                "vllm:prefix_cache_queries_total",
                "Prefix cache queries, in tokens.",
                stats.prefix_cache_queries,
            ),
            ("vllm:prefix_cache_hits_total", "Prefix cache hits, in tokens.", 0),
            (
                "vllm:num_preemptions_total",
                "Cumulative number of preemption from the engine.",
                stats.preemptions,
            ),
            ("vllm:prompt_tokens_total", "Number of prefill tokens processed.", stats.prompt_tokens),
            (
                "vllm:generation_tokens_total",
                "Number of generation tokens processed.",
                stats.generation_tokens,
            ),
        ];
        for (name, help, value) in counters {
            page.single(name, "counter", help, value as f64);
        }
        let name = "vllm:request_success_total";
        page.header(name, "counter", "Count of successfully processed requests.");
        let finished =
            [("stop", stats.finished_stop), ("length", stats.finished_length), ("abort", 0), ("error", 0)];
        for (reason, value) in finished {
            page.sample(name, &format!("finished_reason=\"{reason}\""), value as f64);
        }
    }

    fn own(&self, page: &mut Page) {
        let (name, labels) =
            ("tokmark_sim_info", format!("simulated=\"true\",profile=\"{}\"", escape(self.profile)));
        page.header(name, "gauge", "These results are simulated.");
        page.sample(name, &labels, 1.0);
        let seconds = |us: u64| us as f64 / 1e6;
        page.single("tokmark_sim_steps_total", "counter", "Engine steps.", self.stats.steps as f64);
        let help = "Emission behind the model, summed over steps.";
        page.single("tokmark_sim_step_lag_seconds_total", "counter", help, seconds(self.lag.sum_us));
        let help = "Emission behind the model, worst step.";
        page.single("tokmark_sim_step_lag_seconds_max", "gauge", help, seconds(self.lag.max_us));
        let help = "Time the model was put off because this machine could not keep up; above 0, results are not the model's.";
        page.single("tokmark_sim_slipped_seconds_total", "counter", help, seconds(self.lag.slipped_us));
        page.header(
            "process_cpu_seconds_total",
            "counter",
            "Total user and system CPU time spent in seconds.",
        );
        let _ = writeln!(page.text, "process_cpu_seconds_total {}", number(self.cpu_s));
    }
}

// Writing to a String cannot fail.
impl Page {
    fn header(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn single(&mut self, name: &str, kind: &str, help: &str, value: f64) {
        self.header(name, kind, help);
        self.sample(name, "", value);
    }

    fn sample(&mut self, name: &str, extra: &str, value: f64) {
        let comma = if extra.is_empty() { "" } else { "," };
        let _ = writeln!(self.text, "{name}{{{}{comma}{extra}}} {}", self.labels, number(value));
    }

    fn histogram(&mut self, name: &str, help: &str, histogram: &Histogram) {
        self.header(name, "histogram", help);
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
        ] {
            assert!(page.lines().any(|found| found == line), "{line}\nnot in\n{page}");
        }
    }
}
