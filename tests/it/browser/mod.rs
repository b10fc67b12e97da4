//! The pages in a real browser.

pub mod live;
pub mod page;
pub mod screenshots;
mod widths;
