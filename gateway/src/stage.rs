//! The stages of a request, one file per verb. No stage imports another; the drivers call them in order.

pub mod account;
pub mod admit;
pub mod cache;
pub mod forward;
pub mod limit;
pub mod respond;
pub mod select;
