#[path = "common/local_service.rs"]
mod local_service;

mod service_conformance;
mod wire_vectors;
