//! The page from made-up facts.
