//! The mesh's names: answers for services, forwarding for the rest.
