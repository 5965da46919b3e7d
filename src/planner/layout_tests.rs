//! Topologies worked out by hand: on which nodes and GPUs each replica runs, under which ranks.

use serde_json::{Map, Value, json};

use super::*;
use crate::launcher::{self, PoolName};
use crate::plan::{Connection, Parallel};
use crate::recipe::layers::default_section;

fn parallel(tp: u32, pp: u32, dp: u32, replicas: u32) -> Parallel {
    Parallel { tp, pp, dp, ep: 1, attention_dp: false, replicas }
}

fn pool(name: PoolName, parallel: Parallel) -> Pool {
    Pool { name, parallel, engine: Map::new(), env: BTreeMap::new() }
}

fn settings(launcher: &Launcher, chosen: &[(&str, &str)]) -> Map<String, Value> {
    let mut settings: Map<String, Value> =
        launcher.settings.iter().map(|(name, setting)| (name.clone(), setting.default.clone())).collect();
    for (name, value) in chosen {
        assert!(settings.insert((*name).to_owned(), json!(value)).is_some(), "no setting {name}");
    }
    settings
}

/// `[deploy]` with these keys.
fn section(keys: &str) -> Deploy {
    let mut section = default_section("deploy");
    section.insert("launcher".into(), "vllm".into());
    section.extend(toml::from_str::<toml::Table>(keys).unwrap());
    section.try_into().unwrap()
}

struct Case<'a> {
    launcher: &'a str,
    pools: Vec<Pool>,
    per_node: u32,
    settings: &'a [(&'a str, &'a str)],
    /// More keys of `[deploy]`.
    keys: &'a str,
}

impl Default for Case<'_> {
    fn default() -> Self {
        Self { launcher: "vllm", pools: Vec::new(), per_node: 8, settings: &[], keys: "" }
    }
}

impl Case<'_> {
    fn lay_out(&self) -> Result<Deployment, InputError> {
        self.lay_out_on(&launcher::find(self.launcher, None, "t").unwrap().launcher)
    }

    fn lay_out_on(&self, launcher: &Launcher) -> Result<Deployment, InputError> {
        let gpu = Gpu { kind: "h100".into(), per_node: self.per_node, price: None };
        let mut deployment = Deployment {
            id: String::new(),
            axes: Vec::new(),
            parallel: self.pools[0].parallel,
            gpus: 0,
            engine: Map::new(),
            env: BTreeMap::new(),
            pools: self.pools.clone(),
            settings: settings(launcher, self.settings),
            prefix: Vec::new(),
            port: None,
            url: None,
            more_urls: Vec::new(),
            metrics_urls: Vec::new(),
            speculation: None,
            connection: Connection::default(),
            startup_timeout_s: 0.0,
            progress_timeout_s: 0.0,
            stop_grace_s: 0.0,
            nodes: 1,
            server_nodes: 1,
            processes: Vec::new(),
            points: Vec::new(),
            order: Vec::new(),
        };
        lay_out(&mut deployment, &section(self.keys), launcher, &gpu)?;
        Ok(deployment)
    }

    /// `name@nodes:gpus`, in start order.
    fn placed(&self) -> Vec<String> {
        let numbers = |numbers: &[u32]| numbers.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
        let place = |process: &Process| {
            format!("{}@{}:{}", process.name, numbers(&process.nodes), numbers(&process.gpus))
        };
        self.lay_out().unwrap().processes.iter().map(place).collect()
    }
}

fn aggregated(tp: u32, pp: u32, dp: u32, replicas: u32) -> Vec<Pool> {
    vec![pool(PoolName::Aggregated, parallel(tp, pp, dp, replicas))]
}

fn apart(prefill: Parallel, decode: Parallel) -> Vec<Pool> {
    vec![pool(PoolName::Prefill, prefill), pool(PoolName::Decode, decode)]
}

#[test]
fn one_replica_gets_the_first_gpus_of_the_head() {
    let case = Case { pools: aggregated(2, 1, 1, 1), ..Case::default() };
    assert_eq!(case.placed(), ["server-0@0:0,1"]);
    assert_eq!(case.lay_out().unwrap().processes[0].tasks, 1);
}

#[test]
fn replicas_share_a_node_without_sharing_gpus() {
    let case = Case { pools: aggregated(4, 1, 1, 3), launcher: "dynamo-trtllm", ..Case::default() };
    let places = case.placed();
    let workers = ["worker-0@0:0,1,2,3", "worker-1@0:4,5,6,7", "worker-2@1:0,1,2,3"];
    assert_eq!(places[places.len() - 3..], workers);
    let layout = case.lay_out().unwrap();
    assert_eq!((layout.nodes, layout.processes.last().unwrap().tasks), (2, 4));
    assert!(places[..places.len() - 3].iter().all(|place| place.ends_with("@0:")), "{places:?}");
}

/// The three GPUs left on a node are not enough for a replica of three, and never split.
#[test]
fn a_replica_that_fits_a_node_is_not_split_over_two() {
    let case = Case { pools: aggregated(3, 1, 1, 3), ..Case::default() };
    assert_eq!(case.placed(), ["server-0@0:0,1,2", "server-1@0:3,4,5", "server-2@1:0,1,2"]);
}

#[test]
fn tp_and_pp_over_nodes_is_a_process_a_node_and_the_first_one_leads() {
    let case = Case { pools: aggregated(8, 2, 1, 1), ..Case::default() };
    assert_eq!(case.placed(), ["server-0-r0@0:0,1,2,3,4,5,6,7", "server-0-r1@1:0,1,2,3,4,5,6,7"]);
    let layout = case.lay_out().unwrap();
    let follows: Vec<_> = layout.processes.iter().map(|process| (process.rank, process.follows)).collect();
    assert_eq!(follows, [(0, false), (1, true)]);
}

/// A deployment of DP8 with TP2 on nodes of four: two ranks a node, four nodes.
#[test]
fn data_parallel_ranks_are_numbered_through_the_nodes() {
    let case = Case { pools: aggregated(2, 1, 8, 1), per_node: 4, ..Case::default() };
    let layout = case.lay_out().unwrap();
    let ranks: Vec<_> = layout.processes.iter().map(|p| (p.nodes[0], p.dp_rank, p.dp_local)).collect();
    assert_eq!(ranks, [(0, 0, 2), (1, 2, 2), (2, 4, 2), (3, 6, 2)]);
    assert_eq!(layout.nodes, 4);
}

#[test]
fn each_rank_has_a_process_with_its_gpus_and_name() {
    let case = Case {
        pools: aggregated(2, 1, 4, 1),
        per_node: 4,
        settings: &[("dp_mode", "per_rank")],
        ..Case::default()
    };
    assert_eq!(
        case.placed(),
        ["server-0-r0@0:0,1", "server-0-r1@0:2,3", "server-0-r2@1:0,1", "server-0-r3@1:2,3"]
    );
    let layout = case.lay_out().unwrap();
    let ranks: Vec<_> = layout.processes.iter().map(|p| (p.dp_rank, p.dp_local, p.follows)).collect();
    assert_eq!(ranks, [(0, 1, false), (1, 1, false), (2, 1, false), (3, 1, false)]);
}

/// DeepSeek-R1 on GB200 as llmb-run starts it: six prefill replicas of four GPUs, one decode replica of eight: eight nodes.
#[test]
fn prefill_and_decode_get_separate_nodes_when_one_is_too_small() {
    let pools = apart(parallel(4, 1, 1, 6), parallel(8, 1, 1, 1));
    let case = Case { launcher: "dynamo-trtllm", pools, per_node: 4, ..Case::default() };
    let layout = case.lay_out().unwrap();
    assert_eq!(layout.nodes, 8);
    let decode = layout.processes.iter().find(|process| process.name == "decode-0").unwrap();
    assert_eq!((decode.nodes.as_slice(), decode.tasks), ([6, 7].as_slice(), 8));
    let prefill = layout.processes.iter().filter(|p| p.pool == Some(PoolName::Prefill)).map(|p| p.nodes[0]);
    assert_eq!(prefill.collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5]);
}

/// Dynamo's gpt-oss recipe on one node with eight GPUs: two prefill workers, six decode workers.
#[test]
fn pools_that_fit_on_one_node_share_it() {
    let pools = apart(parallel(1, 1, 1, 2), parallel(1, 1, 1, 6));
    let case = Case { launcher: "dynamo-vllm", pools: pools.clone(), ..Case::default() };
    let places = case.placed();
    assert_eq!(places[0], "frontend-0@0:");
    assert_eq!(places[1..4], ["prefill-0@0:0", "prefill-1@0:1", "decode-0@0:2"]);
    assert_eq!(case.lay_out().unwrap().nodes, 1);
    let split = Case { keys: "colocate = false", launcher: "dynamo-vllm", pools, ..Case::default() };
    assert_eq!(split.lay_out().unwrap().nodes, 2);
}

#[test]
fn nodes_set_apart_come_first_and_hold_no_worker() {
    let keys = "client_node = true\nhead_node = true";
    let case = Case { launcher: "dynamo-vllm", pools: aggregated(8, 1, 1, 2), keys, ..Case::default() };
    let layout = case.lay_out().unwrap();
    let at = |name: &str| layout.processes.iter().find(|process| process.name == name).unwrap().nodes.clone();
    assert_eq!(
        (at("frontend-0"), at("etcd-0"), at("worker-0"), at("worker-1")),
        (vec![1], vec![1], vec![2], vec![3])
    );
    assert_eq!((layout.nodes, layout.server_nodes), (4, 3));
}

#[test]
fn a_dedicated_role_has_a_node_to_itself() {
    let mut launcher = launcher::find("dynamo-vllm", None, "t").unwrap().launcher;
    launcher.roles[0].placement = Placement::Dedicated;
    launcher.roles[0].when = None;
    let layout = Case { pools: aggregated(1, 1, 1, 1), ..Case::default() }.lay_out_on(&launcher).unwrap();
    let at: Vec<_> =
        layout.processes.iter().map(|process| (process.name.as_str(), process.nodes[0])).collect();
    assert_eq!(at, [("etcd-0", 0), ("frontend-0", 1), ("worker-0", 1)]);
}

/// Whatever the sizes: no GPU of a node belongs to two processes, and every replica has all of its GPUs.
#[test]
fn no_gpu_has_two_owners() {
    let sizes = [1, 2, 3, 4, 8];
    let mut seen = 0;
    for (tp, dp, replicas) in sizes
        .iter()
        .flat_map(|tp| [1, 2, 4].map(|dp| (*tp, dp)))
        .flat_map(|(tp, dp)| [1, 3].map(|r| (tp, dp, r)))
    {
        for mode in ["per_node", "per_rank"] {
            let pools = apart(parallel(tp, 1, dp, replicas), parallel(2, 1, 1, 5));
            let case =
                Case { launcher: "dynamo-vllm", pools, settings: &[("dp_mode", mode)], ..Case::default() };
            let Ok(layout) = case.lay_out() else { continue };
            let owned: Vec<(u32, u32)> = layout
                .processes
                .iter()
                .flat_map(|process| {
                    process.nodes.iter().flat_map(|node| process.gpus.iter().map(|gpu| (*node, *gpu)))
                })
                .collect();
            let different: std::collections::BTreeSet<_> = owned.iter().collect();
            assert_eq!(different.len(), owned.len(), "tp {tp} dp {dp} replicas {replicas} {mode}");
            assert_eq!(
                owned.len() as u32,
                tp * dp * replicas + 10,
                "tp {tp} dp {dp} replicas {replicas} {mode}"
            );
            let names: std::collections::BTreeSet<_> = layout.processes.iter().map(|p| &p.name).collect();
            assert_eq!(names.len(), layout.processes.len(), "names are unique");
            seen += 1;
        }
    }
    assert!(seen > 30, "{seen}");
}

#[test]
fn what_does_not_fit_is_told_with_the_arithmetic() {
    let cases = [
        ("vllm", aggregated(4, 3, 1, 1), "tp × pp × dp = 4 × 3 × 1 = 12 GPUs, and 12 / 8 leaves 4"),
        ("vllm", aggregated(16, 1, 2, 1), "tp × pp = 16 × 1 = 16 GPUs, but a node has 8"),
        ("vllm", aggregated(2, 3, 4, 1), "2 × 3 = 6 GPUs, and 6 does not divide the 8 GPUs"),
        ("dynamo-vllm", aggregated(3, 1, 8, 1), "3 × 1 = 3 GPUs, and 3 does not divide the 8 GPUs"),
        ("dynamo-trtllm", apart(parallel(12, 1, 1, 1), parallel(1, 1, 1, 1)), "a prefill replica needs"),
    ];
    for (launcher, pools, expected) in cases {
        let misfit = Case { launcher, pools, ..Case::default() }.lay_out().unwrap_err();
        assert!(misfit.problem.contains(expected), "{}", misfit.problem);
        assert!(misfit.key.is_some_and(|key| key.starts_with("deploy.") && key.ends_with("tp")));
    }
    let mut single = launcher::find("vllm", None, "t").unwrap().launcher;
    single.spans_nodes = false;
    let misfit = Case { pools: aggregated(16, 1, 1, 1), ..Case::default() }.lay_out_on(&single).unwrap_err();
    assert!(
        misfit.problem.contains("= 16 GPUs, a node with h100 has 8, and launcher \"vllm\" cannot span"),
        "{misfit:?}"
    );
}

#[test]
fn ports_are_counted_by_rank_and_gpu() {
    let case = Case {
        launcher: "dynamo-vllm",
        pools: apart(parallel(1, 1, 8, 1), parallel(2, 1, 1, 1)),
        per_node: 4,
        ..Case::default()
    };
    let layout = case.lay_out().unwrap();
    let prefill = layout.processes.iter().find(|process| process.name == "prefill-0-r1").unwrap();
    assert_eq!(prefill.ports["kv_events"], PortNeed { base: 5200, count: 4, stride: 4 });
    let decode = layout.processes.iter().find(|process| process.name == "decode-0").unwrap();
    assert_eq!(decode.ports["nixl"], PortNeed { base: 5400, count: 2, stride: 2 });
}
