//! `output_server.log` and `output_workers.log`: all logs that a launcher shows under one name.

use std::io::Write;

use super::{Place, Setup, step};
use crate::experiment::files;
use crate::launcher::LogView;

const VIEWS: [(LogView, &str); 2] =
    [(LogView::Server, "output_server.log"), (LogView::Workers, "output_workers.log")];

impl Setup<'_> {
    /// Links a view to its log if it has only one, so that users can follow it from the start.
    pub fn link_logs(&self) {
        for (view, name) in VIEWS {
            let link = self.folders.log(name);
            if let ([only], false) = (self.shown_in(view).as_slice(), link.is_symlink()) {
                let _ = std::os::unix::fs::symlink(format!("{}{only}", self.folders.prefix), &link);
            }
        }
    }

    /// Concatenates the logs of a view once their processes have ended.
    ///
    /// # Errors
    /// The view cannot be written.
    pub fn collect_logs(&self) -> std::io::Result<()> {
        for (view, name) in VIEWS {
            let logs = self.shown_in(view);
            if logs.len() < 2 {
                continue;
            }
            let mut out = files::append(&self.folders.log(name))?;
            for log in logs {
                writeln!(out, "==> {} <==", log.trim_end_matches(".log"))?;
                if let Ok(mut source) = std::fs::File::open(self.folders.log(&log)) {
                    std::io::copy(&mut source, &mut out)?;
                }
            }
        }
        Ok(())
    }

    /// Names of the logs in a view.
    fn shown_in(&self, view: LogView) -> Vec<String> {
        let shows =
            |role: &str| self.plan.launcher().role(role).is_some_and(|role| role.logs.contains(&view));
        let shown = self.deployment.processes.iter().filter(|process| shows(&process.role));
        let in_steps = matches!(self.place, Place::Allocation(_));
        shown.flat_map(|process| step::log_names(process, in_steps)).collect()
    }
}
