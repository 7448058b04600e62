//! Inputs that are kept: `fuzz/corpus/NAME.txt`, one a line, with Rust's escapes.

use std::path::PathBuf;

/// The most bytes of one target's file.
const MOST: usize = 6 << 10;

fn path(target: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("corpus/{target}.txt"))
}

/// What was kept for a target.
pub(crate) fn read(target: &str) -> Vec<Vec<u8>> {
    let text = std::fs::read_to_string(path(target)).unwrap_or_default();
    text.lines().map(unescape).collect()
}

/// Keeps inputs, in the order of their worth, as far as there is room.
pub(crate) fn write(target: &str, inputs: &[Vec<u8>]) -> std::io::Result<()> {
    let mut lines: Vec<String> = Vec::new();
    let mut room = MOST;
    for input in inputs {
        let line = input.escape_ascii().to_string();
        if let Some(left) = room.checked_sub(line.len() + 1) {
            room = left;
            lines.push(line);
        }
    }
    lines.sort();
    let path = path(target);
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    std::fs::write(path, lines.join("\n") + "\n")
}

fn unescape(line: &str) -> Vec<u8> {
    let (mut bytes, mut out) = (line.bytes(), Vec::new());
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'\\' => match bytes.next() {
                Some(b'n') => b'\n',
                Some(b'r') => b'\r',
                Some(b't') => b'\t',
                Some(b'x') => {
                    let digits: String = bytes.by_ref().take(2).map(char::from).collect();
                    u8::from_str_radix(&digits, 16).unwrap_or_default()
                }
                Some(other) => other,
                None => break,
            },
            byte => byte,
        });
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_read() {
        let every: Vec<u8> = (0..=255).collect();
        assert_eq!(unescape(&every.escape_ascii().to_string()), every);
    }

    #[test]
    fn what_is_kept_is_small_and_has_no_finding() {
        for target in heddle_fuzz::TARGETS {
            let kept = read(target.name);
            let size: usize = kept.iter().map(|input| input.escape_ascii().count() + 1).sum();
            assert!(size <= MOST, "{}: {size} bytes", target.name);
            for input in kept {
                (target.run)(&input);
            }
        }
    }
}
