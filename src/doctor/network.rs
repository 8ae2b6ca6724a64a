//! The peer network: whether UDP gets out, and how others see this machine.

use std::collections::HashSet;
use std::net::SocketAddrV4;
use std::time::Duration;

use futures_util::future::join_all;
use hyperdht::Dht;
use tokio::net::lookup_host;
use tokio::time::{Instant, timeout};

use super::Finding;
use crate::connection::{ORIGINALS_PACKET, bootstrap_config};
use crate::error::Code;
use crate::files::display;

/// How long nodes of the network may take to answer: a request is sent four times, a second apart.
const ANSWER_LIMIT: Duration = Duration::from_secs(6);
/// How long the sockets may take to close.
pub(super) const LEAVE_LIMIT: Duration = Duration::from_secs(2);
/// Nodes that have to see this machine at the same address to call its NAT consistent: two may agree by
/// chance.
const OBSERVERS: usize = 3;

/// Joins the network of these bootstrap nodes (`None`: the public one), as a transfer would. `Err`: nobody
/// could say which.
pub(super) async fn join(bootstrap: Result<Option<Vec<String>>, ()>) -> (Finding, Option<Dht>) {
    const CHECK: &str = "network";
    let Ok(bootstrap) = bootstrap else {
        let found = "not looked at: the task service was to say which network, and was not reached";
        return (Finding::skipped(CHECK, found), None);
    };
    let started = Instant::now();
    let mut names = Vec::new();
    let dht = match bootstrap_config(bootstrap.as_deref()) {
        Ok(config) => {
            names = config
                .bootstrap
                .iter()
                .filter(|node| node.ip.is_none())
                .map(|node| node.host.clone())
                .collect();
            Dht::new(config).await.map_err(|error| (Code::Network, error.to_string()))
        }
        Err(error) => Err((error.code, error.message)),
    };
    let dht = match dht {
        Ok(dht) => dht,
        Err((Code::InvalidArgument, message)) => {
            return (Finding::failed(CHECK, message).advise("correct the list of bootstrap nodes"), None);
        }
        Err((_, message)) => {
            let finding = Finding::failed(CHECK, format!("no UDP socket can be opened: {message}"));
            return (finding.advise("let this program use UDP"), None);
        }
    };
    let (ready, unresolved) = tokio::join!(timeout(ANSWER_LIMIT, dht.ready()), unresolved(names));
    let answered = ready.is_ok() && dht.network().borrow().nodes > 0;
    let nodes = dht.network().borrow().nodes;
    let shown = match &bootstrap {
        Some(nodes) if nodes.is_empty() => "a network without bootstrap nodes".to_owned(),
        Some(nodes) => nodes.iter().map(|node| display(node)).collect::<Vec<_>>().join(", "),
        None => "the public network".to_owned(),
    };
    let names = unresolved.join(", ");
    let finding = if bootstrap.as_ref().is_some_and(Vec::is_empty) {
        Finding::failed(CHECK, "the hub has no peer network: it listens at an IPv6 address alone")
            .advise("have it listen at an IPv4 address too, for files to go directly")
    } else if answered && !unresolved.is_empty() {
        let found =
            format!("UDP gets out: {nodes} nodes of {shown} answer, but no address is found for {names}");
        Finding::warning(CHECK, found).advise("correct the names, or the name servers of this machine")
    } else if answered {
        Finding::ok(CHECK, format!("UDP gets out: {nodes} nodes of {shown} answer"))
    } else if !unresolved.is_empty() {
        Finding::failed(CHECK, format!("no node of {shown} answers: no address is found for {names}")).advise(
            "correct the names of the bootstrap nodes or the name servers of this machine, or name the nodes \
             by their addresses",
        )
    } else {
        Finding::failed(CHECK, format!("no node of {shown} answers over UDP")).advise(
            "let UDP out of this machine and its network (and answers back in), or run a hub inside and set \
             ATS_URL to it",
        )
    };
    let finding = finding
        .fact("nodes", nodes)
        .fact("bootstrap", bootstrap.map_or(serde_json::Value::Null, serde_json::Value::from))
        .after(started.elapsed());
    (finding, Some(dht))
}

/// Those of the names that have no IPv4 address.
async fn unresolved(mut names: Vec<String>) -> Vec<String> {
    names.sort();
    names.dedup();
    let lookups = names.iter().map(|name| async move {
        // A name server that is silent has found nothing either.
        match timeout(ANSWER_LIMIT, lookup_host((name.as_str(), 0))).await {
            Ok(Ok(mut found)) => !found.any(|address| address.is_ipv4()),
            Ok(Err(_)) | Err(_) => true,
        }
    });
    let missing = join_all(lookups).await;
    names.iter().zip(missing).filter(|(_, missing)| *missing).map(|(name, _)| display(name)).collect()
}

/// How the nodes of the network see this machine. `has_relay`: where no direct way opens, transfers have
/// another.
pub(super) async fn nat(dht: Option<&Dht>, has_relay: bool) -> Finding {
    const CHECK: &str = "nat";
    let network = dht.map(|dht| (dht, dht.network().borrow().clone()));
    let Some((dht, network)) = network.filter(|(_, network)| network.nodes > 0) else {
        return Finding::skipped(CHECK, "not looked at, since no node answers");
    };
    // One socket, several observers: what each saw of it comes back with its answer.
    let mut query = dht.find_node(rand::random());
    let mut seen: Vec<(SocketAddrV4, SocketAddrV4)> = Vec::new();
    let _ = timeout(ANSWER_LIMIT, async {
        while let Some(reply) = query.next().await {
            if seen.iter().all(|(from, _)| *from != reply.from) {
                seen.push((reply.from, reply.to));
            }
        }
    })
    .await;
    judge(!network.firewalled, has_relay, &seen.into_iter().map(|(_, to)| to).collect::<Vec<_>>())
}

/// How large packets may be, on the way to a node of the network.
pub(super) async fn mtu(dht: Option<&Dht>) -> Finding {
    const CHECK: &str = "mtu";
    let asked = async {
        let dht = dht?;
        let node = dht.find_node(rand::random()).next().await?.from;
        Some((dht.packet_size_to(node).await?, node))
    };
    match timeout(ANSWER_LIMIT, asked).await {
        Ok(Some((size, node))) => judge_mtu(size, node),
        Ok(None) | Err(_) => Finding::skipped(CHECK, "not looked at, since no node answers"),
    }
}

fn judge_mtu(size: u16, node: SocketAddrV4) -> Finding {
    const CHECK: &str = "mtu";
    let finding = if size < ORIGINALS_PACKET {
        Finding::warning(CHECK, format!("only packets of up to {size} bytes get to {node}")).advise(format!(
            "files go by such, a little more slowly, but peers that run the original package need packets of \
             {ORIGINALS_PACKET} bytes: raise the MTU of this machine's link, VPN or tunnel"
        ))
    } else {
        Finding::ok(CHECK, format!("packets of {size} bytes get out"))
    };
    finding.fact("bytes", size)
}

/// `open`: nodes reached this one unasked. `seen`: this one's address as each of several nodes saw it.
fn judge(open: bool, has_relay: bool, seen: &[SocketAddrV4]) -> Finding {
    const CHECK: &str = "nat";
    let hosts: HashSet<_> = seen.iter().map(|address| *address.ip()).collect();
    let finding = if open {
        Finding::ok(CHECK, "others reach this machine without being asked").fact("kind", "open")
    } else if seen.len() < OBSERVERS {
        let found = format!("{} nodes are too few to tell the kind of NAT", seen.len());
        Finding::warning(CHECK, found)
            .advise("add bootstrap nodes, or go on: transfers may work all the same")
            .fact("kind", "unknown")
    } else if seen.iter().all(|address| Some(address) == seen.first()) {
        let found = "behind a firewall or a NAT that keeps the port: peers get through";
        Finding::ok(CHECK, found).fact("kind", "consistent")
    } else {
        let found = match hosts.len() {
            1 => "the NAT gives this machine another port for every destination (symmetric NAT)".to_owned(),
            hosts => format!("this machine leaves its network by {hosts} addresses"),
        };
        let advice = match has_relay {
            true => {
                "peers behind a NAT like it are reached through the relay alone, at its speed; forwarding a \
                 UDP port to this machine, or a network without such a NAT, would make that direct"
            }
            false => {
                "peers behind a NAT like it can't be reached directly; a hub, which has a relay, forwarding \
                 a UDP port to this machine, or a network without such a NAT, would help"
            }
        };
        Finding::warning(CHECK, found).advise(advice).fact("kind", "random")
    };
    match seen.first() {
        Some(address) if hosts.len() == 1 => {
            finding.fact("address", address.ip().to_string()).fact("observers", seen.len())
        }
        _ => finding.fact("observers", seen.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    fn seen(addresses: &[&str]) -> Finding {
        judge(false, true, &addresses.iter().map(|address| address.parse().unwrap()).collect::<Vec<_>>())
    }

    #[test]
    fn packets_that_are_too_small_for_originals_are_a_warning() {
        let judged = |size| judge_mtu(size, "5.0.0.1:9".parse().unwrap());
        assert_eq!((judged(1500).verdict, judged(1200).verdict), (Verdict::Ok, Verdict::Ok));
        let small = judged(1000);
        assert_eq!((small.verdict, &small.facts["bytes"]), (Verdict::Warning, &1000.into()));
        assert!(small.found.contains("up to 1000 bytes get to 5.0.0.1:9"), "{}", small.found);
    }

    #[test]
    fn a_nat_is_known_by_what_several_nodes_see() {
        let consistent = seen(&["5.0.0.1:9", "5.0.0.1:9", "5.0.0.1:9"]);
        assert_eq!((consistent.verdict, &consistent.facts["kind"]), (Verdict::Ok, &"consistent".into()));
        assert_eq!(consistent.facts["address"], "5.0.0.1");
        let random = seen(&["5.0.0.1:9", "5.0.0.1:10", "5.0.0.1:11"]);
        assert_eq!((random.verdict, &random.facts["kind"]), (Verdict::Warning, &"random".into()));
        assert!(random.found.contains("symmetric") && random.advice.unwrap().contains("the relay alone"));
        let several = seen(&["5.0.0.1:9", "6.0.0.1:9", "5.0.0.1:9"]);
        assert!(several.found.contains("2 addresses"));
        assert_eq!(seen(&["5.0.0.1:9", "5.0.0.1:9"]).facts["kind"], "unknown");
        assert_eq!(judge(true, false, &[]).facts["kind"], "open");
    }

    #[tokio::test]
    async fn a_network_that_nobody_named_is_not_guessed() {
        let (finding, dht) = join(Err(())).await;
        assert_eq!(finding.verdict, Verdict::Skipped);
        assert!(dht.is_none());
        let (finding, _) = join(Ok(Some(vec!["nonsense".into()]))).await;
        assert_eq!(finding.verdict, Verdict::Failed);
        assert!(finding.found.contains("nonsense"));
    }
}
