//! The blocks that the checks know (`TERRACE_CHECK`), from their books.

use super::reader::Reader;
use super::records::{Checked, Trouble};
use super::{Memory, Root, Unreadable};

/// States of a record, as in `attended::books`; the others tell of no block.
const LIVE: u32 = 1;
const LEAVING: u32 = 2;
const QUARANTINED: u32 = 3;
/// More buckets than a table has.
const MAX_BUCKETS: usize = 1 << 32;
/// After so many chains that lead astray the table is taken for no table.
const MAX_TROUBLES: usize = 64;
/// Records come and go while they are followed: a chain may be longer than their count says by this much.
const SLACK: usize = 4096;

/// Tells of each block that the checks know and have not given back, in no order; of none while no check is on.
pub(super) fn each_checked(memory: &dyn Memory, root: &Root, tell: &mut dyn FnMut(Result<&Checked, Trouble>)) {
    let mut reader = Reader::new(memory);
    if let Err(unreadable) = each(&mut reader, root, tell) {
        tell(Err(Trouble::unreadable("the books of the checks", unreadable)));
    }
}

fn each(
    reader: &mut Reader<'_>,
    root: &Root,
    tell: &mut dyn FnMut(Result<&Checked, Trouble>),
) -> Result<(), Unreadable> {
    let layout = &root.layout.books;
    let (table, buckets) = (reader.word(root.books, layout.table)?, reader.word(root.books, layout.bucket_count)?);
    let mut left = reader.word(root.books, layout.records)?.saturating_add(SLACK);
    if buckets > MAX_BUCKETS {
        tell(Err(Trouble::senseless("the table of the checks", table)));
        return Ok(());
    }
    let mut troubles = 0;
    // The table has a reader of its own: records lie elsewhere.
    let mut places = Reader::new(reader.memory());
    for bucket in 0..buckets {
        let first = places.word(table.wrapping_add(bucket * 8), 0)?;
        let most = left;
        let whole = reader.follow(first, most, |reader, at| {
            left -= 1;
            if let Some(checked) = checked(reader, root, at)? {
                tell(Ok(&checked));
            }
            reader.word(at, layout.next)
        });
        if whole != Ok(true) {
            troubles += 1;
        }
        match whole {
            _ if troubles > MAX_TROUBLES => break,
            Ok(true) => {}
            Ok(false) => tell(Err(Trouble::senseless("a chain of checked blocks", first))),
            Err(unreadable) => tell(Err(Trouble::unreadable("the record of a checked block", unreadable))),
        }
    }
    Ok(())
}

fn checked(reader: &mut Reader<'_>, root: &Root, at: usize) -> Result<Option<Checked>, Unreadable> {
    let layout = &root.layout.books;
    let state = reader.u32(at, layout.state)?;
    if !matches!(state, LIVE | LEAVING | QUARANTINED) {
        return Ok(None);
    }
    let mapping = (reader.word(at, layout.mapping)?, reader.word(at, layout.mapping_len)?);
    Ok(Some(Checked {
        start: reader.word(at, layout.start)?,
        size: reader.word(at, layout.size)?,
        base: reader.word(at, layout.base)?,
        bytes: reader.word(at, layout.len)?,
        mapping: Some(mapping).filter(|&(_, bytes)| bytes > 0),
        is_live: state != QUARANTINED,
        record: at,
    }))
}

/// Whether blocks have red zones.
pub(super) fn has_red_zones(memory: &dyn Memory, root: &Root) -> bool {
    let attended = super::settings::attended(&mut Reader::new(memory), root);
    attended.is_ok_and(|bits| bits & root.layout.books.red_zones != 0)
}
