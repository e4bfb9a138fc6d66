//! One entry of `metadata.managedFields`.

use serde_json::{Map, Value};

use crate::field_set::{Element, FieldSet};
use crate::quoting::quote;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Operation {
    Apply,
    Update,
}

/// metav1.ManagedFieldsEntry; the fields stay in their wire form until a set is needed.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Entry {
    pub(super) manager: String,
    pub(super) operation: Operation,
    pub(super) api_version: String,
    pub(super) subresource: String,
    pub(super) time: Option<String>,
    pub(super) fields: Value,
}

impl Entry {
    /// An entry without fields for the writer of a request.
    pub(super) fn new(verb: Operation, operation: &super::Operation<'_>) -> Self {
        Self {
            manager: if operation.manager.is_empty() { "unknown" } else { operation.manager }.to_owned(),
            operation: verb,
            api_version: operation.api_version.to_owned(),
            subresource: operation.subresource.to_owned(),
            time: None,
            fields: Value::Object(Map::new()),
        }
    }

    /// Reads the list; absent and null are empty. Errors are upstream's.
    pub(super) fn read_all(list: Option<Value>) -> Result<Vec<Entry>, String> {
        let entries = Self::read_stored(list)?;
        for entry in &entries {
            FieldSet::from_fields_v1(&entry.fields).map_err(|error| format!("error decoding set: {error}"))?;
        }
        Ok(entries)
    }

    /// The same for a list that was stored: its fields were read before that, which is most of the work.
    pub(super) fn read_stored(list: Option<Value>) -> Result<Vec<Entry>, String> {
        let entries = match list {
            None | Some(Value::Null) => return Ok(Vec::new()),
            Some(Value::Array(entries)) => entries,
            Some(_) => return Err("managedFields is not a list".to_owned()),
        };
        let mut read: Vec<Entry> = Vec::with_capacity(entries.len());
        for (index, entry) in entries.into_iter().enumerate() {
            let entry = Entry::read(entry, index)?;
            read.retain(|earlier| !earlier.same_manager(&entry));
            read.push(entry);
        }
        Ok(read)
    }

    fn read(entry: Value, index: usize) -> Result<Entry, String> {
        let mut entry = if let Value::Object(entry) = entry { entry } else { Map::new() };
        let mut take = |field: &str| match entry.remove(field) {
            Some(Value::String(text)) => Some(text),
            _ => None,
        };
        let mut text = |field: &str| take(field).unwrap_or_default();
        let operation = match text("operation").as_str() {
            "Apply" => Operation::Apply,
            "Update" => Operation::Update,
            _ => return Err("operation must be `Apply` or `Update`".to_owned()),
        };
        let api_version = text("apiVersion");
        if api_version.is_empty() {
            return Err("apiVersion must not be empty".to_owned());
        }
        match text("fieldsType").as_str() {
            "FieldsV1" => {}
            "" => return Err(format!("missing fieldsType in managed fields entry {index}")),
            other => return Err(format!("invalid fieldsType {} in managed fields entry {index}", quote(other))),
        }
        let (manager, subresource, time) = (text("manager"), text("subresource"), take("time"));
        let fields = match entry.remove("fieldsV1") {
            None | Some(Value::Null) => Value::Object(Map::new()),
            Some(fields) => fields,
        };
        Ok(Entry { manager, operation, api_version, subresource, time, fields })
    }

    pub(super) fn write(self) -> Value {
        let mut entry = Map::new();
        entry.insert("manager".to_owned(), self.manager.into());
        entry.insert("operation".to_owned(), format!("{:?}", self.operation).into());
        entry.insert("apiVersion".to_owned(), self.api_version.into());
        entry.insert("fieldsType".to_owned(), "FieldsV1".into());
        entry.insert("fieldsV1".to_owned(), self.fields);
        if let Some(time) = self.time {
            entry.insert("time".to_owned(), time.into());
        }
        if !self.subresource.is_empty() {
            entry.insert("subresource".to_owned(), self.subresource.into());
        }
        Value::Object(entry)
    }

    /// Whether both entries are one record; appliers keep theirs over versions.
    pub(super) fn same_manager(&self, other: &Entry) -> bool {
        self.manager == other.manager
            && self.operation == other.operation
            && self.subresource == other.subresource
            && (self.operation == Operation::Apply || self.api_version == other.api_version)
    }

    pub(super) fn owns(&self, path: &[Element]) -> bool {
        FieldSet::wire_contains(&self.fields, path)
    }

    pub(super) fn set(&self) -> FieldSet {
        FieldSet::from_fields_v1(&self.fields).expect("read when the entry was, or before it was stored")
    }

    pub(super) fn replace(&mut self, set: FieldSet) {
        self.fields = set.to_fields_v1();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.fields.as_object().is_none_or(Map::is_empty)
    }

    /// By what entries are sorted.
    pub(super) fn order(&self) -> (Operation, &str, &str, &str, &str) {
        (self.operation, self.time.as_deref().unwrap_or_default(), &self.manager, &self.api_version, &self.subresource)
    }

    /// As conflicts name the manager, who wrote in `version` where that is not the entry's own.
    pub(super) fn for_people(&self, version: Option<&str>) -> String {
        let mut text = quote(&self.manager);
        if !self.subresource.is_empty() {
            text.push_str(&format!(" with subresource {}", quote(&self.subresource)));
        }
        if self.operation == Operation::Update {
            text.push_str(&format!(" using {}", version.unwrap_or(&self.api_version)));
        }
        text
    }
}
