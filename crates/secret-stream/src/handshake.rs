//! The Noise handshakes `Noise_IK_Ed25519_ChaChaPoly_BLAKE2b` and `Noise_XX_…`, as state machines.
//!
//! HyperDHT runs IK inside its own messages; a secret stream that is given no finished handshake runs XX.

use std::fmt;

use zeroize::Zeroizing;

use crate::hashing::HASH_LEN;
use crate::symmetric::{Symmetric, TAG_LEN};
use crate::{Error, KeyPair, PublicKey};

/// Longest handshake message, in bytes (Noise specification, section 3).
pub(crate) const MAX_HANDSHAKE_MESSAGE: usize = 65_535;

const KEY_LEN: usize = 32;

/// What both ends know once the handshake is over.
///
/// `Debug` shows the public parts alone; the keys are wiped when dropped.
#[derive(Clone)]
pub struct HandshakeResult {
    /// Whether this end sent the first message.
    pub is_initiator: bool,
    /// This end's static key.
    pub public_key: PublicKey,
    /// The other end's static key, which it has proven to hold only once its stream header verified.
    pub remote_public_key: PublicKey,
    /// The handshake hash, the same at both ends and unique to this connection.
    pub hash: [u8; HASH_LEN],
    pub(crate) tx: Zeroizing<[u8; KEY_LEN]>,
    pub(crate) rx: Zeroizing<[u8; KEY_LEN]>,
}

impl HandshakeResult {
    /// The secret key of what this end sends.
    pub fn tx(&self) -> &[u8; KEY_LEN] {
        &self.tx
    }

    /// The secret key of what this end receives.
    pub fn rx(&self) -> &[u8; KEY_LEN] {
        &self.rx
    }
}

impl fmt::Debug for HandshakeResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HandshakeResult")
            .field("is_initiator", &self.is_initiator)
            .field("public_key", &self.public_key)
            .field("remote_public_key", &self.remote_public_key)
            .finish_non_exhaustive()
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Token {
    E,
    S,
    Ee,
    Es,
    Se,
    Ss,
}

/// The messages of a pattern, the initiator's first, then by turns.
type Pattern = &'static [&'static [Token]];

const IK: Pattern = &[&[Token::E, Token::Es, Token::S, Token::Ss], &[Token::E, Token::Ee, Token::Se]];

const XX: Pattern = &[&[Token::E], &[Token::E, Token::Ee, Token::S, Token::Es], &[Token::S, Token::Se]];

/// One end of a handshake. `write` and `read` by turns, until [`Handshake::finished`].
///
/// Any failure is final: drop it, and the connection it was meant for.
pub struct Handshake {
    pattern: Pattern,
    is_initiator: bool,
    /// Index of the next message, or beyond the pattern after a failure.
    next: usize,
    symmetric: Symmetric,
    static_keys: KeyPair,
    ephemeral_keys: Option<KeyPair>,
    remote_static: Option<PublicKey>,
    remote_ephemeral: Option<PublicKey>,
    result: Option<HandshakeResult>,
}

impl Handshake {
    /// The end that knows the other's key and writes first.
    pub fn initiator_ik(keys: KeyPair, remote_public_key: PublicKey, prologue: &[u8]) -> Self {
        let mut handshake = Self::new(IK, "Noise_IK_Ed25519_ChaChaPoly_BLAKE2b", true, keys, prologue);
        handshake.symmetric.mix_hash(&remote_public_key);
        handshake.remote_static = Some(remote_public_key);
        handshake
    }

    /// The end whose key the other knows.
    pub fn responder_ik(keys: KeyPair, prologue: &[u8]) -> Self {
        let public_key = keys.public_key();
        let mut handshake = Self::new(IK, "Noise_IK_Ed25519_ChaChaPoly_BLAKE2b", false, keys, prologue);
        handshake.symmetric.mix_hash(&public_key);
        handshake
    }

    /// The end that writes first, where neither knows the other's key.
    pub fn initiator_xx(keys: KeyPair, prologue: &[u8]) -> Self {
        Self::new(XX, "Noise_XX_Ed25519_ChaChaPoly_BLAKE2b", true, keys, prologue)
    }

    /// The end that reads first, where neither knows the other's key.
    pub fn responder_xx(keys: KeyPair, prologue: &[u8]) -> Self {
        Self::new(XX, "Noise_XX_Ed25519_ChaChaPoly_BLAKE2b", false, keys, prologue)
    }

    /// Uses `keys` for this one handshake in place of fresh random ones.
    ///
    /// For reproducing known transcripts: keys used twice undo the handshake's secrecy.
    pub fn with_ephemeral(mut self, keys: KeyPair) -> Self {
        self.ephemeral_keys = Some(keys);
        self
    }

    /// The next message of this end, carrying `payload`.
    ///
    /// Somebody who steals the responder's key later can read the first IK payload. It does not prove that
    /// the peer is there now: it may be a replay.
    pub fn write(&mut self, payload: &[u8]) -> Result<Vec<u8>, Error> {
        let tokens = self.turn(true)?;
        let mut message = Vec::with_capacity(2 * (KEY_LEN + TAG_LEN) + payload.len() + TAG_LEN);
        for token in tokens {
            match token {
                Token::E => {
                    let keys = self.ephemeral_keys.get_or_insert_with(KeyPair::generate);
                    let public_key = keys.public_key();
                    message.extend_from_slice(&public_key);
                    self.symmetric.mix_hash(&public_key);
                }
                Token::S => {
                    let public_key = self.static_keys.public_key();
                    self.symmetric.encrypt_and_hash(&public_key, &mut message)?;
                }
                dh => self.mix_dh(*dh)?,
            }
        }
        self.symmetric.encrypt_and_hash(payload, &mut message)?;
        if message.len() > MAX_HANDSHAKE_MESSAGE {
            return Err(Error::HandshakeLength);
        }
        self.advance();
        Ok(message)
    }

    /// Takes the next message of the other end; the payload it carried.
    pub fn read(&mut self, message: &[u8]) -> Result<Vec<u8>, Error> {
        let tokens = self.turn(false)?;
        if message.len() > MAX_HANDSHAKE_MESSAGE {
            return Err(Error::HandshakeLength);
        }
        let mut rest = message;
        for token in tokens {
            match token {
                Token::E => {
                    let (public_key, behind) =
                        rest.split_first_chunk::<KEY_LEN>().ok_or(Error::HandshakeLength)?;
                    self.symmetric.mix_hash(public_key);
                    self.remote_ephemeral = Some(*public_key);
                    rest = behind;
                }
                Token::S => {
                    let length = KEY_LEN + if self.symmetric.has_key() { TAG_LEN } else { 0 };
                    let (sealed, behind) = rest.split_at_checked(length).ok_or(Error::HandshakeLength)?;
                    let public_key = self.symmetric.decrypt_and_hash(sealed)?;
                    self.remote_static = Some(public_key.try_into().map_err(|_| Error::HandshakeLength)?);
                    rest = behind;
                }
                dh => self.mix_dh(*dh)?,
            }
        }
        let payload = self.symmetric.decrypt_and_hash(rest)?;
        self.advance();
        Ok(payload)
    }

    /// The other end's static key, once it is known.
    pub fn remote_public_key(&self) -> Option<&PublicKey> {
        self.remote_static.as_ref()
    }

    /// The result, once the last message was written or read.
    pub fn finished(&self) -> Option<&HandshakeResult> {
        self.result.as_ref()
    }

    fn new(pattern: Pattern, name: &str, is_initiator: bool, keys: KeyPair, prologue: &[u8]) -> Self {
        let mut symmetric = Symmetric::new(name);
        symmetric.mix_hash(prologue);
        Self {
            pattern,
            is_initiator,
            next: 0,
            symmetric,
            static_keys: keys,
            ephemeral_keys: None,
            remote_static: None,
            remote_ephemeral: None,
            result: None,
        }
    }

    /// The tokens of the next message if it is this end's to write (or read). Until [`Self::advance`] the
    /// handshake counts as failed, so that nobody can go on after an error.
    fn turn(&mut self, write: bool) -> Result<&'static [Token], Error> {
        let initiators = self.next.is_multiple_of(2);
        let tokens = self.pattern.get(self.next).ok_or(Error::HandshakeOutOfTurn)?;
        if (initiators == self.is_initiator) != write {
            return Err(Error::HandshakeOutOfTurn);
        }
        self.next += self.pattern.len();
        Ok(tokens)
    }

    fn advance(&mut self) {
        self.next = self.next - self.pattern.len() + 1;
        if self.next < self.pattern.len() {
            return;
        }
        if let Some(remote_public_key) = self.remote_static {
            let (initiators, responders) = self.symmetric.split();
            let (tx, rx) =
                if self.is_initiator { (initiators, responders) } else { (responders, initiators) };
            self.result = Some(HandshakeResult {
                is_initiator: self.is_initiator,
                public_key: self.static_keys.public_key(),
                remote_public_key,
                hash: *self.symmetric.hash(),
                tx,
                rx,
            });
        }
    }

    /// A token's first letter names the initiator's key, the second the responder's.
    fn mix_dh(&mut self, token: Token) -> Result<(), Error> {
        let (own_ephemeral, remote_ephemeral) = match (token, self.is_initiator) {
            (Token::Es, true) | (Token::Se, false) => (true, false),
            (Token::Es, false) | (Token::Se, true) => (false, true),
            (Token::Ss, _) => (false, false),
            _ => (true, true),
        };
        let own = if own_ephemeral { self.ephemeral_keys.as_ref() } else { Some(&self.static_keys) };
        let remote = if remote_ephemeral { &self.remote_ephemeral } else { &self.remote_static };
        let (Some(own), Some(remote)) = (own, remote) else {
            return Err(Error::HandshakeOutOfTurn);
        };
        let shared = own.dh(remote)?;
        self.symmetric.mix_key(&*shared);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::namespace;
    use crate::vectors::{Case, array, bytes};

    fn pair(case: &Case, name: &str) -> KeyPair {
        KeyPair::from_seed(&array(&case.value["inputs"][name]))
    }

    fn ik(case: &Case, prologue: &[u8], names: [&str; 4]) -> (Handshake, Handshake) {
        let [initiator, responder, initiator_ephemeral, responder_ephemeral] =
            names.map(|name| pair(case, name));
        let remote = responder.public_key();
        (
            Handshake::initiator_ik(initiator, remote, prologue).with_ephemeral(initiator_ephemeral),
            Handshake::responder_ik(responder, prologue).with_ephemeral(responder_ephemeral),
        )
    }

    fn xx(case: &Case) -> (Handshake, Handshake) {
        let keys = |name| pair(case, name);
        (
            Handshake::initiator_xx(keys("initiator_seed"), &[])
                .with_ephemeral(keys("initiator_ephemeral_seed")),
            Handshake::responder_xx(keys("responder_seed"), &[])
                .with_ephemeral(keys("responder_ephemeral_seed")),
        )
    }

    const SEEDS: [&str; 4] =
        ["initiator_seed", "responder_seed", "initiator_ephemeral_seed", "responder_ephemeral_seed"];

    fn assert_agreed(initiator: &Handshake, responder: &Handshake, hash: &[u8], tx: &[u8], rx: &[u8]) {
        let (a, b) = (initiator.finished().unwrap(), responder.finished().unwrap());
        assert!(a.is_initiator && !b.is_initiator);
        assert_eq!((a.public_key, a.remote_public_key), (b.remote_public_key, b.public_key));
        assert_eq!((a.hash.as_slice(), b.hash.as_slice()), (hash, hash));
        assert_eq!((a.tx().as_slice(), a.rx().as_slice()), (tx, rx));
        assert_eq!((b.rx().as_slice(), b.tx().as_slice()), (tx, rx));
    }

    fn run_ik(case: &Case, prologue: &[u8], payload1: &[u8], payload2: &[u8]) {
        let (mut initiator, mut responder) = ik(case, prologue, SEEDS);
        let message1 = initiator.write(payload1).unwrap();
        assert_eq!(message1, case.hex("message1"));
        assert_eq!(responder.read(&message1).unwrap(), payload1);
        let message2 = responder.write(payload2).unwrap();
        assert_eq!(message2, case.hex("message2"));
        assert_eq!(initiator.read(&message2).unwrap(), payload2);
        let [hash, tx, rx] = ["handshake_hash", "initiator_tx", "initiator_rx"].map(|name| case.hex(name));
        assert_agreed(&initiator, &responder, &hash, &tx, &rx);
    }

    #[test]
    fn ik_with_payloads() {
        let case = Case::load("noise-ik-raw");
        let [prologue, payload1, payload2] =
            ["prologue", "payload1", "payload2"].map(|name| case.input(name));
        assert_eq!(prologue, namespace("hyperswarm/dht", 0));
        run_ik(&case, &prologue, &payload1, &payload2);
    }

    #[test]
    fn ik_without_payloads() {
        run_ik(&Case::load("noise-ik-empty"), &[], &[], &[]);
    }

    #[test]
    fn ik_of_hyperdht() {
        let case = Case::load("noisewrap-ik");
        let payload = |id| bytes(&Case::load(id).value["hex"]);
        let (client, server) =
            (payload("noise-payload-client-typical"), payload("noise-payload-server-typical"));
        let (mut initiator, mut responder) = ik(
            &case,
            &namespace("hyperswarm/dht", 0),
            ["client_seed", "server_seed", "client_ephemeral_seed", "server_ephemeral_seed"],
        );
        let message1 = initiator.write(&client).unwrap();
        assert_eq!(message1, case.hex("message1"));
        assert_eq!(responder.read(&message1).unwrap(), client);
        let message2 = responder.write(&server).unwrap();
        assert_eq!(message2, case.hex("message2"));
        assert_eq!(initiator.read(&message2).unwrap(), server);
        let [hash, tx, rx] = ["handshake_hash", "client_tx", "client_rx"].map(|name| case.hex(name));
        assert_agreed(&initiator, &responder, &hash, &tx, &rx);
        let secret = crate::keyed_hash(&hash, &[&namespace("hyperswarm/dht", 1)]);
        assert_eq!(secret.as_slice(), case.hex("holepunch_secret"));
    }

    #[test]
    fn xx_as_secret_stream_runs_it() {
        let case = Case::load("noise-xx");
        let (mut initiator, mut responder) = xx(&case);
        let message1 = initiator.write(&[]).unwrap();
        assert_eq!(message1, case.hex("message1"));
        responder.read(&message1).unwrap();
        let message2 = responder.write(&[]).unwrap();
        assert_eq!(message2, case.hex("message2"));
        initiator.read(&message2).unwrap();
        let message3 = initiator.write(&[]).unwrap();
        assert_eq!(message3, case.hex("message3"));
        responder.read(&message3).unwrap();
        let [hash, tx, rx] = ["handshake_hash", "initiator_tx", "initiator_rx"].map(|name| case.hex(name));
        assert_agreed(&initiator, &responder, &hash, &tx, &rx);
    }

    #[test]
    fn every_changed_byte_is_noticed() {
        let case = Case::load("noise-ik-empty");
        let message1 = case.hex("message1");
        for index in 0..message1.len() {
            let (_, mut responder) = ik(&case, &[], SEEDS);
            let mut message = message1.clone();
            message[index] ^= 1;
            assert!(responder.read(&message).is_err(), "byte {index}");
            assert!(matches!(responder.write(&[]), Err(Error::HandshakeOutOfTurn)));
            assert!(responder.finished().is_none());
        }
        for length in 0..message1.len() {
            let (_, mut responder) = ik(&case, &[], SEEDS);
            assert!(responder.read(&message1[..length]).is_err(), "length {length}");
        }
    }

    #[test]
    fn another_prologue_is_refused() {
        let case = Case::load("noise-ik-empty");
        let (_, mut responder) = ik(&case, b"another", SEEDS);
        assert!(matches!(responder.read(&case.hex("message1")), Err(Error::HandshakeUnauthentic)));
    }

    #[test]
    fn hostile_keys_are_refused() {
        let points = Case::load("dh-rejected-points");
        let keys = KeyPair::generate();
        for (name, point) in points.value["hex"].as_object().unwrap() {
            let point: PublicKey = array(point);
            let result = Handshake::initiator_ik(keys.clone(), point, &[]).write(&[]);
            assert!(matches!(result, Err(Error::InvalidPoint)), "static {name}");
            let mut message = point.to_vec();
            message.resize(96, 0);
            let result = Handshake::responder_ik(keys.clone(), &[]).read(&message);
            assert!(matches!(result, Err(Error::InvalidPoint)), "ephemeral {name}");
        }
    }

    #[test]
    fn turns_are_kept() {
        let case = Case::load("noise-xx");
        let (mut initiator, mut responder) = xx(&case);
        assert!(matches!(initiator.read(&[0; 32]), Err(Error::HandshakeOutOfTurn)));
        assert!(matches!(responder.write(&[]), Err(Error::HandshakeOutOfTurn)));
        responder.read(&initiator.write(&[]).unwrap()).unwrap();
        assert!(matches!(initiator.write(&[]), Err(Error::HandshakeOutOfTurn)));
    }

    #[test]
    fn longest_message() {
        let remote = KeyPair::generate();
        let write = |length: usize| {
            Handshake::initiator_ik(KeyPair::generate(), remote.public_key(), &[]).write(&vec![0; length])
        };
        assert_eq!(write(MAX_HANDSHAKE_MESSAGE - 96).unwrap().len(), MAX_HANDSHAKE_MESSAGE);
        assert!(matches!(write(MAX_HANDSHAKE_MESSAGE - 95), Err(Error::HandshakeLength)));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn arbitrary_bytes_do_no_harm(message in proptest::collection::vec(any::<u8>(), 0..300)) {
            let keys = KeyPair::from_seed(&[1; 32]);
            prop_assert!(Handshake::responder_ik(keys.clone(), &[]).read(&message).is_err());
            let mut xx = Handshake::initiator_xx(keys, &[]);
            xx.write(&[]).unwrap();
            prop_assert!(xx.read(&message).is_err());
        }
    }
}
