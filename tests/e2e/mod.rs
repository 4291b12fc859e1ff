//! Whole requests through the production assembly, on real sockets.

mod admin;
mod bodies;
mod compress;
mod discovery;
mod door;
mod faults;
mod forwarding;
mod grpc;
mod health;
mod identity;
mod introspection;
mod limits;
mod logs;
mod oidc;
mod pairs;
mod policies;
mod protocols;
mod refusals;
mod reload;
mod retries;
mod routing;
mod tls;
mod tokens;
mod tunnels;
mod upstream_auth;
mod upstreams;
