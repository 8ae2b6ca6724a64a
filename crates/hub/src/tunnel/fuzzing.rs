//! What the target `tunnel_frames` in `fuzz/` runs.

use super::frames::{Inbound, Item, Malformed};

/// What an end has sent, as the hub understands it.
#[derive(Debug, Default, PartialEq, Eq)]
struct Understood {
    data: Vec<u8>,
    /// Whether the last piece of data was the end of a message.
    ended: bool,
    pings: Vec<Vec<u8>>,
    pongs: usize,
    end: Option<Closing>,
}

#[derive(Debug, PartialEq, Eq)]
enum Closing {
    Closed,
    Malformed,
}

/// Reads the same bytes of a client in pieces of different lengths, with and without gathering: whatever the
/// pieces, what is understood is the same, and what is passed on has a frame's head before it. The first byte
/// says how long the pieces are.
pub fn frames(input: &[u8]) {
    let Some((&most, bytes)) = input.split_first() else { return };
    let most = usize::from(most) + 1;
    let single = understand(Inbound::new(&[]), bytes, 1, Inbound::next);
    let mut wide = Inbound::new(bytes.get(..most).unwrap_or(bytes));
    wide.widen();
    let rest = bytes.get(most..).unwrap_or_default();
    let gathered = understand(wide, rest, most * 64, Inbound::next_gathered);
    assert_eq!(single, gathered);
}

fn understand(
    mut inbound: Inbound,
    mut bytes: &[u8],
    most: usize,
    next: impl Fn(&mut Inbound) -> Result<Option<Item>, Malformed>,
) -> Understood {
    let mut understood = Understood::default();
    loop {
        match next(&mut inbound) {
            Ok(Some(Item::Data { at, ends })) => {
                let framed = inbound.framed(at.clone());
                assert!(framed.end == at.end && framed.start + 2 <= at.start, "{framed:?} of {at:?}");
                understood.data.extend_from_slice(inbound.bytes(at));
                understood.ended = ends;
            }
            Ok(Some(Item::Ping(at))) => understood.pings.push(inbound.bytes(at).to_vec()),
            Ok(Some(Item::Pong)) => understood.pongs += 1,
            Ok(Some(Item::Close)) => understood.end = Some(Closing::Closed),
            Err(Malformed) => understood.end = Some(Closing::Malformed),
            Ok(None) if bytes.is_empty() => return understood,
            Ok(None) => {
                let space = inbound.space();
                assert!(!space.is_empty(), "there is always room for more");
                let count = space.len().min(bytes.len()).min(most);
                let (now, later) = bytes.split_at(count);
                space[..count].copy_from_slice(now);
                inbound.filled(count);
                bytes = later;
            }
        }
        if understood.end.is_some() {
            return understood;
        }
    }
}

#[cfg(test)]
#[path = "../../../../fuzz/replay.rs"]
mod replay;

#[cfg(test)]
mod tests {
    use super::replay::replay;
    use super::*;

    #[test]
    fn what_fuzzing_found_stays_found() {
        replay(include_str!("../../../../fuzz/corpus/tunnel_frames"), frames);
    }

    proptest::proptest! {
        #[test]
        fn nothing_that_is_sent_is_understood_in_two_ways(input: Vec<u8>) {
            frames(&input);
        }
    }
}
