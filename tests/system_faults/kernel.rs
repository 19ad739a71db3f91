//! The functions of the kernel and the C library that the allocator calls, as this program defines them: they count, refuse, and
//! pass on.

use std::ffi::{CStr, c_int, c_long, c_void};
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicUsize, Ordering};

/// What the process that refuses and its children share: it lies in shared memory, and one of them runs at a time.
pub struct Kernel {
    /// 1 while calls are counted and may be refused.
    pub armed: AtomicU32,
    /// How many calls of each kind were made so far.
    pub calls: [AtomicUsize; KINDS.len()],
    /// The first call that is refused: its kind, an index of `KINDS`, and how many of that kind go before it.
    pub kind: AtomicUsize,
    pub nth: AtomicUsize,
    /// How many calls in a row are refused, of whatever kind.
    pub wanted: AtomicUsize,
    pub refusals: AtomicUsize,
    /// What a kernel that refuses to move pages has done to their place: one of [`Place`].
    pub place: AtomicU32,
    /// Bytes that the kernel has given and not got back, and those that it refused to take back.
    pub held: AtomicUsize,
    pub left: AtomicUsize,
}

/// What has become of the place that pages were to be moved to, when the kernel refuses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Place {
    Untouched,
    /// There is nothing. What some kernels do before they find that they cannot move the pages; so in the next two.
    Cleared,
    /// Another thread has got the addresses, and has written to all of them.
    Taken,
    /// The same, and the kernel says that it had no memory: the pages are where they were.
    TakenWithoutMemory,
}

impl Place {
    fn now() -> Self {
        let number = kernel().map_or(0, |kernel| kernel.place.load(Ordering::Relaxed));
        [Self::Untouched, Self::Cleared, Self::Taken, Self::TakenWithoutMemory][number as usize]
    }
}

/// What the other's mapping is filled with.
const OTHERS: u8 = 0xa5;
/// Where it came to lie in this process, and its length, 0 if there is none.
static OTHERS_PLACE: [AtomicUsize; 2] = [AtomicUsize::new(0), AtomicUsize::new(0)];

/// Asserts that nobody has touched the mapping that came to lie where pages were to go, if there is one.
pub fn check_others() {
    let [start, len] = OTHERS_PLACE.each_ref().map(|word| word.load(Ordering::Relaxed));
    if len == 0 {
        return;
    }
    // SAFETY: the mapping was made for this, and is never unmapped by whoever made it.
    let bytes = unsafe { std::slice::from_raw_parts(ptr::with_exposed_provenance::<u8>(start), len) };
    assert!(bytes.iter().all(|&byte| byte == OTHERS), "another's memory was written to");
}

/// The functions, and the error that each gives.
pub const KINDS: [(&str, i32); 12] = [
    ("mmap", libc::ENOMEM),
    ("munmap", libc::ENOMEM),
    ("mremap", libc::ENOMEM),
    ("madvise", libc::EINVAL),
    ("sbrk", libc::ENOMEM),
    ("sched_getaffinity", libc::EPERM),
    ("openat", libc::EACCES),
    ("read", libc::EIO),
    ("write", libc::EPIPE),
    ("pthread_key_create", libc::EAGAIN),
    ("pthread_setspecific", libc::ENOMEM),
    ("__register_atfork", libc::ENOMEM),
];

pub static KERNEL: AtomicPtr<Kernel> = AtomicPtr::new(ptr::null_mut());

pub fn kernel() -> Option<&'static Kernel> {
    // SAFETY: the mapping lives as long as the process, and its bytes are atomics, for which zero is a value.
    unsafe { KERNEL.load(Ordering::Relaxed).as_ref() }
}

/// Whether this call is refused; sets `errno` then.
fn refuses(name: &str) -> bool {
    let Some(kernel) = kernel().filter(|kernel| kernel.armed.load(Ordering::Relaxed) == 1) else { return false };
    let kind = KINDS.iter().position(|(known, _)| *known == name).expect("every function has its error");
    let number = kernel.calls[kind].fetch_add(1, Ordering::Relaxed);
    let refusals = kernel.refusals.load(Ordering::Relaxed);
    let is_first = kind == kernel.kind.load(Ordering::Relaxed) && number == kernel.nth.load(Ordering::Relaxed);
    let goes_on = (1..kernel.wanted.load(Ordering::Relaxed)).contains(&refusals);
    if !is_first && !goes_on {
        return false;
    }
    kernel.refusals.fetch_add(1, Ordering::Relaxed);
    set_errno(KINDS[kind].1);
    true
}

fn set_errno(value: c_int) {
    // SAFETY: the C library gives the address of the calling thread's errno.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: as above.
    unsafe { errno.write(value) };
}

/// The process whose memory is counted: the children that the script forks have a copy of it.
pub static COUNTED: AtomicU32 = AtomicU32::new(0);

fn counting() -> Option<&'static Kernel> {
    kernel().filter(|_| COUNTED.load(Ordering::Relaxed) == std::process::id())
}

fn note_held(bytes: isize) {
    if let Some(kernel) = counting() {
        kernel.held.fetch_add(bytes as usize, Ordering::Relaxed);
    }
}

fn note_left(bytes: usize) {
    if let Some(kernel) = counting() {
        kernel.left.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// The C library's own function of a name, looked up once.
macro_rules! real {
    ($name:literal, $type:ty) => {{
        static FOUND: AtomicPtr<c_void> = AtomicPtr::new(ptr::null_mut());
        let mut found = FOUND.load(Ordering::Relaxed);
        if found.is_null() {
            const NAME: &CStr = match CStr::from_bytes_with_nul(concat!($name, "\0").as_bytes()) {
                Ok(name) => name,
                Err(_) => panic!(),
            };
            // SAFETY: the name is a C string.
            found = unsafe { libc::dlsym(libc::RTLD_NEXT, NAME.as_ptr()) };
            assert!(!found.is_null(), "the C library has no {}", $name);
            FOUND.store(found, Ordering::Relaxed);
        }
        // SAFETY: the C library's function of that name has that type; variable arguments travel like others.
        unsafe { std::mem::transmute::<*mut c_void, $type>(found) }
    }};
}

type Mmap = unsafe extern "C" fn(*mut c_void, usize, c_int, c_int, c_int, i64) -> *mut c_void;
type Munmap = unsafe extern "C" fn(*mut c_void, usize) -> c_int;
type Mremap = unsafe extern "C" fn(*mut c_void, usize, usize, c_int, *mut c_void) -> *mut c_void;
type Syscall = unsafe extern "C" fn(c_long, usize, usize, usize, usize, usize, usize) -> c_long;
type Handler = Option<unsafe extern "C" fn()>;

/// # Safety
/// As mmap(2).
#[unsafe(no_mangle)]
unsafe extern "C" fn mmap(
    at: *mut c_void,
    len: usize,
    protection: c_int,
    flags: c_int,
    file: c_int,
    offset: i64,
) -> *mut c_void {
    let refused = refuses("mmap");
    if refused && flags & libc::MAP_FIXED_NOREPLACE == 0 {
        return libc::MAP_FAILED;
    }
    let own = real!("mmap", Mmap);
    // SAFETY: the caller's promise.
    let given = unsafe { own(at, len, protection, flags, file, offset) };
    if given == libc::MAP_FAILED {
        return given;
    }
    note_held(len as isize);
    if refused {
        // Whether a place is taken is found out before there is found to be no memory.
        let own = real!("munmap", Munmap);
        // SAFETY: the mapping was just made.
        unsafe { own(given, len) };
        note_held(-(len as isize));
        set_errno(libc::ENOMEM);
        return libc::MAP_FAILED;
    }
    given
}

/// # Safety
/// As munmap(2).
#[unsafe(no_mangle)]
unsafe extern "C" fn munmap(at: *mut c_void, len: usize) -> c_int {
    if refuses("munmap") {
        note_left(len);
        return -1;
    }
    let own = real!("munmap", Munmap);
    // SAFETY: the caller's promise.
    let result = unsafe { own(at, len) };
    if result == 0 {
        note_held(-(len as isize));
    }
    result
}

/// Takes the caller's mapping away from a place that pages were to be moved to.
fn clear_place(place: *mut c_void, len: usize, becomes: Place) {
    let own = real!("munmap", Munmap);
    // SAFETY: the caller gives up the place.
    unsafe { own(place, len) };
    if becomes == Place::Cleared {
        return;
    }
    let own = real!("mmap", Mmap);
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE;
    // SAFETY: nothing that exists is replaced.
    let others = unsafe { own(place, len, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0) };
    assert_eq!(others, place);
    // SAFETY: the mapping was just made.
    unsafe { others.cast::<u8>().write_bytes(OTHERS, len) };
    OTHERS_PLACE[0].store(others.expose_provenance(), Ordering::Relaxed);
    OTHERS_PLACE[1].store(len, Ordering::Relaxed);
}

/// # Safety
/// As mremap(2).
#[unsafe(no_mangle)]
unsafe extern "C" fn mremap(at: *mut c_void, old: usize, new: usize, flags: c_int, place: *mut c_void) -> *mut c_void {
    let to_a_place = flags & libc::MREMAP_FIXED != 0;
    if refuses("mremap") {
        let becomes = Place::now();
        if to_a_place && becomes != Place::Untouched {
            clear_place(place, new, becomes);
            note_held(-(new as isize));
            if becomes == Place::TakenWithoutMemory {
                set_errno(libc::ENOMEM);
            } else {
                // The pages are given up for lost.
                note_left(old);
                set_errno(libc::EFAULT);
            }
        }
        return libc::MAP_FAILED;
    }
    let own = real!("mremap", Mremap);
    // SAFETY: the caller's promise.
    let moved = unsafe { own(at, old, new, flags, place) };
    if moved != libc::MAP_FAILED {
        note_held(if to_a_place { -(old as isize) } else { new as isize - old as isize });
    }
    moved
}

/// # Safety
/// As madvise(2).
#[unsafe(no_mangle)]
unsafe extern "C" fn madvise(at: *mut c_void, len: usize, advice: c_int) -> c_int {
    if refuses("madvise") {
        return -1;
    }
    let own = real!("madvise", unsafe extern "C" fn(*mut c_void, usize, c_int) -> c_int);
    // SAFETY: the caller's promise.
    unsafe { own(at, len, advice) }
}

/// # Safety
/// As sbrk(2).
#[unsafe(no_mangle)]
unsafe extern "C" fn sbrk(increment: isize) -> *mut c_void {
    if refuses("sbrk") {
        // What lies below what cannot be given up now stays, too.
        note_left(increment.min(0).unsigned_abs());
        return libc::MAP_FAILED;
    }
    let own = real!("sbrk", unsafe extern "C" fn(isize) -> *mut c_void);
    // SAFETY: the caller's promise.
    let old = unsafe { own(increment) };
    if old != libc::MAP_FAILED {
        note_held(increment);
    }
    old
}

/// # Safety
/// As sched_getaffinity(2).
#[unsafe(no_mangle)]
unsafe extern "C" fn sched_getaffinity(process: c_int, size: usize, set: *mut c_void) -> c_int {
    if refuses("sched_getaffinity") {
        return -1;
    }
    let own = real!("sched_getaffinity", unsafe extern "C" fn(c_int, usize, *mut c_void) -> c_int);
    // SAFETY: the caller's promise.
    unsafe { own(process, size, set) }
}

/// Takes as many arguments as there can be: where the caller gave fewer, the rest is anything, and the kernel does not look.
///
/// # Safety
/// As syscall(2).
#[unsafe(no_mangle)]
unsafe extern "C" fn syscall(number: c_long, a: usize, b: usize, c: usize, d: usize, e: usize, f: usize) -> c_long {
    let refused = match number {
        libc::SYS_openat => refuses("openat"),
        libc::SYS_read => refuses("read"),
        libc::SYS_write => refuses("write"),
        _ => false,
    };
    let own = real!("syscall", Syscall);
    // SAFETY: the caller's promise.
    if refused { -1 } else { unsafe { own(number, a, b, c, d, e, f) } }
}

/// # Safety
/// As pthread_key_create(3).
#[unsafe(no_mangle)]
unsafe extern "C" fn pthread_key_create(key: *mut u32, destructor: *mut c_void) -> c_int {
    if refuses("pthread_key_create") {
        return libc::EAGAIN;
    }
    let own = real!("pthread_key_create", unsafe extern "C" fn(*mut u32, *mut c_void) -> c_int);
    // SAFETY: the caller's promise.
    unsafe { own(key, destructor) }
}

/// # Safety
/// As pthread_setspecific(3).
#[unsafe(no_mangle)]
unsafe extern "C" fn pthread_setspecific(key: u32, value: *const c_void) -> c_int {
    if refuses("pthread_setspecific") {
        return libc::ENOMEM;
    }
    let own = real!("pthread_setspecific", unsafe extern "C" fn(u32, *const c_void) -> c_int);
    // SAFETY: the caller's promise.
    unsafe { own(key, value) }
}

/// What pthread_atfork(3) calls.
///
/// # Safety
/// As pthread_atfork(3), with the handle of the object that registers.
#[unsafe(no_mangle)]
unsafe extern "C" fn __register_atfork(
    prepare: Handler,
    parent: Handler,
    child: Handler,
    object: *mut c_void,
) -> c_int {
    type Register = unsafe extern "C" fn(Handler, Handler, Handler, *mut c_void) -> c_int;
    if refuses("__register_atfork") {
        return libc::ENOMEM;
    }
    let own = real!("__register_atfork", Register);
    // SAFETY: the caller's promise.
    unsafe { own(prepare, parent, child, object) }
}
