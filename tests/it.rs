//! All tests that are not beside the code they test, in one program: it links once.

mod common;
#[path = "common/local_service.rs"]
mod local_service;

mod cli;
mod cli_publish;
mod cli_status;
mod cli_users;
mod conformance;
mod crash;
mod dataset_model;
mod faults;
mod in_process;
mod model;
mod mount;
mod point;
mod semantics;
mod service_conformance;
mod service_crash;
mod service_faults;
mod service_limits;
mod service_operations;
mod sources;
mod tidy;
mod tools;
mod wire_fuzz;
mod wire_vectors;
