//! Load on the local service.

fn main() {}
