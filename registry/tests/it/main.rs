//! The registry from outside: what holds when operations race, the disk fails, and files are damaged.

mod concurrency;
mod crashes;
mod damage;
mod errors;
mod operations;
mod properties;
mod support;
