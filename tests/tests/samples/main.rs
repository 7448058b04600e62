//! Istio's own samples, unmodified: with processes registered as their services, traffic goes where the files say.

mod bookinfo;
mod kit;
mod tcp_echo;
mod web;
