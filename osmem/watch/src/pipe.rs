//! Text on its way out of the watched program, through a small buffer, without allocating.

use core::ffi::c_int;
use core::fmt::{self, Write};

pub struct Pipe {
    to: c_int,
    buffer: [u8; 1024],
    used: usize,
}

impl Pipe {
    /// The pipe whose descriptor the variable OSMEM_WATCH gives, or None.
    pub fn open() -> Option<Self> {
        // SAFETY: the name ends with a zero.
        let value = unsafe { libc::getenv(c"OSMEM_WATCH".as_ptr()) };
        if value.is_null() {
            return None;
        }
        // SAFETY: the value of a variable ends with a zero.
        let to = unsafe { libc::atoi(value) };
        Some(Self { to, buffer: [0; 1024], used: 0 })
    }

    /// Sends what is in the buffer.
    pub fn flush(&mut self) {
        let mut rest = &self.buffer[..self.used];
        while !rest.is_empty() {
            // SAFETY: the bytes are readable for their length.
            let sent = unsafe { libc::write(self.to, rest.as_ptr().cast(), rest.len()) };
            match usize::try_from(sent) {
                Ok(sent) => rest = &rest[sent..],
                // Nobody reads any more; the program goes on all the same.
                Err(_) => break,
            }
        }
        self.used = 0;
    }
}

impl Write for Pipe {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for &byte in text.as_bytes() {
            if self.used == self.buffer.len() {
                self.flush();
            }
            self.buffer[self.used] = byte;
            self.used += 1;
        }
        Ok(())
    }
}
