//! Access control lists of files: users and groups with a right to write that the mode does not
//! name.

use std::io;
use std::path::Path;

use rustix::io::{Errno, retry_on_intr};

use super::program::OwnershipError;

/// Attribute that has the list, and bytes of the longest one that is read.
const NAME: &str = "system.posix_acl_access";
const MAX: usize = 64 << 10;

/// Version of the attribute's layout: a number of 32 bits, then entries of 8 bytes.
const VERSION: u32 = 2;
/// Tags of entries.
const USER: u16 = 0x02;
const GROUP: u16 = 0x08;
const MASK: u16 = 0x10;
/// Right to write.
const WRITE: u16 = 2;

/// Checks that the list of a file or directory gives no other user or group the right to write.
///
/// # Errors
///
/// The first user or group with that right, other than root and the daemon's own; the system's
/// error if the list cannot be read.
pub(crate) fn check_acl(path: &Path) -> io::Result<Result<(), OwnershipError>> {
    let mut list = vec![0; MAX];
    let list = match retry_on_intr(|| rustix::fs::getxattr(path, NAME, &mut list)) {
        Ok(len) => list.get(..len).unwrap_or_default(),
        Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::NOSYS) => return Ok(Ok(())),
        Err(error) => return Err(error.into()),
    };
    check_version(list)?;
    let own = [
        rustix::process::geteuid().as_raw(),
        rustix::process::getegid().as_raw(),
    ];
    Ok(check_list(list, own))
}

/// Checks that the rights of a list can be read.
fn check_version(list: &[u8]) -> io::Result<()> {
    match list.split_first_chunk() {
        Some((version, _)) if u32::from_le_bytes(*version) == VERSION => Ok(()),
        _ => {
            let what = "its access control list is of an unknown version";
            Err(io::Error::new(io::ErrorKind::InvalidData, what))
        }
    }
}

/// One entry: its tag, its rights, and its user or group.
fn entries(list: &[u8]) -> impl Iterator<Item = (u16, u16, u32)> {
    let (_, entries) = list.split_first_chunk::<4>().unwrap_or((&[0; 4], &[]));
    entries
        .as_chunks::<8>()
        .0
        .iter()
        .map(|[a, b, c, d, id @ ..]| {
            let (tag, rights) = (u16::from_le_bytes([*a, *b]), u16::from_le_bytes([*c, *d]));
            (tag, rights, u32::from_le_bytes(*id))
        })
}

/// Checks a list; `own` are the user and the group of the daemon.
fn check_list(list: &[u8], own: [u32; 2]) -> Result<(), OwnershipError> {
    let mask = entries(list).find(|(tag, ..)| *tag == MASK);
    let mask = mask.map_or(WRITE, |(_, rights, _)| rights);
    for (tag, rights, id) in entries(list) {
        let own = match tag {
            USER => own[0],
            GROUP => own[1],
            _ => continue,
        };
        if rights & mask & WRITE != 0 && id != 0 && id != own {
            let is_group = tag == GROUP;
            return Err(OwnershipError::List { id, is_group });
        }
    }
    Ok(())
}

/// Gives another user the right to write. Returns false, and says so, where there are no lists.
#[cfg(test)]
pub(super) fn let_user_write(path: &Path, user: u32) -> bool {
    let list = tests::list(&[(USER, 6, user)], 7);
    let set = rustix::fs::setxattr(path, NAME, &list, rustix::fs::XattrFlags::empty());
    if let Err(error) = &set {
        println!("no access control lists here, nothing is tested: {error}");
    }
    set.is_ok()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// A list with the owner's rights, these entries, and a mask.
    pub(super) fn list(entries: &[(u16, u16, u32)], mask: u16) -> Vec<u8> {
        let owner = [(1, 7, u32::MAX)];
        let others = [
            (4, 5, u32::MAX),
            (MASK, mask, u32::MAX),
            (0x20, 5, u32::MAX),
        ];
        let all = owner.iter().chain(entries).chain(&others);
        let all = all.flat_map(|(tag, rights, id)| {
            let id = id.to_le_bytes();
            [&tag.to_le_bytes()[..], &rights.to_le_bytes(), &id].concat()
        });
        VERSION.to_le_bytes().into_iter().chain(all).collect()
    }

    #[test]
    fn entries_that_let_others_write_are_found() {
        let check = |entries: &[_], mask| check_list(&list(entries, mask), [7, 8]);
        let user = Err(OwnershipError::List {
            id: 9,
            is_group: false,
        });
        let group = Err(OwnershipError::List {
            id: 7,
            is_group: true,
        });
        assert_eq!(check(&[(USER, 6, 9)], 7), user);
        assert_eq!(
            check(&[(USER, 6, 9)], 5),
            Ok(()),
            "the mask takes the right"
        );
        assert_eq!(
            check(&[(USER, 5, 9), (USER, 7, 0), (USER, 7, 7)], 7),
            Ok(())
        );
        assert_eq!(check(&[(GROUP, 2, 7)], 7), group);
        assert_eq!(check(&[(GROUP, 2, 8), (GROUP, 2, 0)], 7), Ok(()));
        let whole = list(&[(USER, 6, 9)], 7);
        for len in 0..whole.len() {
            let _ = check_list(&whole[..len], [7, 8]);
        }
        check_version(&whole).unwrap();
        for unknown in [&[9; 64][..], &[2, 0, 0], &[]] {
            check_version(unknown).unwrap_err();
        }
    }

    /// Needs a file system with access control lists; without one nothing is tested.
    #[test]
    fn list_of_a_file_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        assert_eq!(check_acl(&file).unwrap(), Ok(()));
        if !let_user_write(&file, 4_000_000_001) {
            return;
        }
        let found = check_acl(&file).unwrap().unwrap_err().to_string();
        assert!(found.contains("user 4000000001"), "{found}");
        assert!(check_acl(&dir.path().join("none")).is_err());
    }
}
