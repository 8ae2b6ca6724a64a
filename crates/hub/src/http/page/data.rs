//! What the page shows: transfers, one of them with its trail, totals, and who is connected. All of it is
//! what whoever looks may see.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use protocol::text;
use serde_json::{Value, json};

use super::super::request::{Caller, PairsOrRejection, pairs};
use super::super::{Answer, Shared};
use crate::bus::Connected;
use crate::transfer::named;
use crate::transfers::{self, TransferQuery};

/// The most actors that are named, and the most channels of each.
const MAX_ACTORS: usize = 200;
const MAX_CHANNELS: usize = 16;

pub(super) async fn transfers(State(app): Shared, caller: Caller, query: PairsOrRejection) -> Answer {
    let query = TransferQuery::parse(&pairs(query)?)?;
    Ok(Json(query.run(&mut app.reader().await?, &caller.view(), app.readers.now()).await?))
}

pub(super) async fn trail(State(app): Shared, caller: Caller) -> Answer {
    let (id, view) = (caller.segment("id"), caller.view());
    Ok(Json(transfers::find(&mut app.reader().await?, &id, &view, app.readers.now()).await?))
}

pub(super) async fn days(State(app): Shared, caller: Caller) -> Answer {
    Ok(Json(transfers::days(&mut app.reader().await?, &caller.view(), app.readers.now()).await?))
}

pub(super) async fn connected(State(app): Shared, caller: Caller) -> Json<Value> {
    Json(by_actor(app.bus.connected(&caller.view())))
}

/// One actor's connections.
#[derive(Default)]
struct Presences {
    connections: usize,
    channels: Vec<String>,
    is_everywhere: bool,
    since: i64,
}

/// Who is connected, by actor: those that came last first.
fn by_actor(connected: Vec<Connected>) -> Value {
    let (mut pages, mut unnamed) = (0, 0);
    let mut actors: BTreeMap<String, Presences> = BTreeMap::new();
    for Connected { presence, channels } in connected {
        if presence.is_page {
            pages += 1;
            continue;
        }
        let Some(actor) = presence.actor else {
            unnamed += 1;
            continue;
        };
        let first = Presences { since: presence.since.0, ..Presences::default() };
        let one = actors.entry(actor).or_insert(first);
        one.connections += 1;
        one.is_everywhere |= channels.is_empty();
        one.since = one.since.min(presence.since.0);
        one.channels.extend(channels);
    }
    let more = actors.len().saturating_sub(MAX_ACTORS);
    let mut actors: Vec<(String, Presences)> = actors.into_iter().collect();
    actors.sort_by_key(|(_, one)| std::cmp::Reverse(one.since));
    let shown = actors.into_iter().take(MAX_ACTORS).map(|(id, mut one)| {
        one.channels.sort();
        one.channels.dedup();
        let channels = one.channels.iter().take(MAX_CHANNELS).map(|channel| text::display(channel));
        json!({
            "actor": named(&id),
            "connections": one.connections,
            "channels": channels.collect::<Vec<_>>(),
            "all_channels": one.is_everywhere,
            "since": one.since,
        })
    });
    json!({ "actors": shown.collect::<Vec<_>>(), "pages": pages, "unnamed": unnamed, "more": more })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::Presence;
    use crate::time::Millis;

    fn connected(actor: Option<&str>, is_page: bool, since: i64, channels: &[&str]) -> Connected {
        let presence = Presence { actor: actor.map(str::to_owned), is_page, since: Millis(since) };
        Connected { presence, channels: channels.iter().map(|channel| channel.to_string()).collect() }
    }

    #[test]
    fn the_connections_of_an_actor_are_told_together() {
        let told = by_actor(vec![
            connected(Some("a"), false, 5, &["d", "c"]),
            connected(Some("b"), false, 4, &[]),
            connected(None, false, 3, &["c"]),
            connected(Some("root"), true, 2, &[]),
            connected(Some("a"), false, 1, &["c"]),
        ]);
        assert_eq!((&told["pages"], &told["unnamed"], &told["more"]), (&json!(1), &json!(1), &json!(0)));
        let actors: Vec<&Value> = told["actors"].as_array().expect("a list").iter().collect();
        assert_eq!((&actors[0]["actor"]["id"], &actors[0]["all_channels"]), (&json!("b"), &json!(true)));
        assert_eq!((&actors[1]["actor"]["id"], &actors[1]["connections"]), (&json!("a"), &json!(2)));
        assert_eq!((&actors[1]["channels"], &actors[1]["since"]), (&json!(["c", "d"]), &json!(1)));
        assert_eq!(actors.len(), 2);
    }

    #[test]
    fn a_crowd_is_counted_and_not_named() {
        let crowd = (0..MAX_ACTORS + 3).map(|n| connected(Some(&format!("a{n}")), false, n as i64, &["c"]));
        let told = by_actor(crowd.collect());
        assert_eq!((told["actors"].as_array().map(Vec::len), &told["more"]), (Some(MAX_ACTORS), &json!(3)));
    }
}
