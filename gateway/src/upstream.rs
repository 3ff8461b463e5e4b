//! The gateway's side towards backends: their addresses and connection settings, and header hygiene.

pub mod addresses;
pub mod fault;
pub mod headers;
pub mod peers;
