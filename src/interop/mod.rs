//! Other people's formats: values as Redis serializes them (DUMP, RESTORE), the rdb file, which is made of them, and the append-only file.
//!
//! Everything read here comes from outside: each length is checked against what is there, nothing is allocated by a claim
//! alone, and no byte sequence makes it panic.

pub mod append_only;
pub mod dump;
pub mod lzf;
pub mod manifest;
pub mod packed;
pub mod place;
pub mod rdb_file;
pub mod rdb_value;
pub mod reader;
