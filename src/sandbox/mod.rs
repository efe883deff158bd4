//! In-process Kafka brokers.
