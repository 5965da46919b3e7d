//! `init` and `doctor` on clusters unlike ours, played by fake Slurm tools: typed and untyped GPUs, no accounting, pyxis, apptainer,
//! aarch64 nodes, and all that can be wrong with a site file.

use std::os::unix::fs::PermissionsExt;

use crate::support::FakeSlurm;
use crate::support::house::{End, House};
use tokmark::internals::site::{Arch, ContainerRuntime, GresDialect, Site};

const PYXIS: &str =
    "      --container-image=[USER@][REGISTRY#]IMAGE[:TAG]|PATH\n      --container-env=NAME[,NAME...]\n";

/// A cluster and a house beside it.
struct Lab {
    house: House,
    fake: FakeSlurm,
}

impl Lab {
    /// A cluster with these lines of `sinfo` (node|partition|avail|state|limit|cpus|memory|gres|features).
    fn new(partitions: &str) -> Self {
        let lab = Self { house: House::new(), fake: FakeSlurm::new() };
        lab.fake.write("partitions", partitions);
        lab
    }

    /// With accounts: the lines of the user's associations.
    fn accounts(self, associations: &str, default: &str, enforce: &str) -> Self {
        self.fake.write("associations", associations);
        self.fake.write("default_account", default);
        self.fake.write("config", &format!("ClusterName = fake\nAccountingStorageEnforce = {enforce}\n"));
        self
    }

    fn with(self, name: &str, text: &str) -> Self {
        self.fake.write(name, text);
        self
    }

    /// With a program on PATH.
    fn program(self, name: &str) -> Self {
        let path = self.house.file(&format!("bin/{name}"), "#!/bin/sh\n");
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
        self
    }

    fn run(&self, args: &[&str]) -> End {
        let mut folders = vec![self.house.path().join("bin")];
        folders.extend(std::env::split_paths(&FakeSlurm::path()));
        let path = std::env::join_paths(folders).unwrap().into_string().unwrap();
        let dir = self.fake.dir().display().to_string();
        self.house.run_with(args, &[("PATH", path.as_str()), ("FAKE_SLURM_DIR", dir.as_str())])
    }

    /// What init would write: its text and what it means.
    #[track_caller]
    fn init(&self, args: &[&str]) -> (String, Site) {
        let end = self.run(&[&["init", "--print"], args].concat()).succeeds();
        let site = toml::from_str(&end.stdout).unwrap();
        (end.stdout, site)
    }

    /// What doctor finds of a site, as `status check about found`.
    fn doctor(&self, site: &str, args: &[&str]) -> (Option<i32>, Vec<String>) {
        self.house.file("site.toml", &format!("schema = 1\n{site}"));
        let end = self.run(&[&["doctor", "--json"], args].concat());
        let json = end.json();
        let word = |finding: &serde_json::Value, key: &str| finding[key].as_str().unwrap_or("-").to_owned();
        let line = |finding: &serde_json::Value| {
            ["status", "check", "about", "found"].map(|key| word(finding, key)).join(" ")
        };
        (end.code, json.as_array().unwrap().iter().map(line).collect())
    }
}

const TWO_TYPES: &str = "n1|batch*|up|idle|1:00:00|8|1000|gpu:nvidia_h100_80gb_hbm3:8(S:0-1)|hopper\n\
                         n2|batch*|up|mixed|1:00:00|8|1000|gpu:nvidia_h100_80gb_hbm3:8(S:0-1)|hopper\n\
                         n3|batch*|up|idle|1:00:00|8|1000|gpu:b200:8|blackwell\n";

#[test]
fn init_finds_two_typed_gpus_in_a_partition_with_pyxis() {
    let lab = Lab::new(TWO_TYPES)
        .accounts("lab||normal|normal\nbench||normal|\n", "lab", "associations")
        .with("srun.help", PYXIS)
        .with("archs", "NodeName=n1 Arch=x86_64\nNodeName=n2 Arch=x86_64\nNodeName=n3 Arch=x86_64\n");
    let (text, site) = lab.init(&[]);
    assert_eq!((site.name.as_deref(), site.gpu.as_deref()), (Some("fake"), Some("h100")));
    assert_eq!(site.slurm.partition.as_deref(), Some("batch"));
    assert_eq!(site.slurm.account.as_deref(), Some("lab"));
    assert_eq!(site.slurm.gres, GresDialect::TypedGres);
    assert_eq!(site.slurm.mpi.as_deref(), Some("pmix"));
    assert_eq!(site.slurm.mem, None, "memory is not handed out here");
    assert_eq!(site.container.runtime, ContainerRuntime::Pyxis);
    let h100 = &site.gpus["h100"];
    assert_eq!((h100.per_node, h100.gres_type.as_deref()), (Some(8), Some("nvidia_h100_80gb_hbm3")));
    assert_eq!((h100.arch, &h100.constraint), (Some(Arch::X86), &None));
    assert_eq!((site.gpus["b200"].per_node, &site.gpus["b200"].gres_type), (Some(8), &None));
    let from = text.lines().find(|line| line.starts_with("account")).unwrap();
    assert!(from.ends_with("# your default (sacctmgr); yours: lab, bench"), "{from}");
}

#[test]
fn init_finds_untyped_gpus_on_aarch64_with_apptainer() {
    let nodes = "g1|rack*|up|idle|1:00:00|72|900000|gpu:4|gb200,nvl72\n\
                 g2|rack*|up|idle|1:00:00|72|900000|gpu:4|gb200,nvl72\n\
                 x1|rack*|up|idle|1:00:00|72|900000|gpu:8|h100\n";
    let config =
        "ClusterName = rack\nSelectTypeParameters = CR_CORE_MEMORY\nTopologyPlugin = topology/block\n";
    let lab = Lab::new(nodes)
        .with("config", config)
        .with("archs", "NodeName=g1 Arch=aarch64\nNodeName=g2 Arch=aarch64\nNodeName=x1 Arch=x86_64\n")
        .with("srun.segment", "")
        .program("apptainer");
    let (text, site) = lab.init(&[]);
    assert_eq!((site.gpu.as_deref(), site.slurm.gres), (Some("gb200"), GresDialect::Gres));
    assert_eq!((site.slurm.account, site.slurm.mem.as_deref()), (None, Some("0")));
    assert_eq!(site.container.runtime, ContainerRuntime::Apptainer);
    let gb200 = &site.gpus["gb200"];
    assert_eq!((gb200.per_node, gb200.arch, gb200.nodes_per_domain), (Some(4), Some(Arch::Arm), Some(18)));
    assert_eq!(gb200.constraint.as_deref(), Some("gb200"), "GRES does not tell it from h100");
    assert_eq!(site.gpus["h100"].constraint.as_deref(), Some("h100"));
    assert!(text.contains("# aarch64 = \"/path/to/tokmark\""), "{text}");
    let (_, site) =
        lab.init(&["--binary", "aarch64=/arm/tokmark", "--container", "none", "--experiments", "/e"]);
    assert_eq!(site.binary.aarch64.as_deref(), Some("/arm/tokmark"));
    assert_eq!((site.container.runtime, site.experiments.as_deref()), (ContainerRuntime::None, Some("/e")));
}

#[test]
fn init_where_slurm_knows_no_gpus() {
    let lab = Lab::new("c1|main*|up|idle|1:00:00|8|1000|(null)|(null)\n");
    let (_, site) = lab.init(&[]);
    assert_eq!((site.slurm.gres, site.gpus.len(), site.gpu), (GresDialect::None, 0, None));
    assert_eq!(
        (site.slurm.partition.as_deref(), site.container.runtime),
        (Some("main"), ContainerRuntime::None)
    );
}

#[test]
fn init_names_what_it_could_not_find_and_takes_flags() {
    let nodes = "n1|small|up|idle|1:00|8|1|gpu:h100:8|x\nn1|big|up|idle|1:00|8|1|gpu:h100:8|x\nn2|big|up|idle|1:00|8|1|gpu:h100:8|x\n";
    let lab = Lab::new(nodes).accounts("b||normal|\na||normal|\n", "", "none");
    let end = lab.run(&["init", "--print"]).succeeds();
    let site: Site = toml::from_str(&end.stdout).unwrap();
    assert_eq!((site.slurm.partition.as_deref(), site.slurm.account.as_deref()), (Some("big"), Some("a")));
    for part in
        ["Took big; --partition chooses another of big, small", "Took a; --account chooses another of a, b"]
    {
        assert!(end.stderr.contains(part), "{part} in {}", end.stderr);
    }
    let args =
        ["--partition", "small", "--account", "b", "--qos", "q", "--reservation", "r", "--name", "my site"];
    let (_, site) = lab.init(&args);
    let slurm = &site.slurm;
    assert_eq!((slurm.partition.as_deref(), slurm.account.as_deref()), (Some("small"), Some("b")));
    assert_eq!((slurm.qos.as_deref(), slurm.reservation.as_deref()), (Some("q"), Some("r")));
    assert_eq!(site.name.as_deref(), Some("my site"));

    let end =
        lab.run(&["init", "--print", "--partition", "smal", "--account", "c", "--gpu", "mi300x"]).fails(2);
    assert_eq!(
        end.stderr,
        "error: --partition: found \"smal\"\n  expected: one of big, small\n  next: did you mean `small`?\n\
         --account: found \"c\"\n  expected: one of a, b\n  next: did you mean `a`?\n\
         --gpu: found \"mi300x\"\n  expected: one of h100\n"
    );
    for wrong in [&["--container", "docker"][..], &["--binary", "sparc=/x"], &["--binary", "/x"]] {
        lab.run(&[&["init", "--print"], wrong].concat()).fails(2);
    }
}

#[test]
fn a_partition_without_access_is_not_proposed() {
    let open = "n1|mine|up|idle|1:00|8|1|gpu:h100:8|x\n";
    let all =
        format!("{open}n2|theirs*|up|idle|1:00|8|1|gpu:b200:8|x\nn3|theirs*|up|idle|1:00|8|1|gpu:b200:8|x\n");
    let lab = Lab::new(open).with("partitions.all", &all);
    let (_, site) = lab.init(&[]);
    assert_eq!((site.slurm.partition.as_deref(), site.gpus.len()), (Some("mine"), 1));
    let (code, rows) = lab.doctor("[gpus.b200]\nper_node = 8\npartition = \"theirs\"\n", &["--no-job"]);
    assert_eq!(code, Some(0), "{rows:#?}");
    assert!(
        rows.iter().any(|row| row == "ok partition b200 2 of 2 nodes of theirs can take jobs"),
        "{rows:#?}"
    );
}

#[test]
fn init_replaces_a_file_only_with_force() {
    let lab = Lab::new(TWO_TYPES);
    let end = lab.run(&["init"]).succeeds();
    assert_eq!(
        end.stdout,
        "wrote site.toml: fake, 2 GPU types, 1 partition\nnext: read it, then run: tokmark doctor\n"
    );
    let written = lab.house.read("site.toml");
    lab.house.file("site.toml", "mine");
    let end = lab.run(&["init"]).fails(2);
    assert_eq!(
        end.stderr,
        "error: site.toml: the file exists\n  next: choose another file with -o FILE, replace it with --force, or use --print\n"
    );
    assert_eq!(lab.house.read("site.toml"), "mine");
    let end = lab.run(&["init", "-o", "sub/my site.toml"]).succeeds();
    assert!(end.stdout.contains("tokmark doctor --site 'sub/my site.toml'"), "{}", end.stdout);
    assert_eq!(lab.house.read("sub/my site.toml"), written);
    lab.run(&["init", "--force"]).succeeds();
    assert_eq!(lab.house.read("site.toml"), written);
}

#[test]
fn without_slurm_both_end_with_exit_code_3() {
    let house = House::new();
    for verb in ["init", "doctor"] {
        let end = house.run_with([verb], &[("PATH", "/nowhere")]).fails(3);
        assert!(format!("{}{}", end.stdout, end.stderr).contains("no Slurm on PATH"), "{end:?}");
    }
    assert!(!house.path().join("site.toml").exists());
    let lab = Lab::new(TWO_TYPES)
        .with("scontrol.rc", "1")
        .with("scontrol.stdout", "Slurmctld(primary) at x is DOWN\n");
    let end = lab.run(&["doctor", "--json"]).fails(3);
    let last = end.json().as_array().unwrap().last().unwrap().clone();
    assert_eq!((&last["check"], &last["status"]), (&"slurm".into(), &"fail".into()));
    assert!(last["found"].as_str().unwrap().contains("is DOWN"), "{last}");
    lab.run(&["init"]).fails(3);
}

#[test]
fn doctor_accepts_what_init_wrote() {
    let lab = Lab::new(TWO_TYPES)
        .accounts("lab||normal|normal\n", "lab", "associations")
        .with("srun.help", PYXIS)
        .with("archs", "NodeName=n1 Arch=x86_64\nNodeName=n2 Arch=x86_64\nNodeName=n3 Arch=x86_64\n");
    lab.run(&["init"]).succeeds();
    let end = lab.run(&["doctor"]).succeeds();
    assert!(!end.stdout.contains("fail"), "{}", end.stdout);
    let jobs: Vec<_> =
        lab.fake.calls().into_iter().filter(|call| call.len() > 5 && call[0] == "srun").collect();
    let asked: Vec<String> = jobs.iter().map(|call| call[1..call.len() - 3].join(" ")).collect();
    let common = "--job-name=tokmark-doctor --ntasks-per-node=1 --time=5 --input=none";
    assert_eq!(
        asked,
        [
            format!("{common} --nodes=1 --immediate=60 --partition=batch --account=lab --gres=gpu:b200:1"),
            format!(
                "{common} --nodes=2 --immediate=60 --partition=batch --account=lab --gres=gpu:nvidia_h100_80gb_hbm3:1"
            )
        ]
    );
    lab.run(&["doctor", "--no-job"]).succeeds();
    assert_eq!(lab.fake.calls().iter().filter(|call| call.len() > 5 && call[0] == "srun").count(), 2);
}

#[test]
fn an_untyped_request_to_nodes_of_several_types_is_refused() {
    let said = "fail gres h100 the request names no GPU type, but nodes of batch have gpu:b200:8, gpu:nvidia_h100_80gb_hbm3:8";
    let found = "ok gres h100 8 GPUs on each of 2 nodes (gpu:nvidia_h100_80gb_hbm3:8)";
    let of_h100 = "gres_type = \"nvidia_h100_80gb_hbm3\"\nper_node = 8\n";
    let apart = TWO_TYPES.replace("n3|batch*", "n3|other");
    let table = [
        (TWO_TYPES, "[slurm]\ngres = \"gres\"\n[gpus.h100]\n", "", 2, said),
        (TWO_TYPES, "[slurm]\ngres = \"gpus-per-node\"\n[gpus.h100]\n", "", 2, said),
        (TWO_TYPES, "[gpus.h100]\n", "constraint = \"hopper\"\n", 0, found),
        (TWO_TYPES, "[slurm]\ngres = \"typed-gres\"\n[gpus.h100]\n", "", 0, found),
        (
            TWO_TYPES,
            "[gpus.h100]\n",
            "constraint = \"hopper&x\"\n",
            0,
            "ok gres h100 8 GPUs on each of 3 nodes",
        ),
        (
            TWO_TYPES,
            "[gpus.h100]\n",
            "directives = [\"--nodelist=n1,n2\"]\n",
            0,
            "ok gres h100 8 GPUs on each of 3 nodes",
        ),
        (apart.as_str(), "[gpus.h100]\n", "partition = \"batch\"\n", 0, found),
    ];
    for (nodes, site, more, code, row) in table {
        let (ended, rows) = Lab::new(nodes).doctor(&format!("{site}{of_h100}{more}"), &["--no-job"]);
        assert!(rows.iter().any(|is| is.starts_with(row)), "{row:?} of {site}{more} in {rows:#?}");
        assert_eq!(ended, Some(code), "{site}{more}: {rows:#?}");
    }
}

#[test]
fn each_thing_that_can_be_wrong_has_its_row() {
    let h100 = "n1|batch*|up|idle|1:00:00|8|1000|gpu:h100:4|hopper\nn2|batch*|up|idle|1:00:00|8|1000|gpu:h100:4|hopper\n";
    let down =
        "n1|batch*|up|drained|1:00:00|8|1000|gpu:h100:4|x\nn2|batch*|up|down*|1:00:00|8|1000|gpu:h100:4|x\n";
    let enforced = |lab: Lab| lab.accounts("lab||normal|normal\n", "lab", "associations,limits");
    let plain = |lab: Lab| lab;
    type Cluster = Box<dyn Fn(Lab) -> Lab>;
    let cluster = |change: fn(Lab) -> Lab| -> Cluster { Box::new(change) };
    let table: Vec<(&str, Cluster, &str, i32, &str)> = vec![
        (
            h100,
            cluster(plain),
            "[gpus.h100]\nper_node = 4\n",
            0,
            "ok gres h100 4 GPUs on each of 2 nodes (gpu:h100:4)",
        ),
        (
            h100,
            cluster(plain),
            "[gpus.h100]\nper_node = 8\n",
            2,
            "fail gres h100 per_node = 8, but nodes of batch have gpu:h100:4",
        ),
        (
            h100,
            cluster(plain),
            "[gpus.h100]\nper_node = 2\n",
            0,
            "warn gres h100 per_node = 2, but nodes of batch have gpu:h100:4: some stay idle",
        ),
        (h100, cluster(plain), "[gpus.new]\n", 2, "fail gres new GPUs of a new node are not declared"),
        (
            h100,
            cluster(plain),
            "[slurm]\ngres = \"typed-gres\"\n[gpus.h100]\nper_node = 4\ngres_type = \"H100\"\n",
            2,
            "fail gres h100 no node of batch has gpu:H100 in GRES: they have gpu:h100:4",
        ),
        (
            h100,
            cluster(plain),
            "[slurm]\ngres = \"none\"\n[gpus.h100]\nper_node = 4\n",
            0,
            "warn gres h100 jobs request no GPUs, but nodes of batch have gpu:h100:4",
        ),
        (
            h100,
            cluster(plain),
            "gpu = \"h200x\"\n",
            2,
            "fail gpu - gpu = \"h200x\" is not a GPU type of this site",
        ),
        (
            h100,
            cluster(plain),
            "[slurm]\npartition = \"nope\"\n[gpus.h100]\nper_node = 4\n",
            2,
            "fail partition h100 Slurm has no partition \"nope\"",
        ),
        (
            down,
            cluster(plain),
            "[gpus.h100]\nper_node = 4\n",
            2,
            "fail partition h100 0 of 2 nodes of batch can take jobs (down, drained)",
        ),
        (
            h100,
            cluster(plain),
            "[gpus.h100]\nper_node = 4\nconstraint = \"blackwell\"\n",
            2,
            "fail constraint h100 no node of batch has the feature \"blackwell\"",
        ),
        (
            h100,
            Box::new(enforced),
            "[slurm]\naccount = \"nope\"\n",
            2,
            "fail account - \"nope\" is not USER's: USER has lab",
        ),
        (
            h100,
            cluster(|lab| lab.accounts("lab||normal|\n", "lab", "none")),
            "[slurm]\naccount = \"nope\"\n",
            0,
            "warn account - \"nope\" is not USER's: USER has lab; Slurm does not enforce accounts here",
        ),
        (
            h100,
            cluster(plain),
            "[slurm]\naccount = \"nope\"\n",
            0,
            "warn account - \"nope\" is set, but this cluster keeps no accounts",
        ),
        (
            h100,
            Box::new(enforced),
            "[gpus.h100]\nper_node = 4\naccount = \"nope\"\n",
            2,
            "fail account h100 \"nope\" is not USER's: USER has lab",
        ),
        (
            h100,
            cluster(|lab| lab.accounts("lab||normal|\n", "", "associations")),
            "",
            2,
            "fail account - no account is set, you have no default account, and Slurm requires one",
        ),
        (
            h100,
            cluster(plain),
            "[container]\nruntime = \"pyxis\"\n",
            2,
            "fail container - runtime = \"pyxis\", but srun has no --container-image",
        ),
        (
            h100,
            cluster(|lab| lab.with("srun.help", PYXIS)),
            "[container]\nruntime = \"pyxis\"\n",
            0,
            "ok container - pyxis: srun has --container-image",
        ),
        (
            h100,
            cluster(plain),
            "[container]\nruntime = \"apptainer\"\n",
            2,
            "fail paths - `container.runtime`: apptainer on HOST, HOST: not on PATH",
        ),
        (
            h100,
            cluster(plain),
            "[container]\nruntime = \"apptainer\"\n[bare]\nmodules = [\"a\"]\n",
            0,
            "warn paths - `container.runtime`: apptainer on HOST, HOST: not on PATH",
        ),
        (
            h100,
            cluster(|lab| lab.program("apptainer")),
            "[container]\nruntime = \"apptainer\"\n",
            0,
            "ok container - apptainer: HOUSE/bin/apptainer",
        ),
        (
            h100,
            cluster(plain),
            "[slurm]\nmpi = \"pmi2\"\n",
            2,
            "fail mpi - srun has no \"pmi2\": it has none, pmix",
        ),
        (
            h100,
            cluster(|lab| lab.with("archs", "NodeName=n1 Arch=x86_64\n")),
            "[gpus.h100]\nper_node = 4\narch = \"aarch64\"\n",
            2,
            "fail arch h100 arch = \"aarch64\", but the nodes are x86_64",
        ),
        (
            h100,
            cluster(|lab| lab.with("archs", "NodeName=n1 Arch=aarch64\n")),
            "[gpus.h100]\nper_node = 4\n",
            2,
            "fail arch h100 nodes are aarch64, but this tokmark is for x86_64",
        ),
        (
            h100,
            cluster(plain),
            "[gpus.h100]\nper_node = 4\nnodes_per_domain = 18\n",
            2,
            "fail segment h100 nodes_per_domain is set, but this Slurm has no --segment (new in 23.11)",
        ),
        (
            h100,
            cluster(|lab| lab.with("srun.segment", "")),
            "[gpus.h100]\nper_node = 4\nnodes_per_domain = 18\n",
            0,
            "ok gres h100 4 GPUs on each of 2 nodes (gpu:h100:4)",
        ),
        (
            h100,
            cluster(|lab| {
                lab.with("sbatch.rc", "1").with(
                    "sbatch.stderr",
                    "sbatch: error: Batch job submission failed: Invalid qos specification\n",
                )
            }),
            "[gpus.h100]\nper_node = 4\n",
            2,
            "fail sbatch h100 Slurm would refuse a job: Batch job submission failed: Invalid qos specification",
        ),
        (
            h100,
            cluster(|lab| lab.with("srun.busy", "")),
            "[gpus.h100]\nper_node = 4\n",
            0,
            "warn node h100 no node was free in time, so nothing was checked on nodes",
        ),
        (
            h100,
            cluster(plain),
            "[binary]\nx86_64 = \"/no/such/tokmark\"\n",
            2,
            "fail node - /no/such/tokmark cannot be started there: slurmstepd: error: execve(): /no/such/tokmark: No such file or directory",
        ),
        (
            h100,
            cluster(plain),
            "[models]\nm = \"/no/such/m\"\n",
            2,
            "fail paths - `models.\"m\"`: /no/such/m on HOST, HOST: No such file or directory (os error 2)",
        ),
        (
            h100,
            cluster(plain),
            "[network]\ninterface = \"ib7\"\n",
            2,
            "fail network - HOST has no IPv4 address on ib7: it has INTERFACES",
        ),
        (
            h100,
            cluster(plain),
            "[network]\ninterface = \"lo\"\n",
            0,
            "ok network - lo has an address on each",
        ),
    ];
    let host = nix::unistd::gethostname().unwrap().to_string_lossy().into_owned();
    let user = nix::unistd::User::from_uid(nix::unistd::getuid()).unwrap().unwrap().name;
    for (nodes, change, site, code, row) in table {
        let lab = change(Lab::new(nodes));
        let (ended, rows) = lab.doctor(site, &[]);
        let row = row.replace("HOST", &host).replace("USER", &user);
        let row = row.replace("HOUSE", &lab.house.path().display().to_string());
        let row = row.split("INTERFACES").next().unwrap().to_owned();
        assert!(rows.iter().any(|found| found.starts_with(&row)), "{row}\nin {rows:#?}\nof {site}");
        assert_eq!(ended, Some(code), "{row}\n{rows:#?}");
    }
}

#[test]
fn a_recipe_is_tried_with_its_own_job() {
    let lab = Lab::new("n1|batch*|up|idle|1:00:00|8|1000|gpu:h100:4|x\n");
    let site = "[gpus.h100]\nper_node = 4\n";
    let (code, rows) = lab.doctor(site, &["--no-job", "--recipe", "quickstart"]);
    assert_eq!(code, Some(0), "{rows:#?}");
    assert!(rows.last().unwrap().starts_with("ok sbatch quickstart Slurm would accept a job"), "{rows:#?}");
    let (code, rows) = lab.doctor(site, &["--no-job", "--recipe", "quickstrat"]);
    assert_eq!(code, Some(2));
    assert!(rows.iter().any(|row| row.starts_with("fail recipe quickstrat ")), "{rows:#?}");
    lab.house.recipe(
        "[model]\nname = \"m\"\npath = \"/no/such/m\"\n[deploy]\nlauncher = \"vllm\"\n[load]\nisl = 8\nosl = 8\n",
    );
    let (code, rows) = lab.doctor(site, &["--gpu", "h100", "--recipe", "./r.toml"]);
    assert_eq!(code, Some(2), "{rows:#?}");
    assert!(
        rows.iter().any(|row| row.starts_with("fail paths h100 `model.path of r`: /no/such/m on ")),
        "{rows:#?}"
    );
}

#[test]
fn doctor_leaves_nothing_behind() {
    let lab = Lab::new("n1|batch*|up|idle|1:00:00|8|1000|gpu:h100:4|x\n");
    lab.doctor("[gpus.h100]\nper_node = 4\n", &[]);
    let mut left: Vec<String> = std::fs::read_dir(lab.house.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    left.sort();
    assert_eq!(left, ["home", "site.toml"]);
}
