//! The schema table: every type and field of the API level as offset-based data that is read in place.
//!
//! One table drives decoding, pruning, strict checks, defaulting, protobuf, strategic merge, server-side apply,
//! OpenAPI and explain. Types and fields are cursors into the bytes; nothing is unpacked.

use std::borrow::Cow;

pub mod compile;

use compile::{
    ATOMIC_TYPE, DEPRECATED, FIELD_SIZE, HAS_DEFAULTS, HAS_RULES, HEADER_SIZE, NONE, OFF, OMIT_EMPTY, OMIT_ZERO,
    POINTER, REQUIRED, TYPE_SIZE, WIRE_SIZE, WRAPPED,
};

/// A compiled table: the built-in one, or one made from a CRD's schema.
pub struct Schema {
    bytes: Cow<'static, [u8]>,
}

/// What a field or list element holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Struct,
    /// String keys, values of `Type::element`.
    Map,
    /// Elements of `Type::element`.
    List,
    String,
    /// Base64 in JSON.
    Bytes,
    Bool,
    Int32,
    Int64,
    Uint32,
    Uint64,
    Float64,
    Quantity,
    IntOrString,
    /// RFC 3339, whole seconds.
    Time,
    MicroTime,
    Duration,
    /// RawExtension, FieldsV1, JSON: any tree, kept as it is.
    Any,
    /// A JSON schema (`Type::element`) or a boolean.
    SchemaOrBool,
    /// A JSON schema (`Type::element`) or a list of them.
    SchemaOrArray,
    /// A JSON schema (`Type::element`) or a list of strings.
    SchemaOrStrings,
}

/// How Go holds a field, which decides what an absent or zero value becomes on decoding.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Presence {
    pub pointer: bool,
    pub omit_empty: bool,
    pub omit_zero: bool,
}

/// List and map semantics for server-side apply (x-kubernetes-list-type, -map-type).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Merge {
    /// Structs and maps: field by field. Lists: never.
    Granular,
    Atomic,
    /// Lists of scalars.
    Set,
    /// Lists of structs with keys, see `Field::list_keys`.
    Associative,
}

/// The order of `compile::KIND_NAMES`.
const KINDS: [Kind; compile::KIND_NAMES.len()] = [
    Kind::Struct,
    Kind::Map,
    Kind::List,
    Kind::String,
    Kind::Bytes,
    Kind::Bool,
    Kind::Int32,
    Kind::Int64,
    Kind::Uint32,
    Kind::Uint64,
    Kind::Float64,
    Kind::Quantity,
    Kind::IntOrString,
    Kind::Time,
    Kind::MicroTime,
    Kind::Duration,
    Kind::Any,
    Kind::SchemaOrBool,
    Kind::SchemaOrArray,
    Kind::SchemaOrStrings,
];

static BUILTIN: Schema = Schema { bytes: Cow::Borrowed(include_bytes!(concat!(env!("OUT_DIR"), "/schema.bin"))) };

/// Also the versions that are not served, for the tests over upstream's fixtures.
#[cfg(test)]
static EVERYTHING: Schema =
    Schema { bytes: Cow::Borrowed(include_bytes!(concat!(env!("OUT_DIR"), "/everything.bin"))) };

impl Schema {
    /// The table of the served API level.
    pub fn builtin() -> &'static Schema {
        &BUILTIN
    }

    #[cfg(test)]
    pub(crate) fn everything() -> &'static Schema {
        &EVERYTHING
    }

    /// Compiles definitions at run time (CustomResourceDefinitions).
    pub fn compile(definitions: &[compile::TypeDefinition]) -> Result<Schema, String> {
        compile::compile(definitions).map(|bytes| Schema { bytes: Cow::Owned(bytes) })
    }

    /// The type of an OpenAPI name: `io.k8s.api.core.v1.Pod`.
    pub fn find(&self, name: &str) -> Option<Type<'_>> {
        self.search(word(&self.bytes, 8), word(&self.bytes, 0), |ty| ty.name().cmp(name))
    }

    /// The type of a group, version and kind.
    pub fn of_kind(&self, group: &str, version: &str, kind: &str) -> Option<Type<'_>> {
        self.search(word(&self.bytes, 16), word(&self.bytes, 12), |ty| ty.kind_key().cmp(&(kind, group, version)))
    }

    /// Every named type, by name.
    pub fn types(&self) -> impl Iterator<Item = Type<'_>> {
        let (index, count) = (word(&self.bytes, 8), word(&self.bytes, 0));
        (0..count)
            .map(move |place| Type { bytes: &self.bytes, id: word(&self.bytes, index as usize + place as usize * 4) })
    }

    fn search(&self, index: u32, count: u32, compare: impl Fn(Type<'_>) -> std::cmp::Ordering) -> Option<Type<'_>> {
        let (mut low, mut high) = (0, count as usize);
        while low < high {
            let middle = (low + high) / 2;
            let ty = Type { bytes: &self.bytes, id: word(&self.bytes, index as usize + middle * 4) };
            match compare(ty) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
                std::cmp::Ordering::Equal => return Some(ty),
            }
        }
        None
    }
}

/// A cursor at one type. Copying is two words.
#[derive(Clone, Copy)]
pub struct Type<'s> {
    bytes: &'s [u8],
    id: u32,
}

impl<'s> Type<'s> {
    fn word(self, index: usize) -> u32 {
        word(self.bytes, HEADER_SIZE + self.id as usize * TYPE_SIZE + index * 4)
    }

    /// The type's place in its schema, below the number of all its types.
    pub fn id(self) -> u32 {
        self.id
    }

    /// `io.k8s.api.core.v1.Pod`, `""` for anonymous lists, maps and scalars.
    pub fn name(self) -> &'s str {
        string(self.bytes, self.word(0))
    }

    pub fn kind(self) -> Kind {
        KINDS[(self.word(1) & 0xff) as usize]
    }

    /// What a list or map holds, and the schema of the `SchemaOr` kinds.
    pub fn element(self) -> Option<Type<'s>> {
        let id = self.word(2);
        (id != NONE).then_some(Type { bytes: self.bytes, id })
    }

    /// The JSON fields of a struct in Go's order, those of inline structs in their place.
    pub fn fields(self) -> impl ExactSizeIterator<Item = Field<'s>> + Clone {
        let start = self.word(3);
        (0..self.field_count()).map(move |index| Field { bytes: self.bytes, offset: start + index * FIELD_SIZE as u32 })
    }

    pub fn field_count(self) -> u32 {
        self.word(4) & 0xffff
    }

    /// The field at a place of `fields`.
    pub fn field_at(self, index: u32) -> Field<'s> {
        debug_assert!(index < self.field_count());
        Field { bytes: self.bytes, offset: self.word(3) + index * FIELD_SIZE as u32 }
    }

    /// The field of a JSON name; names are case-sensitive.
    pub fn field(self, json: &str) -> Option<Field<'s>> {
        self.field_index(json).map(|index| self.field_at(index))
    }

    /// The place in `fields` of a JSON name.
    pub fn field_index(self, json: &str) -> Option<u32> {
        let table = self.word(6) as usize;
        if table == 0 {
            return None;
        }
        let mask = (1_usize << ((self.word(1) >> 16) & 0xff)) - 1;
        let mut place = compile::hash(json.as_bytes()) as usize & mask;
        loop {
            let index = half(self.bytes, table + place * 2);
            if index == u16::MAX {
                return None;
            }
            let field = self.field_at(u32::from(index));
            if raw(self.bytes, field.word(0)) == json.as_bytes() {
                return Some(u32::from(index));
            }
            place = (place + 1) & mask;
        }
    }

    /// What protobuf knows of a struct, in the order of numbers.
    pub fn wire(self) -> impl DoubleEndedIterator<Item = (u16, Wire<'s>)> + ExactSizeIterator + Clone {
        let count = self.word(4) >> 16;
        let start = self.word(5) as usize;
        (0..count as usize).map(move |index| self.wire_at(start + index * WIRE_SIZE))
    }

    fn wire_at(self, offset: usize) -> (u16, Wire<'s>) {
        let payload = word(self.bytes, offset + 4);
        let wire = if half(self.bytes, offset + 2) == 1 {
            Wire::Inline(Type { bytes: self.bytes, id: payload })
        } else {
            Wire::Field(self.field_at(payload))
        };
        (half(self.bytes, offset), wire)
    }

    /// The field or inline struct of a protobuf number.
    pub fn field_by_number(self, number: u16) -> Option<Wire<'s>> {
        let (mut low, mut high) = (0, (self.word(4) >> 16) as usize);
        let start = self.word(5) as usize;
        while low < high {
            let middle = (low + high) / 2;
            let offset = start + middle * WIRE_SIZE;
            match half(self.bytes, offset).cmp(&number) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
                std::cmp::Ordering::Equal => return Some(self.wire_at(offset).1),
            }
        }
        None
    }

    /// Group, version and kind of an object's type.
    pub fn gvk(self) -> Option<(&'s str, &'s str, &'s str)> {
        let (kind, group, version) = self.kind_key();
        (!kind.is_empty()).then_some((group, version, kind))
    }

    fn kind_key(self) -> (&'s str, &'s str, &'s str) {
        (string(self.bytes, self.word(10)), string(self.bytes, self.word(8)), string(self.bytes, self.word(9)))
    }

    /// The constants of an enum type, sorted; empty for every other type.
    pub fn enum_values(self) -> Strings<'s> {
        Strings::first(self.bytes, self.word(7))
    }

    /// Declarative validation of the type itself, see `Field::rules`.
    pub fn rules(self) -> Strings<'s> {
        Strings::second(self.bytes, self.word(7))
    }

    /// `Atomic` where the type says so (x-kubernetes-map-type), else `Granular`; for lists ask the field.
    pub fn merge(self) -> Merge {
        if (self.word(1) >> 8) as u8 & ATOMIC_TYPE != 0 { Merge::Atomic } else { Merge::Granular }
    }

    /// Whether a field with a default is anywhere below.
    pub fn has_defaults(self) -> bool {
        (self.word(1) >> 8) as u8 & HAS_DEFAULTS != 0
    }

    /// Whether a declarative rule that is enforced is at the type or anywhere below.
    pub fn has_rules(self) -> bool {
        (self.word(1) >> 8) as u8 & HAS_RULES != 0
    }

    /// A named list that protobuf wraps in a message with the one field `items`.
    pub fn wrapped(self) -> bool {
        (self.word(1) >> 8) as u8 & WRAPPED != 0
    }
}

impl PartialEq for Type<'_> {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self.bytes, other.bytes) && self.id == other.id
    }
}

impl Eq for Type<'_> {}

impl std::fmt::Debug for Type<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{:?} {}", self.kind(), self.name())
    }
}

/// What a protobuf number stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire<'s> {
    Field(Field<'s>),
    /// A message whose fields stand in the parent's JSON object.
    Inline(Type<'s>),
}

/// A cursor at one field.
#[derive(Clone, Copy)]
pub struct Field<'s> {
    bytes: &'s [u8],
    offset: u32,
}

impl<'s> Field<'s> {
    fn word(self, index: usize) -> u32 {
        word(self.bytes, self.offset as usize + index * 4)
    }

    /// The JSON name.
    pub fn name(self) -> &'s str {
        string(self.bytes, self.word(0))
    }

    pub fn ty(self) -> Type<'s> {
        Type { bytes: self.bytes, id: self.word(1) }
    }

    /// The protobuf number, 0 where protobuf does not carry the field. Fields of inline structs have the number
    /// that they have in that struct's own message.
    pub fn number(self) -> u16 {
        self.word(2) as u16
    }

    pub fn presence(self) -> Presence {
        let bits = (self.word(2) >> 16) as u8;
        Presence { pointer: bits & POINTER != 0, omit_empty: bits & OMIT_EMPTY != 0, omit_zero: bits & OMIT_ZERO != 0 }
    }

    fn flags(self) -> u8 {
        (self.word(2) >> 24) as u8
    }

    pub fn required(self) -> bool {
        self.flags() & REQUIRED != 0
    }

    pub fn deprecated(self) -> bool {
        self.flags() & DEPRECATED != 0
    }

    /// Whether the field belongs to a feature that is off in this API level.
    pub fn is_off(self) -> bool {
        self.flags() & OFF != 0
    }

    /// JSON text of a `+default` tag.
    pub fn default(self) -> Option<&'s str> {
        Some(string(self.bytes, self.word(3))).filter(|text| !text.is_empty())
    }

    /// How server-side apply merges the field; lists without a list type are atomic.
    pub fn merge(self) -> Merge {
        match self.flags() >> 4 {
            1 => Merge::Granular,
            2 => Merge::Atomic,
            3 => Merge::Set,
            4 => Merge::Associative,
            _ if self.ty().kind() == Kind::List => Merge::Atomic,
            _ => self.ty().merge(),
        }
    }

    /// Whether the list or map type is written in the source, which OpenAPI shows.
    pub fn merge_is_explicit(self) -> bool {
        self.flags() >> 4 != 0
    }

    /// Keys of an associative list.
    pub fn list_keys(self) -> Strings<'s> {
        Strings::first(self.bytes, self.word(4))
    }

    /// Declarative validation tags without `+k8s:`, as `minimum=1`; those that are not stable begin with `alpha:` or `beta:`.
    pub fn rules(self) -> Strings<'s> {
        Strings::second(self.bytes, self.word(4))
    }

    /// Strategic merge: `merge`, `replace`, `retainKeys`, `merge,retainKeys`.
    pub fn patch_strategy(self) -> Option<&'s str> {
        self.patch(4)
    }

    pub fn patch_merge_key(self) -> Option<&'s str> {
        self.patch(8)
    }

    fn patch(self, at: usize) -> Option<&'s str> {
        let extras = self.word(4) as usize;
        if extras == 0 {
            return None;
        }
        Some(string(self.bytes, word(self.bytes, extras + at))).filter(|text| !text.is_empty())
    }
}

impl PartialEq for Field<'_> {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self.bytes, other.bytes) && self.offset == other.offset
    }
}

impl Eq for Field<'_> {}

impl std::fmt::Debug for Field<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}: {:?}", self.name(), self.ty())
    }
}

/// A list of strings in the table.
#[derive(Clone)]
pub struct Strings<'s> {
    bytes: &'s [u8],
    next: usize,
    left: usize,
}

impl<'s> Strings<'s> {
    fn first(bytes: &'s [u8], extras: u32) -> Self {
        let extras = extras as usize;
        let left = if extras == 0 { 0 } else { usize::from(half(bytes, extras)) };
        Self { bytes, next: extras + 12, left }
    }

    fn second(bytes: &'s [u8], extras: u32) -> Self {
        let extras = extras as usize;
        if extras == 0 {
            return Self { bytes, next: 0, left: 0 };
        }
        Self {
            bytes,
            next: extras + 12 + usize::from(half(bytes, extras)) * 4,
            left: usize::from(half(bytes, extras + 2)),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.left == 0
    }
}

impl<'s> Iterator for Strings<'s> {
    type Item = &'s str;

    fn next(&mut self) -> Option<&'s str> {
        self.left = self.left.checked_sub(1)?;
        let text = string(self.bytes, word(self.bytes, self.next));
        self.next += 4;
        Some(text)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Strings<'_> {}

fn word(bytes: &[u8], offset: usize) -> u32 {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[offset..offset + 4]);
    u32::from_le_bytes(word)
}

fn half(bytes: &[u8], offset: usize) -> u16 {
    u16::from_le_bytes([bytes[offset], bytes[offset + 1]])
}

fn string(bytes: &[u8], offset: u32) -> &str {
    std::str::from_utf8(raw(bytes, offset)).expect("the compiler wrote the table from strings")
}

fn raw(bytes: &[u8], offset: u32) -> &[u8] {
    if offset == 0 {
        return &[];
    }
    let start = offset as usize + 2;
    &bytes[start..start + usize::from(half(bytes, offset as usize))]
}

#[cfg(test)]
mod tests;
