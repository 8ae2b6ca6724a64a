//! What holds of each option, and who said so.

use std::path::PathBuf;
use std::time::Duration;

use napi::Env;
use napi::bindgen_prelude::PromiseRaw;
use napi_derive::napi;
use serde::Serialize;
use serde_json::{Value, json};

use super::error::{promise, thrown};
use super::options::{MAX_RATE_VARIABLE, NodeOptions, bootstrap_nodes, default_home, rate_of_text, read};
use super::shapes::value;
use crate::ats::{Client, Environment, SettingSource, Settings, Sourced};
use crate::error::Result;
use crate::options::{
    DEFAULT_KEEP_RECEIPTS, DEFAULT_MAX_CONCURRENT, DEFAULT_MAX_OFFER_AGE, DEFAULT_MAX_PARTIAL_AGE,
    DEFAULT_TIMEOUT,
};
use crate::sync::blocking;

/// What holds, and what a person should know of it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SettingsShape {
    settings: Vec<SettingShape>,
    warnings: Vec<String>,
    notes: Vec<String>,
    /// Why no request can be made with them.
    problem: Option<String>,
}

/// One setting.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SettingShape {
    name: &'static str,
    value: Value,
    source: &'static str,
    /// The variable or the file that says so.
    from: Option<String>,
    /// What else could.
    variable: Option<&'static str>,
    field: Option<&'static str>,
}

/// Tells what a node with these options would use; see `settings` in `index.d.ts`.
#[napi(ts_args_type = "options: object", ts_return_type = "Promise<any>")]
pub(super) fn show_settings<'env>(env: &'env Env, options: Value) -> napi::Result<PromiseRaw<'env, Value>> {
    // What is no option at all is told before anything is looked at.
    let checked = read::<NodeOptions>(options.clone()).and_then(NodeOptions::into_options);
    let overrides = checked.map_err(|error| thrown(env, &error))?.ats;
    let look = move || -> Result<SettingsShape> {
        let environment = Environment::current();
        let (sourced, warnings) = Settings::sourced(overrides.clone(), &environment);
        let (loaded, _) = Settings::load(overrides.clone(), &environment);
        let proxies = loaded.web.shown().into_iter().map(|(name, variable, value)| {
            let source = variable.map_or(SettingSource::Default, SettingSource::Variable);
            shape(name, value.map_or(Value::Null, Value::from), source, variable, None)
        });
        let ours = sourced.into_iter().map(of_service);
        Ok(SettingsShape {
            settings: ours.chain(of_node(&options)).chain(proxies).collect(),
            warnings: warnings.iter().map(ToString::to_string).collect(),
            notes: Settings::notes(overrides, &environment),
            problem: Client::new(loaded).err().map(|error| error.to_string()),
        })
    };
    promise(env, blocking(look), value)
}

fn of_service(sourced: Sourced) -> SettingShape {
    let Sourced { setting, value, source, variable, field } = sourced;
    let value = match (setting, value) {
        ("insecure", Some(text)) => Value::from(text == "true"),
        (_, value) => value.map_or(Value::Null, Value::from),
    };
    shape(setting, value, source, Some(variable), Some(field))
}

/// The options that stand in no file.
fn of_node(options: &Value) -> Vec<SettingShape> {
    let ms = |duration: Duration| Value::from(duration.as_secs() * 1000);
    let home = default_home().map_or(Value::Null, |home| json!(home.to_string_lossy()));
    let rows = [
        ("home", Some("ATS_P2P_HOME"), home),
        ("identity", None, json!(true)),
        ("bootstrap", Some("ATS_P2P_BOOTSTRAP"), Value::Null),
        ("relayThrough", None, json!("hub")),
        ("tunnel", Some("ATS_P2P_TUNNEL"), json!(true)),
        ("allowedPeers", None, Value::Null),
        ("requireVerified", None, json!(false)),
        ("maxFileSize", None, Value::Null),
        ("maxRate", Some(MAX_RATE_VARIABLE), Value::Null),
        ("timeout", None, ms(DEFAULT_TIMEOUT)),
        ("maxConcurrent", None, json!(DEFAULT_MAX_CONCURRENT)),
        ("maxOfferAge", None, ms(DEFAULT_MAX_OFFER_AGE)),
        ("maxPartialAge", None, ms(DEFAULT_MAX_PARTIAL_AGE)),
        ("keepReceipts", None, json!(DEFAULT_KEEP_RECEIPTS)),
        ("preserve", None, json!(true)),
        ("hashCache", None, json!(true)),
        ("anyClaimant", None, json!(false)),
        ("topicPrefix", None, json!("")),
        ("database", Some("ATS_P2P_DATABASE"), Value::Null),
    ];
    let each = rows.into_iter().map(|(name, variable, default)| {
        let set = variable.and_then(|variable| {
            let text = std::env::var_os(variable).filter(|text| !text.is_empty())?;
            Some((variable, of_text(name, text.to_string_lossy().into_owned())?))
        });
        let (value, source) = match (options.get(name).filter(|value| !value.is_null()), set) {
            (Some(given), _) => (given.clone(), SettingSource::Option),
            (None, Some((variable, value))) => (value, SettingSource::Variable(variable)),
            (None, None) => (default, SettingSource::Default),
        };
        shape(name, value, source, variable, None)
    });
    each.collect()
}

/// The value of an option whose environment variable holds this text; `None` where that says nothing.
fn of_text(name: &str, text: String) -> Option<Value> {
    match (name, text.trim()) {
        ("bootstrap", nodes) => bootstrap_nodes(nodes).map(Value::from),
        ("maxRate", rate) => Some(rate_of_text(rate).map_or_else(|| Value::from(rate), Value::from)),
        ("tunnel", "none") => Some(Value::Bool(false)),
        ("database", url) => Some(database(url)),
        _ => Some(Value::from(text)),
    }
}

/// The address of a database without who uses it and the password, which may stand in two places.
fn database(text: &str) -> Value {
    let Ok(mut url) = url::Url::parse(text) else { return json!("(not a URL)") };
    if !url.has_host() {
        return json!("(secret)");
    }
    let _ = (url.set_username(""), url.set_password(None));
    url.set_query(None);
    Value::from(String::from(url))
}

fn shape(
    name: &'static str,
    value: Value,
    source: SettingSource,
    variable: Option<&'static str>,
    field: Option<&'static str>,
) -> SettingShape {
    let path = |path: PathBuf| Some(path.to_string_lossy().into_owned());
    let (source, from) = match source {
        SettingSource::Option => ("option", None),
        SettingSource::Variable(name) => ("environment", Some(name.to_owned())),
        SettingSource::Project(file) => ("project", path(file)),
        SettingSource::User(file) => ("user", path(file)),
        SettingSource::Default => ("default", None),
    };
    SettingShape { name, value, source, from, variable, field }
}
