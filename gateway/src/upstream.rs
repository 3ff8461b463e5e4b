//! The gateway's side towards backends: their addresses and connection settings, and header hygiene; and calls of the
//! gateway's own.

pub mod addresses;
pub mod call;
pub mod connector;
pub mod fault;
pub mod headers;
pub mod http1;
pub mod idle;
pub mod peers;
pub mod silence;
