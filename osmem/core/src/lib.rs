//! The inside of libosmem: blocks in a list, kept over any memory that grows at its end.
//!
//! A file each, every one using only those before it:
//!
//! - [`block`]: one block, a header and its payload;
//! - [`placement`]: which free block an allocation takes;
//! - [`heap`]: the list of blocks, and how splitting, merging and growing change it;
//! - [`buffer`]: memory for a heap that is not the program's.
//!
//! Nothing here makes a system call. The library puts a [`Heap`] on the program break; the comparison of placement
//! strategies and its tests put the same code on a [`Buffer`].

#![no_std]

pub mod block;
pub mod buffer;
pub mod heap;
pub mod placement;

pub use block::{Block, HEADER, Status};
pub use buffer::Buffer;
pub use heap::{Heap, Memory};
pub use placement::Placement;
