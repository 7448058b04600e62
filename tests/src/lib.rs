//! The kit that whole-system suites share.
