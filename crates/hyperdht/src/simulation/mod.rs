//! Many nodes in one process, under virtual time: the state machines are those of real nodes,
//! sockets and network are simulated.
//!
//! # Layout
//! - `network`: hosts, packets and their time
//! - `town`: a network with churn, in which the crate's own lookups and servers run

pub(crate) mod network;
mod town;

pub use town::{Census, Listening, Town, TownConfig, Visitor};

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use secret_stream::KeyPair;

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    /// How many of `count` lookups, with a pause after each, find what was announced.
    async fn look(
        town: &mut Town,
        seeker: &Visitor,
        keys: &[KeyPair],
        count: usize,
        pause: Duration,
    ) -> usize {
        let mut found = 0;
        for (i, keys) in keys.iter().enumerate().cycle().take(count) {
            let topic = [i as u8; 32];
            found += usize::from(town.meanwhile(seeker.finds(topic, &keys.public_key())).await);
            town.live(pause).await;
        }
        found
    }

    async fn announced(town: &mut Town, visitor: &Visitor, count: u8) -> Vec<KeyPair> {
        let keys: Vec<_> = (0..count).map(|i| KeyPair::from_seed(&[i; 32])).collect();
        for (i, keys) in (0..).zip(&keys) {
            town.meanwhile(visitor.announce([i; 32], keys)).await.unwrap();
        }
        keys
    }

    #[tokio::test(start_paused = true)]
    async fn among_a_thousand_nodes_every_lookup_finds_its_announcement() {
        let mut town = Town::new(TownConfig { nodes: 1000, churn: 0.0, loss: 0.0, seed: 1 }).await;
        let (announcer, seeker) = (town.visitor(false), town.visitor(true));
        let keys = announced(&mut town, &announcer, 10).await;
        assert_eq!(look(&mut town, &seeker, &keys, 10, Duration::ZERO).await, 10);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_announced_is_found_though_a_third_of_the_nodes_is_replaced_in_ten_minutes() {
        let mut town = Town::new(TownConfig { nodes: 100, churn: 0.3, loss: 0.02, seed: 2 }).await;
        let (announcer, seeker) = (town.visitor(false), town.visitor(true));
        let mut found = 0;
        for _ in 0..3 {
            let keys = announced(&mut town, &announcer, 10).await;
            found += look(&mut town, &seeker, &keys, 20, MINUTE / 2).await;
        }
        assert!(town.left() > 50);
        assert!(found >= 59, "{found} of 60");
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_stays_findable_while_nodes_come_and_go_and_nobody_holds_more_and_more() {
        let mut town = Town::new(TownConfig { nodes: 40, churn: 0.3, loss: 0.0, seed: 3 }).await;
        let (host, seeker) = (town.visitor(false), town.visitor(true));
        let keys = KeyPair::from_seed(&[9; 32]);
        let listening = town.meanwhile(host.listen(keys.clone())).await;
        let mut most = Vec::new();
        for _hour in 0..4 {
            for _ in 0..12 {
                assert!(town.meanwhile(seeker.finds_server(&keys.public_key())).await);
                town.live(5 * MINUTE).await;
            }
            most.push(town.census().most);
        }
        assert!(most[3] <= most[1] + most[1] / 4, "{most:?}");
        drop(listening);
    }
}
