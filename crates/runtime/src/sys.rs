//! What the platform asks for by address.
#![expect(unsafe_code, reason = "madvise takes addresses")]

use std::ops::Range;

/// Unmaps the pages of code and constants that starting up has touched; what runs on is mapped again from the page cache
/// by itself. Most of a small proxy's resident memory is code that runs once: parsing arguments, reading the first
/// configuration. Best effort: where the kernel tells no mappings, nothing happens.
pub fn give_back_startup_pages() {
    let Ok(smaps) = std::fs::read_to_string("/proc/self/smaps") else { return };
    for range in untouched(&smaps) {
        // SAFETY: the range is a whole mapping of a file, not writable and without a private copy of any page, so what
        // is read there after this call is what was read there before: the file's content. Mappings of this kind are made
        // by the loader and stay until the process ends.
        unsafe { libc::madvise(range.start as *mut libc::c_void, range.len(), libc::MADV_DONTNEED) };
    }
}

/// Mappings of files that were never written to: not writable, and without pages of their own.
fn untouched(smaps: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut candidate = None;
    for line in smaps.lines() {
        if let Some(range) = header(line) {
            candidate = range;
        } else if let Some(size) = line.strip_prefix("Anonymous:") {
            found.extend(candidate.take().filter(|_| size.trim() == "0 kB"));
        }
    }
    found
}

/// `Some` for the first line of a mapping; within it the range of one that is to be looked at.
fn header(line: &str) -> Option<Option<Range<usize>>> {
    let mut fields = line.split_ascii_whitespace();
    let (from, to) = fields.next()?.split_once('-')?;
    let address = |text| usize::from_str_radix(text, 16).ok();
    let (from, to) = (address(from)?, address(to)?);
    let (permissions, path) = (fields.next()?, fields.nth(3).unwrap_or_default());
    let of_a_file = path.starts_with('/') && matches!(permissions, "r-xp" | "r--p");
    Some(of_a_file.then_some(from..to))
}

#[cfg(test)]
mod sys_test {
    use super::*;

    const SMAPS: &str = "\
55d0c0000000-55d0c0002000 r--p 00000000 08:01 17 /usr/bin/heddle
Rss:                   8 kB
Anonymous:             0 kB
55d0c0002000-55d0c0004000 r-xp 00002000 08:01 17 /usr/bin/heddle
Anonymous:             0 kB
55d0c0004000-55d0c0005000 r--p 00004000 08:01 17 /usr/bin/heddle
Anonymous:             4 kB
55d0c0005000-55d0c0006000 rw-p 00005000 08:01 17 /usr/bin/heddle
Anonymous:             0 kB
7f0000000000-7f0000001000 r--s 00000000 08:01 18 /usr/lib/gconv-modules.cache
Anonymous:             0 kB
7ffe00000000-7ffe00001000 r-xp 00000000 00:00 0 [vdso]
Anonymous:             0 kB
";

    #[test]
    fn only_what_was_never_written_to() {
        let found = untouched(SMAPS);
        assert_eq!(found, [0x55d0_c000_0000..0x55d0_c000_2000, 0x55d0_c000_2000..0x55d0_c000_4000]);
    }

    fn resident_of_files() -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("RssFile:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    #[test]
    fn less_is_resident_and_everything_still_runs() {
        let before = resident_of_files();
        give_back_startup_pages();
        let after = resident_of_files();
        assert!(after < before, "{before} kB, then {after} kB");
    }
}
