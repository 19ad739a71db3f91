//! All rows on all allocators in one process, by criterion: each on its own interface.
//!
//! - *Rust face*: `GlobalAlloc` of Terrace and mimalloc, and behind features of jemalloc, snmalloc and the pure-Rust rivals.
//! - *C face*: the entry points of shared objects, each opened by itself (`dlopen`, its symbols not shared with anyone) and
//!   called through function pointers, as calls of shared objects always are; the C library's own; and `mi_malloc` of the
//!   linked crate.
//!
//! `cargo xtask criterion` builds the objects and says where they are, in `BENCH_LIBRARIES` (`name=path` pairs with
//! commas between). In one process allocators disturb each other's caches and pages: the figures to quote are those of
//! `cargo xtask bench`, which gives each sample a process of its own; these are for quick work on one path.

use criterion::{Criterion, Throughput};
use std::alloc::{GlobalAlloc, Layout};
use std::ffi::{CString, c_void};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;
use terrace_bench::catalogue::rows;
use terrace_bench::harness_memory::MappedMemory;
use terrace_bench::heaps::{self, Heap, MALLOC_ALIGN};

#[global_allocator]
static HARNESS: MappedMemory = MappedMemory;

const LIBRARIES: &str = "BENCH_LIBRARIES";

/// Static thread-local storage that the dynamic linker sets aside for objects that are opened late; the default is too little
/// for some of them.
const TUNABLES: (&str, &str) = ("GLIBC_TUNABLES", "glibc.rtld.optional_static_tls=131072");

type Malloc = unsafe extern "C" fn(usize) -> *mut c_void;
type Calloc = unsafe extern "C" fn(usize, usize) -> *mut c_void;
type Realloc = unsafe extern "C" fn(*mut c_void, usize) -> *mut c_void;
type AlignedAlloc = unsafe extern "C" fn(usize, usize) -> *mut c_void;
type Free = unsafe extern "C" fn(*mut c_void);

/// The C functions of one shared object.
#[derive(Clone, Copy)]
struct Entries {
    malloc: Malloc,
    calloc: Calloc,
    realloc: Realloc,
    aligned_alloc: AlignedAlloc,
    free: Free,
}

/// Opens an object and finds a symbol in it.
fn symbol(object: *mut c_void, name: &str) -> Result<*mut c_void, String> {
    let name = CString::new(name).map_err(|error| error.to_string())?;
    // SAFETY: the object is open, and stays so for the life of the process.
    let address = unsafe { libc::dlsym(object, name.as_ptr()) };
    if address.is_null() { Err(format!("it has no {}", name.to_string_lossy())) } else { Ok(address) }
}

fn open(path: &str) -> Result<Entries, String> {
    let file = CString::new(path).map_err(|error| error.to_string())?;
    // SAFETY: the path is a C string; the objects' initialisers are those of allocators, made to be loaded.
    let object = unsafe { libc::dlopen(file.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
    if object.is_null() {
        return Err(format!("{path} cannot be opened"));
    }
    let find = |name| symbol(object, name);
    let (malloc, calloc, realloc) = (find("malloc")?, find("calloc")?, find("realloc")?);
    let (aligned_alloc, free) = (find("aligned_alloc")?, find("free")?);
    Ok(Entries {
        // SAFETY: a function of this name has this type, by the C standard.
        malloc: unsafe { std::mem::transmute::<*mut c_void, Malloc>(malloc) },
        // SAFETY: likewise.
        calloc: unsafe { std::mem::transmute::<*mut c_void, Calloc>(calloc) },
        // SAFETY: likewise.
        realloc: unsafe { std::mem::transmute::<*mut c_void, Realloc>(realloc) },
        // SAFETY: likewise.
        aligned_alloc: unsafe { std::mem::transmute::<*mut c_void, AlignedAlloc>(aligned_alloc) },
        // SAFETY: likewise.
        free: unsafe { std::mem::transmute::<*mut c_void, Free>(free) },
    })
}

/// The objects, by their place in the list; set before the first use.
static OPENED: OnceLock<Vec<Entries>> = OnceLock::new();

/// The heap of the object with this place.
struct Opened<const PLACE: usize>;
struct OpenedInterface<const PLACE: usize>;

impl<const PLACE: usize> OpenedInterface<PLACE> {
    #[inline(always)]
    fn entries(&self) -> &'static Entries {
        &OPENED.get().expect("the objects are opened first")[PLACE]
    }
}

// SAFETY: the values of the type stand for the one heap of the object.
unsafe impl<const PLACE: usize> Heap for Opened<PLACE> {
    type Allocator = OpenedInterface<PLACE>;
    const ALLOCATOR: &'static OpenedInterface<PLACE> = &OpenedInterface;
}

// SAFETY: the C standard gives `malloc` and its family the properties that `GlobalAlloc` asks for.
unsafe impl<const PLACE: usize> GlobalAlloc for OpenedInterface<PLACE> {
    #[inline(always)]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if layout.align() > MALLOC_ALIGN {
            // SAFETY: the alignment is a power of two.
            return unsafe { (self.entries().aligned_alloc)(layout.align(), layout.size()) }.cast();
        }
        // SAFETY: `malloc` takes any size.
        unsafe { (self.entries().malloc)(layout.size()) }.cast()
    }

    #[inline(always)]
    unsafe fn dealloc(&self, block: *mut u8, _layout: Layout) {
        // SAFETY: the caller gives back a block of this heap.
        unsafe { (self.entries().free)(block.cast()) }
    }

    #[inline(always)]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: `calloc` takes any size.
        unsafe { (self.entries().calloc)(1, layout.size()) }.cast()
    }

    #[inline(always)]
    unsafe fn realloc(&self, block: *mut u8, _layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: the caller gives a block of this heap and a size above zero.
        unsafe { (self.entries().realloc)(block.cast(), new_size) }.cast()
    }
}

/// `mi_malloc` and its family, of the crate's static library.
#[cfg(feature = "mimalloc")]
struct MimallocC;
#[cfg(feature = "mimalloc")]
struct MimallocInterface;
#[cfg(feature = "mimalloc")]
// SAFETY: the values of the type stand for mimalloc's one heap.
unsafe impl Heap for MimallocC {
    type Allocator = MimallocInterface;
    const ALLOCATOR: &'static MimallocInterface = &MimallocInterface;
}
#[cfg(feature = "mimalloc")]
// SAFETY: mimalloc's functions have the properties of the C standard's.
unsafe impl GlobalAlloc for MimallocInterface {
    #[inline(always)]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if layout.align() > MALLOC_ALIGN {
            // SAFETY: the alignment is a power of two.
            return unsafe { libmimalloc_sys::mi_malloc_aligned(layout.size(), layout.align()) }.cast();
        }
        // SAFETY: `mi_malloc` takes any size.
        unsafe { libmimalloc_sys::mi_malloc(layout.size()) }.cast()
    }

    #[inline(always)]
    unsafe fn dealloc(&self, block: *mut u8, _layout: Layout) {
        // SAFETY: the caller gives back a block of this heap.
        unsafe { libmimalloc_sys::mi_free(block.cast()) }
    }

    #[inline(always)]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: `mi_calloc` takes any size.
        unsafe { libmimalloc_sys::mi_calloc(1, layout.size()) }.cast()
    }

    #[inline(always)]
    unsafe fn realloc(&self, block: *mut u8, _layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: the caller gives a block of this heap and a size above zero.
        unsafe { libmimalloc_sys::mi_realloc(block.cast(), new_size) }.cast()
    }
}

/// Adds every row on `H` to the groups.
fn add<H: Heap>(criterion: &mut Criterion, name: &str) {
    for row in rows::<H>() {
        let mut group = criterion.benchmark_group(row.name);
        group.throughput(Throughput::Elements(1)).sample_size(10);
        group.warm_up_time(Duration::from_millis(100)).measurement_time(Duration::from_millis(500));
        let mut timer = None;
        group.bench_function(name, |bencher| {
            // Prepared when it is wanted, not for rows that the command line leaves out.
            let timer = timer.get_or_insert_with(|| row.start());
            bencher.iter_custom(timer);
        });
        group.finish();
    }
}

/// Starts this program anew with room for the thread-local storage of the objects, unless it has it.
fn make_room() {
    let (name, value) = TUNABLES;
    if std::env::var(name).is_ok_and(|set| set.contains(value)) {
        return;
    }
    let program = std::env::current_exe().expect("a program knows its own file");
    let error = Command::new(program).args(std::env::args_os().skip(1)).env(name, value).exec();
    panic!("the benchmark cannot start itself anew: {error}");
}

type Adder = fn(&mut Criterion, &str);

const ADDERS: [Adder; 8] = [
    add::<Opened<0>>,
    add::<Opened<1>>,
    add::<Opened<2>>,
    add::<Opened<3>>,
    add::<Opened<4>>,
    add::<Opened<5>>,
    add::<Opened<6>>,
    add::<Opened<7>>,
];

fn main() {
    make_room();
    let listed = std::env::var(LIBRARIES).unwrap_or_default();
    let (mut names, mut opened) = (Vec::new(), Vec::new());
    for (name, path) in listed.split(',').filter_map(|pair| pair.split_once('=')).take(ADDERS.len()) {
        match open(path) {
            Ok(entries) => {
                names.push(format!("c-{name}"));
                opened.push(entries);
            }
            Err(reason) => eprintln!("{name} is left out: {reason}"),
        }
    }
    OPENED.get_or_init(|| opened);

    let mut criterion = Criterion::default().configure_from_args();
    let criterion = &mut criterion;
    #[cfg(feature = "terrace")]
    add::<heaps::Terrace>(criterion, "rust-terrace");
    #[cfg(all(feature = "mimalloc", not(feature = "mimalloc-v2")))]
    add::<heaps::Mimalloc>(criterion, "rust-mimalloc-v3");
    #[cfg(feature = "mimalloc-v2")]
    add::<heaps::Mimalloc>(criterion, "rust-mimalloc-v2");
    #[cfg(feature = "jemalloc")]
    add::<heaps::Jemalloc>(criterion, "rust-jemalloc");
    #[cfg(feature = "snmalloc")]
    add::<heaps::Snmalloc>(criterion, "rust-snmalloc");
    #[cfg(feature = "rusty-alloc")]
    add::<heaps::RustyAlloc>(criterion, "rust-rusty-alloc");
    #[cfg(feature = "rallocator")]
    add::<heaps::Rallocator>(criterion, "rust-rallocator");
    add::<heaps::Glibc>(criterion, "rust-glibc");
    #[cfg(feature = "mimalloc")]
    add::<MimallocC>(criterion, if cfg!(feature = "mimalloc-v2") { "c-mi_malloc-v2" } else { "c-mi_malloc-v3" });
    add::<heaps::Preloaded>(criterion, "c-glibc");
    for (name, add) in names.iter().zip(ADDERS) {
        add(criterion, name);
    }
    criterion.final_summary();
}
