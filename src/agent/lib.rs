//! coracle-agent.
