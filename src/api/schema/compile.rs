//! Compiles type definitions to the offset-based form that `schema` reads; shared with the build script.
//!
//! All numbers are little-endian. A string is referred to by the offset of its record (u16 length, bytes).
//! Offset 0 is the header, so 0 stands for "none" wherever an offset is optional.

use std::collections::HashMap;

/// Bytes of a type record: 11 words, see `write_type`.
pub const TYPE_SIZE: usize = 44;
/// Bytes of a field record: 5 words, see `write_field`.
pub const FIELD_SIZE: usize = 20;
/// Bytes of a wire record: number (u16), 1 for an inline struct (u16), local field or type id (u32).
pub const WIRE_SIZE: usize = 8;
/// Header words: type count, types, name index, kind index count, kind index.
pub const HEADER_SIZE: usize = 20;
/// No type, no field.
pub const NONE: u32 = u32::MAX;

/// The names of kinds in the tables; a kind's code is its place here.
pub const KIND_NAMES: [&str; 20] = [
    "struct",
    "map",
    "list",
    "string",
    "bytes",
    "bool",
    "int32",
    "int64",
    "uint32",
    "uint64",
    "float64",
    "quantity",
    "intorstring",
    "time",
    "microtime",
    "duration",
    "any",
    "schemaorbool",
    "schemaorarray",
    "schemaorstrings",
];

pub const POINTER: u8 = 1;
pub const OMIT_EMPTY: u8 = 2;
pub const OMIT_ZERO: u8 = 4;

pub const REQUIRED: u8 = 1;
pub const DEPRECATED: u8 = 2;
/// The field belongs to a feature that is off: it is dropped from what is read.
pub const OFF: u8 = 4;

pub const ATOMIC_TYPE: u8 = 1;
pub const WRAPPED: u8 = 2;
/// A field with a default is somewhere below.
pub const HAS_DEFAULTS: u8 = 4;
/// An enforced declarative rule is at the type or somewhere below.
pub const HAS_RULES: u8 = 8;

/// Merge codes of a field, 0 being "as the type says".
pub const MERGE_NAMES: [&str; 5] = ["", "granular", "atomic", "set", "map"];

/// A type to compile.
#[derive(Debug, Clone, Default)]
pub struct TypeDefinition {
    /// As in OpenAPI: `io.k8s.api.core.v1.Pod`.
    pub name: String,
    /// `struct`, a scalar, `[]T` or `map:T`.
    pub reference: String,
    pub atomic: bool,
    /// A list that protobuf wraps in a message with one field `items`.
    pub wrapped: bool,
    pub enum_values: Vec<String>,
    pub rules: Vec<String>,
    /// Group, version, kind.
    pub kind: Option<(String, String, String)>,
    pub fields: Vec<FieldDefinition>,
}

/// A field to compile; `inline` ones have no JSON name and lend their own fields to the struct.
#[derive(Debug, Clone, Default)]
pub struct FieldDefinition {
    pub json: String,
    pub inline: bool,
    /// 0: not in protobuf.
    pub number: u16,
    pub reference: String,
    pub presence: u8,
    pub flags: u8,
    /// An index into `MERGE_NAMES`.
    pub merge: u8,
    pub keys: Vec<String>,
    pub patch_strategy: String,
    pub patch_merge_key: String,
    /// JSON text; empty: none.
    pub default: String,
    pub rules: Vec<String>,
}

/// The hash of field names: FNV-1a, folded. Names are short, so that is one multiplication a byte.
pub fn hash(name: &[u8]) -> u32 {
    let mut hash = 0x811c_9dc5_u32;
    for byte in name {
        hash = (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
    }
    hash ^ (hash >> 15)
}

/// Whether one of the rules can refuse something.
fn enforces(rules: &[String]) -> bool {
    rules.iter().any(|rule| !rule.starts_with("alpha") && !rule.ends_with("optional"))
}

/// Compiles definitions; an unknown reference is an error that names it.
pub fn compile(definitions: &[TypeDefinition]) -> Result<Vec<u8>, String> {
    let mut compiler = Compiler {
        has_defaults: Vec::new(),
        has_rules: Vec::new(),
        definitions,
        ids: HashMap::new(),
        types: Vec::new(),
        strings: HashMap::new(),
        bytes: Vec::new(),
    };
    for (index, definition) in definitions.iter().enumerate() {
        if compiler.ids.insert(definition.name.clone(), index as u32).is_some() {
            return Err(format!("type {} is defined twice", definition.name));
        }
        compiler.types.push(Entry {
            name: definition.name.clone(),
            reference: definition.reference.clone(),
            definition: Some(index),
        });
    }
    compiler.run()
}

struct Compiler<'d> {
    /// By type id, see `HAS_DEFAULTS`.
    has_defaults: Vec<bool>,
    /// By type id, see `HAS_RULES`.
    has_rules: Vec<bool>,
    definitions: &'d [TypeDefinition],
    ids: HashMap<String, u32>,
    types: Vec<Entry>,
    strings: HashMap<String, u32>,
    bytes: Vec<u8>,
}

/// A type of the blob: a definition, or an anonymous list, map or scalar that a reference made.
struct Entry {
    name: String,
    reference: String,
    definition: Option<usize>,
}

impl Compiler<'_> {
    fn run(mut self) -> Result<Vec<u8>, String> {
        // References first: they add anonymous types, and the number of types must be known.
        let mut next = 0;
        while next < self.types.len() {
            let reference = self.types[next].reference.clone();
            self.element(&reference)?;
            if let Some(index) = self.types[next].definition {
                for field in &self.definitions[index].fields {
                    self.id(&field.reference)?;
                }
            }
            next += 1;
        }
        let has_default = |field: &FieldDefinition| !field.default.is_empty();
        self.has_defaults = self.reaching(|_| false, has_default);
        self.has_rules = self.reaching(|ty| enforces(&ty.rules), |field| enforces(&field.rules));
        self.bytes = vec![0; HEADER_SIZE + self.types.len() * TYPE_SIZE];
        for id in 0..self.types.len() {
            self.write_type(id)?;
        }
        let by_name = self
            .index(|compiler, id| compiler.types[id].definition.map(|index| compiler.definitions[index].name.clone()));
        let by_kind = self.index(|compiler, id| {
            let definition = compiler.types[id].definition?;
            compiler.definitions[definition]
                .kind
                .as_ref()
                .map(|(group, version, kind)| format!("{kind}\0{group}\0{version}"))
        });
        let (names, named) = self.write_index(&by_name);
        let (kinds, kind_count) = self.write_index(&by_kind);
        for (word, value) in [named, HEADER_SIZE as u32, names, kind_count, kinds].into_iter().enumerate() {
            self.put(word * 4, value);
        }
        Ok(self.bytes)
    }

    /// By type id: whether a type or field that is `wanted` is at the type or somewhere below.
    fn reaching(
        &self,
        wanted: impl Fn(&TypeDefinition) -> bool,
        wanted_field: impl Fn(&FieldDefinition) -> bool,
    ) -> Vec<bool> {
        let mut found = vec![false; self.types.len()];
        loop {
            let mut changed = false;
            for id in 0..self.types.len() {
                let known = |reference: &str| self.ids.get(reference).is_some_and(|id| found[*id as usize]);
                let reference = self.resolve(&self.types[id].reference);
                let element = reference.strip_prefix("[]").or_else(|| reference.strip_prefix("map:"));
                let definition = self.types[id].definition.map(|index| &self.definitions[index]);
                let fields = definition.map_or(&[][..], |definition| &definition.fields);
                let reaches = element.is_some_and(known)
                    || definition.is_some_and(&wanted)
                    || fields.iter().any(|field| wanted_field(field) || known(&field.reference));
                changed |= reaches && !found[id];
                found[id] |= reaches;
            }
            if !changed {
                return found;
            }
        }
    }

    /// Type ids in the order of a key, leaving out those without one.
    fn index(&self, key: impl Fn(&Self, usize) -> Option<String>) -> Vec<u32> {
        let mut keyed: Vec<(String, u32)> =
            (0..self.types.len()).filter_map(|id| Some((key(self, id)?, id as u32))).collect();
        keyed.sort();
        keyed.into_iter().map(|(_, id)| id).collect()
    }

    fn write_index(&mut self, ids: &[u32]) -> (u32, u32) {
        let offset = self.bytes.len() as u32;
        for id in ids {
            self.bytes.extend(id.to_le_bytes());
        }
        (offset, ids.len() as u32)
    }

    fn put(&mut self, offset: usize, value: u32) {
        self.bytes[offset..offset + 4].copy_from_slice(&value.to_le_bytes());
    }

    /// The id of a reference, made when it is anonymous.
    fn id(&mut self, reference: &str) -> Result<u32, String> {
        if let Some(id) = self.ids.get(reference) {
            return Ok(*id);
        }
        if !reference.starts_with("[]") && !reference.starts_with("map:") && !KIND_NAMES.contains(&reference) {
            return Err(format!("unknown type {reference}"));
        }
        let id = self.types.len() as u32;
        self.ids.insert(reference.to_owned(), id);
        self.types.push(Entry { name: String::new(), reference: reference.to_owned(), definition: None });
        Ok(id)
    }

    /// What a type that is another one by another name (`type A B`) stands for.
    fn resolve(&self, reference: &str) -> String {
        let target = self.ids.get(reference).and_then(|id| self.types[*id as usize].definition);
        match target.map(|index| &self.definitions[index].reference) {
            Some(target) if target != reference => self.resolve(target),
            _ => reference.to_owned(),
        }
    }

    fn element(&mut self, reference: &str) -> Result<u32, String> {
        match reference.strip_prefix("[]").or_else(|| reference.strip_prefix("map:")) {
            Some(element) => self.id(element),
            None if reference.starts_with("schemaor") => {
                self.id("io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps")
            }
            None => Ok(NONE),
        }
    }

    fn string(&mut self, text: &str) -> u32 {
        if text.is_empty() {
            return 0;
        }
        if let Some(offset) = self.strings.get(text) {
            return *offset;
        }
        let offset = self.bytes.len() as u32;
        self.bytes.extend((text.len() as u16).to_le_bytes());
        self.bytes.extend(text.as_bytes());
        self.strings.insert(text.to_owned(), offset);
        offset
    }

    /// Words: name, kind | flags | hash bits, element, fields, field count | wire count, wire, hash table,
    /// extras (enum values, rules), group, version, kind.
    fn write_type(&mut self, id: usize) -> Result<(), String> {
        let reference = self.resolve(&self.types[id].reference);
        let element = self.element(&reference)?;
        let kind_name = if reference.starts_with("[]") {
            "list"
        } else if reference.starts_with("map:") {
            "map"
        } else {
            reference.as_str()
        };
        let kind =
            KIND_NAMES.iter().position(|name| *name == kind_name).ok_or_else(|| format!("unknown kind {reference}"))?;
        let name = self.types[id].name.clone();
        let name = self.string(&name);
        let mut words = [0_u32; TYPE_SIZE / 4];
        words[0] = name;
        words[1] = kind as u32;
        words[1] |= if self.has_defaults[id] { u32::from(HAS_DEFAULTS) << 8 } else { 0 };
        words[1] |= if self.has_rules[id] { u32::from(HAS_RULES) << 8 } else { 0 };
        words[2] = element;
        if let Some(index) = self.types[id].definition {
            let definition = &self.definitions[index];
            words[1] |= u32::from(
                if definition.atomic { ATOMIC_TYPE } else { 0 } | if definition.wrapped { WRAPPED } else { 0 },
            ) << 8;
            let fields = self.flatten(definition)?;
            let wire = self.wire(definition, &fields)?;
            words[3] = self.write_fields(&fields)?;
            words[4] = fields.len() as u32 | (wire.len() as u32) << 16;
            words[5] = self.bytes.len() as u32;
            for (number, inline, payload) in wire {
                self.bytes.extend(number.to_le_bytes());
                self.bytes.extend(u16::from(inline).to_le_bytes());
                self.bytes.extend(payload.to_le_bytes());
            }
            debug_assert_eq!(self.bytes.len() - words[5] as usize, (words[4] >> 16) as usize * WIRE_SIZE);
            let (table, bits) = self.write_hash(&fields);
            words[6] = table;
            words[1] |= bits << 16;
            words[7] = self.write_lists(&definition.enum_values, &definition.rules, None);
            if let Some((group, version, kind)) = &definition.kind {
                words[8] = self.string(group);
                words[9] = self.string(version);
                words[10] = self.string(kind);
            }
        }
        for (word, value) in words.into_iter().enumerate() {
            self.put(HEADER_SIZE + id * TYPE_SIZE + word * 4, value);
        }
        Ok(())
    }

    /// The JSON fields of a struct in Go's order, those of inline structs in their place.
    fn flatten(&self, definition: &TypeDefinition) -> Result<Vec<FieldDefinition>, String> {
        let mut out = Vec::new();
        for field in &definition.fields {
            if field.inline {
                let inner = self.definitions.iter().find(|other| other.name == field.reference);
                out.extend(self.flatten(inner.ok_or_else(|| format!("unknown type {}", field.reference))?)?);
            } else {
                out.push(field.clone());
            }
        }
        Ok(out)
    }

    /// What protobuf knows of a struct, by number: local fields and inline structs.
    fn wire(&self, definition: &TypeDefinition, flat: &[FieldDefinition]) -> Result<Vec<(u16, bool, u32)>, String> {
        let mut out = Vec::new();
        for field in definition.fields.iter().filter(|field| field.number != 0) {
            let payload = if field.inline {
                self.ids[&field.reference]
            } else {
                flat.iter().position(|other| other.json == field.json).ok_or("a field is lost")? as u32
            };
            out.push((field.number, field.inline, payload));
        }
        out.sort();
        Ok(out)
    }

    /// Words: name, type, number | presence | flags and merge, default, extras.
    fn write_fields(&mut self, fields: &[FieldDefinition]) -> Result<u32, String> {
        let mut records = Vec::with_capacity(fields.len() * FIELD_SIZE);
        for field in fields {
            let ty = self.id(&field.reference)?;
            let name = self.string(&field.json);
            let default = self.string(&field.default);
            let patch = Some((field.patch_strategy.as_str(), field.patch_merge_key.as_str()))
                .filter(|(strategy, _)| !strategy.is_empty());
            let extras = self.write_lists(&field.keys, &field.rules, patch);
            let facts = u32::from(field.number)
                | u32::from(field.presence) << 16
                | u32::from(field.flags | field.merge << 4) << 24;
            for word in [name, ty, facts, default, extras] {
                records.extend(word.to_le_bytes());
            }
        }
        let offset = self.bytes.len() as u32;
        self.bytes.extend(records);
        Ok(offset)
    }

    /// Two lists of strings and the patch words: u16 count, u16 count, strategy, merge key, strings.
    fn write_lists(&mut self, first: &[String], second: &[String], patch: Option<(&str, &str)>) -> u32 {
        if first.is_empty() && second.is_empty() && patch.is_none() {
            return 0;
        }
        let (strategy, key) = patch.unwrap_or_default();
        let mut words = vec![self.string(strategy), self.string(key)];
        for text in first.iter().chain(second) {
            // An empty enum value is a value: it gets a record of its own.
            let word = if text.is_empty() { self.empty() } else { self.string(text) };
            words.push(word);
        }
        let offset = self.bytes.len() as u32;
        self.bytes.extend((first.len() as u16).to_le_bytes());
        self.bytes.extend((second.len() as u16).to_le_bytes());
        for word in words {
            self.bytes.extend(word.to_le_bytes());
        }
        offset
    }

    fn empty(&mut self) -> u32 {
        let offset = self.bytes.len() as u32;
        self.bytes.extend(0_u16.to_le_bytes());
        offset
    }

    /// Open addressing over twice the number of fields: local field indexes (u16), 0xffff for a free place.
    fn write_hash(&mut self, fields: &[FieldDefinition]) -> (u32, u32) {
        if fields.is_empty() {
            return (0, 0);
        }
        let bits = (fields.len() * 2).next_power_of_two().trailing_zeros();
        let mask = (1_usize << bits) - 1;
        let mut table = vec![u16::MAX; 1 << bits];
        for (index, field) in fields.iter().enumerate() {
            let mut place = hash(field.json.as_bytes()) as usize & mask;
            while table[place] != u16::MAX {
                place = (place + 1) & mask;
            }
            table[place] = index as u16;
        }
        let offset = self.bytes.len() as u32;
        for entry in table {
            self.bytes.extend(entry.to_le_bytes());
        }
        (offset, bits)
    }
}
