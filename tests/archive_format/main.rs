//! The archive format: what is written comes back, nothing damaged is ever taken for whole, no crash loses a
//! generation, and version 1 stays readable.

mod chain;
mod crash;
mod damage;
mod decoder;
mod fixture;
mod pruned;
mod reading;
mod round_trip;
mod sample;
