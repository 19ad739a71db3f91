//! Looking into the heap of this very process, and into images of it with bytes changed.
//!
//! The test's own memory is the system allocator's, so that looking changes nothing.

use proptest::prelude::*;
use std::alloc::{GlobalAlloc, Layout};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::mpsc::channel;
use terrace::Terrace;
use terrace::inspect::{
    self, Arena, BlockState, Cache, Content, Detail, Extent, Mapping, Memory, Own, Process, Root, Segment, Slab,
    Trouble, Unreadable, Visitor, Zone,
};

/// The tests share one heap, and each wants it at rest.
static HEAP: Mutex<()> = Mutex::new(());

/// All that a walk tells.
#[derive(Default)]
struct Seen {
    process: Process,
    arenas: Vec<Arena>,
    caches: usize,
    dormant: usize,
    owners: BTreeSet<usize>,
    threads: Vec<u32>,
    /// By class: in magazines, outboxes, inboxes, out, listed.
    held: BTreeMap<usize, [usize; 5]>,
    segments: Vec<Segment>,
    zones: Vec<Zone>,
    mappings: Vec<Mapping>,
    troubles: Vec<Trouble>,
}

impl Visitor for Seen {
    fn process(&mut self, process: &Process) {
        self.process = *process;
    }
    fn arena(&mut self, arena: &Arena) {
        self.arenas.push(*arena);
    }
    fn cache(&mut self, cache: &Cache<'_>) {
        self.caches += 1;
        self.dormant += usize::from(cache.is_dormant);
        self.owners.insert(cache.address);
        self.threads.push(cache.thread);
        for class in cache.classes {
            let held = self.held.entry(class.block_size).or_default();
            let more = [class.in_magazine, class.in_outbox, class.in_inbox, class.out, class.listed];
            held.iter_mut().zip(more).for_each(|(held, more)| *held += more);
        }
    }
    fn segment(&mut self, segment: &Segment) {
        self.segments.push(*segment);
    }
    fn zone(&mut self, zone: &Zone) {
        self.zones.push(*zone);
    }
    fn mapping(&mut self, mapping: &Mapping) {
        self.mappings.push(*mapping);
    }
    fn trouble(&mut self, trouble: Trouble) {
        self.troubles.push(trouble);
    }
}

impl Seen {
    fn slabs(&self) -> impl Iterator<Item = &Slab> {
        self.zones.iter().filter_map(|zone| match &zone.content {
            Content::Slab(slab) => Some(slab),
            _ => None,
        })
    }
}

fn look() -> Seen {
    let mut seen = Seen::default();
    inspect::walk_own(&mut seen).unwrap();
    seen
}

fn allocate(size: usize) -> (usize, Layout) {
    let layout = Layout::from_size_align(size, 16).unwrap();
    // SAFETY: the size is not zero.
    let block = unsafe { Terrace.alloc_zeroed(layout) };
    assert!(!block.is_null());
    (block.expose_provenance(), layout)
}

fn free((block, layout): (usize, Layout)) {
    // SAFETY: the block was allocated so, and is given up once.
    unsafe { Terrace.dealloc(std::ptr::with_exposed_provenance_mut(block), layout) };
}

/// A heap with blocks of all kinds, some of them freed, by this thread and by another.
fn busy_heap() -> Vec<(usize, Layout)> {
    let mut blocks: Vec<_> = (0..3000).map(|i| allocate(16 + i % 16 * 100)).collect();
    blocks.extend((1..40).map(|i| allocate(i * 20_000)));
    blocks.extend((1..6).map(|i| allocate(i << 21)));
    let (freed, kept): (Vec<_>, Vec<_>) = blocks.into_iter().enumerate().partition(|(i, _)| i % 3 == 0);
    let (own, others): (Vec<_>, Vec<_>) = freed.into_iter().partition(|(i, _)| i % 2 == 0);
    own.into_iter().for_each(|(_, block)| free(block));
    std::thread::spawn(move || {
        others.into_iter().for_each(|(_, block)| free(block));
        // Another's blocks, still in its hands when the thread ends.
        (0..50).for_each(|_| free(allocate(200)));
    })
    .join()
    .unwrap();
    kept.into_iter().map(|(_, block)| block).collect()
}

#[test]
fn the_walk_agrees_with_the_statistics() {
    let _heap = HEAP.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let blocks = busy_heap();
    let statistics = terrace::statistics();
    let seen = look();
    assert_eq!(seen.troubles, []);
    assert_eq!((seen.caches, seen.dormant), statistics.thread_caches);
    assert_eq!((seen.process.caches, seen.process.arenas), (statistics.thread_caches.0, statistics.arenas));
    assert_eq!(seen.process.system_calls.mmap, statistics.system_calls.mmap);
    assert_eq!(seen.segments.len(), statistics.segments);
    assert_eq!(seen.arenas.iter().map(|arena| arena.segments).sum::<usize>(), statistics.segments);
    assert!(seen.threads.contains(&std::process::id()) || !seen.threads.is_empty());
    for class in &statistics.classes {
        let [magazines, outboxes, inboxes, out, listed] = seen.held[&class.block_size];
        let found = (out - magazines - outboxes - inboxes, magazines, inboxes, listed);
        assert_eq!(found, (class.live, class.cached, class.in_transit, class.listed), "{}", class.block_size);
        let slabs = || seen.slabs().filter(|slab| slab.block_size == class.block_size);
        assert_eq!(slabs().map(Slab::out).sum::<usize>(), out);
        assert_eq!(slabs().map(|slab| slab.listed).sum::<usize>(), listed);
        assert!(slabs().all(|slab| seen.owners.contains(&slab.owner)));
    }
    let medium: Vec<_> =
        seen.zones.iter().filter(|zone| zone.content == Content::Medium).map(|zone| zone.bytes).collect();
    assert_eq!((medium.len(), medium.iter().sum()), statistics.medium);
    let (live, freed): (Vec<_>, Vec<_>) = seen.mappings.iter().partition(|mapping| mapping.freed.is_none());
    let bytes = |mappings: &[&Mapping]| mappings.iter().map(|mapping| mapping.bytes).sum::<usize>();
    assert_eq!((live.len(), bytes(&live)), statistics.large);
    assert_eq!(bytes(&freed), statistics.large_cached_bytes);
    assert!(!live.is_empty() && !freed.is_empty() && !medium.is_empty());
    blocks.into_iter().for_each(free);
}

#[test]
fn zones_fill_each_segment_and_begin_at_pages() {
    let _heap = HEAP.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let blocks = busy_heap();
    let seen = look();
    let mut zones = seen.zones.iter().peekable();
    for segment in &seen.segments {
        let mut at = segment.start;
        while at < segment.start + segment.bytes {
            let zone = zones.next().unwrap();
            assert_eq!((zone.start, zone.arena), (at, segment.arena));
            assert!(zone.bytes > 0 && (zone.start | zone.bytes).is_multiple_of(4096));
            at += zone.bytes;
        }
        assert_eq!(at, segment.start + segment.bytes);
    }
    assert!(zones.next().is_none());
    blocks.into_iter().for_each(free);
}

fn states(memory: &dyn Memory, root: &Root, slab: &Slab, troubles: &mut Vec<Trouble>) -> Vec<(usize, BlockState)> {
    let mut states = Vec::new();
    let mut each = |start, state| states.push((start, state));
    inspect::walk_blocks(memory, root, slab, &mut each, &mut |trouble| troubles.push(trouble));
    states
}

#[test]
fn each_block_is_known_for_what_it_is() {
    let _heap = HEAP.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let blocks = busy_heap();
    let cached = allocate(3000);
    free(cached);
    let seen = look();
    let root = Root::read(&Own, inspect::own_root()).unwrap();
    let mut found = BTreeMap::new();
    let mut troubles = Vec::new();
    for slab in seen.slabs() {
        let states = states(&Own, &root, slab, &mut troubles);
        let count = |of: BlockState| states.iter().filter(|(_, state)| *state == of).count();
        assert_eq!(count(BlockState::Listed), slab.listed);
        assert_eq!(count(BlockState::Bare), slab.bare);
        assert_eq!(count(BlockState::Uncarved), slab.uncarved());
        found.extend(states);
    }
    assert_eq!(troubles, []);
    let small: BTreeSet<_> = blocks.iter().filter(|(_, layout)| layout.size() <= 32 << 10).map(|(at, _)| *at).collect();
    let live: BTreeSet<_> = found.iter().filter(|(_, state)| **state == BlockState::Live).map(|(at, _)| *at).collect();
    // The test's harness does not use this heap: what is live is what is kept here.
    assert_eq!(live, small);
    assert_eq!(found[&cached.0], BlockState::Cached);
    blocks.into_iter().for_each(free);
}

#[test]
fn blocks_in_an_outbox_are_seen() {
    // Blocks of 128 bytes and more would stay with a thread that takes such blocks itself.
    const SIZES: [usize; 2] = [48, 112];
    const FREED: usize = 3;
    let _heap = HEAP.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let ((give, take), (end, ends)) = (channel(), channel::<()>());
    let owner = std::thread::spawn(move || {
        give.send(SIZES.map(|size| [(); FREED].map(|()| allocate(size)))).unwrap();
        // Until nobody looks any more.
        ends.recv().unwrap_err();
    });
    let blocks = take.recv().unwrap();
    let before = look();
    blocks.as_flattened().iter().for_each(|&block| free(block));
    let seen = look();
    let root = Root::read(&Own, inspect::own_root()).unwrap();
    let mut troubles = Vec::new();
    let states: BTreeMap<_, _> = seen.slabs().flat_map(|slab| states(&Own, &root, slab, &mut troubles)).collect();
    drop(end);
    owner.join().unwrap();
    assert_eq!((troubles, seen.troubles), (vec![], vec![]));
    for (size, blocks) in SIZES.into_iter().zip(blocks) {
        assert_eq!(seen.held[&size][1] - before.held[&size][1], FREED, "blocks of {size} bytes in outboxes");
        assert!(blocks.iter().all(|(start, _)| states[start] == BlockState::Cached), "blocks of {size} bytes");
    }
}

/// The page that tells how a heap is read names the version that this library writes.
#[test]
fn the_version_of_the_root_is_as_documented() {
    let page = include_str!("../docs/inspecting.md");
    assert!(page.contains(&format!("a version (now {})", inspect::VERSION)));
}

/// Pages by their numbers.
type Pages = BTreeMap<usize, Box<[u8]>>;

/// Copies the pages that a reader asks for.
#[derive(Default)]
struct Copier(RefCell<Pages>);

impl Memory for Copier {
    fn read(&self, address: usize, into: &mut [u8]) -> Result<(), Unreadable> {
        Own.read(address, into)?;
        for page in address >> 12..=(address + into.len() - 1) >> 12 {
            self.0.borrow_mut().entry(page).or_insert_with(|| {
                let mut bytes = vec![0; 4096];
                Own.read(page << 12, &mut bytes).unwrap();
                bytes.into()
            });
        }
        Ok(())
    }
}

/// Pages of an image, some of them changed.
struct Image<'p> {
    pages: &'p Pages,
    changed: Pages,
    reads: Cell<usize>,
}

impl Memory for Image<'_> {
    fn read(&self, address: usize, into: &mut [u8]) -> Result<(), Unreadable> {
        self.reads.set(self.reads.get() + 1);
        let mut at = address;
        let mut rest = into;
        while !rest.is_empty() {
            let page = self.changed.get(&(at >> 12)).or_else(|| self.pages.get(&(at >> 12)));
            let part = &page.ok_or(Unreadable { address })?[at % 4096..];
            let len = part.len().min(rest.len());
            rest[..len].copy_from_slice(&part[..len]);
            rest = &mut rest[len..];
            at = at.checked_add(len).ok_or(Unreadable { address })?;
        }
        Ok(())
    }
}

/// Looks at everything; how many things were told.
fn look_through(memory: &dyn Memory) -> usize {
    let Ok(root) = Root::read(memory, inspect::own_root()) else { return 0 };
    let mut seen = Seen::default();
    inspect::walk(memory, &root, &mut seen);
    let mut troubles = Vec::new();
    let blocks: usize = seen.slabs().map(|slab| states(memory, &root, slab, &mut troubles).len()).sum();
    blocks + troubles.len() + seen.zones.len() + seen.troubles.len()
}

#[test]
fn corrupt_bytes_are_survived() {
    let _heap = HEAP.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let blocks = busy_heap();
    let copier = Copier::default();
    let whole = look_through(&copier);
    let pages = copier.0.into_inner();
    let image = |changed| Image { pages: &pages, changed, reads: Cell::new(0) };
    let unchanged = image(Pages::new());
    assert_eq!(look_through(&unchanged), whole);
    let reads = unchanged.reads.get();
    // Empty pages, of the table of segments most of all, and what lies in blocks, stay as they are for the most part: so
    // many changes hit something.
    let segments: BTreeSet<usize> = look().segments.iter().map(|segment| segment.start).collect();
    let is_structure = |page: usize| !segments.contains(&(page >> 10 << 22)) || page % 1024 < 16;
    let used: Vec<usize> = pages
        .iter()
        .filter(|(at, page)| page.iter().any(|&byte| byte != 0) && (is_structure(**at) || **at % 8 == 0))
        .map(|(at, _)| *at)
        .collect();
    let changes = prop::collection::vec((any::<prop::sample::Index>(), 0..512_usize, any::<u64>(), 0..4), 1..60);
    let odd = Cell::new(0);
    let config = ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() };
    let mut runner = proptest::test_runner::TestRunner::new(config);
    let outcome = runner.run(&changes, |changes| {
        let mut changed = Pages::new();
        for (page, word, value, kind) in changes {
            let page = used[page.index(used.len())];
            let bytes = changed.entry(page).or_insert_with(|| pages[&page].clone());
            let place = &mut bytes[word * 8..][..8];
            let old = u64::from_ne_bytes(place.try_into().unwrap());
            let new = match kind {
                0 => old ^ 1 << (value % 64),
                1 => value,
                // An address that can be read.
                2 => (used[value as usize % used.len()] << 12) as u64 | (value >> 32) & 0xff8,
                _ => old ^ (value & 0xff) << (value >> 8 & 56),
            };
            place.copy_from_slice(&new.to_ne_bytes());
        }
        let image = image(changed);
        odd.set(odd.get() + usize::from(look_through(&image) != whole));
        prop_assert!(image.reads.get() < 50 * reads + 100_000, "{} reads, not {reads}", image.reads.get());
        Ok(())
    });
    outcome.unwrap();
    assert!(odd.get() > 20, "only {} of the images differ", odd.get());
    blocks.into_iter().for_each(free);
}

#[test]
fn a_root_is_taken_for_one_where_it_says_itself_that_it_lies() {
    let _heap = HEAP.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    free(allocate(10));
    let root = Root::read(&Own, inspect::own_root()).unwrap();
    assert_eq!((root.library(), root.address()), (env!("CARGO_PKG_VERSION"), inspect::own_root()));
    assert_eq!(root.block_size(root.classes() - 1), 32 << 10);
    let mut copy = vec![0_u8; 4096];
    Own.read(inspect::own_root(), &mut copy[..64]).unwrap();
    assert!(copy.starts_with(&inspect::MAGIC));
    let error = Root::read(&Own, copy.as_ptr().addr()).unwrap_err();
    assert!(error.to_string().contains("there is no heap's root"), "{error}");
    let error = Root::read(&Own, 8).unwrap_err();
    assert_eq!(error.to_string(), "the memory at 0x8 cannot be read");
    // Version 99, at the place where the copy says that it lies.
    let address = copy.as_ptr().addr();
    copy[16] = 99;
    copy[inspect::OWN_ADDRESS..][..8].copy_from_slice(&address.to_ne_bytes());
    let error = Root::read(&Own, address).unwrap_err();
    let own = inspect::VERSION;
    assert_eq!(error.to_string(), format!("the heap's root is of version 99; this program reads version {own}"));
}

/// Addresses as offsets from the first one that is a multiple of 4 MiB, and without what depends on the run.
fn without_addresses(text: &str) -> String {
    let base = text.split("segment 0x").nth(1).map_or(0, |rest| usize::from_str_radix(&rest[..12], 16).unwrap());
    let mut plain = String::new();
    for (index, part) in text.split("0x").enumerate() {
        if index == 0 {
            plain.push_str(part);
            continue;
        }
        let end = part.find(|digit: char| !digit.is_ascii_hexdigit()).unwrap_or(part.len());
        let address = usize::from_str_radix(&part[..end], 16).unwrap();
        plain.push_str(&format!("+{:06x}{}", address.wrapping_sub(base), &part[end..]));
    }
    plain
}

#[test]
fn a_dump_shows_the_state_of_each_byte() {
    let _heap = HEAP.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let (live, freed) = (allocate(400), allocate(400));
    let bytes = std::ptr::with_exposed_provenance_mut::<u8>(live.0);
    // Another test may have used the block.
    // SAFETY: blocks of this class have 416 bytes.
    unsafe { bytes.write_bytes(0, 416) };
    // SAFETY: the block has 400 bytes.
    unsafe { bytes.copy_from_nonoverlapping(b"water".as_ptr(), 5) };
    free(freed);
    let dump = |address: usize, extent| {
        let mut text = String::new();
        inspect::write_own_dump(std::ptr::without_provenance(address), extent, &mut text).map(|()| text)
    };
    let text = dump(live.0 + 17, Extent::Block).unwrap();
    let at = live.0;
    let expected = format!(
        "block of 416 bytes at {at:#x}, live\n\
         {at:012x}  000000  77 61 74 65 72 00 00 00  00 00 00 00 00 00 00 00  |water...........|  LLLLLLLLLLLLLLLL\n\
         {:012x}  000010  00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00  |................|  LLLLLLLLLLLLLLLL\n\
         *\n\
         {:012x}  000190  00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00  |................|  LLLLLLLLLLLLLLLL\n\
         L live, r red zone, g guard, p padding, f free, . never touched or returned, m metadata\n",
        at + 16,
        at + 400
    );
    assert_eq!(text, expected);
    let text = dump(freed.0, Extent::Block).unwrap();
    assert!(text.starts_with(&format!("block of 416 bytes at {:#x}, free, in a thread's hands\n", freed.0)), "{text}");
    assert!(text.lines().nth(1).unwrap().ends_with("|  mmmmmmmmffffffff"), "{text}");
    // The slab: 157 blocks of 416 bytes, and 224 bytes left over.
    let text = dump(live.0, Extent::Zone).unwrap();
    assert!(text.contains(", 157 blocks of 416 bytes\n"), "{text}");
    let row = |state: &str| text.lines().any(|line| line.ends_with(&format!("|  {}", state.repeat(16))));
    assert!(row("L") && row(".") && row("p"), "{text}");
    let large = allocate(5 << 20);
    let text = dump(large.0 + 4096, Extent::Block).unwrap();
    assert!(text.starts_with(&format!("block of 5242880 bytes at {:#x}, live\n", large.0)), "{text}");
    assert!(dump(live.0 & !0x3f_ffff, Extent::Zone).unwrap().lines().nth(1).unwrap().ends_with("mmmmmmmm"));
    let error = dump(8, Extent::Block).unwrap_err();
    assert_eq!(error.to_string(), "there is nothing of the heap at 0x8");
    [live, large].into_iter().for_each(free);
}

#[test]
fn the_text_of_a_heap_is_as_documented() {
    // A heap of its own: in another process, which runs this very test.
    if std::env::var_os("THE_TEXT_OF_A_HEAP").is_none() {
        let mut child = std::process::Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", "the_text_of_a_heap_is_as_documented", "--nocapture", "--test-threads=1"]);
        let output = child.env("THE_TEXT_OF_A_HEAP", "1").output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        let text = String::from_utf8(output.stdout).unwrap();
        let text = text.split("<<<\n").nth(1).and_then(|rest| rest.split(">>>").next()).unwrap();
        let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/inspect-map.txt");
        if std::env::var_os("BLESS").is_some() {
            std::fs::write(golden, text).unwrap();
        }
        assert_eq!(text, std::fs::read_to_string(golden).unwrap());
        return;
    }
    terrace::set_option("arenas", "1").unwrap();
    let blocks = [100, 100, 3000, 40_000, 90_000, 3 << 20, 2 << 20].map(allocate);
    for block in [0, 3, 6] {
        free(blocks[block]);
    }
    // SAFETY: the block has 100 bytes.
    unsafe {
        std::ptr::with_exposed_provenance_mut::<u8>(blocks[1].0).copy_from_nonoverlapping(b"terrace".as_ptr(), 7)
    };
    let (mut blocks_text, mut dumps) = (String::new(), String::new());
    inspect::write_own_map(Detail::Blocks, &mut blocks_text).unwrap();
    inspect::write_own_map(Detail::Dumps, &mut dumps).unwrap();
    let dumped = dumps.lines().find(|line| line.contains("|terrace.")).unwrap();
    // How large the allocator's own structures are is not the matter.
    let (first, rest) = blocks_text.split_once('\n').unwrap();
    assert!(first.starts_with("caches 1, metadata "), "{first}");
    let tail = dumped.split_once("  000000  ").unwrap().1;
    // Where mappings lie differs from run to run.
    let text: String = without_addresses(rest)
        .lines()
        .map(|line| {
            let is_far = |word: &&str| word.starts_with('+') && word.len() > 7;
            let words: Vec<&str> = line.split(' ').map(|word| if is_far(&word) { "+far" } else { word }).collect();
            words.join(" ") + "\n"
        })
        .collect();
    print!("<<<\n{text}\n{tail}\n>>>");
}

#[test]
fn the_statistics_are_written_as_json() {
    let _heap = HEAP.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let blocks = busy_heap();
    let (statistics, mut text) = (terrace::statistics(), String::new());
    terrace::write_statistics_json(&mut text).unwrap();
    // Another's parser, which says what it found there.
    let program = "import json, sys\nfound = json.load(sys.stdin)\nprint(found['library'], found['bytes']['live'], \
                   found['medium']['blocks'], found['large']['bytes'], sum(c['live'] for c in found['classes']), \
                   len(found['classes']), sum(a['segments'] for a in found['arenas']), len(found['threads']), \
                   found['system_calls']['mmap'], found['counts']['remote_frees'])";
    let mut python = std::process::Command::new("python3");
    let pipe = std::process::Stdio::piped;
    let mut python = python.args(["-c", program]).stdin(pipe()).stdout(pipe()).spawn().unwrap();
    std::io::Write::write_all(&mut python.stdin.take().unwrap(), text.as_bytes()).unwrap();
    let found = String::from_utf8(python.wait_with_output().unwrap().stdout).unwrap();
    let expected = format!(
        "{} {} {} {} {} {} {} {} {} {}\n",
        env!("CARGO_PKG_VERSION"),
        statistics.live_bytes,
        statistics.medium.0,
        statistics.large.1,
        statistics.classes.iter().map(|class| class.live).sum::<usize>(),
        statistics.classes.len(),
        statistics.segments,
        statistics.thread_caches.0,
        statistics.system_calls.mmap,
        statistics.remote_frees,
    );
    assert_eq!(found, expected);
    blocks.into_iter().for_each(free);
}

#[test]
fn the_statistics_are_written_for_prometheus() {
    let _heap = HEAP.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let blocks = busy_heap();
    let (statistics, mut text) = (terrace::statistics(), String::new());
    terrace::write_statistics_prometheus(&mut text).unwrap();
    assert!(text.ends_with('\n'));
    let (mut described, mut samples) = (BTreeMap::new(), BTreeMap::new());
    let is_name =
        |name: &str| name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
    let mut last = "";
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            last = help.split_once(' ').unwrap().0;
            assert!(described.insert(last, "").is_none(), "{last} is described twice");
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').unwrap();
            assert!(name == last && matches!(kind, "gauge" | "counter"), "{line}");
            assert_eq!(kind == "counter", name.ends_with("_total"));
            described.insert(name, kind);
        } else {
            let (sample, value) = line.rsplit_once(' ').unwrap();
            let (name, labels) = sample.split_once('{').unwrap_or((sample, "}"));
            // Samples follow their description in one group.
            assert!(is_name(name) && name == last && !described[name].is_empty(), "{line}");
            for label in labels.strip_suffix('}').unwrap().split(',').filter(|label| !label.is_empty()) {
                let (key, value) = label.split_once('=').unwrap();
                assert!(is_name(key) && value.len() > 2 && value.starts_with('"') && value.ends_with('"'), "{line}");
            }
            assert!(samples.insert(sample, value.parse::<u64>().unwrap()).is_none(), "{sample} is there twice");
        }
    }
    assert_eq!(described.len(), 11);
    let sample = |name: &str| samples[name] as usize;
    assert_eq!(sample("terrace_memory_bytes{account=\"live\"}"), statistics.live_bytes);
    assert_eq!(sample("terrace_blocks{kind=\"large\"}"), statistics.large.0);
    let class = statistics.classes.iter().find(|class| class.block_size == 416).unwrap();
    assert_eq!(sample("terrace_class_blocks{size=\"416\",state=\"live\"}"), class.live);
    assert!(class.live > 0);
    assert_eq!(
        samples.keys().filter(|sample| sample.starts_with("terrace_thread_bytes{")).count() / 2,
        statistics.thread_caches.0
    );
    blocks.into_iter().for_each(free);
}
