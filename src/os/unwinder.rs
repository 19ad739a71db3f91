//! The unwinder of the C runtime: it finds the frames of a stack by the tables that compilers leave for exceptions, also where no
//! frame pointers are kept.
//!
//! It is not linked, since there are programs without one: it is found by name while the program runs, if there is a loader that
//! can be asked. In a wholly static program there is none.

use super::keeping_errno;
use core::ffi::{CStr, c_char, c_int, c_void};
use core::mem;
use core::ptr::{self, NonNull};

/// What the unwinder calls for each frame, with the frame and what `_Unwind_Backtrace` was given; 0: go on.
type Step = unsafe extern "C" fn(*mut c_void, *mut c_void) -> c_int;

/// The two functions of it that are needed. They have these types wherever they go by their names.
#[derive(Clone, Copy)]
pub(crate) struct Unwinder {
    /// `_Unwind_Backtrace`.
    backtrace: unsafe extern "C" fn(Step, *mut c_void) -> c_int,
    /// `_Unwind_GetIP`: where a frame is, or the address to which the one that it called returns.
    address: unsafe extern "C" fn(*mut c_void) -> usize,
}

/// GCC's runtime library and LLVM's.
const LIBRARIES: [&CStr; 2] = [c"libgcc_s.so.1", c"libunwind.so.1"];

impl Unwinder {
    /// Finds an unwinder, and loads its library if need be: allocates, and takes the loader's lock. `Err` if the loader is at work, so
    /// that it must not be called; `Ok(None)` if there is no unwinder.
    pub(crate) fn find() -> Result<Option<Self>, LoaderBusy> {
        let Some(loader) = Loader::find() else { return Ok(None) };
        if loader.is_busy() {
            return Err(LoaderBusy);
        }
        Ok(keeping_errno(|| LIBRARIES.into_iter().find_map(|library| Self::of(&loader, library))))
    }

    fn of(loader: &Loader, library: &CStr) -> Option<Self> {
        let library = loader.load(library)?;
        let (backtrace, address) =
            (loader.function(library, c"_Unwind_Backtrace")?, loader.function(library, c"_Unwind_GetIP")?);
        Some(Self {
            // SAFETY: the function of that name has this type.
            backtrace: unsafe {
                mem::transmute::<NonNull<c_void>, unsafe extern "C" fn(Step, *mut c_void) -> c_int>(backtrace)
            },
            // SAFETY: as above.
            address: unsafe { mem::transmute::<NonNull<c_void>, unsafe extern "C" fn(*mut c_void) -> usize>(address) },
        })
    }

    /// Tells of the frames of the calling thread, the innermost first, where each goes on, until `f` wants no more. The first are those
    /// of the allocator. May allocate, and take locks of the loader and of the C runtime.
    pub(crate) fn walk(&self, mut f: &mut dyn FnMut(usize) -> bool) {
        struct Walk<'w, 'f> {
            unwinder: &'w Unwinder,
            tell: &'w mut &'f mut dyn FnMut(usize) -> bool,
        }
        /// `_URC_END_OF_STACK`.
        const ENOUGH: c_int = 5;
        unsafe extern "C" fn step(frame: *mut c_void, walk: *mut c_void) -> c_int {
            // SAFETY: it is what `_Unwind_Backtrace` was given below, which nobody else touches until it returns.
            let walk = unsafe { &mut *walk.cast::<Walk<'_, '_>>() };
            // SAFETY: the unwinder gave the frame.
            let address = unsafe { (walk.unwinder.address)(frame) };
            if (walk.tell)(address) { 0 } else { ENOUGH }
        }
        let mut walk = Walk { unwinder: self, tell: &mut f };
        keeping_errno(|| {
            // SAFETY: `step` takes what it is given here, and does not unwind.
            unsafe { (self.backtrace)(step, ptr::from_mut(&mut walk).cast()) };
        });
    }
}

/// The loader cannot be called now; later it can.
pub(crate) struct LoaderBusy;

/// What is asked of the loader.
struct Loader {
    dlopen: unsafe extern "C" fn(*const c_char, c_int) -> *mut c_void,
    dlsym: unsafe extern "C" fn(*mut c_void, *const c_char) -> *mut c_void,
    /// What debuggers are told of it; null where there is no such thing.
    debug: *const Debug,
}

/// The beginning of `struct r_debug` of `<link.h>`.
#[repr(C)]
struct Debug {
    version: c_int,
    map: *const c_void,
    breakpoint: usize,
    state: c_int,
}

impl Loader {
    /// The addresses that linker or loader have put in place for weak symbols: null for those that nobody defines. A strong one of
    /// `dlopen` has the linker warn of it in each static program.
    fn find() -> Option<Self> {
        let [dlopen, dlsym, debug] = weak::addresses();
        let (dlopen, dlsym) = (NonNull::new(dlopen.cast_mut())?, NonNull::new(dlsym.cast_mut())?);
        Some(Self {
            // SAFETY: the function of that name has this type.
            dlopen: unsafe {
                mem::transmute::<NonNull<c_void>, unsafe extern "C" fn(*const c_char, c_int) -> *mut c_void>(dlopen)
            },
            // SAFETY: as above.
            dlsym: unsafe {
                mem::transmute::<NonNull<c_void>, unsafe extern "C" fn(*mut c_void, *const c_char) -> *mut c_void>(
                    dlsym,
                )
            },
            debug: debug.cast(),
        })
    }

    /// Whether it is in the midst of loading or unloading an object, by this thread or another. It allocates meanwhile, and a call of
    /// `dlopen` from there would end the process.
    fn is_busy(&self) -> bool {
        if self.debug.is_null() {
            return false;
        }
        // SAFETY: `_r_debug` is the loader's, and stays.
        let state = unsafe { &raw const (*self.debug).state };
        // SAFETY: as above. Other threads may change it, as they may while a debugger reads it; each value is a whole number.
        unsafe { state.read_volatile() != 0 }
    }

    fn load(&self, library: &CStr) -> Option<NonNull<c_void>> {
        // SAFETY: the name is a C string. The library is one of the C runtime's, which is whole when it was loaded, and stays.
        NonNull::new(unsafe { (self.dlopen)(library.as_ptr(), libc::RTLD_NOW | libc::RTLD_NODELETE) })
    }

    fn function(&self, library: NonNull<c_void>, name: &CStr) -> Option<NonNull<c_void>> {
        // SAFETY: the library is loaded; the name is a C string.
        NonNull::new(unsafe { (self.dlsym)(library.as_ptr(), name.as_ptr()) })
    }
}

/// The symbols are weak by another name each: where the program itself asks for one, it stays as strong as it is there.
#[cfg(all(any(target_arch = "x86_64", target_arch = "aarch64"), not(miri)))]
mod weak {
    use core::ffi::c_void;

    core::arch::global_asm!(
        ".weakref terrace_weak_dlopen, dlopen",
        ".weakref terrace_weak_dlsym, dlsym",
        ".weakref terrace_weak_r_debug, _r_debug",
        ".pushsection .data.rel.ro.terrace_loader_0_1,\"aw\",@progbits",
        ".globl terrace_loader_0_1",
        ".hidden terrace_loader_0_1",
        ".type terrace_loader_0_1, @object",
        ".size terrace_loader_0_1, 24",
        ".p2align 3",
        "terrace_loader_0_1:",
        ".8byte terrace_weak_dlopen",
        ".8byte terrace_weak_dlsym",
        ".8byte terrace_weak_r_debug",
        ".popsection",
    );

    unsafe extern "C" {
        #[link_name = "terrace_loader_0_1"]
        static LOADER: [*const c_void; 3];
    }

    pub(super) fn addresses() -> [*const c_void; 3] {
        // SAFETY: defined above, and never written once the program runs.
        unsafe { LOADER }
    }
}

#[cfg(any(miri, not(any(target_arch = "x86_64", target_arch = "aarch64"))))]
mod weak {
    pub(super) fn addresses() -> [*const core::ffi::c_void; 3] {
        [core::ptr::null(); 3]
    }
}
