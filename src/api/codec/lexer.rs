//! JSON's tokens by Go's rules: what encoding/json refuses is refused in its words; invalid UTF-8 becomes U+FFFD.

use std::borrow::Cow;

use super::{DecodeError, MAX_DEPTH};

pub(super) struct Lexer<'a> {
    bytes: &'a [u8],
    at: usize,
    depth: usize,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0, depth: 0 }
    }

    fn space(&mut self) {
        while let Some(b' ' | b'\t' | b'\r' | b'\n') = self.bytes.get(self.at) {
            self.at += 1;
        }
    }

    /// The first byte of the next token, not taken.
    pub(super) fn peek(&mut self) -> Result<u8, DecodeError> {
        self.space();
        self.bytes.get(self.at).copied().ok_or_else(end)
    }

    fn invalid(&self, context: &str) -> DecodeError {
        match self.bytes.get(self.at) {
            Some(byte) => DecodeError::Syntax(format!("invalid character {} {context}", quoted(*byte))),
            None => end(),
        }
    }

    /// Enters an object or array whose opening is the next byte.
    pub(super) fn open(&mut self) -> Result<(), DecodeError> {
        self.at += 1;
        self.depth += 1;
        if self.depth > MAX_DEPTH { Err(DecodeError::Depth) } else { Ok(()) }
    }

    /// At the next key of an object, or past its end.
    pub(super) fn key(&mut self, first: bool) -> Result<Option<Cow<'a, str>>, DecodeError> {
        match (self.peek()?, first) {
            (b'}', _) => {
                self.close();
                return Ok(None);
            }
            (b',', false) => {
                self.at += 1;
                if self.peek()? != b'"' {
                    return Err(self.invalid("looking for beginning of object key string"));
                }
            }
            (b'"', true) => {}
            (_, true) => return Err(self.invalid("looking for beginning of object key string")),
            (_, false) => return Err(self.invalid("after object key:value pair")),
        }
        let key = self.string()?;
        if self.peek()? != b':' {
            return Err(self.invalid("after object key"));
        }
        self.at += 1;
        Ok(Some(key))
    }

    /// At the next element of an array (true), or past its end.
    pub(super) fn element(&mut self, first: bool) -> Result<bool, DecodeError> {
        match (self.peek()?, first) {
            (b']', _) => {
                self.close();
                Ok(false)
            }
            (b',', false) => {
                self.at += 1;
                if self.peek()? == b']' {
                    return Err(self.invalid("looking for beginning of value"));
                }
                Ok(true)
            }
            (_, true) => Ok(true),
            (_, false) => Err(self.invalid("after array element")),
        }
    }

    fn close(&mut self) {
        self.at += 1;
        self.depth -= 1;
    }

    pub(super) fn word(&mut self, word: &'static str) -> Result<(), DecodeError> {
        for (index, expected) in word.bytes().enumerate() {
            if self.bytes.get(self.at) != Some(&expected) {
                return Err(match index {
                    0 => self.invalid("looking for beginning of value"),
                    _ => self.invalid(&format!("in literal {word} (expecting {})", quoted(expected))),
                });
            }
            self.at += 1;
        }
        Ok(())
    }

    /// A number's text.
    pub(super) fn number(&mut self) -> Result<&'a str, DecodeError> {
        let start = self.at;
        self.take(b"-");
        match self.bytes.get(self.at) {
            Some(b'0') => self.at += 1,
            Some(b'1'..=b'9') => self.digits(),
            _ if self.at == start => return Err(self.invalid("looking for beginning of value")),
            _ => return Err(self.invalid("in numeric literal")),
        }
        if self.take(b".") {
            self.some_digits("after decimal point in numeric literal")?;
        }
        if self.take(b"eE") {
            self.take(b"+-");
            self.some_digits("in exponent of numeric literal")?;
        }
        Ok(std::str::from_utf8(&self.bytes[start..self.at]).expect("a number is ASCII"))
    }

    fn take(&mut self, any: &[u8]) -> bool {
        let found = self.bytes.get(self.at).is_some_and(|byte| any.contains(byte));
        self.at += usize::from(found);
        found
    }

    fn digits(&mut self) {
        while self.bytes.get(self.at).is_some_and(u8::is_ascii_digit) {
            self.at += 1;
        }
    }

    fn some_digits(&mut self, context: &str) -> Result<(), DecodeError> {
        let start = self.at;
        self.digits();
        if self.at == start { Err(self.invalid(context)) } else { Ok(()) }
    }

    /// A string whose quote is the next byte; borrowed where it has neither escapes nor invalid UTF-8.
    pub(super) fn string(&mut self) -> Result<Cow<'a, str>, DecodeError> {
        self.at += 1;
        let start = self.at;
        loop {
            match self.bytes.get(self.at) {
                Some(b'"') => break,
                Some(b'\\') => return self.escaped(start).map(Cow::Owned),
                Some(0x20..) => self.at += 1,
                _ => return Err(self.invalid("in string literal")),
            }
        }
        let text = &self.bytes[start..self.at];
        self.at += 1;
        Ok(String::from_utf8_lossy(text))
    }

    fn escaped(&mut self, start: usize) -> Result<String, DecodeError> {
        let mut text = String::from_utf8_lossy(&self.bytes[start..self.at]).into_owned();
        loop {
            match self.bytes.get(self.at) {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(text);
                }
                Some(b'\\') => {
                    self.at += 1;
                    let escape = self.escape()?;
                    text.push(escape);
                }
                Some(0x20..) => {
                    let start = self.at;
                    while matches!(self.bytes.get(self.at), Some(byte) if *byte >= 0x20 && *byte != b'"' && *byte != b'\\')
                    {
                        self.at += 1;
                    }
                    text.push_str(&String::from_utf8_lossy(&self.bytes[start..self.at]));
                }
                _ => return Err(self.invalid("in string literal")),
            }
        }
    }

    fn escape(&mut self) -> Result<char, DecodeError> {
        let escape = match self.bytes.get(self.at) {
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            Some(b'/') => '/',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => {
                self.at += 1;
                return self.code_point();
            }
            _ => return Err(self.invalid("in string escape code")),
        };
        self.at += 1;
        Ok(escape)
    }

    /// Four hexadecimal digits, or two such escapes of a surrogate pair; a lone surrogate is U+FFFD.
    fn code_point(&mut self) -> Result<char, DecodeError> {
        let high = self.hex()?;
        if let 0xd800..0xdc00 = high
            && self.bytes[self.at..].starts_with(b"\\u")
        {
            let before = self.at;
            self.at += 2;
            let low = self.hex()?;
            if let 0xdc00..0xe000 = low {
                let code = 0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00);
                return Ok(char::from_u32(code).expect("a surrogate pair is a code point"));
            }
            self.at = before;
        }
        Ok(char::from_u32(high).unwrap_or(char::REPLACEMENT_CHARACTER))
    }

    fn hex(&mut self) -> Result<u32, DecodeError> {
        let mut code = 0;
        for _ in 0..4 {
            let digit = self.bytes.get(self.at).and_then(|byte| (*byte as char).to_digit(16));
            code = code * 16 + digit.ok_or_else(|| self.invalid("in \\u hexadecimal character escape"))?;
            self.at += 1;
        }
        Ok(code)
    }

    /// Nothing but space may follow the value.
    pub(super) fn finish(&mut self) -> Result<(), DecodeError> {
        self.space();
        if self.at < self.bytes.len() { Err(self.invalid("after top-level value")) } else { Ok(()) }
    }
}

fn end() -> DecodeError {
    DecodeError::Syntax("unexpected end of JSON input".to_owned())
}

/// A byte as Go shows it in an error.
fn quoted(byte: u8) -> String {
    match byte {
        b'\'' => r"'\''".to_owned(),
        b'"' => "'\"'".to_owned(),
        b'\\' => r"'\\'".to_owned(),
        0x20..0x7f => format!("'{}'", byte as char),
        b'\n' => r"'\n'".to_owned(),
        b'\t' => r"'\t'".to_owned(),
        b'\r' => r"'\r'".to_owned(),
        0..0x80 => format!("'\\x{byte:02x}'"),
        _ => format!("'{}'", char::from(byte)),
    }
}
