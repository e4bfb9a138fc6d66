//! coracle-network.
