//! Tests of the whole program.

mod architecture;
mod bad_input;
mod benchmark;
mod crash;
mod home;
mod hub;
mod hub_server;
mod service;
mod whole_loop;
