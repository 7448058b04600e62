//! What users write: every kind in one table; parsing, defaults, admission, coded diagnostics, status.
