//! Noise handshake and encrypted message streams.
