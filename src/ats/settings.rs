//! Which service, as whom: options before environment before project file before user file before defaults.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};

use reqwest::Url;
use serde_json::{Map, Value};

/// Where the service is when nobody says otherwise.
const DEFAULT_URL: &str = "https://ats.difflab.ai";
/// What a service takes an unnamed organization or project for.
const DEFAULT_ORGANIZATION: &str = "default";
const DEFAULT_PROJECT: &str = "main";
const DEFAULT_CHANNEL: &str = "p2p-transfer";
const DEFAULT_ACTOR_TYPE: &str = "agent";
const DEFAULT_ACTOR_ID: &str = "p2p-node";

/// The place of a settings file below a home or a project folder.
const FILE: &str = ".ats/config";
/// The most bytes that are read of a settings file: a thousand times a usual one.
const MAX_FILE: u64 = 256 * 1024;

/// A text that must not be shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    pub fn new(secret: impl Into<String>) -> Self {
        Self(secret.into())
    }

    /// The secret itself, for the one header that carries it.
    pub(super) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

/// Who speaks to the service. Every request carries it; the service takes it on faith.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actor {
    /// `agent`, `human` or `system`.
    pub kind: String,
    pub id: String,
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
    pub channel: String,
    pub actor: Actor,
    pub api_key: Option<Secret>,
}

/// What the caller set by options or flags. An empty text counts as not set.
#[derive(Clone, Default)]
pub struct Overrides {
    pub url: Option<String>,
    pub organization: Option<String>,
    pub project: Option<String>,
    pub channel: Option<String>,
    pub actor_type: Option<String>,
    pub actor_id: Option<String>,
    pub actor_name: Option<String>,
    pub api_key: Option<Secret>,
}

/// Where settings are looked for besides the options.
#[derive(Clone, Default)]
pub struct Environment {
    /// Environment variables; only those beginning with `ATS_` are looked at.
    pub vars: HashMap<String, String>,
    /// The current folder: a project file is in it or in the nearest ancestor that has one.
    pub cwd: PathBuf,
    /// The user's home.
    pub home: Option<PathBuf>,
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
        let files = Files::of(environment);
        let layers = layers(overrides, environment, &files, &mut warnings);
        let first = |key: Key| layers.iter().find_map(|layer| layer.get(key));
        let or = |key: Key, default: &str| first(key).unwrap_or(default).to_owned();

        let id = or(Key::ActorId, DEFAULT_ACTOR_ID);
        let settings = Self {
            url: normal(first(Key::Url).unwrap_or(DEFAULT_URL)),
            organization: first(Key::Organization).map(str::to_owned),
            project: first(Key::Project).map(str::to_owned),
            channel: or(Key::Channel, DEFAULT_CHANNEL),
            actor: Actor { kind: or(Key::ActorType, DEFAULT_ACTOR_TYPE), name: or(Key::ActorName, &id), id },
            api_key: api_key(&layers, &mut warnings),
        };
        (settings, warnings)
    }

    /// Where each setting comes from, as [`Settings::load`] finds it.
    pub fn origins(overrides: Overrides, environment: &Environment) -> Vec<Origin> {
        let files = Files::of(environment);
        let layers = layers(overrides, environment, &files, &mut Vec::new());
        let named = [
            ("atsUrl", Key::Url, "ATS_URL"),
            ("organization", Key::Organization, "ATS_ORG"),
            ("project", Key::Project, "ATS_PROJECT"),
            ("channel", Key::Channel, "ATS_CHANNEL"),
            ("actorType", Key::ActorType, "ATS_ACTOR_TYPE"),
            ("actorId", Key::ActorId, "ATS_ACTOR_ID"),
            ("actorName", Key::ActorName, "ATS_ACTOR_NAME"),
            ("apiKey", Key::Secret, "ATS_API_KEY"),
        ];
        let file = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
        named
            .into_iter()
            .map(|(setting, key, variable)| Origin {
                setting,
                source: match layers.iter().position(|layer| layer.get(key).is_some()) {
                    Some(0) => Some("option".to_owned()),
                    Some(1) => Some(variable.to_owned()),
                    Some(2) => file(&files.project),
                    Some(_) => file(&files.user),
                    None => None,
                },
            })
            .collect()
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
            .finish()
    }
}

impl Environment {
    /// This process's own.
    pub fn current() -> Self {
        let vars = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .filter(|(name, _)| name.starts_with("ATS_"))
            .collect();
        Self { vars, cwd: std::env::current_dir().unwrap_or_default(), home: std::env::home_dir() }
    }
}

/// A URL fit to be shown: without what stands before an `@`.
pub(super) fn without_credentials(url: &str) -> String {
    match Url::parse(url) {
        Ok(mut parsed) if !parsed.username().is_empty() || parsed.password().is_some() => {
            // These fail only on URLs that have no host, which cannot have credentials either.
            let _ = parsed.set_username("");
            let _ = parsed.set_password(None);
            parsed.into()
        }
        Ok(_) => url.to_owned(),
        // Not a URL, so nobody knows where in it a secret may stand.
        Err(_) if url.contains('@') => "(not a URL)".to_owned(),
        Err(_) => url.to_owned(),
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
fn api_key(layers: &[Layer; 4], warnings: &mut Vec<Warning>) -> Option<Secret> {
    const PROJECT: usize = 2;
    let holder = layers.iter().position(|layer| layer.get(Key::Secret).is_some())?;
    let key = layers.get(holder)?.get(Key::Secret)?;
    let namer = layers.iter().position(|layer| layer.get(Key::Url).is_some());
    if namer == Some(PROJECT) && matches!(holder, 1 | 3) {
        let named = layers.get(PROJECT).and_then(|layer| layer.get(Key::Url)).unwrap_or(DEFAULT_URL);
        let users = layers.get(3).and_then(|layer| layer.get(Key::Url)).unwrap_or(DEFAULT_URL);
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

/// The settings files there are.
struct Files {
    project: Option<PathBuf>,
    user: Option<PathBuf>,
}

impl Files {
    fn of(environment: &Environment) -> Self {
        let user = environment.home.as_ref().map(|home| home.join(FILE));
        let project = environment.cwd.ancestors().map(|dir| dir.join(FILE)).find(|path| path.is_file());
        // In a home without projects the two are one file: the user's.
        let project = project.filter(|path| Some(path) != user.as_ref());
        Self { project, user }
    }
}

/// What all places say, the strongest first: options, environment, project file, user file.
fn layers(
    overrides: Overrides,
    environment: &Environment,
    files: &Files,
    warnings: &mut Vec<Warning>,
) -> [Layer; 4] {
    [
        Layer::of_overrides(overrides),
        Layer::of_variables(&environment.vars),
        files.project.as_deref().map(|path| Layer::of_file(path, warnings)).unwrap_or_default(),
        files.user.as_deref().map(|path| Layer::of_file(path, warnings)).unwrap_or_default(),
    ]
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Key {
    Url,
    Organization,
    Project,
    Channel,
    ActorType,
    ActorId,
    ActorName,
    Secret,
}

/// What one place says.
#[derive(Default)]
struct Layer(HashMap<Key, String>);

impl Layer {
    fn get(&self, key: Key) -> Option<&str> {
        self.0.get(&key).map(String::as_str)
    }

    fn of(pairs: impl IntoIterator<Item = (Key, Option<String>)>) -> Self {
        let set = pairs.into_iter().filter_map(|(key, value)| Some((key, value?)));
        Self(set.filter(|(_, value)| !value.is_empty()).collect())
    }

    fn of_overrides(overrides: Overrides) -> Self {
        Self::of([
            (Key::Url, overrides.url),
            (Key::Organization, overrides.organization),
            (Key::Project, overrides.project),
            (Key::Channel, overrides.channel),
            (Key::ActorType, overrides.actor_type),
            (Key::ActorId, overrides.actor_id),
            (Key::ActorName, overrides.actor_name),
            (Key::Secret, overrides.api_key.map(|Secret(key)| key)),
        ])
    }

    fn of_variables(vars: &HashMap<String, String>) -> Self {
        let names = [
            (Key::Url, "ATS_URL"),
            (Key::Organization, "ATS_ORG"),
            (Key::Project, "ATS_PROJECT"),
            (Key::Channel, "ATS_CHANNEL"),
            (Key::ActorType, "ATS_ACTOR_TYPE"),
            (Key::ActorId, "ATS_ACTOR_ID"),
            (Key::ActorName, "ATS_ACTOR_NAME"),
            (Key::Secret, "ATS_API_KEY"),
        ];
        Self::of(names.map(|(key, name)| (key, vars.get(name).cloned())))
    }

    fn of_file(path: &Path, warnings: &mut Vec<Warning>) -> Self {
        let fields = match read(path) {
            Ok(Some(fields)) => fields,
            Ok(None) => return Self::default(),
            Err(reason) => {
                warnings.push(Warning(format!("{} is skipped: {reason}", path.display())));
                return Self::default();
            }
        };
        let mut text = |fields: &Map<String, Value>, name: &str, shown: &str| match fields.get(name) {
            None | Some(Value::Null) => None,
            Some(Value::String(text)) => Some(text.clone()),
            // An id may well have been written without quotes.
            Some(Value::Number(number)) => Some(number.to_string()),
            Some(_) => {
                warnings.push(Warning(format!("{}: {shown} is skipped: it is no text", path.display())));
                None
            }
        };
        let empty = Map::new();
        let actor = fields.get("actor").and_then(Value::as_object).unwrap_or(&empty);
        Self::of([
            (Key::Url, text(&fields, "url", "url")),
            (Key::Organization, text(&fields, "organization", "organization")),
            (Key::Project, text(&fields, "project", "project")),
            (Key::Channel, text(&fields, "channel", "channel")),
            (Key::ActorType, text(actor, "type", "actor.type")),
            (Key::ActorId, text(actor, "id", "actor.id")),
            (Key::ActorName, text(actor, "name", "actor.name")),
            (Key::Secret, text(&fields, "apiKey", "apiKey")),
        ])
    }
}

/// The fields of a settings file; `None` if there is no such file.
fn read(path: &Path) -> Result<Option<Map<String, Value>>, String> {
    let meta = match std::fs::metadata(path) {
        Ok(meta) => meta,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    if !meta.is_file() || meta.len() > MAX_FILE {
        return Err("it is no file, or too long for one of settings".to_owned());
    }
    let bytes = std::fs::read(path).map_err(|error| error.to_string())?;
    // The parser's own message would repeat a piece of the file, which may hold the key.
    match serde_json::from_slice(&bytes) {
        Ok(Value::Object(fields)) => Ok(Some(fields)),
        Ok(_) => Err("it holds no JSON object".to_owned()),
        Err(error) => Err(format!("it is not JSON (line {}, column {})", error.line(), error.column())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    struct Place(tempfile::TempDir);

    impl Place {
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
        let (settings, warnings) = Place::new().load("work", &[], Overrides::default());
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
        let place = Place::new();
        place.write("home", r#"{"organization":"u","project":"u","channel":"u","url":"http://u"}"#);
        place.write("work", r#"{"organization":"p","project":"p","channel":"p"}"#);
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
        let place = Place::new();
        place.write("home", r#"{"actor":{"type":"human","id":"u","name":"User"}}"#);
        place.write("work", r#"{"actor":{"id":"p"}}"#);
        let (settings, _) = place.load("work", &[], Overrides::default());
        let actor = Actor { kind: "human".into(), id: "p".into(), name: "User".into() };
        assert_eq!(settings.actor, actor);
        let vars = [("ATS_ACTOR_ID", "e")];
        let (settings, _) = Place::new().load("work", &vars, Overrides::default());
        assert_eq!((settings.actor.id, settings.actor.name), ("e".into(), "e".into()));
    }

    #[test]
    fn the_nearest_project_file_counts_alone() {
        let place = Place::new();
        place.write("work", r#"{"channel":"far","project":"far"}"#);
        place.write("work/near", r#"{"channel":"near"}"#);
        let (settings, _) = place.load("work/near/below", &[], Overrides::default());
        assert_eq!((settings.channel.as_str(), settings.project), ("near", None));
    }

    #[test]
    fn a_file_that_does_not_parse_is_skipped_with_a_warning_that_repeats_nothing_of_it() {
        let place = Place::new();
        place.write("home", r#"{"apiKey": "hush" nonsense"#);
        place.write("work", r#"{"channel": ["x"], "project": 7}"#);
        let (settings, warnings) = place.load("work", &[], Overrides::default());
        assert_eq!(settings.channel, "p2p-transfer");
        assert_eq!(settings.project.as_deref(), Some("7"));
        let texts: Vec<String> = warnings.iter().map(Warning::to_string).collect();
        assert_eq!(texts.len(), 2, "{texts:?}");
        assert!(texts[0].contains("channel is skipped"), "{texts:?}");
        assert!(texts[1].contains("not JSON") && !texts[1].contains("hush"), "{texts:?}");
    }

    #[test]
    fn the_same_address_spelt_differently_is_one_scope() {
        for url in ["HTTP://LocalHost:80/", "http://localhost", "http://localhost/"] {
            let overrides = Overrides { url: Some(url.into()), ..Overrides::default() };
            let (settings, _) = Place::new().load("work", &[], overrides);
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
        let (settings, _) = Place::new().load("work", &[], overrides);
        assert_eq!(settings.api_key, Some(Secret::new("hush")));
        assert!(!format!("{settings:?}").contains("hush"));
    }

    #[test]
    fn a_project_file_cannot_send_the_users_key_elsewhere() {
        let place = Place::new();
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
