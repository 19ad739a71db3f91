//! `fork`: the child has one thread, and a copy of whatever the others had in their hands.
//!
//! Before the fork this thread takes every lock, in the order of their ranks (the orphanage, the making of caches, the
//! caches, the arenas, the large blocks, the books of the checks, the metadata), so that no slow path of another thread is under way. In the child
//! the locks are made anew; the caches of the threads that do not exist there become dormant. What those threads had in
//! magazines and outboxes stays out of use in the child, since they may have been in the middle of a fast path: at most
//! what a thread may hold, for each thread of the parent; those of threads that have ended are settled before, but for such as another thread is settling. Medium blocks that lay on their shelves are free in the child, too. A
//! purger of the parent's is not there, and is made when one is wanted.
//!
//! Handlers that the program registered before this library run after ours in the parent's preparation and before ours
//! afterwards, and may allocate: the forking thread passes through the locks that it holds.

use super::{CACHES, PURGER};

use crate::arena::ARENAS;
use crate::attended;
use crate::large::LARGE;
use crate::metadata;
use crate::os;
use crate::os::valgrind::Unreported;
use crate::sync::set_forking;

/// Has the handlers called around each `fork`. May allocate. `false` where there is no memory for the entry: until there is, a child
/// forked while another thread holds a lock may wait for ever.
#[unsafe(link_section = ".text.terrace.common")]
pub(super) fn register() -> bool {
    os::fork_handlers(prepare, parent, child)
}

extern "C" fn prepare() {
    {
        let _unreported = Unreported::begin();
        CACHES.cool_all();
    }
    CACHES.lock_for_fork();
    ARENAS.lock_for_fork();
    LARGE.lock_for_fork();
    attended::lock_for_fork();
    metadata::lock_for_fork();
    set_forking(true);
}

extern "C" fn parent() {
    set_forking(false);
    metadata::unlock_after_fork();
    attended::unlock_after_fork();
    LARGE.unlock_after_fork();
    ARENAS.unlock_after_fork();
    CACHES.unlock_after_fork();
}

extern "C" fn child() {
    metadata::renew_in_child();
    attended::renew_in_child();
    LARGE.renew_in_child();
    ARENAS.renew_in_child();
    CACHES.renew_in_child();
    PURGER.begin_process();
    set_forking(false);
}
