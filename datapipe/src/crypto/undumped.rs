//! Values on pages that the kernel leaves out of core dumps, and debuggers out of theirs.
//!
//! The pages are not wiped in a child of a fork: a program that forks after it has planned an
//! archive would encrypt with zeros.

use std::ops::{Deref, DerefMut};
use std::ptr::from_ref;

use rustix::mm::{Advice, madvise};
use rustix::param::page_size;

/// Bytes of a page on most machines. Where pages are larger, what else is on them is left out, too.
const PAGE: usize = 4096;

/// A value on pages of the heap that are left out of core dumps. Moving this does not move the
/// value.
///
/// It is a precaution: if the kernel refuses, the value is in the dumps.
pub(super) struct Undumped<T>(Box<Pages<T>>);

/// A value that has its pages to itself.
#[repr(align(4096))]
struct Pages<T> {
    value: T,
    /// Dropped after the value, which has erased itself by then.
    left_out: Option<LeftOut>,
}

/// Pages that are left out of dumps until this is dropped.
struct LeftOut {
    start: usize,
    len: usize,
}

impl<T> Undumped<T> {
    /// Moves a value there. Its old place is not erased.
    pub(super) fn new(value: T) -> Self {
        let mut pages = Box::new(Pages {
            value,
            left_out: None,
        });
        let start = from_ref(&*pages).addr();
        let page = page_size();
        let whole = start - start % page;
        let len = (start + size_of::<Pages<T>>() - whole).next_multiple_of(page);
        let is_left_out = mark(whole, len, true);
        // Larger pages may have other keys, so they stay left out.
        pages.left_out = (is_left_out && page <= PAGE).then_some(LeftOut { start, len });
        Self(pages)
    }
}

impl<T> Deref for Undumped<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0.value
    }
}

impl<T> DerefMut for Undumped<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0.value
    }
}

impl Drop for LeftOut {
    fn drop(&mut self) {
        mark(self.start, self.len, false);
    }
}

/// Leaves pages out of dumps, or no longer. Returns true if the kernel does so.
fn mark(start: usize, len: usize, is_left_out: bool) -> bool {
    let start = std::ptr::without_provenance_mut(start);
    let advice = match is_left_out {
        true => Advice::LinuxDontDump,
        false => Advice::LinuxDoDump,
    };
    // SAFETY: the two advices change only what the kernel writes to a dump, neither the content of
    // the pages nor what may be done with them.
    unsafe { madvise(start, len, advice) }.is_ok()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// Flags of the mapping that has this address.
    fn flags_at(address: usize) -> String {
        let maps = fs::read_to_string("/proc/self/smaps").unwrap();
        let mut is_it = false;
        for line in maps.lines() {
            let range = line
                .split(' ')
                .next()
                .and_then(|range| range.split_once('-'));
            let number = |text| usize::from_str_radix(text, 16);
            if let Some((Ok(start), Ok(end))) =
                range.map(|(start, end)| (number(start), number(end)))
            {
                is_it = (start..end).contains(&address);
            }
            if is_it && line.starts_with("VmFlags:") {
                return format!("{line} ");
            }
        }
        panic!("nothing is mapped at {address:#x}")
    }

    #[test]
    fn values_are_left_out_of_dumps_and_share_no_page() {
        let values: Vec<_> = (0..40u8).map(|n| Undumped::new([n; 5000])).collect();
        let mut pages = Vec::new();
        for (n, value) in values.iter().enumerate() {
            assert_eq!(**value, [n as u8; 5000]);
            for byte in [&value[0], &value[4999]] {
                let address = from_ref(byte).addr();
                assert!(flags_at(address).contains(" dd "), "{}", flags_at(address));
                pages.push(address / PAGE);
            }
        }
        pages.sort_unstable();
        pages.dedup();
        assert_eq!(pages.len(), 2 * values.len());
    }

    #[test]
    fn pages_are_in_dumps_again_after_the_value_is_dropped() {
        struct Flags<'f>(&'f mut String);
        impl Drop for Flags<'_> {
            fn drop(&mut self) {
                *self.0 = flags_at(from_ref(self).addr());
            }
        }
        let mut at_drop = String::new();
        let value = Undumped::new(Flags(&mut at_drop));
        let address = from_ref(&*value).addr();
        drop(value);
        assert!(at_drop.contains(" dd "), "{at_drop}");
        if page_size() <= PAGE {
            // The allocator may have given the page back.
            let maps = fs::read_to_string("/proc/self/maps").unwrap();
            let number = |text| usize::from_str_radix(text, 16).unwrap();
            let mut ranges = maps.lines().filter_map(|line| {
                let (start, end) = line.split(' ').next()?.split_once('-')?;
                Some(number(start)..number(end))
            });
            if ranges.any(|range| range.contains(&address)) {
                assert!(!flags_at(address).contains(" dd "));
            }
        }
    }
}
