//! Taking a hub's invitation: a key for one actor, written where every command of this user finds it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::error::{AtsError, AtsResult};
use super::http::{Http, Request};
use super::policy::Policy;
use super::settings::{Environment, Secret, Settings, user_file, without_credentials};
use super::text::{SHOWN, printable};
use crate::private::{private_dir, try_to_write, write_private};

/// How long the hub may take to answer.
const TIMEOUT: Duration = Duration::from_secs(20);
/// The environment variables that hold for whichever service.
const OF_TRUST: [&str; 2] = ["ATS_P2P_CA", "ATS_P2P_INSECURE"];
/// The longest key and actor id that are taken from a hub, in bytes.
const MAX_TEXT: usize = 512;

/// What an invitation is taken with.
#[derive(Debug, Clone, Default)]
pub struct Joining {
    /// Where the hub is.
    pub url: String,
    /// A certificate authority to trust besides the system's.
    pub ca: Option<PathBuf>,
    /// Send the invitation over plain HTTP to another machine too.
    pub insecure: bool,
    /// Replace another service, actor or key in the settings of the user.
    pub replace: bool,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Joined {
    /// The hub.
    pub url: String,
    /// Whom the key speaks for.
    pub actor_id: String,
    /// The file of settings that has them now.
    pub file: PathBuf,
    /// Where these settings do not hold all the same, a sentence each.
    pub notes: Vec<String>,
}

/// Takes an invitation and keeps what it gives in the settings of the user; all else in there stays. Nothing
/// is sent if it could not be kept.
///
/// # Errors
/// [`AtsError::Settings`] if the URL is none, the invitation would be sent where others can read it, or the
/// settings can't be written or hold another service; those of the call otherwise.
pub async fn join(joining: Joining, token: &Secret, environment: &Environment) -> AtsResult<Joined> {
    let overrides = super::Overrides {
        url: Some(joining.url.clone()),
        ca: joining.ca.clone(),
        insecure: joining.insecure.then_some(true),
        ..super::Overrides::default()
    };
    // What is configured so far is for another service, apart from whom the user trusts.
    let mut of_user = Environment { cwd: PathBuf::new(), home: None, ..environment.clone() };
    of_user.vars.retain(|name, _| OF_TRUST.contains(&name.as_str()));
    let (mut settings, _) = Settings::load(overrides, &of_user);
    // It goes the way of a key, in its place, and like one is never shown.
    settings.api_key = Some(token.clone());
    let http = Http::new(&settings, &Policy { timeout: TIMEOUT, ..Policy::default() })?;
    let file = user_file(environment)
        .ok_or_else(|| AtsError::Settings("no home folder is known to keep the key in: set HOME".into()))?;
    let kept = UserFile::read(&file)?;
    if !joining.replace {
        kept.check_free(&settings.url)?;
    }
    kept.check_writable()?;

    let request = Request::post(vec!["p2p", "join"], json!({}));
    // No key was sent that could be wrong.
    let answer = http.send(&request).await.map_err(|error| match error {
        AtsError::Status { url, status: status @ (401 | 403), message, .. } => {
            AtsError::Invitation { url, status, message }
        }
        error => error,
    })?;
    let text = |name: &str| {
        let text = answer.get(name).and_then(Value::as_str);
        text.filter(|text| !text.is_empty() && text.len() <= MAX_TEXT).map(str::to_owned)
    };
    let (Some(key), Some(actor_id)) = (text("key"), text("actor")) else {
        let url = http.shown(&["p2p", "join"]);
        return Err(AtsError::Unexpected { url, what: "no key and actor".into() });
    };
    let Joining { ca, insecure, .. } = joining;
    let joined = Access { url: settings.url, key: Secret::new(key), actor_id, ca, insecure };
    kept.write(&joined)?;
    let notes = joined.overruled(environment);
    Ok(Joined { url: joined.url, actor_id: joined.actor_id, file, notes })
}

/// What is kept.
struct Access {
    url: String,
    key: Secret,
    actor_id: String,
    ca: Option<PathBuf>,
    insecure: bool,
}

impl Access {
    /// Where something else decides.
    fn overruled(&self, environment: &Environment) -> Vec<String> {
        let (found, _) = Settings::load(super::Overrides::default(), environment);
        let origins = Settings::origins(super::Overrides::default(), environment);
        let same = [
            ("atsUrl", found.url == self.url),
            ("actorId", found.actor.id == self.actor_id),
            ("apiKey", found.api_key.as_ref() == Some(&self.key)),
        ];
        let differ = same.into_iter().filter(|(_, is_same)| !is_same).filter_map(|(setting, _)| {
            let source = origins.iter().find(|origin| origin.setting == setting)?.source.clone()?;
            Some(format!("{source} names another {setting}, and comes first"))
        });
        differ.collect()
    }
}

/// The user's settings as they are.
struct UserFile<'a> {
    path: &'a Path,
    fields: Map<String, Value>,
}

impl<'a> UserFile<'a> {
    fn read(path: &'a Path) -> AtsResult<Self> {
        let fields = match super::settings::read_file(path) {
            Ok(fields) => fields.unwrap_or_default(),
            Err(reason) => return Err(unfit(path, &format!("{reason}; mend it or move it away first"))),
        };
        Ok(Self { path, fields })
    }

    /// Refuses to take the place of another service, actor or key.
    fn check_free(&self, url: &str) -> AtsResult<()> {
        let text = |value: Option<&Value>| value.and_then(Value::as_str).map(str::to_owned);
        let here = text(self.fields.get("url"));
        if here.as_deref().is_some_and(|here| Settings::is_same_url(here, url)) {
            return Ok(());
        }
        let actor = self.fields.get("actor").and_then(|actor| actor.get("id"));
        let taken = [
            here.map(|here| format!("url {}", printable(&without_credentials(&here), SHOWN))),
            text(actor).map(|id| format!("actor.id {}", printable(&id, SHOWN))),
            self.fields.get("apiKey").filter(|key| !key.is_null()).map(|_| "a key".to_owned()),
        ];
        let taken: Vec<String> = taken.into_iter().flatten().collect();
        if taken.is_empty() {
            return Ok(());
        }
        let held = format!("it has {} already; --replace puts the hub's in their place", taken.join(", "));
        Err(unfit(self.path, &held))
    }

    /// Makes sure that a key can be kept before there is one.
    fn check_writable(&self) -> AtsResult<()> {
        let target = self.target();
        let folder = target.parent().unwrap_or(Path::new("."));
        private_dir(folder)
            .and_then(|()| try_to_write(folder))
            .map_err(|error| unfit(self.path, &error.to_string()))
    }

    /// The file itself: a link to one elsewhere stays one.
    fn target(&self) -> PathBuf {
        std::fs::canonicalize(self.path).unwrap_or_else(|_| self.path.to_owned())
    }

    fn write(mut self, access: &Access) -> AtsResult<()> {
        self.fields.insert("url".into(), json!(access.url));
        self.fields.insert("apiKey".into(), json!(access.key.expose()));
        set(&mut self.fields, "actor", "id", json!(access.actor_id));
        // The name of another would stand beside this one's id.
        if let Some(Value::Object(actor)) = self.fields.get_mut("actor") {
            actor.remove("name");
        }
        if let Some(ca) = &access.ca {
            let whole = std::fs::canonicalize(ca).unwrap_or_else(|_| ca.clone());
            set(&mut self.fields, "p2p", "ca", json!(whole));
        }
        if access.insecure {
            set(&mut self.fields, "p2p", "insecure", json!(true));
        }
        let text = serde_json::to_string_pretty(&Value::Object(self.fields.clone())).unwrap_or_default();
        write_private(&self.target(), format!("{text}\n").as_bytes())
            .map_err(|error| unfit(self.path, &error.to_string()))
    }
}

/// Sets a field of an object in an object; what is in its place and no object gives way.
fn set(fields: &mut Map<String, Value>, object: &str, field: &str, value: Value) {
    let inner = fields.entry(object).or_insert_with(|| json!({}));
    if !inner.is_object() {
        *inner = json!({});
    }
    inner[field] = value;
}

fn unfit(file: &Path, why: &str) -> AtsError {
    AtsError::Settings(format!("the key can't be kept in {}: {why}", file.display()))
}
