//! What holds of each setting, who said so, and who else could have: for people who look for the reason.

use std::path::PathBuf;

use super::places::{Key, Layers, OPTIONS, PROJECT, USER, VARIABLES};
use super::{Environment, Overrides, Settings, Warning, without_credentials};

/// What is shown in the place of a key.
const MASK: &str = "(secret)";

/// What holds of one setting. Nothing in it is a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sourced {
    /// The setting, by the name of its option.
    pub setting: &'static str,
    /// What holds; `None` if nothing does, also where a key is left out.
    pub value: Option<String>,
    /// Who says so.
    pub source: SettingSource,
    /// The environment variable that can.
    pub variable: &'static str,
    /// Its field in a settings file.
    pub field: &'static str,
}

/// Who says what holds of a setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SettingSource {
    /// The caller.
    Option,
    /// The environment, by this variable.
    Variable(&'static str),
    /// The settings file of the project.
    Project(PathBuf),
    /// The settings file of the user.
    User(PathBuf),
    /// Nobody.
    Default,
}

impl Settings {
    /// The settings that [`Settings::load`] puts together, each with its source, and the warnings.
    pub fn sourced(overrides: Overrides, environment: &Environment) -> (Vec<Sourced>, Vec<Warning>) {
        let layers = Layers::read(overrides.clone(), environment, &mut Vec::new());
        let (settings, warnings) = Self::load(overrides, environment);
        let (url, organization, project) = settings.scope();
        let ca = settings.web.ca().map(|path| path.to_string_lossy().into_owned());
        let rows = [
            ("atsUrl", Key::Url, Some(without_credentials(url))),
            ("organization", Key::Organization, Some(organization.to_owned())),
            ("project", Key::Project, Some(project.to_owned())),
            ("channel", Key::Channel, Some(settings.channel.clone())),
            ("actorId", Key::ActorId, Some(settings.actor.id.clone())),
            ("actorType", Key::ActorType, Some(settings.actor.kind.clone())),
            ("actorName", Key::ActorName, Some(settings.actor.name.clone())),
            ("apiKey", Key::Secret, settings.api_key.as_ref().map(|_| MASK.to_owned())),
            ("ca", Key::Ca, ca),
            ("insecure", Key::Insecure, Some(settings.insecure.to_string())),
        ];
        let rows = rows.map(|(setting, key, value)| Sourced {
            setting,
            value,
            source: layers.place_of(key),
            variable: key.variable(),
            field: key.field(),
        });
        (rows.into(), warnings)
    }
}

impl Layers {
    /// Who decides `key`.
    fn place_of(&self, key: Key) -> SettingSource {
        let file = |path: &Option<PathBuf>| path.clone().unwrap_or_default();
        let heard: &[usize] = match key {
            Key::Ca | Key::Insecure => &[OPTIONS, VARIABLES, USER],
            _ => &[OPTIONS, VARIABLES, PROJECT, USER],
        };
        match heard.iter().copied().find(|place| self.at(*place, key).is_some()) {
            Some(OPTIONS) => SettingSource::Option,
            Some(VARIABLES) => SettingSource::Variable(key.variable()),
            Some(PROJECT) => SettingSource::Project(file(&self.files.project)),
            Some(_) => SettingSource::User(file(&self.files.user)),
            None => SettingSource::Default,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::Secret;
    use super::*;

    #[test]
    fn each_setting_has_its_source_and_no_secret_is_shown() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let write = |dir: &str, content: &str| {
            let dir = folder.path().join(dir).join(".ats");
            fs::create_dir_all(&dir).expect("a folder");
            fs::write(dir.join("config"), content).expect("a file");
            dir.join("config")
        };
        let of_project = write("work", r#"{"project":"p","p2p":{"ca":"/evil.pem","insecure":true}}"#);
        let of_user = write("home", r#"{"actor":{"name":"U"},"apiKey":"hush-hush","p2p":{"ca":"/u.pem"}}"#);
        let environment = Environment {
            vars: [("ATS_URL".to_owned(), "http://me:hush-hush@h/".to_owned())].into(),
            cwd: folder.path().join("work"),
            home: Some(folder.path().join("home")),
        };
        let overrides = Overrides { channel: Some("c".into()), ..Overrides::default() };
        let (rows, warnings) = Settings::sourced(overrides, &environment);
        assert_eq!(warnings, vec![]);
        assert!(!format!("{rows:?}").contains("hush-hush"));
        let found = |name: &str| {
            let row = rows.iter().find(|row| row.setting == name).expect("a setting");
            (row.value.as_deref(), row.source.clone())
        };
        assert_eq!(found("channel"), (Some("c"), SettingSource::Option));
        assert_eq!(found("atsUrl"), (Some("http://h/"), SettingSource::Variable("ATS_URL")));
        assert_eq!(found("project"), (Some("p"), SettingSource::Project(of_project)));
        assert_eq!(found("actorName"), (Some("U"), SettingSource::User(of_user.clone())));
        assert_eq!(found("actorId"), (Some("p2p-node"), SettingSource::Default));
        assert_eq!(found("organization"), (Some("default"), SettingSource::Default));
        assert_eq!(found("apiKey"), (Some("(secret)"), SettingSource::User(of_user.clone())));
        // A stranger's folder must not say whom the user trusts.
        assert_eq!(found("ca"), (Some("/u.pem"), SettingSource::User(of_user)));
        assert_eq!(found("insecure"), (Some("false"), SettingSource::Default));
    }

    #[test]
    fn a_key_that_is_left_out_has_its_source_and_no_value() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        fs::create_dir_all(folder.path().join(".ats")).expect("a folder");
        fs::write(folder.path().join(".ats/config"), r#"{"url":"http://evil"}"#).expect("a file");
        let environment = Environment {
            vars: [("ATS_API_KEY".to_owned(), "hush-hush".to_owned())].into(),
            cwd: folder.path().to_owned(),
            home: None,
        };
        let (rows, warnings) = Settings::sourced(Overrides::default(), &environment);
        let key = rows.iter().find(|row| row.setting == "apiKey").expect("a setting");
        assert_eq!((key.value.as_deref(), &key.source), (None, &SettingSource::Variable("ATS_API_KEY")));
        assert_eq!(warnings.len(), 1);
        let overrides = Overrides { api_key: Some(Secret::new("mine")), ..Overrides::default() };
        let (rows, _) = Settings::sourced(overrides, &environment);
        let key = rows.iter().find(|row| row.setting == "apiKey").expect("a setting");
        assert_eq!((key.value.as_deref(), &key.source), (Some(MASK), &SettingSource::Option));
    }
}
