//! Asks whatever allocator is there to return what it can, by the call that it has for this.

use std::ffi::{CStr, c_int, c_void};
use std::ptr::{null, null_mut};

fn symbol(name: &CStr) -> Option<*mut c_void> {
    // SAFETY: the name is a C string.
    let address = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
    (!address.is_null()).then_some(address)
}

/// mimalloc's `mi_collect`, jemalloc's `mallctl`, tcmalloc's `MallocExtension_ReleaseFreeMemory`, or else the C library's
/// `malloc_trim`, which Terrace has, too.
pub fn all() {
    if let Some(address) = symbol(c"mi_collect") {
        // SAFETY: mimalloc's header declares the function so.
        let collect = unsafe { std::mem::transmute::<*mut c_void, extern "C" fn(bool)>(address) };
        collect(true);
    } else if let Some(address) = symbol(c"mallctl") {
        type Control =
            unsafe extern "C" fn(*const libc::c_char, *mut c_void, *mut usize, *const c_void, usize) -> c_int;
        // SAFETY: jemalloc's manual declares the function so.
        let control = unsafe { std::mem::transmute::<*mut c_void, Control>(address) };
        // SAFETY: this name, of all arenas, takes and gives no value.
        unsafe { control(c"arena.4096.purge".as_ptr(), null_mut(), null_mut(), null(), 0) };
    } else if let Some(address) = symbol(c"MallocExtension_ReleaseFreeMemory") {
        // SAFETY: gperftools' header declares the function so.
        let release = unsafe { std::mem::transmute::<*mut c_void, extern "C" fn()>(address) };
        release();
    } else {
        // SAFETY: the call takes a number alone.
        unsafe { libc::malloc_trim(0) };
    }
}
