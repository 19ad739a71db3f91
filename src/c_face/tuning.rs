//! `mallopt`, and options by name.

use crate::heap;
use crate::os;
use crate::statistics;
use core::ffi::CStr;

const M_MXFAST: i32 = 1;
const M_TRIM_THRESHOLD: i32 = -1;
const M_MMAP_THRESHOLD: i32 = -3;
const M_MMAP_MAX: i32 = -4;
const M_CHECK_ACTION: i32 = -5;
const M_PERTURB: i32 = -6;
const M_ARENA_MAX: i32 = -8;

/// The largest value of `M_MMAP_THRESHOLD` that glibc takes, in bytes.
const MOST_MMAP_THRESHOLD: usize = 32 << 20;
/// The largest value of `M_MXFAST` that glibc takes, in bytes.
const MOST_MXFAST: usize = 80 * size_of::<usize>() / 4;

/// `mallopt`: sets what has a counterpart here, and answers the rest as glibc does. 1 if the value is one that glibc takes,
/// else 0, and nothing has changed.
///
/// | parameter | counterpart |
/// |---|---|
/// | `M_TRIM_THRESHOLD` | `trim_threshold`; a negative value also keeps all free memory for good |
/// | `M_MMAP_THRESHOLD` | `mmap_threshold`, within its bounds |
/// | `M_MMAP_MAX` | `mmap_max`; a negative value is its default |
/// | `M_CHECK_ACTION` | `check_action`: its two lowest bits |
/// | `M_PERTURB` | `perturb`: its lowest byte |
/// | `M_ARENA_MAX` | `arenas`; 0 and below leave it to the processors |
pub fn mallopt(parameter: i32, value: i32) -> i32 {
    // As in glibc, a negative value is a very large one.
    let unsigned = value as usize;
    match parameter {
        M_MXFAST => return i32::from(unsigned <= MOST_MXFAST),
        M_TRIM_THRESHOLD => {
            heap::set_number("trim_threshold", unsigned);
            if value < 0 {
                heap::set_number("purge_delay_ms", usize::MAX);
            }
        }
        M_MMAP_THRESHOLD if unsigned > MOST_MMAP_THRESHOLD => return 0,
        M_MMAP_THRESHOLD => heap::set_number("mmap_threshold", unsigned),
        M_MMAP_MAX => heap::set_number("mmap_max", unsigned),
        M_CHECK_ACTION => heap::set_number("check_action", unsigned & 3),
        M_PERTURB => heap::set_number("perturb", unsigned & 0xff),
        M_ARENA_MAX if value > 0 => heap::set_number("arenas", unsigned),
        M_ARENA_MAX => heap::forget_arenas(),
        _ => {}
    }
    1
}

/// `terrace_set_option`: 0, or -1 with `errno` at `ENOENT` (there is no such option) `EINVAL` (it has no such value) or
/// `EBUSY` (it can only be set at the start).
pub fn set_option(name: &CStr, value: &CStr) -> i32 {
    let error = match heap::set_option(name.to_bytes(), value.to_bytes()) {
        Ok(()) => {
            statistics::register_exit_report();
            return 0;
        }
        Err(crate::OptionError::Unknown { .. }) => libc::ENOENT,
        Err(crate::OptionError::Malformed { .. }) => libc::EINVAL,
        Err(crate::OptionError::Late { .. }) => libc::EBUSY,
    };
    os::set_errno(error);
    -1
}
