//! Topics, discovery, retries and connections over the DHT.
