//! C++'s `operator new` and `operator delete` in all their forms, by their mangled names.
//!
//! With memory at hand `operator new` is `malloc`. Without, the standard wants the new-handler called until it gives up, and
//! then `std::bad_alloc` thrown: only the C++ library can throw, so the call goes on to its own operator, which tries `malloc`
//! again, finds the handler and throws. No frame of Rust is to be on the stack then: both calls on that way stand last in their
//! functions and are jumps, which optimised builds make of them (this package is never built without, see the workspace's
//! profiles). Should a compiler leave a call there, the exception still finds the frame's unwinding table, and nothing in it
//! to clean up.
//!
//! A program may replace some of them and leave the others, which the standard defines by those: `operator new[]` by `operator new`, the forms
//! that give NULL by those that throw, every `operator delete` by the one without a size. So each of these goes to that one by its name: by
//! the loader's entry for it, or, where an exception may have to be caught, in the C++ library's own form.
//!
//! Sized and aligned `operator delete` are `free`: the size is not looked at, so that a wrong one does no harm. By another name: a
//! program with a malloc of its own has its own `free`, but these operators.
//!
//! Not in the static library: a program that is linked with it takes the operators of its C++ library, which call `malloc`.
//! In a wholly static program nobody could find them once they were replaced.

use crate::c_face::{self, Caller};
use crate::release::release;
use core::ffi::{CStr, c_void};
use core::sync::atomic::{AtomicPtr, Ordering};
use core::{mem, ptr};
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
            let function: Operator = unsafe { mem::transmute(function) };
            function($($argument),+)
        }
    )+};
    (@size $argument:ident) => { usize };
    (@at_hand $size:ident) => { c_face::malloc_at_hand($size) };
    (@at_hand $size:ident, $align:ident) => { c_face::aligned_at_hand($align, $size) };
}

throwing! {
    _Znwm, c"_Znwm", new_slowly, new_from, new_failed, (size), ["rsi", "rdx"], ["x1", "x2"], |caller| c_face::malloc_for(size, caller);
    _ZnwmSt11align_val_t, c"_ZnwmSt11align_val_t", new_aligned_slowly, new_aligned_from, new_aligned_failed, (size, align),
        ["rdx", "rcx"], ["x2", "x3"], |caller| c_face::aligned_alloc_for(align, size, caller);
}

/// `operator new[]`.
#[unsafe(no_mangle)]
pub extern "C" fn _Znam(size: usize) -> *mut c_void {
    type New = extern "C" fn(usize) -> *mut c_void;
    let address = by_name!("_Znwm", _Znwm);
    // SAFETY: whatever goes by that name has this type.
    let by_name = unsafe { mem::transmute::<*const c_void, New>(address) };
    by_name(size)
}

/// `operator new[]`, aligned.
#[unsafe(no_mangle)]
pub extern "C" fn _ZnamSt11align_val_t(size: usize, align: usize) -> *mut c_void {
    type New = extern "C" fn(usize, usize) -> *mut c_void;
    let address = by_name!("_ZnwmSt11align_val_t", _ZnwmSt11align_val_t);
    // SAFETY: whatever goes by that name has this type.
    let by_name = unsafe { mem::transmute::<*const c_void, New>(address) };
    by_name(size, align)
}

/// What is called in place of an operator of this library's that gives NULL, where the program has replaced the one that throws.
struct Substitute {
    /// Null as long as nobody has looked. Written and read by any thread, `Relaxed`: all come to the same answer, and nothing hangs on
    /// the order. So there is no model of it.
    function: AtomicPtr<c_void>,
}

impl Substitute {
    /// There is none: nothing was replaced.
    const NONE: *mut c_void = ptr::without_provenance_mut(1);

    const fn new() -> Self {
        Self { function: AtomicPtr::new(ptr::null_mut()) }
    }

    #[inline(always)]
    fn is_known_to_be_none(&self) -> bool {
        self.function.load(Ordering::Relaxed) == Self::NONE
    }

    /// `by_names` are what goes by the names of the operator that throws, with the same arguments, and of the one that that is defined by. The
    /// substitute for `name` is the C++ library's own, or, in a process without one, the operator that throws.
    #[cold]
    fn find(&self, name: &CStr, by_names: &[*const c_void]) -> *mut c_void {
        let known = self.function.load(Ordering::Relaxed);
        if !known.is_null() {
            return known;
        }
        let own = object_of(runtime_function as *const c_void);
        let found = if by_names.iter().all(|&function| object_of(function) == own) {
            Self::NONE
        } else {
            let runtimes = runtime_function(name);
            if runtimes.is_null() { by_names[0].cast_mut() } else { runtimes }
        };
        self.function.store(found, Ordering::Relaxed);
        found
    }
}

/// Where the object that a function is in begins.
fn object_of(function: *const c_void) -> *const c_void {
    let mut found = mem::MaybeUninit::<libc::Dl_info>::zeroed();
    // SAFETY: the address may be any, and there is room for what is found.
    unsafe { libc::dladdr(function, found.as_mut_ptr()) };
    // SAFETY: all zeroes is nothing found.
    unsafe { found.assume_init() }.dli_fbase
}

/// The operators that give NULL when the new-handler has given up. `nothrow` is the address of `std::nothrow`, which is only
/// handed on. Where the program has replaced the operator that throws, the C++ library's own form calls that and catches.
macro_rules! nothrow {
    ($($name:ident, $runtime:literal, $substitute:ident, [$($by_name:expr),+], $first:ident, $slow:ident, $from:ident, $cold:ident, ($($argument:ident),+), [$($x:literal),+], [$($a:literal),+], $allocate:expr;)+) => {$(
        static $substitute: Substitute = Substitute::new();

        #[doc = concat!("`", stringify!($name), "`: an `operator new` that gives NULL.")]
        #[unsafe(no_mangle)]
        pub extern "C" fn $name($($argument: usize,)+ nothrow: *const c_void) -> *mut c_void {
            if !$substitute.is_known_to_be_none() {
                return $first($($argument,)+ nothrow);
            }
            match throwing!(@at_hand $($argument),+) {
                Some(block) => block.as_ptr().cast(),
                None => $slow($($argument,)+ nothrow),
            }
        }

        #[cold]
        #[inline(never)]
        extern "C" fn $first($($argument: usize,)+ nothrow: *const c_void) -> *mut c_void {
            // In a frame of its own, so that the calls that follow are jumps.
            #[inline(never)]
            fn substitute() -> *mut c_void {
                $substitute.find($runtime, &[$($by_name),+])
            }
            let function = substitute();
            if function == Substitute::NONE {
                return $name($($argument,)+ nothrow);
            }
            type Operator = extern "C" fn($(throwing!(@size $argument),)+ *const c_void) -> *mut c_void;
            // SAFETY: the function of that name has this type, or is the one that throws, which does not look at the last argument.
            let function: Operator = unsafe { mem::transmute(function) };
            function($($argument,)+ nothrow)
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
            let function: Operator = unsafe { mem::transmute(function) };
            function($($argument,)+ nothrow)
        }
    )+};
}

nothrow! {
    _ZnwmRKSt9nothrow_t, c"_ZnwmRKSt9nothrow_t", NEW, [by_name!("_Znwm", _Znwm)], new_nothrow_first, new_nothrow_slowly,
        new_nothrow_from, new_nothrow_failed, (size), ["rdx", "rcx"], ["x2", "x3"], |caller| c_face::malloc_for(size, caller);
    _ZnamRKSt9nothrow_t, c"_ZnamRKSt9nothrow_t", NEW_ARRAY, [by_name!("_Znam", _Znam), by_name!("_Znwm", _Znwm)],
        new_array_nothrow_first, new_array_nothrow_slowly, new_array_nothrow_from, new_array_nothrow_failed, (size), ["rdx", "rcx"],
        ["x2", "x3"], |caller| c_face::malloc_for(size, caller);
    _ZnwmSt11align_val_tRKSt9nothrow_t, c"_ZnwmSt11align_val_tRKSt9nothrow_t", NEW_ALIGNED,
        [by_name!("_ZnwmSt11align_val_t", _ZnwmSt11align_val_t)], new_aligned_nothrow_first, new_aligned_nothrow_slowly,
        new_aligned_nothrow_from, new_aligned_nothrow_failed, (size, align), ["rcx", "r8"], ["x3", "x4"],
        |caller| c_face::aligned_alloc_for(align, size, caller);
    _ZnamSt11align_val_tRKSt9nothrow_t, c"_ZnamSt11align_val_tRKSt9nothrow_t", NEW_ARRAY_ALIGNED,
        [by_name!("_ZnamSt11align_val_t", _ZnamSt11align_val_t), by_name!("_ZnwmSt11align_val_t", _ZnwmSt11align_val_t)],
        new_array_aligned_nothrow_first, new_array_aligned_nothrow_slowly, new_array_aligned_nothrow_from,
        new_array_aligned_nothrow_failed, (size, align), ["rcx", "r8"], ["x3", "x4"],
        |caller| c_face::aligned_alloc_for(align, size, caller);
}

/// `operator delete`.
///
/// # Safety
/// As for [`release`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn _ZdlPv(block: *mut c_void) {
    // SAFETY: the caller's promise.
    unsafe { release(block) }
}

/// `operator delete`, aligned.
///
/// # Safety
/// As for [`release`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn _ZdlPvSt11align_val_t(block: *mut c_void, _align: usize) {
    // SAFETY: the caller's promise.
    unsafe { release(block) }
}

/// The operators that are defined by another one, which goes by its name and has fewer arguments.
macro_rules! deleting {
    ($($name:ident($($argument:ident: $type:ty),*) by $by_name:ident, $its_name:literal, ($($its:ident),*);)+) => {$(
        #[doc = concat!("`", stringify!($name), "`: an `operator delete`.")]
        ///
        /// # Safety
        /// As for [`release`].
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name(block: *mut c_void $(, $argument: $type)*) {
            type Delete = unsafe extern "C" fn(*mut c_void $(, deleting!(@align $its))*);
            let address = by_name!($its_name, $by_name);
            // SAFETY: whatever goes by that name has this type.
            let by_name = unsafe { mem::transmute::<*const c_void, Delete>(address) };
            // SAFETY: the caller's promise.
            unsafe { by_name(block $(, $its)*) }
        }
    )+};
    (@align $argument:ident) => { usize };
}

deleting! {
    _ZdaPv() by _ZdlPv, "_ZdlPv", ();
    _ZdlPvm(_size: usize) by _ZdlPv, "_ZdlPv", ();
    _ZdlPvRKSt9nothrow_t(_nothrow: *const c_void) by _ZdlPv, "_ZdlPv", ();
    _ZdaPvm(_size: usize) by _ZdaPv, "_ZdaPv", ();
    _ZdaPvRKSt9nothrow_t(_nothrow: *const c_void) by _ZdaPv, "_ZdaPv", ();
    _ZdaPvSt11align_val_t(align: usize) by _ZdlPvSt11align_val_t, "_ZdlPvSt11align_val_t", (align);
    _ZdlPvmSt11align_val_t(_size: usize, align: usize) by _ZdlPvSt11align_val_t, "_ZdlPvSt11align_val_t", (align);
    _ZdlPvSt11align_val_tRKSt9nothrow_t(align: usize, _nothrow: *const c_void)
        by _ZdlPvSt11align_val_t, "_ZdlPvSt11align_val_t", (align);
    _ZdaPvmSt11align_val_t(_size: usize, align: usize) by _ZdaPvSt11align_val_t, "_ZdaPvSt11align_val_t", (align);
    _ZdaPvSt11align_val_tRKSt9nothrow_t(align: usize, _nothrow: *const c_void)
        by _ZdaPvSt11align_val_t, "_ZdaPvSt11align_val_t", (align);
}
