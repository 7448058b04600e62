//! The contract between the planes: xDS messages, sessions without I/O, gRPC transport.
