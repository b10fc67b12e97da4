//! The page, live.
