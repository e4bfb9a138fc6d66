//! Container log files in the CRI's form: reads lines, selects and renders them.
//!
//! A line is `2026-01-01T00:00:00.000000000Z stdout F text`; `P` marks a part that goes on in the next line.
//! Upstream: k8s.io/cri-client pkg/logs/logs.go.

use std::io::{Read, Seek, SeekFrom};

use jiff::Timestamp;

/// Which lines are wanted, and how they are shown.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Selection {
    pub timestamps: bool,
    pub since: Option<Timestamp>,
    /// `None` is both.
    pub stream: Option<Stream>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    Stdout,
    Stderr,
}

impl Selection {
    /// Appends what is to be shown of one line of the file (without its newline).
    pub fn render(&self, line: &[u8], out: &mut Vec<u8>) {
        let mut parts = line.splitn(4, |byte| *byte == b' ');
        let (Some(time), Some(stream), Some(tag)) = (parts.next(), parts.next(), parts.next()) else { return };
        let content = parts.next().unwrap_or_default();
        let wanted = match self.stream {
            Some(Stream::Stdout) => stream == b"stdout",
            Some(Stream::Stderr) => stream == b"stderr",
            None => true,
        };
        let Ok(time) = std::str::from_utf8(time) else { return };
        if !wanted || self.since.is_some_and(|since| time.parse::<Timestamp>().is_ok_and(|time| time < since)) {
            return;
        }
        if self.timestamps {
            out.extend_from_slice(time.as_bytes());
            out.push(b' ');
        }
        out.extend_from_slice(content);
        if tag != b"P" && !tag.starts_with(b"P:") {
            out.push(b'\n');
        }
    }
}

/// Where the last `lines` lines of the file begin.
pub fn tail<F: Read + Seek>(file: &mut F, lines: u64) -> std::io::Result<u64> {
    const BLOCK: u64 = 4096;
    let end = file.seek(SeekFrom::End(0))?;
    if lines == 0 {
        return Ok(end);
    }
    let (mut start, mut found) = (end, 0);
    let mut block = Vec::new();
    while start > 0 {
        let size = BLOCK.min(start);
        start -= size;
        block.resize(size as usize, 0);
        file.seek(SeekFrom::Start(start))?;
        file.read_exact(&mut block)?;
        for (place, _) in block.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n') {
            let after = start + place as u64 + 1;
            // The newline that ends the file begins no line.
            if after < end {
                found += 1;
                if found == lines {
                    return Ok(after);
                }
            }
        }
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    const FILE: &str = "2026-01-01T00:00:00.5Z stdout F one\n2026-01-01T00:00:01Z stderr F two\n\
                        2026-01-01T00:00:02Z stdout P thr\n2026-01-01T00:00:02Z stdout F ee\n2026-01-01T00:00:03Z stdout F \n";

    fn shown(selection: &Selection) -> String {
        let mut out = Vec::new();
        FILE.lines().for_each(|line| selection.render(line.as_bytes(), &mut out));
        String::from_utf8(out).expect("it is text")
    }

    #[test]
    fn lines_are_selected_and_parts_joined() {
        assert_eq!(shown(&Selection::default()), "one\ntwo\nthree\n\n");
        let stderr = Selection { stream: Some(Stream::Stderr), timestamps: true, ..Selection::default() };
        assert_eq!(shown(&stderr), "2026-01-01T00:00:01Z two\n");
        let since = "2026-01-01T00:00:02Z".parse().ok();
        assert_eq!(shown(&Selection { since, ..Selection::default() }), "three\n\n");
    }

    #[test]
    fn tails_begin_at_lines() {
        let from = |lines| FILE[tail(&mut Cursor::new(FILE), lines).expect("memory is readable") as usize..].to_owned();
        assert_eq!(from(0), "");
        assert_eq!(from(1), "2026-01-01T00:00:03Z stdout F \n");
        assert_eq!(from(2).lines().count(), 2);
        assert_eq!(from(99), FILE);
        let long = format!("{}\nlast", "x".repeat(10_000));
        assert_eq!(tail(&mut Cursor::new(&long), 1).expect("memory is readable"), 10_001);
    }
}
