//! The task service: requests, events, clock.

use std::time::{Duration, SystemTime};

use tokio::time::{Instant, timeout};

use super::Finding;
use crate::ats::{self, Client, Events, Health, ListQuery, Subscription};
use crate::files::display;
use crate::offer::TASK_TYPE;

/// How long a subscription may take.
const SUBSCRIBE_LIMIT: Duration = Duration::from_secs(12);

/// How far the clocks may differ. The service's own time decides about offers, so that little depends on
/// ours; but a clock that is off by more is wrong, and certificates fail by it.
const CLOCK_LIMIT: Duration = Duration::from_secs(60);

/// Tasks that are looked at: a page as a watch reads it.
const LISTED: u32 = 100;

/// Asks the service how it is, and for tasks of the channel, which also shows whether it lets us in.
pub(super) async fn requests(client: &Client) -> (Finding, Option<Health>) {
    const CHECK: &str = "service";
    let started = Instant::now();
    let health = client.health().await;
    let round_trip = started.elapsed();
    let url = display(client.settings().scope().0);
    let health = match health {
        Ok(health) => health,
        Err(error) => {
            let finding = Finding::failed(CHECK, error.to_string()).advise(advice(&error));
            return (finding.after(started.elapsed()), None);
        }
    };
    let query = ListQuery {
        kind: Some(TASK_TYPE.to_owned()),
        channel: Some(client.settings().channel.clone()),
        limit: Some(LISTED),
        ..ListQuery::default()
    };
    let listed = client.list_page(&query, |_| None::<()>).await;
    let left_out = listed.as_ref().map_or(0, |page| page.left_out);
    let finding = match listed {
        Ok(page) if page.left_out > 0 => Finding::warning(
            CHECK,
            format!(
                "{url} answers in {} ms, but {left_out} of {} tasks on the channel are too large or \
                 malformed and are left out",
                round_trip.as_millis(),
                page.len
            ),
        )
        .advise("have whoever runs the service remove them; offers beside them arrive all the same"),
        Ok(_) => Finding::ok(CHECK, format!("{url} answers in {} ms", round_trip.as_millis())),
        Err(error) => Finding::failed(CHECK, format!("{url} is there, but gives no tasks: {error}"))
            .advise(advice(&error)),
    };
    let is_hub = health.p2p.is_some();
    (finding.fact("hub", is_hub).fact("leftOut", left_out).after(started.elapsed()), Some(health))
}

/// Subscribes to events.
pub(super) async fn events(client: &Client) -> Finding {
    const CHECK: &str = "events";
    let subscription = Subscription {
        channels: vec![client.settings().channel.clone()],
        task_types: vec![TASK_TYPE.to_owned()],
        event_types: Vec::new(),
    };
    let subscribed = Events::start(client, subscription);
    let (mut events, _) = subscribed.listen();
    let first = timeout(SUBSCRIBE_LIMIT, async {
        loop {
            match events.next().await {
                ats::AtsEvent::Connected => return Ok(()),
                ats::AtsEvent::Disconnected { error } => return Err(error.to_string()),
                ats::AtsEvent::Task { .. } | ats::AtsEvent::Missed => {}
            }
        }
    });
    let because = |reason: String| {
        Finding::failed(CHECK, format!("no events come: {reason}"))
            .advise("let WebSocket connections through (proxies often have a setting for it)")
    };
    match first.await {
        Ok(Ok(())) => Finding::ok(CHECK, "events come by WebSocket"),
        Ok(Err(reason)) => because(reason),
        Err(_) => because(format!("no answer within {} s", SUBSCRIBE_LIMIT.as_secs())),
    }
}

/// Compares the clocks, once the service was heard.
pub(super) fn clock(client: &Client) -> Finding {
    const CHECK: &str = "clock";
    if !client.has_clock() {
        return Finding::skipped(CHECK, "the service has told no time to compare this machine's with");
    }
    judge_clock(SystemTime::now(), client.clock())
}

fn judge_clock(ours: SystemTime, services: SystemTime) -> Finding {
    const CHECK: &str = "clock";
    let (apart, side, sign) = match ours.duration_since(services) {
        Ok(ahead) => (ahead, "ahead of", 1.0),
        Err(error) => (error.duration(), "behind", -1.0),
    };
    let found = format!("this machine's clock is {:.0} s {side} the service's", apart.as_secs_f64());
    let finding = if apart <= CLOCK_LIMIT {
        Finding::ok(CHECK, found)
    } else {
        Finding::warning(CHECK, format!("{found}; transfers go by the service's")).advise(
            "set the clock of the machine that is wrong (NTP): certificates and their ends are judged by it",
        )
    };
    finding.fact("differenceMs", (sign * apart.as_secs_f64() * 1000.0).round())
}

fn advice(error: &ats::AtsError) -> &'static str {
    match error {
        ats::AtsError::Unreachable { .. } | ats::AtsError::Timeout { .. } => {
            "start the service (`ats-p2p hub`), correct its address, or let this machine reach it"
        }
        ats::AtsError::NotJson { .. } | ats::AtsError::Unexpected { .. } | ats::AtsError::TooLarge { .. } => {
            "correct the address: a proxy, a login page or another program answers there"
        }
        error if error.is_refused() => {
            "take an invitation with `ats-p2p join`, or get a key for this actor and set ATS_API_KEY"
        }
        _ => "ask whoever runs the service",
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn a_clock_is_wrong_from_a_minute_on_in_either_direction() {
        let now = SystemTime::now();
        let at = |seconds: u64| Duration::from_secs(seconds);
        assert_eq!(judge_clock(now, now).verdict, Verdict::Ok);
        assert_eq!(judge_clock(now, now + at(59)).verdict, Verdict::Ok);
        let behind = judge_clock(now, now + at(3600));
        assert_eq!(behind.verdict, Verdict::Warning);
        assert!(behind.found.contains("3600 s behind"), "{}", behind.found);
        assert_eq!(behind.facts["differenceMs"], -3_600_000.0);
        let ahead = judge_clock(now + at(61), now);
        assert!(ahead.advice.is_some_and(|advice| advice.contains("NTP")));
    }
}
