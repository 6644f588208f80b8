//! Tests of the whole program.

mod architecture;
mod bad_input;
mod control;
mod crash;
mod dialogue;
mod held_back;
mod home;
mod hub;
mod hub_server;
mod jobs;
mod judging;
mod measures;
mod service;
mod service_access;
mod service_api;
mod service_home;
mod service_openai;
mod service_operation;
mod service_telemetry;
mod whole_loop;
