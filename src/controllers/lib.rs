//! coracle-controllers.
