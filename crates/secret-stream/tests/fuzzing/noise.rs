//! A handshake whose messages are changed on their way: panics where it is not noticed. Fuzzing runs it.

use secret_stream::{Handshake, KeyPair};

/// Both patterns, every message of them as the input changes it. The input is the pattern, then for each
/// message a byte that says how it comes, and up to 255 bytes, after their count, to change it with.
pub(crate) fn run(data: &[u8]) {
    let [pattern, rest @ ..] = data else { return };
    let (keys, prologue) = (|seed: u8| KeyPair::from_seed(&[seed; 32]), &[*pattern & 2][..]);
    let (initiator, responder, messages) = if pattern & 1 == 0 {
        let initiator = Handshake::initiator_ik(keys(1), keys(2).public_key(), prologue);
        (initiator, Handshake::responder_ik(keys(2), prologue), 2)
    } else {
        (Handshake::initiator_xx(keys(1), prologue), Handshake::responder_xx(keys(2), prologue), 3)
    };
    let mut ends = [initiator.with_ephemeral(keys(3)), responder.with_ephemeral(keys(4))];
    let (mut rest, mut changed) = (rest, false);
    for number in 0..messages {
        let payload = [number; 5];
        let [writer, reader] = &mut ends;
        let Ok(message) = writer.write(&payload) else { return };
        let arrived = on_its_way(&message, &mut rest);
        changed |= arrived != message;
        match reader.read(&arrived) {
            Ok(read) => assert!(read == payload || changed),
            Err(_) => {
                assert!(changed, "what nobody changed is read");
                assert!(reader.read(&message).is_err() && reader.write(&[]).is_err(), "an error is final");
                return;
            }
        }
        ends.reverse();
    }
    let [a, b] = ends.each_ref().map(|end| end.finished().expect("all messages were read"));
    assert!(!changed, "what was changed is not read");
    assert!(a.hash == b.hash && a.tx() == b.rx() && a.rx() == b.tx());
    assert!(a.remote_public_key == b.public_key && b.remote_public_key == a.public_key);
}

/// A message as it comes out at the other end.
fn on_its_way(message: &[u8], rest: &mut &[u8]) -> Vec<u8> {
    let [kind, count, more @ ..] = *rest else { return message.to_vec() };
    let (bytes, behind) = more.split_at(more.len().min((*count).into()));
    *rest = behind;
    match kind % 5 {
        0 => message.to_vec(),
        1 => bytes.to_vec(),
        2 => message.iter().zip(bytes.iter().chain(std::iter::repeat(&0))).map(|(a, b)| a ^ b).collect(),
        3 => message[..message.len().saturating_sub((*count).into())].to_vec(),
        _ => [message, bytes].concat(),
    }
}
