//! The Kubernetes-style REST API over the store, health and debug views.
