//! Where a call came from, taken before any code of a slow path has used the registers that say so.
//!
//! A slow path is entered by a few lines of assembler that put the frame pointer and the address on top of the stack into
//! the next arguments and jump on. If all before it were jumps, too, that address is where the program's call returns to. So what
//! stands between a face and such a function calls nothing before that and has nothing left to do after it: then optimised builds
//! need no frame for it. `tests/stacks.rs` looks at each way in.

/// Defines `$name`, which calls `$inner` with the same arguments and the caller's frame pointer and return address behind them;
/// it has as many arguments as registers are named, of at most a word each.
#[doc(hidden)]
#[macro_export]
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
