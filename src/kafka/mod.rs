//! The client's connection layer and typed calls.
