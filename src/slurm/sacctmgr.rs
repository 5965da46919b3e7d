//! `sacctmgr`: which accounts and QOS a user may charge.
//!
//! Source: sacctmgr(1).

use super::present;

/// The argv that lists what a user may charge, one line per account and partition.
pub fn argv(user: &str) -> Vec<String> {
    let format = "format=Account,Partition,QOS,DefaultQOS".to_owned();
    let mut argv: Vec<String> =
        ["sacctmgr", "--readonly", "--noheader", "--parsable2", "show", "associations"]
            .map(str::to_owned)
            .into();
    argv.extend([format!("user={user}"), format]);
    argv
}

/// The argv that shows a user's default account.
pub fn default_argv(user: &str) -> Vec<String> {
    let mut argv: Vec<String> =
        ["sacctmgr", "--readonly", "--noheader", "--parsable2", "show", "user"].map(str::to_owned).into();
    argv.extend([user.to_owned(), "format=User,DefaultAccount".to_owned()]);
    argv
}

/// Whether the output says that the cluster keeps no accounting.
pub fn is_disabled(output: &str) -> bool {
    output.contains("not running a supported accounting_storage plugin")
}

/// What a user may charge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Association {
    pub account: String,
    /// The only partition it is valid for.
    pub partition: Option<String>,
    pub qos: Vec<String>,
    pub default_qos: Option<String>,
}

/// The associations in the stdout of [`argv`]. Skips other lines.
pub fn parse(stdout: &str) -> Vec<Association> {
    let lines = stdout.lines().map(str::trim).filter(|line| line.matches('|').count() == 3);
    let owned = |text: Option<&str>| text.and_then(present).map(str::to_owned);
    lines
        .filter_map(|line| {
            let mut fields = line.split('|');
            Some(Association {
                account: owned(fields.next())?,
                partition: owned(fields.next()),
                qos: fields.next()?.split(',').filter_map(present).map(str::to_owned).collect(),
                default_qos: owned(fields.next()),
            })
        })
        .collect()
}

/// The default account in the stdout of [`default_argv`].
pub fn parse_default(stdout: &str, user: &str) -> Option<String> {
    let mut lines = stdout.lines().filter_map(|line| line.trim().split_once('|'));
    let (_, account) = lines.find(|(name, _)| *name == user)?;
    present(account).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn associations_among_banners() {
        let text = "* Welcome | 512 nodes *\nlab||normal,high|normal\nbench|gb200|normal|\n|x|y|z\n";
        let found = parse(text);
        let [lab, bench] = &found[..] else { panic!("{found:?}") };
        assert_eq!((lab.account.as_str(), &lab.partition, lab.qos.len()), ("lab", &None, 2));
        assert_eq!(lab.default_qos.as_deref(), Some("normal"));
        assert_eq!((bench.partition.as_deref(), &bench.default_qos), (Some("gb200"), &None));
        assert_eq!(parse(""), []);
    }

    #[test]
    fn the_default_account_is_the_users_own() {
        assert_eq!(parse_default("Welcome|x\nanna|lab\n", "anna").as_deref(), Some("lab"));
        assert_eq!(parse_default("anna|\n", "anna"), None);
        assert_eq!(parse_default("hanna|lab\n", "anna"), None);
    }

    #[test]
    fn missing_accounting_is_not_an_error() {
        assert!(is_disabled("You are not running a supported accounting_storage plugin\nOnly 'accounting_…"));
        assert!(!is_disabled("sacctmgr: error: Problem talking to the database: Connection refused"));
    }

    proptest! {
        #[test]
        fn never_panics(text in "[\\PC\n|]*", user in "[a-z|]*") {
            let _ = (parse(&text), parse_default(&text, &user));
        }
    }
}
