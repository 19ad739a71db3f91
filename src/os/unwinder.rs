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
        keeping_errno(|| {
            let Some(loader) = Loader::find()? else { return Ok(None) };
            Ok(LIBRARIES.into_iter().find_map(|library| Self::of(&loader, library)))
        })
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
}

/// What the loader tells debuggers of itself: the beginning of `struct r_debug` of `<link.h>`.
#[repr(C)]
struct Debug {
    version: c_int,
    _map: *const c_void,
    _breakpoint: usize,
    state: c_int,
}

impl Debug {
    /// Whether a loader has filled it in: a static program has none, or one of zeroes. `this` is as for `is_busy`.
    fn is_in_use(this: *const Self) -> bool {
        if this.is_null() {
            return false;
        }
        // SAFETY: the loader's stays.
        let version = unsafe { &raw const (*this).version };
        // SAFETY: as above; it is written before any program runs.
        unsafe { version.read_volatile() != 0 }
    }

    /// Whether the loader is in the midst of loading or unloading an object, by this thread or another. It allocates meanwhile, and a
    /// call of `dlopen` from there would end the process. `this` is null, or the loader's own.
    fn is_busy(this: *const Self) -> bool {
        if this.is_null() {
            return false;
        }
        // SAFETY: the loader's stays.
        let state = unsafe { &raw const (*this).state };
        // SAFETY: as above. Other threads may change it, as they may while a debugger reads it; each value is a whole number.
        unsafe { state.read_volatile() != 0 }
    }
}

impl Loader {
    /// `None` in a wholly static program, which has no loader: what it has of these functions would load a second C library.
    fn find() -> Result<Option<Self>, LoaderBusy> {
        type Symbol = unsafe extern "C" fn(*mut c_void, *const c_char) -> *mut c_void;
        type Open = unsafe extern "C" fn(*const c_char, c_int) -> *mut c_void;
        let [dlsym, debug] = weak::addresses();
        // The kernel names no loader either where the loader itself was started, with the program as its argument.
        // SAFETY: reading the kernel's auxiliary vector has no preconditions.
        if unsafe { libc::getauxval(libc::AT_BASE) } == 0 && !Debug::is_in_use(debug.cast()) {
            return Ok(None);
        }
        if Debug::is_busy(debug.cast()) {
            return Err(LoaderBusy);
        }
        let Some(dlsym) = NonNull::new(dlsym.cast_mut()) else { return Ok(None) };
        // SAFETY: the function of that name has this type.
        let dlsym = unsafe { mem::transmute::<NonNull<c_void>, Symbol>(dlsym) };
        // By its name at run time: the linker warns of it in each static program.
        // SAFETY: the name is a C string.
        let dlopen = NonNull::new(unsafe { dlsym(libc::RTLD_DEFAULT, c"dlopen".as_ptr()) });
        let Some(dlopen) = dlopen else { return Ok(None) };
        // SAFETY: the function of that name has this type.
        let dlopen = unsafe { mem::transmute::<NonNull<c_void>, Open>(dlopen) };
        Ok(Some(Self { dlopen, dlsym }))
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

/// The addresses that linker or loader have put in place for weak symbols: null for those that nobody defines. They are weak by
/// another name each: where the program itself asks for one, it stays as strong as it is there.
#[cfg(all(any(target_arch = "x86_64", target_arch = "aarch64"), not(miri)))]
mod weak {
    use core::ffi::c_void;

    core::arch::global_asm!(
        ".weakref terrace_weak_dlsym, dlsym",
        ".weakref terrace_weak_r_debug, _r_debug",
        ".pushsection .data.rel.ro.terrace_loader_0_1,\"aw\",@progbits",
        ".globl terrace_loader_0_1",
        ".hidden terrace_loader_0_1",
        ".type terrace_loader_0_1, @object",
        ".size terrace_loader_0_1, 16",
        ".p2align 3",
        "terrace_loader_0_1:",
        ".8byte terrace_weak_dlsym",
        ".8byte terrace_weak_r_debug",
        ".popsection",
    );

    unsafe extern "C" {
        #[link_name = "terrace_loader_0_1"]
        static LOADER: [*const c_void; 2];
    }

    pub(super) fn addresses() -> [*const c_void; 2] {
        // SAFETY: defined above, and never written once the program runs.
        unsafe { LOADER }
    }
}

#[cfg(any(miri, not(any(target_arch = "x86_64", target_arch = "aarch64"))))]
mod weak {
    pub(super) fn addresses() -> [*const core::ffi::c_void; 2] {
        [core::ptr::null(); 2]
    }
}
