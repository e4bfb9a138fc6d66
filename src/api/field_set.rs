//! Sets of field paths, and their wire form FieldsV1 in `metadata.managedFields`.
//!
//! Upstream: sigs.k8s.io/structured-merge-diff fieldpath. A set is a tree of path elements; membership of a parent
//! and of its children are independent of each other.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use serde_json::{Map, Value};

use crate::quoting::quote;

/// One step of a path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Element {
    /// A field of a struct or a key of a map.
    Field(Box<str>),
    /// An element of an associative list, by its keys in the order of their names.
    Key(Box<[(Box<str>, Scalar)]>),
    /// An element of a set.
    Value(Scalar),
    /// An element by place, which only foreign clients write.
    Index(i64),
}

/// A value by which list elements are told apart.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scalar {
    Null,
    Bool(bool),
    Int(i64),
    /// Numbers that are no 64-bit integers, as JSON text.
    Number(Box<str>),
    Text(Box<str>),
}

/// A set of paths.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FieldSet {
    nodes: BTreeMap<Element, Node>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Node {
    member: bool,
    children: FieldSet,
}

impl FieldSet {
    pub const EMPTY: FieldSet = FieldSet { nodes: BTreeMap::new() };

    pub fn new() -> Self {
        Self::default()
    }

    /// A set of paths that consist of field names only.
    pub fn of_fields(paths: &[&[&str]]) -> Self {
        let mut set = Self::new();
        for path in paths {
            set.insert(path.iter().map(|name| Element::Field((*name).into())));
        }
        set
    }

    pub fn is_empty(&self) -> bool {
        self.nodes.values().all(|node| !node.member && node.children.is_empty())
    }

    /// Adds one path, not its parents. The empty path stands for the whole object, which nobody owns.
    pub fn insert(&mut self, path: impl IntoIterator<Item = Element>) {
        let mut path = path.into_iter().peekable();
        let mut set = self;
        while let Some(element) = path.next() {
            let node = set.nodes.entry(element).or_default();
            if path.peek().is_none() {
                node.member = true;
                return;
            }
            set = &mut node.children;
        }
    }

    /// Adds one element with all that is below it.
    pub(crate) fn put(&mut self, element: Element, member: bool, children: FieldSet) {
        if !member && children.nodes.is_empty() {
            return;
        }
        match self.nodes.entry(element) {
            Entry::Vacant(vacant) => {
                vacant.insert(Node { member, children });
            }
            Entry::Occupied(mut node) => node.get_mut().absorb(Node { member, children }),
        }
    }

    pub fn has(&self, element: &Element) -> bool {
        self.nodes.get(element).is_some_and(|node| node.member)
    }

    /// What the set holds below one element.
    pub fn below(&self, element: &Element) -> Option<&FieldSet> {
        self.nodes.get(element).map(|node| &node.children).filter(|children| !children.is_empty())
    }

    pub fn contains(&self, path: &[Element]) -> bool {
        match path {
            [] => false,
            [last] => self.has(last),
            [first, rest @ ..] => self.nodes.get(first).is_some_and(|node| node.children.contains(rest)),
        }
    }

    pub fn union(mut self, other: &FieldSet) -> FieldSet {
        self.add_all(other);
        self
    }

    /// `union` with a set that is not needed any more.
    pub fn joined(mut self, other: FieldSet) -> FieldSet {
        if self.nodes.is_empty() {
            return other;
        }
        other.nodes.into_iter().for_each(|(element, node)| self.put(element, node.member, node.children));
        self
    }

    pub fn add_all(&mut self, other: &FieldSet) {
        for (element, theirs) in &other.nodes {
            match self.nodes.get_mut(element) {
                Some(ours) => {
                    ours.member |= theirs.member;
                    ours.children.add_all(&theirs.children);
                }
                None => {
                    self.nodes.insert(element.clone(), theirs.clone());
                }
            }
        }
    }

    /// Paths in both sets.
    pub fn intersection(&self, other: &FieldSet) -> FieldSet {
        let both = |(element, ours): (&Element, &Node)| {
            let theirs = other.nodes.get(element)?;
            let node =
                Node { member: ours.member && theirs.member, children: ours.children.intersection(&theirs.children) };
            node.keep().map(|node| (element.clone(), node))
        };
        FieldSet { nodes: self.nodes.iter().filter_map(both).collect() }
    }

    /// Paths of this set that are not in `other`; children of a path in `other` stay.
    pub fn difference(&self, other: &FieldSet) -> FieldSet {
        let left = |(element, ours): (&Element, &Node)| {
            let node = match other.nodes.get(element) {
                Some(theirs) => {
                    Node { member: ours.member && !theirs.member, children: ours.children.difference(&theirs.children) }
                }
                None => ours.clone(),
            };
            node.keep().map(|node| (element.clone(), node))
        };
        FieldSet { nodes: self.nodes.iter().filter_map(left).collect() }
    }

    /// `difference` of a set that is not needed any more.
    pub fn without(mut self, other: &FieldSet) -> FieldSet {
        for (element, theirs) in &other.nodes {
            if let Some(ours) = self.nodes.get_mut(element) {
                ours.member &= !theirs.member;
                ours.children = std::mem::take(&mut ours.children).without(&theirs.children);
            }
        }
        self.nodes.retain(|_, node| node.is_kept());
        self
    }

    /// Paths of this set that are neither in `other` nor below a path in it.
    pub fn recursive_difference(&self, other: &FieldSet) -> FieldSet {
        let left = |(element, ours): (&Element, &Node)| {
            let node = match other.nodes.get(element) {
                Some(theirs) if theirs.member => return None,
                Some(theirs) => {
                    Node { member: ours.member, children: ours.children.recursive_difference(&theirs.children) }
                }
                None => ours.clone(),
            };
            node.keep().map(|node| (element.clone(), node))
        };
        FieldSet { nodes: self.nodes.iter().filter_map(left).collect() }
    }

    /// `recursive_difference` of a set that is not needed any more.
    pub fn recursively_without(mut self, other: &FieldSet) -> FieldSet {
        for (element, theirs) in &other.nodes {
            let Some(ours) = self.nodes.get_mut(element) else { continue };
            if !theirs.member {
                ours.children = std::mem::take(&mut ours.children).recursively_without(&theirs.children);
            }
            if theirs.member || !ours.is_kept() {
                self.nodes.remove(element);
            }
        }
        self
    }

    /// Every path, parents before their children.
    pub fn paths(&self) -> Vec<Vec<Element>> {
        let mut paths = Vec::new();
        self.collect(&mut Vec::new(), &mut paths);
        paths
    }

    /// Members of a level come before what is below any of them, as upstream lists them.
    fn collect(&self, prefix: &mut Vec<Element>, paths: &mut Vec<Vec<Element>>) {
        for element in self.nodes.iter().filter(|(_, node)| node.member).map(|(element, _)| element) {
            let mut path = prefix.clone();
            path.push(element.clone());
            paths.push(path);
        }
        for (element, node) in &self.nodes {
            prefix.push(element.clone());
            node.children.collect(prefix, paths);
            prefix.pop();
        }
    }

    /// The set with the fields added that lead to members and that `step` calls named; `step` also gives the context below.
    pub(crate) fn map_levels<C: Copy>(&self, context: C, step: &impl Fn(C, &Element) -> (bool, C)) -> FieldSet {
        let level = |(element, node): (&Element, &Node)| {
            let (named, inner) = step(context, element);
            let children = node.children.map_levels(inner, step);
            let member = node.member || (named && !node.children.is_empty());
            (element.clone(), Node { member, children })
        };
        FieldSet { nodes: self.nodes.iter().map(level).collect() }
    }

    /// Reads FieldsV1; the error names what is no path element.
    pub fn from_fields_v1(value: &Value) -> Result<FieldSet, String> {
        let Value::Object(fields) = value else { return Err("FieldsV1 is not an object".to_owned()) };
        Self::read(fields).map(|(set, _)| set)
    }

    /// The set, and whether the level has the `.` that makes its parent a member.
    fn read(fields: &Map<String, Value>) -> Result<(FieldSet, bool), String> {
        let mut set = FieldSet::new();
        let mut parent = false;
        for (key, below) in fields {
            if key == "." {
                parent = true;
                continue;
            }
            let Value::Object(below) = below else { return Err(format!("value of {} is not an object", quote(key))) };
            let (children, dot) = Self::read(below)?;
            let node = Node { member: dot || below.is_empty(), children };
            set.nodes.insert(Element::read(key)?, node);
        }
        Ok((set, parent))
    }

    /// Whether FieldsV1 hold a path, without reading them into a set.
    pub fn wire_contains(fields: &Value, path: &[Element]) -> bool {
        let mut at = fields;
        for element in path {
            match at.get(element.to_string()) {
                Some(below) => at = below,
                None => return false,
            }
        }
        !path.is_empty() && at.as_object().is_some_and(|below| below.is_empty() || below.contains_key("."))
    }

    /// Writes FieldsV1.
    pub fn to_fields_v1(&self) -> Value {
        Value::Object(self.write(false))
    }

    fn write(&self, parent: bool) -> Map<String, Value> {
        let mut fields = Map::new();
        if parent && !self.nodes.is_empty() {
            fields.insert(".".to_owned(), Value::Object(Map::new()));
        }
        for (element, node) in &self.nodes {
            fields.insert(element.to_string(), Value::Object(node.children.write(node.member)));
        }
        fields
    }
}

impl Node {
    fn is_kept(&self) -> bool {
        self.member || !self.children.nodes.is_empty()
    }

    fn keep(self) -> Option<Node> {
        self.is_kept().then_some(self)
    }

    fn absorb(&mut self, other: Node) {
        self.member |= other.member;
        self.children = std::mem::take(&mut self.children).joined(other.children);
    }
}

impl Element {
    pub fn field(name: &str) -> Self {
        Element::Field(name.into())
    }

    fn read(text: &str) -> Result<Element, String> {
        let unknown = || format!("unable to parse path element {}", quote(text));
        let scalar = |text: &str| serde_json::from_str(text).ok().as_ref().and_then(Scalar::of);
        let (kind, rest) = text.split_once(':').ok_or_else(unknown)?;
        match kind {
            "f" => Ok(Element::field(rest)),
            "v" => scalar(rest).map(Element::Value).ok_or_else(unknown),
            "i" => rest.parse().map(Element::Index).map_err(|_| unknown()),
            "k" => {
                let keys: Map<String, Value> = serde_json::from_str(rest).map_err(|_| unknown())?;
                let keys: Option<_> =
                    keys.iter().map(|(name, value)| Some((name.as_str().into(), Scalar::of(value)?))).collect();
                keys.map(Element::Key).ok_or_else(unknown)
            }
            _ => Err(unknown()),
        }
    }
}

/// The form of FieldsV1 keys.
impl std::fmt::Display for Element {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Element::Field(name) => write!(formatter, "f:{name}"),
            Element::Value(value) => write!(formatter, "v:{}", value.to_json()),
            Element::Index(index) => write!(formatter, "i:{index}"),
            Element::Key(keys) => {
                formatter.write_str("k:{")?;
                for (index, (name, value)) in keys.iter().enumerate() {
                    let comma = if index > 0 { "," } else { "" };
                    write!(formatter, "{comma}{}:{}", Value::from(&**name), value.to_json())?;
                }
                formatter.write_str("}")
            }
        }
    }
}

impl Scalar {
    /// `None` for lists and maps.
    pub fn of(value: &Value) -> Option<Self> {
        Some(match value {
            Value::Null => Scalar::Null,
            Value::Bool(flag) => Scalar::Bool(*flag),
            Value::Number(number) => match number.as_i64() {
                Some(integer) => Scalar::Int(integer),
                None => Scalar::Number(number.to_string().into()),
            },
            Value::String(text) => Scalar::Text(text.as_str().into()),
            Value::Array(_) | Value::Object(_) => return None,
        })
    }

    fn to_json(&self) -> String {
        match self {
            Scalar::Null => "null".to_owned(),
            Scalar::Bool(flag) => flag.to_string(),
            Scalar::Int(integer) => integer.to_string(),
            Scalar::Number(text) => text.to_string(),
            Scalar::Text(text) => Value::from(&**text).to_string(),
        }
    }

    fn for_people(&self) -> String {
        match self {
            Scalar::Text(text) => quote(text),
            other => other.to_json(),
        }
    }
}

/// A path as conflicts name it: `.spec.containers[name="a"].image`.
pub fn path_text(path: &[Element]) -> String {
    let mut text = String::new();
    for element in path {
        match element {
            Element::Field(name) => {
                text.push('.');
                text.push_str(name);
            }
            Element::Key(keys) => {
                let keys: Vec<String> =
                    keys.iter().map(|(name, value)| format!("{name}={}", value.for_people())).collect();
                text.push_str(&format!("[{}]", keys.join(",")));
            }
            Element::Value(value) => text.push_str(&format!("[={}]", value.for_people())),
            Element::Index(index) => text.push_str(&format!("[{index}]")),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn set(value: Value) -> FieldSet {
        FieldSet::from_fields_v1(&value).unwrap()
    }

    #[test]
    fn the_wire_form_reads_back() {
        for value in [
            json!({}),
            json!({"f:spec": {"f:replicas": {}, "f:template": {".": {}, "f:x": {}}}}),
            json!({"f:a": {"k:{\"name\":\"b\",\"port\":80}": {".": {}, "f:c": {}}}, "f:d": {"v:\"x\"": {}, "v:1": {}}}),
        ] {
            assert_eq!(set(value.clone()).to_fields_v1(), value);
        }
        assert!(FieldSet::from_fields_v1(&json!({"x:y": {}})).is_err());
        assert!(FieldSet::from_fields_v1(&json!({"f:y": 1})).is_err());
    }

    #[test]
    fn sets_combine() {
        let left = set(json!({"f:a": {".": {}, "f:b": {}, "f:c": {}}}));
        let right = set(json!({"f:a": {"f:b": {}}, "f:d": {}}));
        assert_eq!(left.difference(&right).to_fields_v1(), json!({"f:a": {".": {}, "f:c": {}}}));
        assert_eq!(left.intersection(&right).to_fields_v1(), json!({"f:a": {"f:b": {}}}));
        let parent = set(json!({"f:a": {}}));
        assert_eq!(left.difference(&parent).to_fields_v1(), json!({"f:a": {"f:b": {}, "f:c": {}}}));
        assert!(left.recursive_difference(&parent).is_empty());
        assert_eq!(left.clone().without(&right), left.difference(&right));
        assert_eq!(left.clone().without(&parent), left.difference(&parent));
        assert_eq!(left.clone().recursively_without(&right), left.recursive_difference(&right));
        assert_eq!(left.clone().joined(right.clone()), left.clone().union(&right));
        assert_eq!(left.union(&right).to_fields_v1(), json!({"f:a": {".": {}, "f:b": {}, "f:c": {}}, "f:d": {}}));
    }

    #[test]
    fn paths_read_like_upstreams() {
        let set = set(
            json!({"f:spec": {"f:ports": {"k:{\"port\":80,\"protocol\":\"TCP\"}": {"f:name": {}}}, "f:x": {"v:\"a\"": {}}}}),
        );
        let paths: Vec<String> = set.paths().iter().map(|path| path_text(path)).collect();
        assert_eq!(paths, [".spec.ports[port=80,protocol=\"TCP\"].name", ".spec.x[=\"a\"]"]);
    }
}
