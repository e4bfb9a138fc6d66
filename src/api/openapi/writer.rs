//! JSON written token by token.

use std::io::{self, Write};

/// Puts commas; the caller balances what it opens.
pub(super) struct Writer<W> {
    out: W,
    comma: bool,
}

impl<W: Write> Writer<W> {
    pub(super) fn new(out: W) -> Self {
        Self { out, comma: false }
    }

    fn separate(&mut self) -> io::Result<()> {
        if std::mem::replace(&mut self.comma, true) { self.out.write_all(b",") } else { Ok(()) }
    }

    fn quoted(&mut self, text: &str) -> io::Result<()> {
        serde_json::to_writer(&mut self.out, text).map_err(io::Error::from)
    }

    pub(super) fn key(&mut self, key: &str) -> io::Result<()> {
        self.separate()?;
        self.quoted(key)?;
        self.comma = false;
        self.out.write_all(b":")
    }

    pub(super) fn string(&mut self, text: &str) -> io::Result<()> {
        self.separate()?;
        self.quoted(text)
    }

    /// Text that is JSON already.
    pub(super) fn raw(&mut self, json: &str) -> io::Result<()> {
        self.separate()?;
        self.out.write_all(json.as_bytes())
    }

    pub(super) fn field(&mut self, key: &str, text: &str) -> io::Result<()> {
        self.key(key)?;
        self.string(text)
    }

    pub(super) fn strings<'a>(&mut self, key: &str, items: impl IntoIterator<Item = &'a str>) -> io::Result<()> {
        self.key(key)?;
        self.array(|writer| items.into_iter().try_for_each(|item| writer.string(item)))
    }

    pub(super) fn object(&mut self, content: impl FnOnce(&mut Self) -> io::Result<()>) -> io::Result<()> {
        self.nest(b"{", content, b"}")
    }

    pub(super) fn array(&mut self, content: impl FnOnce(&mut Self) -> io::Result<()>) -> io::Result<()> {
        self.nest(b"[", content, b"]")
    }

    fn nest(&mut self, open: &[u8], content: impl FnOnce(&mut Self) -> io::Result<()>, close: &[u8]) -> io::Result<()> {
        self.separate()?;
        self.out.write_all(open)?;
        self.comma = false;
        content(self)?;
        self.comma = true;
        self.out.write_all(close)
    }
}
