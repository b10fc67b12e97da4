//! The HTTP client against hostile servers, and the table of codes.

pub mod hostile_proxy;
pub mod hostile_responses;
pub mod hostile_tls;
pub mod pause;
pub mod policy;
pub mod responses;
