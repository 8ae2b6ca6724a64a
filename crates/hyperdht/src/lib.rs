//! The distributed hash table of the Hyperswarm network.
