//! Where a call came from, taken before any code of a slow path has used the registers that say so.
//!
//! A slow path is entered by a few lines of assembler that put the frame pointer and the address on top of the stack into
//! the next arguments and jump on. If all before it were jumps, too, that address is where the program's call returns to.

use crate::stacks::Caller;

/// Defines `$name`, which calls `$inner` with the same arguments and the caller's frame pointer and return address behind them;
/// it has as many arguments as registers are named, of at most a word each.
macro_rules! with_caller {
    ($(#[$attribute:meta])* fn $name:ident($($argument:ident: $type:ty),+) $(-> $result:ty)? => $inner:ident, [$x_frame:literal, $x_return:literal], [$a_frame:literal, $a_return:literal]) => {
        $(#[$attribute])*
        #[cfg(all(target_arch = "x86_64", not(miri)))]
        #[cold]
        #[unsafe(naked)]
        extern "C" fn $name($($argument: $type),+) $(-> $result)? {
            core::arch::naked_asm!(
                concat!("mov ", $x_frame, ", rbp"),
                concat!("mov ", $x_return, ", qword ptr [rsp]"),
                "jmp {inner}",
                inner = sym $inner,
            )
        }

        $(#[$attribute])*
        #[cfg(all(target_arch = "aarch64", not(miri)))]
        #[cold]
        #[unsafe(naked)]
        extern "C" fn $name($($argument: $type),+) $(-> $result)? {
            core::arch::naked_asm!(
                concat!("mov ", $a_frame, ", x29"),
                concat!("mov ", $a_return, ", x30"),
                "b {inner}",
                inner = sym $inner,
            )
        }

        $(#[$attribute])*
        #[cold]
        #[inline(never)]
        #[cfg(any(miri, not(any(target_arch = "x86_64", target_arch = "aarch64"))))]
        extern "C" fn $name($($argument: $type),+) $(-> $result)? {
            $inner($($argument,)+ 0, 0)
        }
    };
}
pub(crate) use with_caller;

impl Caller {
    /// The frame that the frame pointer leads to. Where the library's own code has used that register it leads nowhere.
    #[inline(always)]
    pub(crate) fn here() -> Self {
        let frame: usize;
        // SAFETY: reads a register.
        #[cfg(all(target_arch = "x86_64", not(miri)))]
        unsafe {
            core::arch::asm!("mov {}, rbp", out(reg) frame, options(nomem, nostack, preserves_flags));
        }
        // SAFETY: as above.
        #[cfg(all(target_arch = "aarch64", not(miri)))]
        unsafe {
            core::arch::asm!("mov {}, x29", out(reg) frame, options(nomem, nostack, preserves_flags));
        }
        #[cfg(any(miri, not(any(target_arch = "x86_64", target_arch = "aarch64"))))]
        {
            frame = 0;
        }
        Self { frame, returns_to: 0 }
    }
}
