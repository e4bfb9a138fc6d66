//! Messages read into trees: unknown numbers are skipped, the last of a repeated scalar counts, messages merge.

use serde_json::{Map, Value};

use super::{BYTES, FIXED32, FIXED64, VARINT};
use crate::codec::json::{any, float};
use crate::codec::lexer::Lexer;
use crate::codec::presence::{finish, vanishes, zero};
use crate::codec::{DecodeError, MAX_DEPTH, scalar, time};
use crate::schema::{Kind, Type, Wire};

/// One field of a message as the wire holds it.
#[derive(Clone, Copy)]
pub(super) enum Entry<'a> {
    Varint(u64),
    Fixed64([u8; 8]),
    Fixed32,
    Bytes(&'a [u8]),
}

/// The fields of a message with their numbers.
pub(super) struct Entries<'a> {
    bytes: &'a [u8],
}

impl<'a> Entries<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self.bytes.split_at_checked(count).ok_or_else(end)?;
        self.bytes = rest;
        Ok(taken)
    }

    fn varint(&mut self) -> Result<u64, DecodeError> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?[0];
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(DecodeError::Syntax("proto: integer overflow".to_owned()))
    }

    fn entry(&mut self) -> Result<(u16, Entry<'a>), DecodeError> {
        let key = self.varint()?;
        let number = key >> 3;
        if number == 0 {
            return Err(DecodeError::Syntax(format!("proto: illegal tag {number} (wire type {})", key & 7)));
        }
        let entry = match (key & 7) as u8 {
            VARINT => Entry::Varint(self.varint()?),
            FIXED64 => Entry::Fixed64(self.take(8)?.try_into().expect("eight bytes were taken")),
            BYTES => {
                let length = usize::try_from(self.varint()?).map_err(|_| end())?;
                Entry::Bytes(self.take(length)?)
            }
            FIXED32 => self.take(4).map(|_| Entry::Fixed32)?,
            wire => return Err(DecodeError::Syntax(format!("proto: illegal wireType {wire}"))),
        };
        // Larger numbers are in no table: they are skipped like every other unknown one.
        Ok((u16::try_from(number).unwrap_or(u16::MAX), entry))
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = Result<(u16, Entry<'a>), DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.bytes.is_empty() {
            return None;
        }
        let entry = self.entry();
        if entry.is_err() {
            self.bytes = &[];
        }
        Some(entry)
    }
}

fn end() -> DecodeError {
    DecodeError::Syntax("unexpected EOF".to_owned())
}

/// Reads a message into an object. Zero values that Go does not print are left out; those it does print and the
/// message lacks are the caller's to add (`finish`), after the last part of a message was merged.
pub(super) fn message(
    ty: Type<'_>,
    bytes: &[u8],
    map: &mut Map<String, Value>,
    depth: usize,
) -> Result<(), DecodeError> {
    if depth > MAX_DEPTH {
        return Err(DecodeError::Depth);
    }
    for entry in Entries::new(bytes) {
        let (number, entry) = entry?;
        match ty.field_by_number(number) {
            None => {}
            Some(Wire::Inline(inner)) => message(inner, expect_bytes(ty, number, entry)?, map, depth)?,
            Some(Wire::Field(field)) => {
                let old = map.remove(field.name());
                let value = value(field.ty(), number, entry, old, depth)?;
                if !vanishes(field, &value) {
                    map.insert(field.name().to_owned(), value);
                }
            }
        }
    }
    Ok(())
}

fn expect_bytes<'a>(ty: Type<'_>, number: u16, entry: Entry<'a>) -> Result<&'a [u8], DecodeError> {
    match entry {
        Entry::Bytes(bytes) => Ok(bytes),
        _ => Err(wrong(ty, number)),
    }
}

fn wrong(ty: Type<'_>, number: u16) -> DecodeError {
    DecodeError::Syntax(format!("proto: wrong wireType for field {number} of {:?} {}", ty.kind(), ty.name()))
}

fn value(ty: Type<'_>, number: u16, entry: Entry<'_>, old: Option<Value>, depth: usize) -> Result<Value, DecodeError> {
    let varint = || match entry {
        Entry::Varint(value) => Ok(value),
        _ => Err(wrong(ty, number)),
    };
    Ok(match ty.kind() {
        Kind::Bool => Value::Bool(varint()? != 0),
        Kind::Int32 => Value::from(varint()? as i32),
        Kind::Int64 => Value::from(varint()? as i64),
        Kind::Uint32 => Value::from(varint()? as u32),
        Kind::Uint64 => Value::from(varint()?),
        Kind::Float64 => match entry {
            Entry::Fixed64(bytes) => float(f64::from_le_bytes(bytes)).unwrap_or_else(|| Value::from(0)),
            _ => return Err(wrong(ty, number)),
        },
        Kind::List if !ty.wrapped() => {
            let mut list = if let Some(Value::Array(list)) = old { list } else { Vec::new() };
            match (entry, element(ty).kind()) {
                (Entry::Bytes(packed), Kind::Int32 | Kind::Int64 | Kind::Bool) => {
                    let mut entries = Entries::new(packed);
                    while !entries.bytes.is_empty() {
                        let item = Entry::Varint(entries.varint()?);
                        list.push(value(element(ty), number, item, None, depth + 1)?);
                    }
                }
                _ => list.push(value(element(ty), number, entry, None, depth + 1)?),
            }
            Value::Array(list)
        }
        kind => {
            let bytes = expect_bytes(ty, number, entry)?;
            match kind {
                Kind::String => Value::String(String::from_utf8_lossy(bytes).into_owned()),
                Kind::Bytes => Value::String(scalar::base64(bytes)),
                Kind::List => {
                    let mut list = Vec::new();
                    for item in Entries::new(bytes) {
                        if let (1, item) = item? {
                            list.push(value(element(ty), 1, item, None, depth + 1)?);
                        }
                    }
                    Value::Array(list)
                }
                Kind::Map => {
                    let mut map = if let Some(Value::Object(map)) = old { map } else { Map::new() };
                    let (mut key, mut item) = (String::new(), None);
                    for part in Entries::new(bytes) {
                        match part? {
                            (1, Entry::Bytes(text)) => key = String::from_utf8_lossy(text).into_owned(),
                            (2, part) => item = Some(value(element(ty), 2, part, None, depth + 1)?),
                            _ => {}
                        }
                    }
                    // A lacking value is empty, also for bytes, whose zero value would be null.
                    let lacking =
                        || if element(ty).kind() == Kind::Bytes { Value::from("") } else { zero(element(ty)) };
                    map.insert(key, item.unwrap_or_else(lacking));
                    Value::Object(map)
                }
                _ => composite(ty, bytes, old, depth + 1)?,
            }
        }
    })
}

fn element(ty: Type<'_>) -> Type<'_> {
    ty.element().expect("lists, maps and the schema kinds have an element")
}

/// A message that stands for one value.
fn composite(ty: Type<'_>, bytes: &[u8], old: Option<Value>, depth: usize) -> Result<Value, DecodeError> {
    if ty.kind() == Kind::Struct {
        let mut map = if let Some(Value::Object(map)) = old { map } else { Map::new() };
        message(ty, bytes, &mut map, depth)?;
        finish(ty, &mut map);
        return Ok(Value::Object(map));
    }
    let (mut first, mut second) = (0, 0);
    let (mut text, mut list, mut schema) = (None, Vec::new(), None);
    for entry in Entries::new(bytes) {
        match entry? {
            (1, Entry::Varint(value)) => first = value,
            (2, Entry::Varint(value)) => second = value,
            (1, Entry::Bytes(bytes)) if ty.kind() == Kind::SchemaOrArray || ty.kind() == Kind::SchemaOrStrings => {
                schema = Some(composite(element(ty), bytes, None, depth)?);
            }
            (2, Entry::Bytes(bytes)) if ty.kind() == Kind::SchemaOrBool => {
                schema = Some(composite(element(ty), bytes, None, depth)?);
            }
            (2, Entry::Bytes(bytes)) if ty.kind() == Kind::SchemaOrArray => {
                list.push(composite(element(ty), bytes, None, depth)?);
            }
            (2, Entry::Bytes(bytes)) => list.push(Value::String(String::from_utf8_lossy(bytes).into_owned())),
            (1 | 3, Entry::Bytes(bytes)) => text = Some(bytes),
            _ => {}
        }
    }
    let lossy = |text: Option<&[u8]>| String::from_utf8_lossy(text.unwrap_or_default()).into_owned();
    Ok(match ty.kind() {
        Kind::Quantity => scalar::from_text(Kind::Quantity, &lossy(text)).map_err(DecodeError::Type)?,
        Kind::Time | Kind::MicroTime => {
            let micro = ty.kind() == Kind::MicroTime;
            let (seconds, nanos) = (first as i64, if micro { second as u32 / 1000 * 1000 } else { 0 });
            if bytes.is_empty() || time::is_zero(seconds, nanos) {
                Value::Null
            } else {
                let text = time::format(seconds, nanos, micro);
                Value::String(text.ok_or_else(|| DecodeError::Type("a time is out of range".to_owned()))?)
            }
        }
        Kind::Duration => Value::String(time::format_duration(first as i64)),
        Kind::IntOrString if first == 1 => Value::String(lossy(text)),
        Kind::IntOrString => Value::from(second as i32),
        Kind::Any => match text {
            None => Value::Null,
            Some(raw) => {
                let mut lexer = Lexer::new(raw);
                let value = any(&mut lexer)?;
                lexer.finish()?;
                value
            }
        },
        Kind::SchemaOrBool => schema.unwrap_or(Value::Bool(first != 0)),
        Kind::SchemaOrArray | Kind::SchemaOrStrings if !list.is_empty() => Value::Array(list),
        Kind::SchemaOrArray | Kind::SchemaOrStrings => schema.unwrap_or(Value::Null),
        kind => return Err(DecodeError::Syntax(format!("{kind:?} is no message"))),
    })
}
