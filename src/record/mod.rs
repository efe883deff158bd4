//! v2 record batches: header, codecs, record iterator, batch builder. Bytes only, no I/O.
