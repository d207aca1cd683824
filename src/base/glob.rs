//! Glob patterns as KEYS, SCAN MATCH and CONFIG GET take them.
