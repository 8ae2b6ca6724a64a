//! The Noise IK handshake with its typed payloads (spec/connect.md §2).

use secret_stream::{HandshakeResult, KeyPair, PublicKey, keyed_hash, namespace};

use super::payload::NoisePayload;
use crate::encoding::Malformed;

/// What the keys of this protocol are bound to, and the numbers of the two commands under it.
const NAMESPACE: &str = "hyperswarm/dht";
const PEER_HANDSHAKE: u8 = 0;
const PEER_HOLEPUNCH: u8 = 1;

/// Why a handshake message was refused. Nobody is told.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoiseError {
    #[error(transparent)]
    Handshake(#[from] secret_stream::Error),
    #[error(transparent)]
    Payload(#[from] Malformed),
}

/// The client's side. It has one message, which is sent to as many nodes as needed.
pub(super) struct Initiator {
    keys: KeyPair,
    ephemeral: KeyPair,
    remote: PublicKey,
    payload: Vec<u8>,
    message: Vec<u8>,
}

impl Initiator {
    /// Fails if `remote` is no point of the curve's prime-order subgroup.
    pub(super) fn new(keys: KeyPair, remote: PublicKey, payload: &NoisePayload) -> Result<Self, NoiseError> {
        Self::with_ephemeral(keys, remote, payload, KeyPair::generate())
    }

    fn with_ephemeral(
        keys: KeyPair,
        remote: PublicKey,
        payload: &NoisePayload,
        ephemeral: KeyPair,
    ) -> Result<Self, NoiseError> {
        let mut initiator = Self { keys, ephemeral, remote, payload: payload.encode(), message: Vec::new() };
        initiator.message = initiator.start()?.1;
        Ok(initiator)
    }

    /// The first message of the handshake.
    pub(super) fn message(&self) -> &[u8] {
        &self.message
    }

    /// Reads the server's answer. A wrong answer changes nothing: a node that makes one up does not keep the
    /// real one out.
    pub(super) fn finish(&self, answer: &[u8]) -> Result<(NoisePayload, HandshakeResult), NoiseError> {
        let (mut handshake, _) = self.start()?;
        let payload = NoisePayload::decode(&handshake.read(answer)?)?;
        Ok((payload, finished(&handshake)?))
    }

    fn start(&self) -> Result<(secret_stream::Handshake, Vec<u8>), NoiseError> {
        let mut handshake =
            secret_stream::Handshake::initiator_ik(self.keys.clone(), self.remote, &prologue())
                .with_ephemeral(self.ephemeral.clone());
        let message = handshake.write(&self.payload)?;
        Ok((handshake, message))
    }
}

/// The server's side, after the client's message.
pub(super) struct Responder {
    handshake: secret_stream::Handshake,
    remote: PublicKey,
}

impl Responder {
    /// Reads a client's message, which may be a replay: the sender is proven only once the client's header
    /// has come on the stream.
    pub(super) fn receive(keys: KeyPair, message: &[u8]) -> Result<(Self, NoisePayload), NoiseError> {
        let mut handshake = secret_stream::Handshake::responder_ik(keys, &prologue());
        let payload = NoisePayload::decode(&handshake.read(message)?)?;
        let remote = *handshake.remote_public_key().ok_or(secret_stream::Error::HandshakeOutOfTurn)?;
        Ok((Self { handshake, remote }, payload))
    }

    /// The key the client claims.
    pub(super) fn remote_public_key(&self) -> PublicKey {
        self.remote
    }

    /// The answer, and the keys that both sides have after it.
    pub(super) fn answer(mut self, payload: &NoisePayload) -> Result<(Vec<u8>, HandshakeResult), NoiseError> {
        let answer = self.handshake.write(&payload.encode())?;
        let result = finished(&self.handshake)?;
        Ok((answer, result))
    }

    #[cfg(test)]
    fn with_ephemeral(self, ephemeral: KeyPair) -> Self {
        Self { handshake: self.handshake.with_ephemeral(ephemeral), ..self }
    }
}

/// The key that both sides encrypt the rounds of hole punching with.
pub(super) fn holepunch_secret(result: &HandshakeResult) -> [u8; 32] {
    keyed_hash(&result.hash, &[&namespace(NAMESPACE, PEER_HOLEPUNCH)])
}

fn prologue() -> [u8; 32] {
    namespace(NAMESPACE, PEER_HANDSHAKE)
}

fn finished(handshake: &secret_stream::Handshake) -> Result<HandshakeResult, NoiseError> {
    let result = handshake.finished().ok_or(secret_stream::Error::HandshakeOutOfTurn)?;
    Ok(result.clone())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::vectors::connect::{array, bytes, case, unhex};

    #[test]
    fn a_whole_handshake_is_that_of_the_vector() {
        let case = case("noisewrap-ik");
        let keys = |name: &str| KeyPair::from_seed(&array(&case["inputs"][name]));
        let hex = |name: &str| unhex(&case["hex"][name]);
        let client_payload = NoisePayload::decode(&bytes("noise-payload-client-typical")).unwrap();
        let server_payload = NoisePayload::decode(&bytes("noise-payload-server-typical")).unwrap();

        let server_keys = keys("server_seed");
        let client = Initiator::with_ephemeral(
            keys("client_seed"),
            server_keys.public_key(),
            &client_payload,
            keys("client_ephemeral_seed"),
        )
        .unwrap();
        assert_eq!(client.message(), hex("message1"));

        let (server, received) = Responder::receive(server_keys, client.message()).unwrap();
        assert_eq!(received, client_payload);
        assert_eq!(server.remote_public_key(), keys("client_seed").public_key());
        let server = server.with_ephemeral(keys("server_ephemeral_seed"));
        let (answer, server_result) = server.answer(&server_payload).unwrap();
        assert_eq!(answer, hex("message2"));

        let (received, client_result) = client.finish(&answer).unwrap();
        assert_eq!(received, server_payload);
        for result in [&client_result, &server_result] {
            assert_eq!(result.hash.to_vec(), hex("handshake_hash"));
            assert_eq!(holepunch_secret(result).to_vec(), hex("holepunch_secret"));
        }
        assert_eq!(client_result.tx().to_vec(), hex("client_tx"));
        assert_eq!(server_result.tx().to_vec(), hex("server_tx"));
    }

    #[test]
    fn a_forged_answer_does_not_spoil_the_real_one() {
        let keys = KeyPair::generate();
        let client =
            Initiator::new(KeyPair::generate(), keys.public_key(), &NoisePayload::default()).unwrap();
        assert!(client.finish(&[0; 64]).is_err());
        let (server, _) = Responder::receive(keys, client.message()).unwrap();
        let (answer, _) = server.answer(&NoisePayload::default()).unwrap();
        assert!(client.finish(&answer).is_ok());
    }

    #[test]
    fn a_message_for_another_server_is_refused() {
        let remote = KeyPair::generate().public_key();
        let client = Initiator::new(KeyPair::generate(), remote, &NoisePayload::default()).unwrap();
        assert!(Responder::receive(KeyPair::generate(), client.message()).is_err());
    }

    #[test]
    fn a_key_off_the_prime_order_subgroup_is_not_dialled() {
        for point in case("dh-rejected-points")["hex"].as_object().unwrap().values() {
            let payload = NoisePayload::default();
            assert!(Initiator::new(KeyPair::generate(), array(point), &payload).is_err());
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(input in proptest::collection::vec(any::<u8>(), 0..200)) {
            let keys = KeyPair::from_seed(&[1; 32]);
            prop_assert!(Responder::receive(keys, &input).is_err());
        }
    }
}
