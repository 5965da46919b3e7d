//! The same records in other tools' definitions and file formats, so that their readers work on our results.
//!
//! Arrow: `record`, `stats`, `plan` → here → whoever writes the files.

pub mod aiperf;
