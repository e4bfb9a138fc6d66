//! coracle-streams.
