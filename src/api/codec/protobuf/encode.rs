//! Messages written back to front, so that lengths are known when they are written.

use serde_json::Value;

use super::{BYTES, FIXED64, VARINT};
use crate::codec::{EncodeError, scalar, time};
use crate::schema::{Field, Kind, Type, Wire};

/// Bytes in reverse order.
#[derive(Default)]
pub(super) struct Reverse(Vec<u8>);

impl Reverse {
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.0.reverse();
        self.0
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn raw(&mut self, bytes: &[u8]) {
        self.0.extend(bytes.iter().rev());
    }

    fn varint(&mut self, mut value: u64) {
        let mut bytes = [0_u8; 10];
        let mut count = 0;
        loop {
            bytes[count] = (value & 0x7f) as u8 | if value > 0x7f { 0x80 } else { 0 };
            count += 1;
            value >>= 7;
            if value == 0 {
                break;
            }
        }
        self.raw(&bytes[..count]);
    }

    fn key(&mut self, number: u16, wire: u8) {
        self.varint(u64::from(number) << 3 | u64::from(wire));
    }

    fn number(&mut self, number: u16, value: u64) {
        self.varint(value);
        self.key(number, VARINT);
    }

    pub(super) fn bytes(&mut self, number: u16, bytes: &[u8]) {
        self.raw(bytes);
        self.varint(bytes.len() as u64);
        self.key(number, BYTES);
    }

    /// Ends a message that was begun when the buffer was `end` long.
    pub(super) fn close(&mut self, number: u16, end: usize) {
        self.varint((self.0.len() - end) as u64);
        self.key(number, BYTES);
    }

    /// A struct's fields; a null stands for the zero value.
    pub(super) fn message(&mut self, ty: Type<'_>, value: &Value) -> Result<(), EncodeError> {
        for (number, wire) in ty.wire().rev() {
            match wire {
                Wire::Inline(inner) => {
                    let end = self.len();
                    self.message(inner, value)?;
                    self.close(number, end);
                }
                Wire::Field(field) => {
                    let found = value.get(field.name()).unwrap_or(&Value::Null);
                    self.field(number, field, found)
                        .map_err(|error| EncodeError(format!("{}: {error}", field.name())))?;
                }
            }
        }
        Ok(())
    }

    fn field(&mut self, number: u16, field: Field<'_>, value: &Value) -> Result<(), EncodeError> {
        if value.is_null()
            && (field.presence().pointer || matches!(field.ty().kind(), Kind::List | Kind::Map | Kind::Bytes))
        {
            return Ok(());
        }
        self.value(number, field.ty(), value)
    }

    fn value(&mut self, number: u16, ty: Type<'_>, value: &Value) -> Result<(), EncodeError> {
        let end = self.len();
        match ty.kind() {
            Kind::String => self.bytes(number, text(value)?.as_bytes()),
            Kind::Bytes => self.bytes(number, &scalar::bytes(text(value)?).map_err(EncodeError)?),
            Kind::Bool => self.number(number, u64::from(value.as_bool().unwrap_or_default())),
            Kind::Int32 | Kind::Int64 => self.number(number, integer(value)? as u64),
            Kind::Uint32 | Kind::Uint64 => self.number(number, value.as_u64().unwrap_or_default()),
            Kind::Float64 => {
                self.raw(&value.as_f64().unwrap_or_default().to_le_bytes());
                self.key(number, FIXED64);
            }
            Kind::List if ty.wrapped() => {
                self.list(1, ty, value)?;
                self.close(number, end);
            }
            Kind::List => self.list(number, ty, value)?,
            Kind::Map => self.map(number, ty, value)?,
            _ => {
                self.composite(ty, value)?;
                self.close(number, end);
            }
        }
        Ok(())
    }

    fn list(&mut self, number: u16, ty: Type<'_>, value: &Value) -> Result<(), EncodeError> {
        let element = ty.element().expect("a list has an element");
        for item in value.as_array().into_iter().flatten().rev() {
            self.value(number, element, item)?;
        }
        Ok(())
    }

    fn map(&mut self, number: u16, ty: Type<'_>, value: &Value) -> Result<(), EncodeError> {
        let element = ty.element().expect("a map has an element");
        for (key, item) in value.as_object().into_iter().flatten().rev() {
            let end = self.len();
            if !(item.is_null() && element.kind() == Kind::Bytes) {
                self.value(2, element, item)?;
            }
            self.bytes(1, key.as_bytes());
            self.close(number, end);
        }
        Ok(())
    }

    /// The body of a message that stands for one value.
    fn composite(&mut self, ty: Type<'_>, value: &Value) -> Result<(), EncodeError> {
        let schema = || ty.element().expect("the compiler gives these kinds their element");
        match ty.kind() {
            Kind::Struct => self.message(ty, value)?,
            Kind::Quantity => self.bytes(1, if value.is_null() { b"0" } else { text(value)?.as_bytes() }),
            Kind::Time | Kind::MicroTime => {
                let micro = ty.kind() == Kind::MicroTime;
                if let Some((seconds, nanos)) = time::parse(text(value)?, micro)
                    .or_else(|error| if value.is_null() { Ok(None) } else { Err(error) })
                    .map_err(EncodeError)?
                {
                    self.number(2, if micro { u64::from(nanos / 1000 * 1000) } else { 0 });
                    self.number(1, seconds as u64);
                }
            }
            Kind::Duration => {
                let nanos = if value.is_null() { Ok(0) } else { time::parse_duration(text(value)?) };
                self.number(1, nanos.map_err(EncodeError)? as u64);
            }
            Kind::IntOrString => {
                let text = value.as_str();
                self.bytes(3, text.unwrap_or_default().as_bytes());
                self.number(2, if text.is_some() { 0 } else { integer(value)? as u64 });
                self.number(1, u64::from(text.is_some()));
            }
            Kind::Any if value.is_null() => {}
            Kind::Any => self.bytes(1, &serde_json::to_vec(value).map_err(|error| EncodeError(error.to_string()))?),
            Kind::SchemaOrBool => {
                if value.is_object() {
                    self.value(2, schema(), value)?;
                }
                self.number(1, u64::from(value.is_object() || value.as_bool() == Some(true)));
            }
            Kind::SchemaOrArray | Kind::SchemaOrStrings => match value {
                Value::Array(items) => {
                    for item in items.iter().rev() {
                        match item.as_str() {
                            Some(text) => self.bytes(2, text.as_bytes()),
                            None => self.value(2, schema(), item)?,
                        }
                    }
                }
                Value::Null => {}
                _ => self.value(1, schema(), value)?,
            },
            kind => return Err(EncodeError(format!("{kind:?} is no message"))),
        }
        Ok(())
    }
}

fn text(value: &Value) -> Result<&str, EncodeError> {
    match value {
        Value::String(text) => Ok(text),
        Value::Null => Ok(""),
        _ => Err(EncodeError(format!("{value} is no string"))),
    }
}

fn integer(value: &Value) -> Result<i64, EncodeError> {
    match value {
        Value::Null => Ok(0),
        _ => value.as_i64().ok_or_else(|| EncodeError(format!("{value} is no integer"))),
    }
}
