//! Which settings hold, and who set them.

use serde_json::{Map, Value, json};

use super::Finding;
use crate::ats::{self, Environment, Settings, Warning};
use crate::files;
use crate::options::Options;

const CHECK: &str = "settings";

/// `unusable`: why no request can be made with them.
pub(super) fn check(
    options: &Options,
    environment: &Environment,
    settings: &Settings,
    warnings: &[Warning],
    unusable: Option<&ats::AtsError>,
) -> Finding {
    let mut sources = Map::new();
    for origin in Settings::origins(options.ats.clone(), environment) {
        sources.insert(origin.setting.to_owned(), json!(origin.source.as_deref().unwrap_or("default")));
    }
    let source = |name: &str| match sources.get(name).and_then(Value::as_str) {
        None | Some("default") => "by default".to_owned(),
        Some("option") => "as given".to_owned(),
        Some(source) => format!("by {}", files::display(source)),
    };
    let (url, organization, project) = settings.scope();
    let found = format!(
        "task service {} ({}), actor {} ({}), channel {} ({})",
        files::display(url),
        source("atsUrl"),
        files::display(&settings.actor.id),
        source("actorId"),
        files::display(&settings.channel),
        source("channel"),
    );
    let notes = Settings::notes(options.ats.clone(), environment);
    let notes: Vec<_> = notes.iter().map(|note| files::display(note)).collect();
    let found = [found].into_iter().chain(notes.iter().cloned()).collect::<Vec<_>>().join("; ");
    let finding = match (unusable, warnings) {
        (Some(error), _) => Finding::failed(CHECK, error.to_string()).advise("correct this setting"),
        (None, []) => Finding::ok(CHECK, found),
        (None, warnings) => {
            let warnings: Vec<_> = warnings.iter().map(|warning| files::display(&warning.0)).collect();
            Finding::warning(CHECK, format!("{found}; {}", warnings.join("; ")))
                .advise("correct the settings file")
        }
    };
    finding
        .fact("atsUrl", files::display(url))
        .fact("organization", organization)
        .fact("project", project)
        .fact("channel", settings.channel.as_str())
        .fact("actorId", settings.actor.id.as_str())
        .fact("apiKey", settings.api_key.is_some())
        .fact("home", files::display_path(&options.home))
        .fact("bootstrap", options.bootstrap.clone().map_or(Value::Null, Value::from))
        .fact("sources", sources)
        .fact("notes", notes)
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn a_channel_for_work_is_told_and_nothing_is_wrong() {
        let home = tempfile::tempdir().expect("a folder");
        let environment = Environment {
            vars: [("ATS_CHANNEL".to_owned(), "bu\x1b[31milds".to_owned())].into(),
            cwd: home.path().to_owned(),
            home: None,
        };
        let options = Options::new(home.path().to_owned());
        let (settings, warnings) = Settings::load(options.ats.clone(), &environment);
        let finding = check(&options, &environment, &settings, &warnings, None);
        assert_eq!((finding.verdict, finding.advice), (Verdict::Ok, None));
        assert!(finding.found.contains(r"bu\u{1b}[31milds (ATS_CHANNEL) is for work"), "{}", finding.found);
        assert_eq!(finding.facts["channel"], "p2p-transfer");
        assert_eq!(finding.facts["notes"].as_array().map(Vec::len), Some(1));
    }
}
