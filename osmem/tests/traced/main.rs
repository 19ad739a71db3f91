//! libosmem, checked from outside: C programs are linked against the finished library and run under `strace`, and what
//! they ask of the kernel is compared with what the rules say.
//!
//! Needs gcc, strace, ltrace and valgrind. A file each:
//!
//! - `library` builds the library, in both editions, and C programs against it;
//! - `driver.c` plays scripts of calls and tells what they did; `trace` runs it and reads its trace;
//! - `model` is the rules again, written naively and without a look at the library;
//! - `story` is how a written case is put down;
//! - `rules`, `reallocation`, `random`, `errors`, `neighbours` and `tools` hold the tests.

mod library;
mod model;
mod story;
mod trace;

mod errors;
mod neighbours;
mod random;
mod reallocation;
mod rules;
mod tools;
