//! Who this node is to others, and whether that can be read.

use super::Finding;
use crate::files;
use crate::trust::{Trust, UNNAMED_ACTOR};

const CHECK: &str = "identity";

/// Reads the seed, which is made where it is missing, and the file of the peers that are known.
pub(super) fn check(trust: &Trust) -> Finding {
    let actor = files::display(trust.actor());
    let known = trust.identity().and_then(|key| Ok((key, trust.peers()?.len())));
    match known {
        Err(error) => Finding::failed(CHECK, error.message)
            .advise("mend that file; `ats-p2p id` and `ats-p2p peers` say whether it can be read"),
        Ok((None, _)) => {
            Finding::ok(CHECK, format!("{actor} was told to have no identity, and signs nothing"))
        }
        Ok((Some(key), peers)) => {
            let identity = hex::encode(key.public_key());
            let finding = if trust.actor() == UNNAMED_ACTOR {
                let found = format!(
                    "{actor} is the id of every node that was given none: nobody remembers its identity, \
                     {identity}"
                );
                Finding::warning(CHECK, found).advise("give this agent an id of its own: ATS_ACTOR_ID")
            } else if let Some(trouble) = trust.seed_trouble() {
                let found = format!("{actor} is {identity}, and was somebody else before: {trouble}");
                Finding::warning(CHECK, found).advise("restore the old seed, if there is a copy of it")
            } else {
                Finding::ok(CHECK, format!("{actor} is {identity}, and knows {peers} other agents here"))
            };
            finding.fact("identity", identity).fact("peers", peers)
        }
    }
}

#[cfg(test)]
mod tests {
    use protocol::scope::Scope;

    use super::super::Verdict;
    use super::*;
    use crate::trust::SeedChoice;

    #[test]
    fn what_can_not_be_read_is_found() {
        let home = tempfile::tempdir().unwrap();
        let of = |actor: &str, seed: SeedChoice| {
            let scope = Scope::new("http://localhost", "o", "p");
            check(&Trust::new(home.path().to_owned(), seed, scope, actor.into()))
        };
        assert_eq!(of("a", SeedChoice::Home).verdict, Verdict::Ok);
        assert_eq!(of("a", SeedChoice::Nobody).verdict, Verdict::Ok);
        assert_eq!(of(UNNAMED_ACTOR, SeedChoice::Home).verdict, Verdict::Warning);
        let scope = Scope::new("http://localhost", "o", "p");
        let trust = Trust::new(home.path().to_owned(), SeedChoice::Home, scope, "a".into());
        trust.pin("b", &[1; 32], &[]).unwrap();
        assert_eq!(of("a", SeedChoice::Home).verdict, Verdict::Ok);
        std::fs::remove_file(home.path().join("seed")).unwrap();
        let finding = of("a", SeedChoice::Home);
        assert_eq!(finding.verdict, Verdict::Warning);
        assert!(finding.found.contains("id import"), "{}", finding.found);
        std::fs::write(home.path().join("seed"), "damaged").unwrap();
        assert_eq!(of("a", SeedChoice::Home).verdict, Verdict::Failed);
        std::fs::remove_file(home.path().join("seed")).unwrap();
        std::fs::write(home.path().join("known_peers.json"), "damaged").unwrap();
        let finding = of("a", SeedChoice::Home);
        assert_eq!(finding.verdict, Verdict::Failed);
        assert!(finding.found.contains("known_peers.json"), "{}", finding.found);
    }
}
