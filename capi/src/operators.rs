//! C++'s `operator new` and `operator delete` in all their forms, by their mangled names.
//!
//! With memory at hand `operator new` is `malloc`. Without, the standard wants the new-handler called until it gives up, and
//! then `std::bad_alloc` thrown: only the C++ library can throw, so the call goes on to its own operator, which tries `malloc`
//! again, finds the handler and throws. No frame of Rust is to be on the stack then: both calls on that way stand last in their
//! functions and are jumps, which optimised builds make of them (this package is never built without, see the workspace's
//! profiles). Should a compiler leave a call there, the exception still finds the frame's unwinding table, and nothing in it
//! to clean up.
//!
//! Sized and aligned `operator delete` are `free`: the size is not looked at, so that a wrong one does no harm. By another name: a
//! program with a malloc of its own has its own `free`, but these operators.
//!
//! Not in the static library: a program that is linked with it takes the operators of its C++ library, which call `malloc`.
//! In a wholly static program nobody could find them once they were replaced.

use crate::c_face::{self, Caller};
use crate::release::release;
use core::ffi::{CStr, c_void};
use core::ptr;
use terrace_core::with_caller;

#[link(name = "dl")]
unsafe extern "C" {}

/// The C++ library's own function of this name; null if there is none.
fn runtime_function(name: &CStr) -> *mut c_void {
    /// Where it is if only some plugin of the program is in C++, and so not among the libraries that come after this one.
    const RUNTIMES: [&CStr; 3] = [c"libstdc++.so.6", c"libc++.so.1", c"libc++abi.so.1"];
    // SAFETY: the name is a C string.
    let next = unsafe { libc::dlsym(libc::RTLD_NEXT, name.as_ptr()) };
    if !next.is_null() {
        return next;
    }
    for runtime in RUNTIMES {
        // SAFETY: the name is a C string; nothing is loaded that is not there already.
        let library = unsafe { libc::dlopen(runtime.as_ptr(), libc::RTLD_LAZY | libc::RTLD_NOLOAD) };
        if library.is_null() {
            continue;
        }
        // SAFETY: the library is loaded; the name is a C string.
        let function = unsafe { libc::dlsym(library, name.as_ptr()) };
        // SAFETY: the library was opened above. Whoever loaded it keeps it: its code is what called `operator new`.
        unsafe { libc::dlclose(library) };
        if !function.is_null() {
            return function;
        }
    }
    ptr::null_mut()
}

/// The operators that throw. Each tries the allocator and, without memory, goes on to its namesake of the C++ library.
macro_rules! throwing {
    ($($name:ident, $runtime:literal, $slow:ident, $from:ident, $cold:ident, ($($argument:ident),+), [$($x:literal),+], [$($a:literal),+], $allocate:expr;)+) => {$(
        #[doc = concat!("`", stringify!($name), "`: an `operator new` that throws.")]
        #[unsafe(no_mangle)]
        pub extern "C" fn $name($($argument: usize),+) -> *mut c_void {
            match throwing!(@at_hand $($argument),+) {
                Some(block) => block.as_ptr().cast(),
                None => $slow($($argument),+),
            }
        }

        with_caller! {
            fn $slow($($argument: usize),+) -> *mut c_void => $from, [$($x),+], [$($a),+]
        }

        extern "C" fn $from($($argument: usize,)+ frame: usize, returns_to: usize) -> *mut c_void {
            let block = $allocate(Caller { frame, returns_to });
            if block.is_null() { $cold($($argument),+) } else { block.cast() }
        }

        #[cold]
        #[inline(never)]
        extern "C" fn $cold($($argument: usize),+) -> *mut c_void {
            let function = runtime_function($runtime);
            if function.is_null() {
                c_face::nobody_throws();
            }
            type Operator = extern "C" fn($(throwing!(@size $argument)),+) -> *mut c_void;
            // SAFETY: the function of that name has this type.
            let function: Operator = unsafe { core::mem::transmute(function) };
            function($($argument),+)
        }
    )+};
    (@size $argument:ident) => { usize };
    (@at_hand $size:ident) => { c_face::malloc_at_hand($size) };
    (@at_hand $size:ident, $align:ident) => { c_face::aligned_at_hand($align, $size) };
}

throwing! {
    _Znwm, c"_Znwm", new_slowly, new_from, new_failed, (size), ["rsi", "rdx"], ["x1", "x2"], |caller| c_face::malloc_for(size, caller);
    _Znam, c"_Znam", new_array_slowly, new_array_from, new_array_failed, (size), ["rsi", "rdx"], ["x1", "x2"],
        |caller| c_face::malloc_for(size, caller);
    _ZnwmSt11align_val_t, c"_ZnwmSt11align_val_t", new_aligned_slowly, new_aligned_from, new_aligned_failed, (size, align),
        ["rdx", "rcx"], ["x2", "x3"], |caller| c_face::aligned_alloc_for(align, size, caller);
    _ZnamSt11align_val_t, c"_ZnamSt11align_val_t", new_array_aligned_slowly, new_array_aligned_from, new_array_aligned_failed,
        (size, align), ["rdx", "rcx"], ["x2", "x3"], |caller| c_face::aligned_alloc_for(align, size, caller);
}

/// The operators that give NULL when the new-handler has given up. `nothrow` is the address of `std::nothrow`, which is only
/// handed on.
macro_rules! nothrow {
    ($($name:ident, $runtime:literal, $slow:ident, $from:ident, $cold:ident, ($($argument:ident),+), [$($x:literal),+], [$($a:literal),+], $allocate:expr;)+) => {$(
        #[doc = concat!("`", stringify!($name), "`: an `operator new` that gives NULL.")]
        #[unsafe(no_mangle)]
        pub extern "C" fn $name($($argument: usize,)+ nothrow: *const c_void) -> *mut c_void {
            match throwing!(@at_hand $($argument),+) {
                Some(block) => block.as_ptr().cast(),
                None => $slow($($argument,)+ nothrow),
            }
        }

        with_caller! {
            fn $slow($($argument: usize,)+ nothrow: *const c_void) -> *mut c_void => $from, [$($x),+], [$($a),+]
        }

        extern "C" fn $from($($argument: usize,)+ nothrow: *const c_void, frame: usize, returns_to: usize) -> *mut c_void {
            let block = $allocate(Caller { frame, returns_to });
            if block.is_null() { $cold($($argument,)+ nothrow) } else { block.cast() }
        }

        #[cold]
        #[inline(never)]
        extern "C" fn $cold($($argument: usize,)+ nothrow: *const c_void) -> *mut c_void {
            let function = runtime_function($runtime);
            if function.is_null() {
                return ptr::null_mut();
            }
            type Operator = extern "C" fn($(throwing!(@size $argument),)+ *const c_void) -> *mut c_void;
            // SAFETY: the function of that name has this type.
            let function: Operator = unsafe { core::mem::transmute(function) };
            function($($argument,)+ nothrow)
        }
    )+};
}

nothrow! {
    _ZnwmRKSt9nothrow_t, c"_ZnwmRKSt9nothrow_t", new_nothrow_slowly, new_nothrow_from, new_nothrow_failed, (size),
        ["rdx", "rcx"], ["x2", "x3"], |caller| c_face::malloc_for(size, caller);
    _ZnamRKSt9nothrow_t, c"_ZnamRKSt9nothrow_t", new_array_nothrow_slowly, new_array_nothrow_from, new_array_nothrow_failed,
        (size), ["rdx", "rcx"], ["x2", "x3"], |caller| c_face::malloc_for(size, caller);
    _ZnwmSt11align_val_tRKSt9nothrow_t, c"_ZnwmSt11align_val_tRKSt9nothrow_t", new_aligned_nothrow_slowly,
        new_aligned_nothrow_from, new_aligned_nothrow_failed, (size, align), ["rcx", "r8"], ["x3", "x4"],
        |caller| c_face::aligned_alloc_for(align, size, caller);
    _ZnamSt11align_val_tRKSt9nothrow_t, c"_ZnamSt11align_val_tRKSt9nothrow_t", new_array_aligned_nothrow_slowly,
        new_array_aligned_nothrow_from, new_array_aligned_nothrow_failed, (size, align), ["rcx", "r8"], ["x3", "x4"],
        |caller| c_face::aligned_alloc_for(align, size, caller);
}

macro_rules! deleting {
    ($($name:ident($($argument:ident: $type:ty),*);)+) => {$(
        #[doc = concat!("`", stringify!($name), "`: an `operator delete`.")]
        ///
        /// # Safety
        /// As for [`release`].
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name(block: *mut c_void $(, $argument: $type)*) {
            // SAFETY: the caller's promise.
            unsafe { release(block) }
        }
    )+};
}

deleting! {
    _ZdlPv();
    _ZdaPv();
    _ZdlPvm(_size: usize);
    _ZdaPvm(_size: usize);
    _ZdlPvRKSt9nothrow_t(_nothrow: *const c_void);
    _ZdaPvRKSt9nothrow_t(_nothrow: *const c_void);
    _ZdlPvSt11align_val_t(_align: usize);
    _ZdaPvSt11align_val_t(_align: usize);
    _ZdlPvmSt11align_val_t(_size: usize, _align: usize);
    _ZdaPvmSt11align_val_t(_size: usize, _align: usize);
    _ZdlPvSt11align_val_tRKSt9nothrow_t(_align: usize, _nothrow: *const c_void);
    _ZdaPvSt11align_val_tRKSt9nothrow_t(_align: usize, _nothrow: *const c_void);
}
