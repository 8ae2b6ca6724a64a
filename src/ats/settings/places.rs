//! The places where settings are looked for, and what each says.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::secret::Secret;
use super::{Overrides, Warning};
use crate::web::WebSettings;

/// The place of a settings file below a home or a project folder.
pub(super) const FILE: &str = ".ats/config";

/// The most bytes that are read of a settings file: a thousand times a usual one.
const MAX_FILE: u64 = 256 * 1024;

/// Where settings are looked for besides the options.
#[derive(Clone, Default)]
pub struct Environment {
    /// Environment variables; only those beginning with `ATS_` are looked at, and those of proxies and
    /// certificates.
    pub vars: HashMap<String, String>,
    /// The current folder: a project file is in it or in the nearest ancestor that has one.
    pub cwd: PathBuf,
    /// The user's home.
    pub home: Option<PathBuf>,
}

/// One setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Key {
    Url,
    Organization,
    Project,
    Channel,
    /// The channel that the `ats` command posts work to, which is none of ours: see [`Settings::notes`].
    ///
    /// [`Settings::notes`]: super::Settings::notes
    WorkChannel,
    ActorType,
    ActorId,
    ActorName,
    /// The API key.
    Secret,
    /// Certificate authorities to trust besides the system's.
    Ca,
    /// Whether the API key is sent over plain HTTP to other machines.
    Insecure,
}

impl Key {
    pub(super) const ALL: [Self; 11] = [
        Self::Url,
        Self::Organization,
        Self::Project,
        Self::Channel,
        Self::WorkChannel,
        Self::ActorType,
        Self::ActorId,
        Self::ActorName,
        Self::Secret,
        Self::Ca,
        Self::Insecure,
    ];

    /// Its environment variable.
    pub(super) fn variable(self) -> &'static str {
        match self {
            Self::Url => "ATS_URL",
            Self::Organization => "ATS_ORG",
            Self::Project => "ATS_PROJECT",
            Self::Channel => "ATS_P2P_CHANNEL",
            Self::WorkChannel => "ATS_CHANNEL",
            Self::ActorType => "ATS_ACTOR_TYPE",
            Self::ActorId => "ATS_ACTOR_ID",
            Self::ActorName => "ATS_ACTOR_NAME",
            Self::Secret => "ATS_API_KEY",
            Self::Ca => "ATS_P2P_CA",
            Self::Insecure => "ATS_P2P_INSECURE",
        }
    }

    /// Its place in a file: a field, or a field of an object.
    pub(super) fn field(self) -> &'static str {
        match self {
            Self::Url => "url",
            Self::Organization => "organization",
            Self::Project => "project",
            Self::Channel => "p2p.channel",
            Self::WorkChannel => "channel",
            Self::ActorType => "actor.type",
            Self::ActorId => "actor.id",
            Self::ActorName => "actor.name",
            Self::Secret => "apiKey",
            Self::Ca => "p2p.ca",
            Self::Insecure => "p2p.insecure",
        }
    }
}

/// Which place a layer stands for; the first that says something counts.
pub(super) const OPTIONS: usize = 0;
pub(super) const VARIABLES: usize = 1;
pub(super) const PROJECT: usize = 2;
pub(super) const USER: usize = 3;

/// What all places say.
pub(super) struct Layers {
    layers: [Layer; 4],
    pub(super) files: Files,
}

impl Layers {
    /// Asks all places. Files that cannot be used are told by `warnings`.
    pub(super) fn read(overrides: Overrides, environment: &Environment, warnings: &mut Vec<Warning>) -> Self {
        let files = Files::of(environment);
        let mut of_file =
            |path: Option<&Path>| path.map(|path| Layer::of_file(path, warnings)).unwrap_or_default();
        let (project, user) = (of_file(files.project.as_deref()), of_file(files.user.as_deref()));
        let variables = Layer::of_variables(&environment.vars);
        Self { layers: [Layer::of_overrides(overrides), variables, project, user], files }
    }

    /// What holds for `key`; `None` where no place says anything.
    pub(super) fn first(&self, key: Key) -> Option<&str> {
        self.layers.iter().find_map(|layer| layer.get(key))
    }

    /// What holds for a key that is not left to a project file: a stranger's folder must not say whom the
    /// user trusts.
    pub(super) fn first_of_user(&self, key: Key) -> Option<&str> {
        [OPTIONS, VARIABLES, USER].into_iter().find_map(|place| self.at(place, key))
    }

    /// The place that decides `key`.
    pub(super) fn decider(&self, key: Key) -> Option<usize> {
        self.layers.iter().position(|layer| layer.get(key).is_some())
    }

    /// What one place says of `key`.
    pub(super) fn at(&self, place: usize, key: Key) -> Option<&str> {
        self.layers.get(place)?.get(key)
    }

    /// The place that decides `key`, by the name that people know it by.
    pub(super) fn source(&self, key: Key) -> Option<String> {
        let file = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
        match self.decider(key)? {
            OPTIONS => Some("option".to_owned()),
            VARIABLES => Some(key.variable().to_owned()),
            PROJECT => file(&self.files.project),
            _ => file(&self.files.user),
        }
    }
}

impl Environment {
    /// This process's own.
    pub fn current() -> Self {
        let vars = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .filter(|(name, _)| name.starts_with("ATS_") || WebSettings::reads(name))
            .collect();
        Self { vars, cwd: std::env::current_dir().unwrap_or_default(), home: std::env::home_dir() }
    }
}

/// The settings files there are.
pub(super) struct Files {
    pub(super) project: Option<PathBuf>,
    pub(super) user: Option<PathBuf>,
}

impl Files {
    fn of(environment: &Environment) -> Self {
        let user = user_file(environment);
        let project = environment.cwd.ancestors().map(|dir| dir.join(FILE)).find(|path| path.is_file());
        // In a home without projects the two are one file: the user's.
        let project = project.filter(|path| Some(path) != user.as_ref());
        Self { project, user }
    }
}

/// The place of the user's own settings, whether there are any or not.
pub(in crate::ats) fn user_file(environment: &Environment) -> Option<PathBuf> {
    environment.home.as_ref().map(|home| home.join(FILE))
}

/// What one place says.
#[derive(Default)]
struct Layer(HashMap<Key, String>);

impl Layer {
    fn get(&self, key: Key) -> Option<&str> {
        self.0.get(&key).map(String::as_str)
    }

    /// An empty text says nothing.
    fn of(value: impl FnMut(Key) -> Option<String>) -> Self {
        let values = Key::ALL.into_iter().zip(Key::ALL.map(value));
        let set = values.filter_map(|(key, value)| Some((key, value?)));
        Self(set.filter(|(_, value)| !value.is_empty()).collect())
    }

    fn of_overrides(overrides: Overrides) -> Self {
        Self::of(|key| match key {
            Key::Url => overrides.url.clone(),
            Key::Organization => overrides.organization.clone(),
            Key::Project => overrides.project.clone(),
            Key::Channel => overrides.channel.clone(),
            Key::WorkChannel => None,
            Key::ActorType => overrides.actor_type.clone(),
            Key::ActorId => overrides.actor_id.clone(),
            Key::ActorName => overrides.actor_name.clone(),
            Key::Secret => overrides.api_key.as_ref().map(Secret::expose).map(str::to_owned),
            Key::Ca => overrides.ca.as_ref().map(|path| path.to_string_lossy().into_owned()),
            Key::Insecure => overrides.insecure.map(|insecure| insecure.to_string()),
        })
    }

    fn of_variables(vars: &HashMap<String, String>) -> Self {
        Self::of(|key| vars.get(key.variable()).cloned())
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
        Self::of(|key| {
            let field = key.field();
            let value = match field.split_once('.') {
                Some((object, field)) => fields.get(object).and_then(|object| object.get(field)),
                None => fields.get(field),
            };
            match value? {
                Value::Null => None,
                Value::String(text) => Some(text.clone()),
                // An id may well have been written without quotes.
                Value::Number(number) => Some(number.to_string()),
                Value::Bool(value) if key == Key::Insecure => Some(value.to_string()),
                // What is none of ours is none of our business.
                _ if key == Key::WorkChannel => None,
                _ => {
                    warnings.push(Warning(format!("{}: {field} is skipped: it is no text", path.display())));
                    None
                }
            }
        })
    }
}

/// The fields of a settings file; `None` if there is no such file. What it says of a failure repeats nothing
/// of the file.
pub(in crate::ats) fn read(path: &Path) -> Result<Option<Map<String, Value>>, String> {
    let meta = match std::fs::metadata(path) {
        Ok(meta) => meta,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
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
