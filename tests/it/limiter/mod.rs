//! The pacer and the ETA against simulated services.

pub mod eta_simulation;
pub mod pacer_simulation;
