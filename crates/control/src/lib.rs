//! Resources and registries in, xDS per node out: feed, world, scope, compile, push, status.
