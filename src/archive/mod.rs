//! The archive format: generations, segments, index.
