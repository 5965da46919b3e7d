use super::*;
use serde_json::json;

fn launcher(text: &str) -> Launcher {
    toml::from_str(text).unwrap()
}

fn vllm() -> Launcher {
    launcher(include_str!("../../launchers/vllm.toml"))
}

fn trtllm() -> Launcher {
    launcher(include_str!("../../launchers/trtllm-serve.toml"))
}

fn sglang() -> Launcher {
    launcher(include_str!("../../launchers/sglang.toml"))
}

/// What a launcher makes of the section: engine options, environment.
fn written(launcher: &Launcher, section: &SpeculationSection) -> (Json, BTreeMap<String, String>) {
    let spec = launcher.speculation.as_ref().unwrap();
    let context = context(section);
    let mut engine = Table::new();
    lay(&mut engine, spec.table.as_deref(), &options(spec, section, &context).unwrap()).unwrap();
    (serde_json::to_value(engine).unwrap(), environment(spec, &context).unwrap())
}

fn eagle(synthetic_acceptance: Option<f64>) -> SpeculationSection {
    SpeculationSection {
        method: Some("eagle3".into()),
        model: Some("/models/draft".into()),
        tokens: Some(3),
        synthetic_acceptance,
        options: toml::from_str("draft_tensor_parallel_size = 1").unwrap(),
    }
}

#[test]
fn each_engine_has_its_own_words() {
    let none = BTreeMap::new();
    let config = json!({"method": "eagle3", "model": "/models/draft", "num_speculative_tokens": 3, "draft_tensor_parallel_size": 1});
    assert_eq!(written(&vllm(), &eagle(None)), (json!({"speculative_config": config}), none.clone()));
    let options = json!({"speculative_algorithm": "EAGLE3", "speculative_draft_model_path": "/models/draft", "speculative_num_steps": 3,
        "speculative_eagle_topk": 1, "speculative_num_draft_tokens": 4, "draft_tensor_parallel_size": 1});
    assert_eq!(written(&sglang(), &eagle(None)), (options, none.clone()));
    let mtp =
        SpeculationSection { method: Some("MTP".into()), tokens: Some(3), ..SpeculationSection::default() };
    let yaml =
        json!({"yaml": {"speculative_config": {"decoding_type": "MTP", "num_nextn_predict_layers": 3}}});
    assert_eq!(written(&trtllm(), &mtp), (yaml, none));
}

#[test]
fn synthetic_acceptance_where_the_engine_has_it() {
    let (engine, env) = written(&vllm(), &eagle(Some(2.5)));
    assert_eq!(engine["speculative_config"]["rejection_sample_method"], "synthetic");
    assert_eq!((&engine["speculative_config"]["synthetic_acceptance_length"], env.len()), (&json!(2.5), 0));
    let (_, env) = written(&sglang(), &eagle(Some(2.5)));
    assert_eq!(
        (env["SGLANG_SIMULATE_ACC_LEN"].as_str(), env["SGLANG_SIMULATE_ACC_METHOD"].as_str()),
        ("2.5", "match-expected")
    );
    // TensorRT-LLM counts accepted tokens of the draft alone.
    let (_, env) = written(&trtllm(), &eagle(Some(2.5)));
    assert_eq!(env["TLLM_SPEC_DECODE_FORCE_NUM_ACCEPTED_TOKENS"], "1.5");
}

#[test]
fn what_is_written_is_known_again() {
    for launcher in [vllm(), sglang(), trtllm()] {
        let section = eagle(Some(2.5));
        let (engine, env) = written(&launcher, &section);
        let found =
            known(&launcher, &SpeculationSection::default(), engine.as_object().unwrap(), &env).unwrap();
        let method = found.method.as_deref().map(str::to_lowercase);
        assert_eq!(
            (method.as_deref(), found.model.as_deref(), found.tokens, found.synthetic),
            (Some("eagle3"), Some("/models/draft"), Some(3), true)
        );
        assert_eq!(
            known(&launcher, &SpeculationSection::default(), &serde_json::Map::new(), &BTreeMap::new()),
            None
        );
    }
}

#[test]
fn engine_options_written_by_hand_are_known() {
    let known = |launcher: &Launcher, engine: Json| {
        known(launcher, &SpeculationSection::default(), engine.as_object().unwrap(), &BTreeMap::new())
            .map(|found| found.words())
    };
    let as_text = json!({"speculative-config": "{\"method\": \"ngram\", \"num_speculative_tokens\": 4}"});
    assert_eq!(known(&vllm(), as_text).as_deref(), Some("ngram, 4 tokens a draft"));
    let short = json!({"spec_method": "eagle3", "spec_model": "m", "spec_tokens": 2});
    assert_eq!(known(&vllm(), short).as_deref(), Some("eagle3, draft model m, 2 tokens a draft"));
    let old = json!({"speculative_model": "m", "num_speculative_tokens": 2});
    assert_eq!(known(&vllm(), old).as_deref(), Some("chosen by the engine, draft model m, 2 tokens a draft"));
    let forced = json!({"speculative_config": {"method": "mtp", "rejection_sample_method": "synthetic"}});
    assert_eq!(known(&vllm(), forced).as_deref(), Some("mtp, synthetic acceptance"));
    let mtp =
        json!({"yaml": {"speculative_config": {"decoding_type": "MTP", "num_nextn_predict_layers": 3}}});
    assert_eq!(known(&trtllm(), mtp).as_deref(), Some("MTP, 3 tokens a draft"));
    assert_eq!(
        known(&trtllm(), json!({"mtp_layers": 1})).as_deref(),
        Some("chosen by the engine, 1 token a draft")
    );
    assert_eq!(known(&vllm(), json!({"max_num_seqs": 4})), None);
}

/// An endpoint that runs elsewhere has no options; the recipe says what runs there.
#[test]
fn the_section_says_what_runs_at_an_endpoint() {
    let attach = launcher(include_str!("../../launchers/attach.toml"));
    let (engine, env) = written(&attach, &SpeculationSection { options: Table::new(), ..eagle(Some(2.5)) });
    assert_eq!((engine, env.len()), (json!({}), 0));
    let found = known(&attach, &eagle(Some(2.5)), &serde_json::Map::new(), &BTreeMap::new());
    assert_eq!(
        found.unwrap().words(),
        "eagle3, draft model /models/draft, 3 tokens a draft, synthetic acceptance of 2.5 tokens a step"
    );
}

#[test]
fn options_that_are_there_already_are_a_conflict() {
    let options: Table = toml::from_str("method = \"x\"").unwrap();
    let conflict =
        |engine: &str, into: Option<&str>| lay(&mut toml::from_str(engine).unwrap(), into, &options);
    assert_eq!(
        conflict("speculative-config = {}", Some("speculative_config")),
        Err("speculative-config".into())
    );
    assert_eq!(
        conflict("yaml = { speculative_config = {} }", Some("yaml.speculative_config")),
        Err("yaml.speculative_config".into())
    );
    assert_eq!(conflict("yaml = { other = 1 }", Some("yaml.speculative_config")), Ok(()));
    assert_eq!(conflict("method = \"y\"", None), Err("method".into()));
    assert_eq!(conflict("other = 1", None), Ok(()));
}
