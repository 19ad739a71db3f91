//! An HTTP server that uses memory as servers do, and a load generator that checks every answer.
//!
//! Requests are served by the threads of a tokio runtime. Bodies are JSON, parsed into many small blocks; they go into a
//! shared, bounded [`cache`], so that what one thread allocated is freed by whichever thread evicts it. The only line
//! that concerns the allocator is the `#[global_allocator]` in `main.rs`.

pub mod app;
pub mod cache;
pub mod client;
pub mod load;
mod random;
mod render;
