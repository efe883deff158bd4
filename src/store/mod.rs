//! Object stores opened from a URL.
