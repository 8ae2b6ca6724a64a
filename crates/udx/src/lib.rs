//! Reliable streams over UDP.
