//! Where resources are kept: one Store trait; memory, watched files and redb.
