//! The docs show what the binary does.

pub mod commands;
pub mod console;
pub mod generated;
pub mod links;
pub mod recipes;
mod schema;
mod words;
