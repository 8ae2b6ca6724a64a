//! Taking a hub's invitation.

use std::path::Path;

use ats_p2p::ats::{AtsError, Client, Environment, Joining, ListQuery, Overrides, Secret, Settings, join};
use hub::{Hub, HubConfig, HubKeys};
use serde_json::{Value, json};

async fn hub(dir: &Path) -> Hub {
    let listen = "127.0.0.1:0".parse().expect("an address");
    Hub::start(HubConfig { listen, dht: false, ..HubConfig::new(dir.join("hub")) }).await.expect("a hub")
}

async fn invitation(dir: &Path) -> Secret {
    let mut keys = HubKeys::open(&dir.join("hub"), None).await.expect("keys");
    Secret::new(keys.invite("b", false, None).await.expect("an invitation").expose())
}

fn user(home: &Path) -> Environment {
    Environment { home: Some(home.to_owned()), cwd: home.join("work"), ..Environment::default() }
}

fn joining(hub: &Hub) -> Joining {
    Joining { url: format!("http://{}/", hub.local_addr()), ..Joining::default() }
}

#[tokio::test]
async fn who_joins_is_known_by_the_settings_from_then_on() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let hub = hub(dir.path()).await;
    let token = invitation(dir.path()).await;
    let joined = join(joining(&hub), &token, &user(dir.path())).await.expect("joined");
    assert_eq!((joined.actor_id.as_str(), joined.notes), ("b", Vec::<String>::new()));
    let (settings, warnings) = Settings::load(Overrides::default(), &user(dir.path()));
    assert_eq!((settings.url.clone(), settings.actor.id.as_str()), (joined.url, "b"));
    assert_eq!(warnings, vec![]);
    Client::new(settings).expect("a client").list(&ListQuery::default()).await.expect("a list");

    // A second time it is refused, by an error that does not show it.
    let error = join(joining(&hub), &token, &user(dir.path())).await.expect_err("taken");
    assert_eq!(error.status(), Some(403));
    assert!(!error.to_string().contains("atsp2p_"), "{error}");
    hub.shutdown().await;
}

#[tokio::test]
async fn settings_that_are_no_settings_are_left_alone_and_cost_no_invitation() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let hub = hub(dir.path()).await;
    let token = invitation(dir.path()).await;
    let file = dir.path().join(".ats/config");
    std::fs::create_dir(dir.path().join(".ats")).expect("a folder");
    for content in ["{\"apiKey\": \"hush", "[]"] {
        std::fs::write(&file, content).expect("written");
        let error = join(joining(&hub), &token, &user(dir.path())).await.expect_err("no settings");
        assert!(matches!(&error, AtsError::Settings(text) if !text.contains("hush")), "{error}");
        assert_eq!(std::fs::read_to_string(&file).expect("read"), content);
    }
    std::fs::write(&file, json!({"p2p": 5, "actor": "x", "own": [1]}).to_string()).expect("written");
    join(joining(&hub), &token, &user(dir.path())).await.expect("joined");
    let kept: Value = serde_json::from_slice(&std::fs::read(&file).expect("read")).expect("JSON");
    assert_eq!((&kept["own"], &kept["actor"], &kept["p2p"]), (&json!([1]), &json!({"id": "b"}), &json!(5)));
    hub.shutdown().await;
}

#[cfg(unix)]
#[tokio::test]
async fn a_link_to_the_settings_stays_one_and_they_are_for_their_user_alone() {
    use std::os::unix::fs::PermissionsExt as _;

    let dir = tempfile::tempdir().expect("a temporary folder");
    let hub = hub(dir.path()).await;
    let (link, target) = (dir.path().join(".ats/config"), dir.path().join("elsewhere.json"));
    std::fs::create_dir(dir.path().join(".ats")).expect("a folder");
    std::fs::write(&target, "{}").expect("written");
    std::fs::set_permissions(&target, std::fs::Permissions::from_mode(0o644)).expect("set");
    std::os::unix::fs::symlink(&target, &link).expect("a link");
    let token = invitation(dir.path()).await;
    join(joining(&hub), &token, &user(dir.path())).await.expect("joined");
    assert!(link.is_symlink());
    let text = std::fs::read_to_string(&target).expect("read");
    assert!(text.contains("atsp2p_key_"), "{text}");
    assert_eq!(std::fs::metadata(&target).expect("there").permissions().mode() & 0o777, 0o600);
    hub.shutdown().await;
}

#[tokio::test]
async fn whom_the_user_trusts_by_the_environment_holds_for_an_invitation_too() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let mut user = user(dir.path());
    user.vars.insert("ATS_P2P_CA".into(), "/nowhere.pem".into());
    user.vars.insert("ATS_URL".into(), "http://127.0.0.1:1".into());
    let joining = Joining { url: "https://192.0.2.1".into(), ..Joining::default() };
    let error = join(joining, &Secret::new("hush-hush"), &user).await.expect_err("no authority").to_string();
    assert!(error.contains("/nowhere.pem") && error.contains("ATS_P2P_CA"), "{error}");
}

#[tokio::test]
async fn an_invitation_is_not_sent_where_others_can_read_it() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let url = "http://192.0.2.1:8787".to_owned();
    let joining = Joining { url, ..Joining::default() };
    let error = join(joining, &Secret::new("hush-hush"), &user(dir.path())).await.expect_err("plain HTTP");
    assert!(
        matches!(&error, AtsError::Settings(text) if text.contains("https") && !text.contains("hush")),
        "{error}"
    );
}
