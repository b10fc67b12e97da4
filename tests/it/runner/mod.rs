//! The runner against a scripted service, and simulated days of faults in virtual time.

pub mod ending;
pub mod evidence;
pub mod faults;
pub mod flow;
pub mod isolate;
pub mod isolation;
pub mod learned;
pub mod pace;
pub mod poison;
pub mod responses;
pub mod session;
pub mod simulated_clock;
pub mod simulated_queue;
pub mod simulated_run;
pub mod simulated_service;
pub mod simulated_world;
pub mod simulation;
pub mod simulation_scenario;
pub mod stop;
