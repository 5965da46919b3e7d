//! From a recipe file and choices to the input of a plan: which launcher runs, and whether another one stands in for it.

use super::resolve::resolve;
use crate::document::{Document, InputError, InputErrors};
use crate::launcher::{self, LauncherFile};
use crate::plan::PlanInput;
use crate::plan::choices::Choices;
use crate::recipe::find::RecipeFile;
use crate::site::SiteFile;

/// Share of the load that `--rehearse` drives without `--scale-load`.
const REHEARSAL: f64 = 0.01;

/// A recipe that is to be planned.
#[derive(Debug, Clone)]
pub struct Request<'a> {
    pub file: &'a RecipeFile,
    /// Folder that relative paths of the recipe start at, absolute.
    pub folder: String,
    pub site: &'a SiteFile,
    pub choices: Choices,
    /// `--rehearse`: on the built-in launcher that stands in for any engine, at a share of the load.
    pub rehearse: bool,
    /// Folder of the experiments, absolute.
    pub experiments: String,
    pub version: String,
}

/// Finds the launcher of a name; the other text is the place of that name, for messages.
pub type Find<'a> = &'a dyn Fn(&str, &str) -> Result<LauncherFile, InputErrors>;

impl Request<'_> {
    /// The input of its plan.
    pub fn input(mut self, find: Find<'_>) -> Result<PlanInput, InputErrors> {
        let stand_in = self.stand_in(find)?;
        let resolved = resolve(self.file, self.site, &self.choices)?;
        let launcher = find(resolved.launcher(), &resolved.at("deploy.launcher", "").origin)?;
        let input = PlanInput {
            recipe: self.file.document.clone(),
            folder: self.folder,
            site: self.site.document.as_ref().map(without_comments),
            site_folder: self.site.folder()?,
            launcher,
            stand_in,
            choices: self.choices,
            experiments: self.experiments,
            version: self.version,
        };
        let engine = &input.engine().launcher;
        if self.rehearse && !engine.simulated {
            let found = format!("launcher {:?} is no simulated engine", engine.name);
            return Err(InputError::new("--rehearse", found).into());
        }
        Ok(input)
    }

    /// The launcher that runs in place of the recipe's: the one that `--set deploy.launcher` names, if it stands in for others,
    /// or the built-in one with `--rehearse`. `None` if it is the recipe's own.
    fn stand_in(&mut self, find: Find<'_>) -> Result<Option<LauncherFile>, InputErrors> {
        let set = self.choices.set("deploy.launcher").map(|value| value.trim_matches('"').to_owned());
        let stands_in =
            |name: &String| find(name, "--set").is_ok_and(|found| found.launcher.stand_in.is_some());
        let name = match (set, self.rehearse) {
            (Some(name), _) if stands_in(&name) => name,
            (Some(name), true) => {
                let found =
                    format!("found beside --set deploy.launcher={name}, which stands in for no engine");
                return Err(InputError::new("--rehearse", found).expected("one of them").into());
            }
            (None, true) => match launcher::standing_in() {
                Some(launcher) => launcher.name,
                None => return Ok(None),
            },
            (_, false) => return Ok(None),
        };
        if self.rehearse {
            self.choices.scale_load = self.choices.scale_load.or(Some(REHEARSAL));
        }
        let choices = Choices { rehearse: true, ..self.choices.clone() };
        // A GPU section, a knob or --env may choose the launcher as well.
        if resolve(self.file, self.site, &choices)?.launcher() == name {
            return Ok(None);
        }
        self.choices = choices;
        find(&name, "--rehearse").map(Some)
    }
}

/// Blanks comment lines, unless that changes the content: they may hold old tokens or private paths. Line numbers stay.
fn without_comments(document: &Document) -> Document {
    let text = &document.text;
    let kept: Vec<&str> =
        text.lines().map(|line| if line.trim_start().starts_with('#') { "" } else { line }).collect();
    let kept = format!("{}\n", kept.join("\n"));
    let same = document
        .table()
        .is_ok_and(|table| toml::from_str(&kept).is_ok_and(|kept: toml::Table| kept == table));
    Document { file: document.file.clone(), text: if same { kept } else { text.clone() } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_of_a_site_go_and_its_lines_stay() {
        let blanked =
            |text: &str| without_comments(&Document { file: "site.toml".into(), text: text.into() }).text;
        let text = "schema = 1\n# HF_TOKEN = \"hf_old\"\n\n  # more\n[slurm]\npartition = \"a#b\" # kept\n";
        assert_eq!(blanked(text), "schema = 1\n\n\n\n[slurm]\npartition = \"a#b\" # kept\n");
        let inside = "[slurm]\nsetup = [\"\"\"\n# no comment\n\"\"\"]\n";
        assert_eq!(blanked(inside), inside);
    }
}
