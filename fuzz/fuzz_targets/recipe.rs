//! A recipe as a person may write it: it is read, merged over the defaults and read again, or refused with a message.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tokmark::internals::document::Document;
use tokmark::internals::recipe::{Origin, Recipe};
use tokmark::internals::recipe::layers::{Layers, assignment, split_path};

fuzz_target!(|text: &str| {
    let document = Document { file: "r.toml".into(), text: text.into() };
    let lines = document.lines();
    match document.parse::<Recipe>() {
        Ok(_) => {
            let (Ok(table), Ok(mut layers)) = (document.table(), Layers::defaults()) else {
                panic!("a recipe that is no table, or no defaults")
            };
            layers.push(&table, &|key| Origin::in_file(&document.file, &lines, key));
            if let Err(errors) = layers.finish() {
                assert!(!errors.to_string().is_empty());
            }
            assert!(table.keys().all(|key| lines.contains_key(key) || !key.chars().all(char::is_alphanumeric)));
        }
        Err(error) => assert!(error.to_string().starts_with("r.toml")),
    }
    if let Some((key, value)) = text.lines().next().and_then(|line| line.split_once('=')) {
        let _ = split_path(key);
        let _ = assignment(key, value, "--set");
    }
});
