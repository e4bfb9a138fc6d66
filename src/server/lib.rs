//! coracle-server.
