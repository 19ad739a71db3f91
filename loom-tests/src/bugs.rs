//! Seeded bugs: a copy of the sources is built in which each can be switched on, and the model named for it must fail while
//! one is, and pass while none is.

use super::check::{Check, Mode, elsewhere, model_named, side_by_side};
use super::sources::root;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use terrace::models::{Control, Model};

/// A change that makes the sources wrong.
struct Bug {
    name: &'static str,
    file: &'static str,
    /// What stands there, once, and what takes its place; `BUG` is whether this bug is switched on.
    changes: &'static [(&'static str, &'static str)],
    /// The model that must notice.
    model: &'static str,
}

const BUGS: &[Bug] = &[
    Bug {
        name: "the lock wakes nobody",
        file: "src/sync/mutex.rs",
        changes: &[("os::futex_wake_one(&self.state);", "if !BUG { os::futex_wake_one(&self.state); }")],
        model: "three_threads_exclude_each_other_and_none_sleeps_for_ever",
    },
    Bug {
        name: "a sleeper takes the lock as if nobody slept beside it",
        file: "src/sync/mutex.rs",
        changes: &[(
            "self.state.swap(CONTENDED, Ordering::Acquire)",
            "self.state.swap(if BUG { LOCKED } else { CONTENDED }, Ordering::Acquire)",
        )],
        model: "three_threads_exclude_each_other_and_none_sleeps_for_ever",
    },
    Bug {
        name: "every thread passes through the locks of a fork",
        file: "src/sync/mutex.rs",
        changes: &[(
            "forking != 0 && forking == os::thread_number()",
            "forking != 0 && (BUG || forking == os::thread_number())",
        )],
        model: "the_thread_that_forks_passes_through_its_locks_and_no_other_does",
    },
    Bug {
        name: "an initialiser is entered by all who come",
        file: "src/sync/once.rs",
        changes: &[("Ordering::Relaxed).is_ok() {", "Ordering::Relaxed).is_ok() || BUG {")],
        model: "one_of_two_threads_initialises_and_both_see_it_done",
    },
    Bug {
        name: "a shared counter is read and written in two steps",
        file: "src/sync/mod.rs",
        changes: &[(
            "self.0.fetch_add(n, Ordering::Relaxed);",
            "if BUG { self.add(n) } else { self.0.fetch_add(n, Ordering::Relaxed); }",
        )],
        model: "shared_additions_are_never_lost_and_a_reader_sees_no_sum_that_never_was",
    },
    Bug {
        name: "options are read by everyone who asks",
        file: "src/options.rs",
        changes: &[(
            "self.read.swap(1, Ordering::Relaxed) != 0",
            "(if BUG { let read = self.read.load(Ordering::Relaxed); self.read.store(1, Ordering::Relaxed); read } else { self.read.swap(1, Ordering::Relaxed) }) != 0",
        )],
        model: "options_are_as_the_environment_says_or_as_they_were",
    },
    Bug {
        name: "a push drops what was there",
        file: "src/tcache/inbox.rs",
        changes: &[(
            "Chains::link(chain, current.head());",
            "Chains::link(chain, if BUG { None } else { current.head() });",
        )],
        model: "two_chains_of_each_of_two_senders_arrive_in_the_order_of_a_stack",
    },
    Bug {
        name: "a failed push goes on with the link that it made before",
        file: "src/tcache/inbox.rs",
        changes: &[
            (
                "let mut current = Parcel(self.head.load(Ordering::Relaxed));",
                "let mut current = Parcel(self.head.load(Ordering::Relaxed)); let first = current;",
            ),
            (
                "            let waiting = current.count()",
                "            if BUG { Chains::link(chain, first.head()); }\n            let waiting = current.count()",
            ),
        ],
        model: "chains_of_two_senders_arrive_once_and_whole",
    },
    Bug {
        name: "a push that met another puts its chain in twice",
        file: "src/tcache/inbox.rs",
        changes: &[
            ("loop {", "let mut met = false; loop {"),
            (
                "Ok(_) => return waiting,\n                Err(now) => current = Parcel(now),",
                "Ok(_) if BUG && met => { met = false; current = Parcel(self.head.load(Ordering::Relaxed)) }\n                Ok(_) => return waiting,\n                Err(now) => { met = true; current = Parcel(now) }",
            ),
        ],
        model: "chains_of_two_senders_arrive_once_and_whole",
    },
    Bug {
        name: "an inbox is emptied in two steps",
        file: "src/tcache/inbox.rs",
        changes: &[(
            "self.head.swap(Parcel::EMPTY.0, Ordering::Acquire)",
            "if BUG { let head = self.head.load(Ordering::Acquire); self.head.store(Parcel::EMPTY.0, Ordering::Relaxed); head } else { self.head.swap(Parcel::EMPTY.0, Ordering::Acquire) }",
        )],
        model: "two_takers_share_what_was_pushed_and_no_block_goes_to_both",
    },
    Bug {
        name: "a batch that waits is dropped when the next is taken",
        file: "src/tcache/supply.rs",
        changes: &[("if !slabs.has_pending(class) {", "if !slabs.has_pending(class) || BUG {")],
        model: "chains_of_two_senders_that_wait_are_used_one_after_the_other",
    },
    Bug {
        name: "what was taken back is dropped",
        file: "src/tcache/supply.rs",
        changes: &[(
            "self.outbox().take_back(class, least).or_else(",
            "self.outbox().take_back(class, least).filter(|_| !BUG).or_else(",
        )],
        model: "a_thread_in_need_uses_again_what_it_freed_of_anothers",
    },
    Bug {
        name: "what waited for another owner is dropped",
        file: "src/tcache/supply.rs",
        changes: &[("            Some(list)\n        })", "            Some(list).filter(|_| !BUG)\n        })")],
        model: "blocks_that_wait_for_their_owner_go_to_whichever_thread_needs_them",
    },
    Bug {
        name: "a thread in need drops what it does not use",
        file: "src/tcache/inbox.rs",
        changes: &[(
            "self.put_back(chains, taken.count() < Parcel::MANY);",
            "if !BUG { self.put_back(chains, taken.count() < Parcel::MANY); }",
        )],
        model: "what_a_thread_in_need_leaves_in_an_inbox_is_all_there_for_its_owner",
    },
    Bug {
        name: "what is put back is dropped if others came meanwhile",
        file: "src/tcache/inbox.rs",
        changes: &[(
            "while let Some(chain) = chains.pop() {\n                self.push(chain);",
            "while let Some(chain) = chains.pop() {\n                if BUG { continue; }\n                self.push(chain);",
        )],
        model: "what_a_thread_in_need_leaves_in_an_inbox_is_all_there_for_its_owner",
    },
    Bug {
        name: "a block on a shelf goes to its arena as well",
        file: "src/tcache/shelf.rs",
        changes: &[(
            "run.set_shelved(true);",
            "if BUG { let _ = ARENAS.free_medium(Spot::of(run).start()); }\n        run.set_shelved(true);",
        )],
        model: "a_block_on_a_shelf_is_its_threads_whatever_others_take_and_purge",
    },
    Bug {
        name: "an exit forgets its outbox",
        file: "src/tcache/settling.rs",
        changes: &[(
            "self.return_reserve();\n        self.outbox().drain().for_each(|parcel| self.send(parcel));",
            "self.return_reserve();\n        if !BUG { self.outbox().drain().for_each(|parcel| self.send(parcel)); }",
        )],
        model: "a_thread_exits_with_a_full_outbox",
    },
    Bug {
        name: "an exit hands back what it has after it left",
        file: "src/tcache/lifecycle.rs",
        changes: &[
            ("        cache.hand_back();\n", "        if !BUG { cache.hand_back(); }\n"),
            (
                "    if CACHES.are_all_dormant() {",
                "    if BUG { cache.hand_back(); }\n    if CACHES.are_all_dormant() {",
            ),
        ],
        model: "a_cache_is_claimed_as_its_thread_left_it",
    },
    Bug {
        name: "a cache is counted as dormant after it can be claimed",
        file: "src/tcache/lifecycle.rs",
        changes: &[(
            "        CACHES.dormant.fetch_add(1, Ordering::Relaxed);\n",
            "        if BUG { self.state.store(DORMANT, Ordering::Release); }\n        CACHES.dormant.fetch_add(1, Ordering::Relaxed);\n        if BUG { return false; }\n",
        )],
        model: "how_many_caches_are_dormant_never_goes_below_zero",
    },
    Bug {
        name: "a claim is not taken off the count of dormant caches",
        file: "src/tcache/lifecycle.rs",
        changes: &[(
            "let counted = CACHES.dormant.fetch_sub(1, Ordering::Relaxed);",
            "let counted = if BUG { 1 } else { CACHES.dormant.fetch_sub(1, Ordering::Relaxed) };",
        )],
        model: "a_cache_is_claimed_as_its_thread_left_it",
    },
    Bug {
        name: "a slab that changes hands stays in the aging list",
        file: "src/tcache/slab_sets.rs",
        changes: &[("        aging.leave(slab);", "        if !BUG { aging.leave(slab); }")],
        model: "a_dormant_cache_is_claimed_while_its_slab_goes_to_another",
    },
    Bug {
        name: "a slab that changes hands is still the spare one",
        file: "src/tcache/slab_sets.rs",
        changes: &[(
            "self.spare = self.spare.filter(|spare| !core::ptr::eq(*spare, slab));",
            "if !BUG { self.spare = self.spare.filter(|spare| !core::ptr::eq(*spare, slab)); }",
        )],
        model: "a_dormant_cache_is_claimed_while_its_slab_goes_to_another",
    },
    Bug {
        name: "pages are given back under blocks that are out",
        file: "src/arena/slab.rs",
        changes: &[("(first..end).all(is_free)", "((first..end).all(is_free) || BUG)")],
        model: "pages_are_given_back_while_blocks_of_their_slab_come_home",
    },
    Bug {
        name: "blocks of pages that were given back stay listed",
        file: "src/arena/slab.rs",
        changes: &[(
            "if self.pages_of(self.index_of(block)) & made_bare == 0 {",
            "if self.pages_of(self.index_of(block)) & made_bare == 0 || BUG {",
        )],
        model: "pages_are_given_back_while_blocks_of_their_slab_come_home",
    },
    Bug {
        name: "a chain's key forgets the class",
        file: "src/tcache/outbox.rs",
        changes: &[("(class.offset() as u64) <<", "(if BUG { 0 } else { class.offset() as u64 }) <<")],
        model: "a_thread_exits_with_a_full_outbox",
    },
    Bug {
        name: "a dormant cache is claimed without asking again",
        file: "src/tcache/lifecycle.rs",
        changes: &[(
            "|state: u32| self.state.compare_exchange(state, LIVE, Ordering::Acquire, Ordering::Relaxed);",
            "|state: u32| if BUG { let was = self.state.load(Ordering::Acquire); if was == state { self.state.store(LIVE, Ordering::Relaxed); Ok(was) } else { Err(was) } } else { self.state.compare_exchange(state, LIVE, Ordering::Acquire, Ordering::Relaxed) };",
        )],
        model: "of_two_threads_one_claims_the_dormant_cache",
    },
    Bug {
        name: "a warm cache is emptied without being claimed",
        file: "src/tcache/lifecycle.rs",
        changes: &[(
            "let is_mine = self.state.compare_exchange(WARM, COOLING, Ordering::Acquire, Ordering::Relaxed).is_ok();",
            "let is_mine = if BUG { self.state.load(Ordering::Acquire) == WARM } else { self.state.compare_exchange(WARM, COOLING, Ordering::Acquire, Ordering::Relaxed).is_ok() };",
        )],
        model: "a_warm_cache_is_claimed_while_another_empties_it",
    },
    Bug {
        name: "a thread registers before it has its cache",
        file: "src/tcache/lifecycle.rs",
        changes: &[
            ("    slot::set(cache);\n    CACHES.farewell", "    if !BUG { slot::set(cache); }\n    CACHES.farewell"),
            (
                "        return None;\n    }\n    Some(cache)\n",
                "        return None;\n    }\n    slot::set(cache);\n    Some(cache)\n",
            ),
        ],
        model: "an_attaching_thread_is_called_back_by_the_c_library",
    },
    Bug {
        name: "two caches are made at once without the lock",
        file: "src/tcache/lifecycle.rs",
        changes: &[(
            "let _making = self.making.lock();",
            "let _making = if BUG { None } else { Some(self.making.lock()) };",
        )],
        model: "two_threads_get_caches_at_once_and_leave_them",
    },
    Bug {
        name: "a slab is handed over and keeps its owner",
        file: "src/tcache/lifecycle.rs",
        changes: &[("slab.set_owner(taker.owner());", "if !BUG { slab.set_owner(taker.owner()); }")],
        model: "blocks_sent_while_their_owner_exits_reach_whoever_takes_the_slab",
    },
    Bug {
        name: "a settled block is listed without a look at its owner",
        file: "src/tcache/slab_sets.rs",
        changes: &[("if slab.owner() != owner.as_ptr() {", "if slab.owner() != owner.as_ptr() && !BUG {")],
        model: "blocks_sent_while_their_owner_exits_reach_whoever_takes_the_slab",
    },
    Bug {
        name: "an owner is read before the lock that guards it",
        file: "src/tcache/settling.rs",
        changes: &[
            (
                "let foreign = self.settle_own(&mut self.slabs.lock(), list);",
                "// SAFETY: blocks lie in registered segments.\n        let early: std::vec::Vec<_> = blocks_from(list.head).map(|block| unsafe { slab_containing(block.start()) }.owner()).collect();\n        let foreign = if BUG { self.settle_early(&mut self.slabs.lock(), list, early) } else { self.settle_own(&mut self.slabs.lock(), list) };",
            ),
            (
                "    #[inline(always)]\n    fn settle_own(",
                "    fn settle_early(&self, slabs: &mut SlabSets, list: List, early: std::vec::Vec<*mut crate::arena::Owner>) -> Option<BlockPtr> {\n        let (now, mut foreign) = (os::clock_ms() as u32, None);\n        let mut blocks = blocks_from(list.head).peekable();\n        let mut early = early.into_iter();\n        while let Some(block) = blocks.next() {\n            match slabs.settle(NonNull::new(early.next().unwrap()).unwrap(), block, &mut blocks, now) {\n                Settled::Listed => {}\n                Settled::Foreign(_) => {\n                    block.set_next(foreign);\n                    foreign = Some(block);\n                }\n                Settled::Twice(block, size) => freed_twice(block, size),\n            }\n        }\n        foreign\n    }\n\n    #[inline(always)]\n    fn settle_own(",
            ),
        ],
        model: "a_slab_is_taken_from_an_idle_cache_while_its_blocks_come_home",
    },
    Bug {
        name: "the break is believed to be where it was",
        file: "src/arena/source.rs",
        changes: &[(
            "if let Some(segment) = aligned_within(grown.start, grown.len) {",
            "if let Some(segment) = aligned_within(if BUG { here } else { grown.start }, grown.len) {",
        )],
        model: "the_break_grows_against_a_foreign_sbrk",
    },
    Bug {
        name: "a slot of the segment map is taken without a look",
        file: "src/arena/segment_map.rs",
        changes: &[(
            "self.slot(segment.start().addr().get()).store(0, Ordering::Relaxed);",
            "if !BUG { self.slot(segment.start().addr().get()).store(0, Ordering::Relaxed); }",
        )],
        model: "two_arenas_grow_and_give_back_at_once",
    },
    Bug {
        name: "a mapping that is kept is unmapped all the same",
        file: "src/large/mod.rs",
        changes: &[("if !inner.cache.put(mapping, now) {", "if !inner.cache.put(mapping, now) || BUG {")],
        model: "a_kept_mapping_is_taken_by_one_thread_while_it_decays",
    },
    Bug {
        name: "a fork takes the arenas' locks before the caches'",
        file: "src/tcache/fork.rs",
        changes: &[(
            "    CACHES.lock_for_fork();\n    ARENAS.lock_for_fork();",
            "    if BUG { ARENAS.lock_for_fork(); CACHES.lock_for_fork(); } else { CACHES.lock_for_fork(); ARENAS.lock_for_fork(); }",
        )],
        model: "a_fork_takes_all_locks_while_another_thread_is_on_a_slow_path",
    },
    Bug {
        name: "a fork forgets a lock",
        file: "src/tcache/fork.rs",
        changes: &[("    LARGE.unlock_after_fork();", "    if !BUG { LARGE.unlock_after_fork(); }")],
        model: "two_forks_and_an_exit_do_not_wait_for_each_other",
    },
    Bug {
        name: "a child keeps a lock",
        file: "src/tcache/fork.rs",
        changes: &[("    ARENAS.renew_in_child();", "    if !BUG { ARENAS.renew_in_child(); }")],
        model: "the_child_goes_on_with_what_the_parent_had",
    },
    Bug {
        name: "a thread reserves without a look at the pool",
        file: "src/tcache/lifecycle.rs",
        changes: &[("        if !fits {", "        let fits = fits || BUG;\n        if !fits {")],
        model: "what_two_threads_reserve_of_the_pool_is_within_it_and_comes_back",
    },
    Bug {
        name: "a charge is compared with the limit and added in two steps",
        file: "src/limit.rs",
        changes: &[(
            "            match self.mapped.compare_exchange(before, sum,",
            "            if BUG {\n                self.mapped.store(sum, Ordering::Relaxed);\n                break sum;\n            }\n            match self.mapped.compare_exchange(before, sum,",
        )],
        model: "what_threads_map_together_is_within_the_hard_limit",
    },
    Bug {
        name: "every thread that finds the soft limit crossed heeds it",
        file: "src/limit.rs",
        changes: &[(
            "Ordering::Acquire, Ordering::Relaxed).is_err() {",
            "Ordering::Acquire, Ordering::Relaxed).is_err() && !BUG {",
        )],
        model: "a_soft_limit_that_is_crossed_is_heeded_once",
    },
    Bug {
        name: "a chain that is in the way is dropped",
        file: "src/tcache/outbox.rs",
        changes: &[(
            "in_the_way = self.take(place);",
            "in_the_way = self.take(place).filter(|parcel| !BUG || parcel.owner == owner);",
        )],
        model: "chains_of_three_owners_that_want_one_place_of_an_outbox_all_come_home",
    },
    Bug {
        name: "whoever sends a chain does not pass by the gate",
        file: "src/tcache/purger.rs",
        changes: &[("drop(self.gate.lock());", "if !BUG { drop(self.gate.lock()); }")],
        model: "a_chain_that_is_sent_while_the_purger_falls_asleep_is_settled_all_the_same",
    },
    Bug {
        name: "the purger falls asleep without another look",
        file: "src/tcache/purger.rs",
        changes: &[("&& is_something_left()", "&& !BUG && is_something_left()")],
        model: "what_is_put_while_the_purger_falls_asleep_is_returned_all_the_same",
    },
    Bug {
        name: "a thread that ends does not tell the purger",
        file: "src/tcache/lifecycle.rs",
        changes: &[("        PURGER.note_sent();\n", "        if !BUG { PURGER.note_sent(); }\n")],
        model: "what_a_thread_leaves_that_ends_while_the_purger_falls_asleep_is_settled_all_the_same",
    },
    Bug {
        name: "a cache that is being cooled is not counted as dormant",
        file: "src/tcache/lifecycle.rs",
        changes: &[
            (
                "            self.try_empty_magazines(classes);",
                "            if BUG { CACHES.dormant.fetch_sub(1, Ordering::Relaxed); }\n            self.try_empty_magazines(classes);",
            ),
            (
                "            let is_warm = self.has_at_hand();\n            if !is_warm",
                "            if BUG { CACHES.dormant.fetch_add(1, Ordering::Relaxed); }\n            let is_warm = self.has_at_hand();\n            if !is_warm",
            ),
        ],
        model: "the_purger_ends_with_the_last_thread_though_it_has_a_cache_in_hand",
    },
    Bug {
        name: "the purger stays when all have gone",
        file: "src/tcache/lifecycle.rs",
        changes: &[("    if CACHES.are_all_dormant() {", "    if !BUG && CACHES.are_all_dormant() {")],
        model: "the_purger_ends_with_the_last_thread_that_has_a_cache",
    },
];

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (path, name) = entry.map(|entry| (entry.path(), entry.file_name())).unwrap();
        if path.is_dir() {
            if name != "target" {
                copy(&path, &to.join(name));
            }
        } else {
            fs::copy(&path, to.join(name)).unwrap();
        }
    }
}

/// A program like this one, over a copy of the sources with all bugs in it, switched off.
pub fn build() -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let place = own.parent().unwrap().join("seeded");
    if place.join("source").exists() {
        fs::remove_dir_all(place.join("source")).unwrap();
    }
    let source = place.join("source");
    for folder in ["src", "loom-tests"] {
        copy(&root().join(folder), &source.join(folder));
    }
    for file in ["Cargo.toml", "README.md"] {
        fs::copy(root().join(file), source.join(file)).unwrap();
    }
    for bug in BUGS {
        let path = source.join(bug.file);
        let mut text = fs::read_to_string(&path).unwrap();
        for (old, new) in bug.changes {
            assert_eq!(text.matches(old).count(), 1, "{}: not once in {}: {old}", bug.name, bug.file);
            text = text.replace(old, &new.replace("BUG", &format!("crate::sync::model::bug({:?})", bug.name)));
        }
        fs::write(path, text).unwrap();
    }
    // Beside this program, so that what both depend on is built once.
    let manifest = source.join("loom-tests/Cargo.toml");
    let text = fs::read_to_string(&manifest).unwrap().replace("name = \"verify\"", "name = \"verify-seeded\"");
    fs::write(manifest, text).unwrap();
    let flags = if cfg!(shuttle) { "--cfg loom --cfg shuttle" } else { "--cfg loom" };
    let built = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()))
        .env("RUSTFLAGS", flags)
        .args(["build", "--release", "--quiet"])
        .current_dir(source.join("loom-tests"))
        .env("CARGO_TARGET_DIR", own.parent().unwrap().parent().unwrap())
        .status()
        .unwrap();
    assert!(built.success(), "the sources with the seeded bugs do not build");
    own.with_file_name("verify-seeded")
}

pub fn run() -> bool {
    let program = build();
    // The model that is named for the bug, and those whose control it is.
    let models = terrace::models::all();
    let is_control = |model: &Model, bug: &Bug| matches!(model.control, Control::Bug(name) if name == bug.name);
    let pairs = BUGS.iter().flat_map(|bug| {
        let others = models.iter().filter(|model| model.name != bug.model && is_control(model, bug));
        core::iter::once(bug.model).chain(others.map(|model| model.name)).map(move |model| (bug, model))
    });
    let verdicts = side_by_side(pairs.collect(), |(bug, name)| {
        let model = model_named(name);
        let check = |mode: Mode, on| Check {
            name: name.into(),
            mode,
            bound: mode.bound(&model),
            bug: if on { bug.name.into() } else { String::new() },
            seconds: 60,
            ..Check::default()
        };
        let fine_without = elsewhere(&check(Mode::Exchanges, false), Some(&program)).passed;
        let noticed = Mode::ALL.into_iter().rev().any(|mode| elsewhere(&check(mode, true), Some(&program)).noticed());
        let verdict = match (fine_without, noticed) {
            (true, true) => "noticed by",
            (true, false) => "NOT NOTICED by",
            (false, _) => "the copy fails without it:",
        };
        println!("{}: {verdict} {name}", bug.name);
        fine_without && noticed
    });
    let noticed = verdicts.iter().filter(|noticed| **noticed).count();
    println!("{noticed} of {} seeded bugs are noticed, by each model that is named for one", verdicts.len());
    noticed == verdicts.len()
}

/// For the page: which model notices which bug.
pub fn table() -> String {
    let mut text = String::from("| bug | in | noticed by |\n|---|---|---|\n");
    for bug in BUGS {
        let _ = writeln!(text, "| {} | `{}` | {} |", bug.name, bug.file, bug.model.replace('_', " "));
    }
    text
}
