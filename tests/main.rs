//! One binary for all integration tests, so that they are linked once.

#[cfg(test)]
mod architecture;
#[cfg(test)]
mod cache_model;
#[cfg(test)]
mod cli;
#[cfg(test)]
mod config_errors;
#[cfg(test)]
mod config_load;
#[cfg(test)]
mod descriptors;
#[cfg(test)]
mod e2e;
#[cfg(test)]
mod examples;
#[cfg(test)]
mod harness;
#[cfg(test)]
mod requirements;
#[cfg(test)]
mod shutdown;
#[cfg(test)]
mod systemd;
#[cfg(test)]
mod upgrade;
