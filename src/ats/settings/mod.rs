//! Which service, as whom: options before environment before project file before user file before defaults.
//!
//! # Layout
//! - `places`: the places where settings are looked for, and what each says
//! - `secret`: what must not be shown
//! - `sources`: what holds, and who said so

mod places;
mod secret;
mod sources;

use std::fmt;
use std::path::PathBuf;

use reqwest::Url;

use places::{FILE, Key, Layers, PROJECT, USER, VARIABLES};

pub use crate::web::WebSettings;
pub use places::Environment;
pub(super) use places::{read as read_file, user_file};
pub use secret::Secret;
pub(super) use secret::without_credentials;
pub use sources::{SettingSource, Sourced};

/// Where the service is when nobody says otherwise.
const DEFAULT_URL: &str = "https://ats.difflab.ai";
/// What a service takes an unnamed organization or project for.
const DEFAULT_ORGANIZATION: &str = "default";
const DEFAULT_PROJECT: &str = "main";
/// Where peers look for offers; the original of this package knows no other by itself.
const DEFAULT_CHANNEL: &str = "p2p-transfer";
const DEFAULT_ACTOR_TYPE: &str = "agent";
const DEFAULT_ACTOR_ID: &str = "p2p-node";

/// Who speaks to the service. Every request carries it; the service takes it on faith.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actor {
    /// `agent`, `human` or `system`.
    pub kind: String,
    /// By what others name it.
    pub id: String,
    /// A name for people.
    pub name: String,
}

/// Everything the client needs to know before its first request.
#[derive(Clone, PartialEq, Eq)]
pub struct Settings {
    /// The base URL, without a slash at its end.
    pub url: String,
    /// The organization, if one is configured anywhere.
    pub organization: Option<String>,
    /// The project, if one is configured anywhere.
    pub project: Option<String>,
    /// The channel of offers that name none.
    pub channel: String,
    /// Who speaks.
    pub actor: Actor,
    /// The key for a service that asks for one.
    pub api_key: Option<Secret>,
    /// By which proxies servers are reached, and which certificate authorities are trusted besides the
    /// system's.
    pub web: WebSettings,
    /// Whether the key is sent over plain HTTP to other machines, where others can read it on its way.
    pub insecure: bool,
}

/// What the caller set by options or flags. An empty text counts as not set.
#[derive(Clone, Default)]
pub struct Overrides {
    /// For [`Settings::url`].
    pub url: Option<String>,
    /// For [`Settings::organization`].
    pub organization: Option<String>,
    /// For [`Settings::project`].
    pub project: Option<String>,
    /// For [`Settings::channel`].
    pub channel: Option<String>,
    /// For [`Actor::kind`].
    pub actor_type: Option<String>,
    /// For [`Actor::id`].
    pub actor_id: Option<String>,
    /// For [`Actor::name`].
    pub actor_name: Option<String>,
    /// For [`Settings::api_key`].
    pub api_key: Option<Secret>,
    /// A file of certificate authorities that are trusted besides the system's, in PEM: for
    /// [`Settings::web`].
    pub ca: Option<PathBuf>,
    /// For [`Settings::insecure`].
    pub insecure: Option<bool>,
}

/// Where one setting comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The setting, by the name of its option.
    pub setting: &'static str,
    /// `option`, an environment variable, or the path of a file; `None` for the default.
    pub source: Option<String>,
}

/// Something about the settings that a person should know and that stops nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning(pub String);

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Settings {
    /// Puts the settings together, `overrides` first.
    ///
    /// Nothing fails here: a file that cannot be used is skipped with a warning, and a value that makes no
    /// request possible is reported by [`Client::new`](super::Client::new).
    pub fn load(overrides: Overrides, environment: &Environment) -> (Self, Vec<Warning>) {
        let mut warnings = Vec::new();
        let layers = Layers::read(overrides, environment, &mut warnings);
        let or = |key: Key, default: &str| layers.first(key).unwrap_or(default).to_owned();

        let id = or(Key::ActorId, DEFAULT_ACTOR_ID);
        let settings = Self {
            url: normal(layers.first(Key::Url).unwrap_or(DEFAULT_URL)),
            organization: layers.first(Key::Organization).map(str::to_owned),
            project: layers.first(Key::Project).map(str::to_owned),
            channel: or(Key::Channel, DEFAULT_CHANNEL),
            actor: Actor { kind: or(Key::ActorType, DEFAULT_ACTOR_TYPE), name: or(Key::ActorName, &id), id },
            api_key: api_key(&layers, &mut warnings),
            web: WebSettings::new(&environment.vars, layers.first_of_user(Key::Ca).map(PathBuf::from)),
            insecure: matches!(layers.first_of_user(Key::Insecure), Some("1" | "true" | "yes")),
        };
        (settings, warnings)
    }

    /// Where each setting comes from, as [`Settings::load`] finds it.
    pub fn origins(overrides: Overrides, environment: &Environment) -> Vec<Origin> {
        let layers = Layers::read(overrides, environment, &mut Vec::new());
        let named = [
            ("atsUrl", Key::Url),
            ("organization", Key::Organization),
            ("project", Key::Project),
            ("channel", Key::Channel),
            ("actorType", Key::ActorType),
            ("actorId", Key::ActorId),
            ("actorName", Key::ActorName),
            ("apiKey", Key::Secret),
        ];
        named.map(|(setting, key)| Origin { setting, source: layers.source(key) }).into()
    }

    /// Where these settings are not those that a user of the `ats` command may expect, a sentence each. None
    /// of it is a fault.
    pub fn notes(overrides: Overrides, environment: &Environment) -> Vec<String> {
        let layers = Layers::read(overrides, environment, &mut Vec::new());
        [work_channel(&layers), other_project(&layers, environment)].into_iter().flatten().collect()
    }

    /// Whether two texts are one address of a service.
    pub(super) fn is_same_url(one: &str, other: &str) -> bool {
        normal(one) == normal(other)
    }

    /// The scope that identities and records belong to: base URL, organization, project, with the
    /// service's defaults where none is configured.
    pub fn scope(&self) -> (&str, &str, &str) {
        (
            &self.url,
            self.organization.as_deref().unwrap_or(DEFAULT_ORGANIZATION),
            self.project.as_deref().unwrap_or(DEFAULT_PROJECT),
        )
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("url", &without_credentials(&self.url))
            .field("organization", &self.organization)
            .field("project", &self.project)
            .field("channel", &self.channel)
            .field("actor", &self.actor)
            .field("api_key", &self.api_key)
            .field("web", &self.web)
            .field("insecure", &self.insecure)
            .finish()
    }
}

impl fmt::Debug for Overrides {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Overrides")
            .field("url", &self.url.as_deref().map(without_credentials))
            .field("organization", &self.organization)
            .field("project", &self.project)
            .field("channel", &self.channel)
            .field("actor_type", &self.actor_type)
            .field("actor_id", &self.actor_id)
            .field("actor_name", &self.actor_name)
            .field("api_key", &self.api_key)
            .field("ca", &self.ca)
            .field("insecure", &self.insecure)
            .finish()
    }
}

/// One address is one scope, however it is spelt: host in lower case, no default port, no slash at the end.
fn normal(url: &str) -> String {
    let url = Url::parse(url).map_or_else(|_| url.to_owned(), String::from);
    url.trim_end_matches('/').to_owned()
}

/// The API key, unless the folder one happens to work in would send it somewhere else.
///
/// A project file may name any service. A key that the user keeps in the environment or the user file
/// goes to it only if that is where it would have gone anyway; otherwise opening a stranger's folder
/// would be enough to give the key away.
fn api_key(layers: &Layers, warnings: &mut Vec<Warning>) -> Option<Secret> {
    let key = layers.first(Key::Secret)?;
    let is_the_users = matches!(layers.decider(Key::Secret), Some(VARIABLES | USER));
    if layers.decider(Key::Url) == Some(PROJECT) && is_the_users {
        let named = layers.at(PROJECT, Key::Url).unwrap_or(DEFAULT_URL);
        let users = layers.at(USER, Key::Url).unwrap_or(DEFAULT_URL);
        if normal(named) != normal(users) {
            warnings.push(Warning(format!(
                "the API key is left out, because this folder's {FILE} sends requests to {}; to mean that, \
                 set ATS_URL (--ats-url) to that address",
                without_credentials(named)
            )));
            return None;
        }
    }
    Some(Secret::new(key))
}

/// That a channel for work is set, and none for transfers, which take no notice of it.
fn work_channel(layers: &Layers) -> Option<String> {
    let (work, source) = (layers.first(Key::WorkChannel)?, layers.source(Key::WorkChannel)?);
    layers.first(Key::Channel).is_none().then(|| {
        format!(
            "the channel {work} ({source}) is for work, and not used for transfers: another one than \
             {DEFAULT_CHANNEL} is set by ATS_P2P_CHANNEL, or p2p.channel in {FILE}"
        )
    })
}

/// That settings come from a project file which the `ats` command does not read here, as it looks into the
/// current folder alone.
fn other_project(layers: &Layers, environment: &Environment) -> Option<String> {
    let file = layers.files.project.as_ref().filter(|file| **file != environment.cwd.join(FILE))?;
    let of_ats = [
        (Key::Url, Some(DEFAULT_URL)),
        (Key::Organization, Some(DEFAULT_ORGANIZATION)),
        (Key::Project, Some(DEFAULT_PROJECT)),
        (Key::ActorType, None),
        (Key::ActorId, None),
        (Key::ActorName, None),
    ];
    let differ = of_ats.into_iter().filter(|(key, default)| {
        let elsewhere = layers.at(USER, *key).or(*default);
        layers.decider(*key) == Some(PROJECT) && layers.first(*key).map(normal) != elsewhere.map(normal)
    });
    let fields: Vec<&str> = differ.map(|(key, _)| key.field()).collect();
    (!fields.is_empty()).then(|| {
        format!(
            "{} of {} hold here, but not for the `ats` command, which reads {FILE} of the current folder \
             alone",
            fields.join(", "),
            file.display()
        )
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    struct Folders(tempfile::TempDir);

    impl Folders {
        fn new() -> Self {
            Self(tempfile::tempdir().expect("a temporary folder"))
        }

        fn write(&self, folder: &str, content: &str) {
            let dir = self.0.path().join(folder).join(".ats");
            fs::create_dir_all(&dir).expect("a folder");
            fs::write(dir.join("config"), content).expect("a file");
        }

        fn environment(&self, cwd: &str, vars: &[(&str, &str)]) -> Environment {
            let cwd = self.0.path().join(cwd);
            fs::create_dir_all(&cwd).expect("a folder");
            Environment {
                vars: vars.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect(),
                cwd,
                home: Some(self.0.path().join("home")),
            }
        }

        fn load(&self, cwd: &str, vars: &[(&str, &str)], overrides: Overrides) -> (Settings, Vec<Warning>) {
            Settings::load(overrides, &self.environment(cwd, vars))
        }
    }

    #[test]
    fn without_anything_the_defaults_hold() {
        let (settings, warnings) = Folders::new().load("work", &[], Overrides::default());
        assert_eq!(settings.url, "https://ats.difflab.ai");
        assert_eq!(settings.scope(), ("https://ats.difflab.ai", "default", "main"));
        assert_eq!((settings.organization, settings.project), (None, None));
        assert_eq!(settings.channel, "p2p-transfer");
        let actor = Actor { kind: "agent".into(), id: "p2p-node".into(), name: "p2p-node".into() };
        assert_eq!(settings.actor, actor);
        assert_eq!((settings.api_key, warnings), (None, vec![]));
    }

    #[test]
    fn option_before_environment_before_project_before_user() {
        let place = Folders::new();
        place.write("home", r#"{"organization":"u","project":"u","p2p":{"channel":"u"},"url":"http://u"}"#);
        place.write("work", r#"{"organization":"p","project":"p","p2p":{"channel":"p"}}"#);
        let overrides = Overrides { organization: Some("o".into()), ..Overrides::default() };
        let vars = [("ATS_ORG", "e"), ("ATS_PROJECT", "e"), ("ATS_ACTOR_ID", "")];
        let (settings, warnings) = place.load("work/deep/er", &vars, overrides);
        assert_eq!(settings.organization.as_deref(), Some("o"));
        assert_eq!(settings.project.as_deref(), Some("e"));
        assert_eq!(settings.channel, "p");
        assert_eq!(settings.url, "http://u");
        assert_eq!(settings.actor.id, "p2p-node");
        assert_eq!(warnings, vec![]);
    }

    #[test]
    fn the_actor_is_merged_one_level_deep_and_named_by_its_id() {
        let place = Folders::new();
        place.write("home", r#"{"actor":{"type":"human","id":"u","name":"User"}}"#);
        place.write("work", r#"{"actor":{"id":"p"}}"#);
        let (settings, _) = place.load("work", &[], Overrides::default());
        let actor = Actor { kind: "human".into(), id: "p".into(), name: "User".into() };
        assert_eq!(settings.actor, actor);
        let vars = [("ATS_ACTOR_ID", "e")];
        let (settings, _) = Folders::new().load("work", &vars, Overrides::default());
        assert_eq!((settings.actor.id, settings.actor.name), ("e".into(), "e".into()));
    }

    #[test]
    fn the_nearest_project_file_counts_alone() {
        let place = Folders::new();
        place.write("work", r#"{"p2p":{"channel":"far"},"project":"far"}"#);
        place.write("work/near", r#"{"p2p":{"channel":"near"}}"#);
        let (settings, _) = place.load("work/near/below", &[], Overrides::default());
        assert_eq!((settings.channel.as_str(), settings.project), ("near", None));
    }

    #[test]
    fn a_file_that_does_not_parse_is_skipped_with_a_warning_that_repeats_nothing_of_it() {
        let place = Folders::new();
        place.write("home", r#"{"apiKey": "hush" nonsense"#);
        place.write("work", r#"{"p2p": {"channel": ["x"]}, "channel": ["y"], "project": 7}"#);
        let (settings, warnings) = place.load("work", &[], Overrides::default());
        assert_eq!(settings.channel, "p2p-transfer");
        assert_eq!(settings.project.as_deref(), Some("7"));
        let texts: Vec<String> = warnings.iter().map(Warning::to_string).collect();
        assert_eq!(texts.len(), 2, "{texts:?}");
        assert!(texts[0].contains("p2p.channel is skipped"), "{texts:?}");
        assert!(texts[1].contains("not JSON") && !texts[1].contains("hush"), "{texts:?}");
    }

    #[test]
    fn the_channel_for_work_is_not_the_one_for_transfers() {
        let place = Folders::new();
        place.write("home", r#"{"channel":"home-work"}"#);
        place.write("work", r#"{"channel":"work","p2p":"not an object"}"#);
        for vars in [&[][..], &[("ATS_CHANNEL", "env-work")]] {
            let (settings, warnings) = place.load("work", vars, Overrides::default());
            assert_eq!((settings.channel.as_str(), warnings), ("p2p-transfer", vec![]), "{vars:?}");
        }
        let vars = [("ATS_CHANNEL", "env-work"), ("ATS_P2P_CHANNEL", "transfers")];
        let (settings, _) = place.load("work", &vars, Overrides::default());
        assert_eq!(settings.channel, "transfers");
        place.write("work", r#"{"channel":"work","p2p":{"channel":"files"}}"#);
        let (settings, _) = place.load("work", &vars[..1], Overrides::default());
        assert_eq!(settings.channel, "files");
    }

    #[test]
    fn a_channel_for_work_is_noted_where_none_for_transfers_is_set() {
        let place = Folders::new();
        let notes = |vars: &[(&str, &str)], channel: Option<&str>| {
            let overrides = Overrides { channel: channel.map(str::to_owned), ..Overrides::default() };
            Settings::notes(overrides, &place.environment("work", vars))
        };
        assert_eq!(notes(&[], None), Vec::<String>::new());
        let noted = notes(&[("ATS_CHANNEL", "builds")], None);
        assert_eq!(noted.len(), 1, "{noted:?}");
        for part in ["builds", "ATS_CHANNEL", "ATS_P2P_CHANNEL", "p2p-transfer"] {
            assert!(noted[0].contains(part), "{noted:?}");
        }
        assert_eq!(notes(&[("ATS_CHANNEL", "builds"), ("ATS_P2P_CHANNEL", "x")], None), Vec::<String>::new());
        assert_eq!(notes(&[("ATS_CHANNEL", "builds")], Some("x")), Vec::<String>::new());
        place.write("home", r#"{"channel":"builds"}"#);
        let noted = notes(&[], None);
        assert!(noted.len() == 1 && noted[0].contains("home"), "{noted:?}");
    }

    #[test]
    fn a_project_file_that_the_ats_command_does_not_read_is_noted() {
        let place = Folders::new();
        place.write("work", r#"{"organization":"o","project":"main","p2p":{"channel":"c"}}"#);
        let notes = |cwd: &str, vars: &[(&str, &str)]| {
            Settings::notes(Overrides::default(), &place.environment(cwd, vars))
        };
        assert_eq!(notes("work", &[]), Vec::<String>::new());
        let noted = notes("work/below", &[]);
        assert_eq!(noted.len(), 1, "{noted:?}");
        assert!(noted[0].starts_with("organization of ") && noted[0].contains(".ats/config"), "{noted:?}");
        // What comes from elsewhere, or is the same without the file, does not differ.
        assert_eq!(notes("work/below", &[("ATS_ORG", "e")]), Vec::<String>::new());
        place.write("home", r#"{"organization":"o"}"#);
        assert_eq!(notes("work/below", &[]), Vec::<String>::new());
    }

    #[test]
    fn the_same_address_spelt_differently_is_one_scope() {
        for url in ["HTTP://LocalHost:80/", "http://localhost", "http://localhost/"] {
            let overrides = Overrides { url: Some(url.into()), ..Overrides::default() };
            let (settings, _) = Folders::new().load("work", &[], overrides);
            assert_eq!(settings.url, "http://localhost");
        }
    }

    #[test]
    fn secrets_are_not_in_debug_output() {
        let overrides = Overrides {
            url: Some("http://me:hush@host/".into()),
            api_key: Some(Secret::new("hush")),
            ..Overrides::default()
        };
        assert!(!format!("{overrides:?}").contains("hush"));
        let (settings, _) = Folders::new().load("work", &[], overrides);
        assert_eq!(settings.api_key, Some(Secret::new("hush")));
        assert!(!format!("{settings:?}").contains("hush"));
    }

    #[test]
    fn whom_the_user_trusts_is_not_left_to_a_project_file() {
        let place = Folders::new();
        place.write("work", r#"{"p2p":{"ca":"/work.pem","insecure":true}}"#);
        let (settings, _) = place.load("work", &[], Overrides::default());
        assert_eq!((settings.web.ca(), settings.insecure), (None, false));
        place.write("home", r#"{"p2p":{"ca":"/home.pem","insecure":true}}"#);
        let (settings, _) = place.load("work", &[], Overrides::default());
        assert_eq!((settings.web.ca(), settings.insecure), (Some(Path::new("/home.pem")), true));
        let vars = [("ATS_P2P_CA", "/env.pem"), ("ATS_P2P_INSECURE", "0")];
        let (settings, _) = place.load("work", &vars, Overrides::default());
        assert_eq!((settings.web.ca(), settings.insecure), (Some(Path::new("/env.pem")), false));
        let overrides = Overrides { insecure: Some(true), ca: Some("/o.pem".into()), ..Overrides::default() };
        let (settings, _) = place.load("work", &vars, overrides);
        assert_eq!((settings.web.ca(), settings.insecure), (Some(Path::new("/o.pem")), true));
    }

    #[test]
    fn a_project_file_cannot_send_the_users_key_elsewhere() {
        let place = Folders::new();
        place.write("home", r#"{"apiKey":"hush"}"#);
        place.write("work", r#"{"url":"http://stranger"}"#);
        let (settings, warnings) = place.load("work", &[], Overrides::default());
        assert_eq!((settings.url.as_str(), settings.api_key), ("http://stranger", None));
        assert!(warnings[0].0.contains("http://stranger") && !warnings[0].0.contains("hush"), "{warnings:?}");

        let (settings, _) = place.load("work", &[("ATS_API_KEY", "env")], Overrides::default());
        assert_eq!(settings.api_key, None);

        let vars = [("ATS_URL", "http://stranger")];
        let (settings, warnings) = place.load("work", &vars, Overrides::default());
        assert_eq!((settings.api_key, warnings), (Some(Secret::new("hush")), vec![]));

        place.write("home", r#"{"apiKey":"hush","url":"http://stranger/"}"#);
        let (settings, _) = place.load("work", &[], Overrides::default());
        assert_eq!(settings.api_key, Some(Secret::new("hush")));
    }
}
