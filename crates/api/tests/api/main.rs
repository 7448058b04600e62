//! The API as its users see it: plain HTTP, kubectl, the Python client.

mod http;
mod kit;
mod kube_rs;
mod kubectl;
mod kubectl_kinds;
mod python;
