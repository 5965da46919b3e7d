//! Which values are secrets, and how a file refers to one without containing it.

/// Whether a value is a reference that is read where it is used: `env:NAME`, `file:PATH`.
pub fn is_reference(value: &str) -> bool {
    value.starts_with("env:") || value.starts_with("file:")
}

/// Whether a variable's name marks its value as a secret.
pub fn is_secret_name(name: &str) -> bool {
    // TIKTOKEN_ENCODINGS_BASE is a folder, which gpt-oss needs without internet.
    let name = name.to_uppercase().replace("TIKTOKEN", "");
    ["TOKEN", "SECRET", "PASSWORD", "PASSWD", "API_KEY", "APIKEY", "ACCESS_KEY", "PRIVATE_KEY", "CREDENTIAL"]
        .iter()
        .any(|word| name.contains(word))
        && !name.contains("TOKENIZER")
        && !name.contains("TOKENS")
}

/// Whether a header's name marks its value as a secret.
pub fn is_secret_header(name: &str) -> bool {
    let name = name.to_lowercase().replace('-', "_");
    is_secret_name(&name)
        || name.ends_with("_key")
        || ["authorization", "cookie"].iter().any(|word| name.contains(word))
}

/// The value to show: a literal secret becomes `***`, a reference stays.
pub fn shown<'a>(name: &str, value: &'a str) -> &'a str {
    if is_secret_name(name) && !is_reference(value) { "***" } else { value }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_secrets() {
        for (name, secret) in [
            ("HF_TOKEN", true),
            ("OPENAI_API_KEY", true),
            ("DB_PASSWORD", true),
            ("TIKTOKEN_ENCODINGS_BASE", false),
            ("TIKTOKEN_TOKEN", true),
            ("TOKENIZERS_PARALLELISM", false),
            ("MAX_NUM_TOKENS", false),
            ("PATH", false),
        ] {
            assert_eq!(is_secret_name(name), secret, "{name}");
        }
        for (name, secret) in [
            ("Authorization", true),
            ("Proxy-Authorization", true),
            ("X-API-Key", true),
            ("api-key", true),
            ("Ocp-Apim-Subscription-Key", true),
            ("X-Auth-Token", true),
            ("Cookie", true),
            ("X-Request-Priority", false),
            ("X-Keyboard", false),
        ] {
            assert_eq!(is_secret_header(name), secret, "{name}");
        }
        assert_eq!(shown("HF_TOKEN", "hf_x"), "***");
        assert_eq!(shown("HF_TOKEN", "env:HF_TOKEN"), "env:HF_TOKEN");
    }
}
