//! JSON to normal trees in one pass, as Go's encoding/json decodes into the type and prints it again.
//!
//! Upstream: sigs.k8s.io/json (case-sensitive keys, integers kept, strict errors with paths). A value of the wrong
//! type does not end decoding there either: the first such error is told after the syntax was seen to be right.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt::Write;

use serde_json::{Map, Number, Value};

use super::lexer::Lexer;
use super::presence::{finish, vanishes, zero};
use super::{DecodeError, Decoded, TypeMeta, scalar};
use crate::schema::{Kind, Type};

/// Strict errors that are kept, as upstream.
const MAX_STRICT: usize = 100;

/// Decodes an object of a type.
pub fn decode(ty: Type<'_>, bytes: &[u8]) -> Result<Decoded, DecodeError> {
    let mut decoder =
        Decoder { lexer: Lexer::new(bytes), path: Vec::new(), holder: None, error: None, strict: Vec::new() };
    let value = decoder.value(ty)?;
    decoder.lexer.finish()?;
    match decoder.error {
        Some(error) => Err(error),
        None => Ok(Decoded { value: if value.is_null() { zero(ty) } else { value }, strict: decoder.strict }),
    }
}

/// Whether bytes are JSON at all; an error is Go's.
pub fn check(bytes: &[u8]) -> Result<(), DecodeError> {
    let mut lexer = Lexer::new(bytes);
    any(&mut lexer)?;
    lexer.finish()
}

/// Keys that stand twice in a map, of any JSON, in upstream's words; `known` are the keys that maps in a top-level list may have.
pub fn breaches(bytes: &[u8], known: Option<&[&str]>) -> Result<Vec<String>, DecodeError> {
    let mut lexer = Lexer::new(bytes);
    let mut found = Vec::new();
    walk(&mut lexer, "", known, &mut found)?;
    lexer.finish()?;
    found.truncate(MAX_STRICT);
    Ok(found)
}

fn walk(lexer: &mut Lexer<'_>, path: &str, known: Option<&[&str]>, found: &mut Vec<String>) -> Result<(), DecodeError> {
    match lexer.peek()? {
        b'{' => {
            lexer.open()?;
            let mut seen = HashSet::new();
            while let Some(key) = lexer.key(seen.is_empty())? {
                let dot = if path.is_empty() { "" } else { "." };
                let below = format!("{path}{dot}{key}");
                if known.is_some_and(|known| !known.contains(&&*key)) {
                    found.push(format!("unknown field \"{below}\""));
                } else if seen.contains(&*key) {
                    found.push(format!("duplicate field \"{below}\""));
                }
                seen.insert(key.into_owned());
                walk(lexer, &below, None, found)?;
            }
        }
        b'[' => {
            lexer.open()?;
            let mut index = 0;
            while lexer.element(index == 0)? {
                walk(lexer, &format!("{path}[{index}]"), known, found)?;
                index += 1;
            }
        }
        _ => drop(any(lexer)?),
    }
    Ok(())
}

/// `apiVersion` and `kind` of an object; what stands behind both is not read.
pub fn type_meta(bytes: &[u8]) -> Result<TypeMeta, DecodeError> {
    read_type_meta(bytes).map_err(|error| match error {
        DecodeError::Depth => error,
        other => DecodeError::Syntax(format!("couldn't get version/kind; json parse error: {other}")),
    })
}

fn read_type_meta(bytes: &[u8]) -> Result<TypeMeta, DecodeError> {
    let mut lexer = Lexer::new(bytes);
    let mut meta = TypeMeta::default();
    if lexer.peek()? != b'{' {
        let found = any(&mut lexer)?;
        let target = "struct { APIVersion string \"json:\\\"apiVersion,omitempty\\\"\"; Kind string \"json:\\\"kind,omitempty\\\"\" }";
        return Err(DecodeError::Type(format!(
            "json: cannot unmarshal {} into Go value of type {target}",
            described(&found)
        )));
    }
    lexer.open()?;
    let (mut first, mut found) = (true, 0);
    while let Some(key) = lexer.key(first)? {
        first = false;
        let target = match &*key {
            "apiVersion" => &mut meta.api_version,
            "kind" => &mut meta.kind,
            _ => {
                any(&mut lexer)?;
                continue;
            }
        };
        match any(&mut lexer)? {
            Value::String(text) => *target = text,
            Value::Null => {}
            other => {
                let text =
                    format!("json: cannot unmarshal {} into Go struct field .{key} of type string", described(&other));
                return Err(DecodeError::Type(text));
            }
        }
        found += 1;
        if found == 2 {
            return Ok(meta);
        }
    }
    lexer.finish()?;
    Ok(meta)
}

struct Decoder<'a, 's> {
    lexer: Lexer<'a>,
    path: Vec<Part<'a, 's>>,
    /// The struct whose field is being decoded.
    holder: Option<Type<'s>>,
    /// The first value of a wrong type.
    error: Option<DecodeError>,
    strict: Vec<String>,
}

enum Part<'a, 's> {
    Field(&'s str),
    Key(Cow<'a, str>),
    Index(usize),
}

impl<'a, 's> Decoder<'a, 's> {
    /// Decodes one value; null (also for what was of the wrong type) is left to the caller.
    fn value(&mut self, ty: Type<'s>) -> Result<Value, DecodeError> {
        let kind = ty.kind();
        match (self.lexer.peek()?, kind) {
            (b'n', _) => self.lexer.word("null").map(|()| Value::Null),
            (_, Kind::Any) => any(&mut self.lexer),
            (b'{', Kind::Struct) => self.structure(ty),
            (b'{', Kind::Map) => self.map(ty),
            (b'[', Kind::List) => self.list(ty),
            (b'"', Kind::String | Kind::IntOrString) => Ok(Value::String(self.lexer.string()?.into_owned())),
            (b'"', Kind::Bytes | Kind::Quantity | Kind::Time | Kind::MicroTime | Kind::Duration) => {
                let text = self.lexer.string()?;
                Ok(scalar::from_text(kind, &text).unwrap_or_else(|error| self.save(DecodeError::Type(error))))
            }
            (b't', Kind::Bool | Kind::SchemaOrBool) => self.lexer.word("true").map(|()| Value::Bool(true)),
            (b'f', Kind::Bool | Kind::SchemaOrBool) => self.lexer.word("false").map(|()| Value::Bool(false)),
            (b'-' | b'0'..=b'9', _) => self.number(ty),
            (b'{', Kind::SchemaOrBool | Kind::SchemaOrArray | Kind::SchemaOrStrings) => {
                self.structure(ty.element().expect("the compiler gives these kinds their element"))
            }
            (b'[', Kind::SchemaOrArray) => self.list(ty),
            (b'[', Kind::SchemaOrStrings) => self.strings(),
            _ => {
                let found = any(&mut self.lexer)?;
                Ok(self.mismatch(ty, described(&found)))
            }
        }
    }

    fn structure(&mut self, ty: Type<'s>) -> Result<Value, DecodeError> {
        self.lexer.open()?;
        let outer = self.holder.replace(ty);
        let mut map = Map::new();
        let mut seen = Seen::default();
        let mut first = true;
        while let Some(key) = self.lexer.key(first)? {
            first = false;
            let Some(index) = ty.field_index(&key) else {
                self.breach("unknown", &key);
                any(&mut self.lexer)?;
                continue;
            };
            let field = ty.field_at(index);
            if seen.insert(index) {
                self.breach("duplicate", &key);
            }
            self.path.push(Part::Field(field.name()));
            let value = self.value(field.ty())?;
            self.path.pop();
            if vanishes(field, &value) {
                map.remove(field.name());
            } else if !value.is_null() {
                map.insert(key.into_owned(), value);
            }
        }
        self.holder = outer;
        finish(ty, &mut map);
        Ok(Value::Object(map))
    }

    fn map(&mut self, ty: Type<'s>) -> Result<Value, DecodeError> {
        self.lexer.open()?;
        let element = ty.element().expect("a map has an element");
        let mut map = Map::new();
        let mut first = true;
        while let Some(key) = self.lexer.key(first)? {
            first = false;
            if map.contains_key(&*key) {
                self.breach("duplicate", &key);
            }
            self.path.push(Part::Key(key));
            let value = self.value(element)?;
            let Some(Part::Key(key)) = self.path.pop() else { unreachable!("the key was pushed above") };
            map.insert(key.into_owned(), if value.is_null() { zero(element) } else { value });
        }
        Ok(Value::Object(map))
    }

    fn list(&mut self, ty: Type<'s>) -> Result<Value, DecodeError> {
        self.lexer.open()?;
        let element = ty.element().expect("a list has an element");
        let mut list = Vec::new();
        while self.lexer.element(list.is_empty())? {
            self.path.push(Part::Index(list.len()));
            let value = self.value(element)?;
            self.path.pop();
            list.push(if value.is_null() { zero(element) } else { value });
        }
        Ok(Value::Array(list))
    }

    fn strings(&mut self) -> Result<Value, DecodeError> {
        self.lexer.open()?;
        let mut list = Vec::new();
        while self.lexer.element(list.is_empty())? {
            let value = any(&mut self.lexer)?;
            if !value.is_string() {
                self.save(DecodeError::Type(format!(
                    "json: cannot unmarshal {} into Go value of type string",
                    described(&value)
                )));
            }
            list.push(value);
        }
        Ok(Value::Array(list))
    }

    fn number(&mut self, ty: Type<'s>) -> Result<Value, DecodeError> {
        let text = self.lexer.number()?;
        let value = match ty.kind() {
            Kind::Int32 | Kind::IntOrString => text.parse::<i32>().ok().map(Value::from),
            Kind::Int64 => text.parse::<i64>().ok().map(Value::from),
            Kind::Uint32 => text.parse::<u32>().ok().map(Value::from),
            Kind::Uint64 => text.parse::<u64>().ok().map(Value::from),
            Kind::Float64 => text.parse::<f64>().ok().and_then(float),
            Kind::Quantity => match scalar::from_text(Kind::Quantity, text) {
                Ok(value) => Some(value),
                Err(error) => return Ok(self.save(DecodeError::Type(error))),
            },
            Kind::String | Kind::Bool | Kind::Struct | Kind::Map | Kind::List | Kind::Bytes => {
                return Ok(self.mismatch(ty, "number".to_owned()));
            }
            _ => return Ok(self.mismatch(ty, "number".to_owned())),
        };
        Ok(value.unwrap_or_else(|| self.mismatch(ty, format!("number {text}"))))
    }

    /// Keeps the first error and stands in for the value.
    fn save(&mut self, error: DecodeError) -> Value {
        self.error.get_or_insert(error);
        Value::Null
    }

    fn mismatch(&mut self, ty: Type<'s>, found: String) -> Value {
        let wanted = go_name(ty);
        let fields: Vec<&str> =
            self.path.iter().filter_map(|part| if let Part::Field(name) = part { Some(*name) } else { None }).collect();
        let own = matches!(ty.kind(), Kind::Time | Kind::MicroTime | Kind::Duration | Kind::IntOrString);
        let text = match self.holder {
            Some(holder) if !own => {
                let holder = go_name(holder);
                let holder = holder.rsplit('.').next().unwrap_or_default();
                format!(
                    "json: cannot unmarshal {found} into Go struct field {holder}.{} of type {wanted}",
                    fields.join(".")
                )
            }
            _ => format!("json: cannot unmarshal {found} into Go value of type {wanted}"),
        };
        let text = match ty.kind() {
            Kind::SchemaOrBool => "boolean or JSON schema expected".to_owned(),
            Kind::Quantity => crate::quantity::Quantity::parse("x").map_or_else(|error| error.to_string(), |_| text),
            _ => text,
        };
        self.save(DecodeError::Type(text))
    }

    fn breach(&mut self, what: &str, key: &str) {
        if self.strict.len() >= MAX_STRICT {
            return;
        }
        let mut text = format!("{what} field \"");
        for part in &self.path {
            match part {
                Part::Index(index) => {
                    let _ = write!(text, "[{index}]");
                }
                Part::Field(name) => join(&mut text, name),
                Part::Key(name) => join(&mut text, name),
            }
        }
        join(&mut text, key);
        text.push('"');
        if !self.strict.contains(&text) {
            self.strict.push(text);
        }
    }
}

fn join(text: &mut String, name: &str) {
    if !text.ends_with('"') {
        text.push('.');
    }
    text.push_str(name);
}

/// Which fields of a struct were met; more than 128 fields are not told apart, none of upstream's has as many.
#[derive(Default)]
struct Seen(u128);

impl Seen {
    /// Whether it was met before.
    fn insert(&mut self, index: u32) -> bool {
        let bit = 1_u128.checked_shl(index).unwrap_or(0);
        let seen = self.0 & bit != 0;
        self.0 |= bit;
        seen
    }
}

/// Any JSON, kept as it is.
pub(super) fn any(lexer: &mut Lexer<'_>) -> Result<Value, DecodeError> {
    Ok(match lexer.peek()? {
        b'{' => {
            lexer.open()?;
            let mut map = Map::new();
            let mut first = true;
            while let Some(key) = lexer.key(first)? {
                first = false;
                let value = any(lexer)?;
                map.insert(key.into_owned(), value);
            }
            Value::Object(map)
        }
        b'[' => {
            lexer.open()?;
            let mut list = Vec::new();
            while lexer.element(list.is_empty())? {
                list.push(any(lexer)?);
            }
            Value::Array(list)
        }
        b'"' => Value::String(lexer.string()?.into_owned()),
        b't' => lexer.word("true").map(|()| Value::Bool(true))?,
        b'f' => lexer.word("false").map(|()| Value::Bool(false))?,
        b'n' => lexer.word("null").map(|()| Value::Null)?,
        _ => {
            let text = lexer.number()?;
            let whole = if text.contains('.') { None } else { text.parse::<i64>().ok().map(Value::from) };
            let number = whole.or_else(|| Number::from_f64(text.parse().ok()?).map(Value::Number));
            number.ok_or_else(|| {
                DecodeError::Type(format!("json: cannot unmarshal number {text} into Go value of type float64"))
            })?
        }
    })
}

/// A float as Go prints it: whole numbers without a point.
pub(super) fn float(number: f64) -> Option<Value> {
    if number.fract() == 0.0 && number.abs() < 1e15 {
        return Some(Value::from(number as i64));
    }
    Number::from_f64(number).map(Value::Number)
}

/// What Go calls the kind of a JSON value.
pub fn described(value: &Value) -> String {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
    .to_owned()
}

/// The Go type as errors name it: `int32`, `v1.PodSpec`, `[]v1.Container`, `map[string]string`.
fn go_name(ty: Type<'_>) -> String {
    let element = || ty.element().map(go_name).unwrap_or_default();
    if !ty.name().is_empty() {
        let mut parts = ty.name().rsplit('.');
        let (name, package) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        return format!("{package}.{name}");
    }
    match ty.kind() {
        Kind::List => format!("[]{}", element()),
        Kind::Map => format!("map[string]{}", element()),
        Kind::Bytes => "[]uint8".to_owned(),
        Kind::Bool => "bool".to_owned(),
        Kind::Int32 | Kind::IntOrString => "int32".to_owned(),
        Kind::Int64 => "int64".to_owned(),
        Kind::Uint32 => "uint32".to_owned(),
        Kind::Uint64 => "uint64".to_owned(),
        Kind::Float64 => "float64".to_owned(),
        Kind::Quantity => "resource.Quantity".to_owned(),
        Kind::Struct | Kind::Any | Kind::SchemaOrBool | Kind::SchemaOrArray | Kind::SchemaOrStrings => {
            "interface {}".to_owned()
        }
        Kind::String | Kind::Time | Kind::MicroTime | Kind::Duration => "string".to_owned(),
    }
}
