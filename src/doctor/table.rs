//! Findings as a table for people.

use super::Finding;

/// One line per finding, followed by the advice.
pub fn text(findings: &[Finding]) -> String {
    let about = |finding: &Finding| finding.about.clone().unwrap_or_default();
    let width = |of: &dyn Fn(&Finding) -> usize| findings.iter().map(of).max().unwrap_or(0);
    let check = width(&|finding| finding.check.chars().count());
    let subject = width(&|finding| about(finding).chars().count());
    let gap = if subject > 0 { "  " } else { "" };
    let indent = " ".repeat("fail".len() + 2 + check + gap.len() + subject + 2);
    let mut table = String::new();
    for finding in findings {
        let found = finding.found.trim().replace('\n', &format!("\n{indent}"));
        table.push_str(&format!(
            "{:4}  {:check$}{gap}{:subject$}  {found}\n",
            finding.status.name(),
            finding.check,
            about(finding)
        ));
        if let Some(next) = &finding.next {
            table.push_str(&format!("{indent}next: {next}\n"));
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_says_what_to_do_next() {
        let findings = [
            Finding::ok("slurm", "Slurm 24.11 answers"),
            Finding::fail("gres", "they have 4", "set per_node = 4").about("h100"),
        ];
        let expected = "ok    slurm        Slurm 24.11 answers\n\
                        fail  gres   h100  they have 4\n\
                        \u{20}                  next: set per_node = 4\n";
        assert_eq!(text(&findings), expected);
    }
}
