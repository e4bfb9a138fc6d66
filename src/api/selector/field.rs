//! Field selectors: `metadata.name=a,status.phase!=Running` over the fields that a resource's row lists.
//!
//! Upstream: k8s.io/apimachinery pkg/fields/selector.go and the field label conversions of pkg/apis.

use crate::object::Meta;
use crate::quoting::quote;
use crate::resource::Resource;

/// Terms that must all hold, resolved against one resource.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FieldSelector {
    terms: Vec<Term>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Term {
    label: String,
    place: Place,
    equal: bool,
    value: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Name,
    Namespace,
    /// Index into `Resource::selectable` and `Meta::fields`.
    Field(usize),
}

impl FieldSelector {
    pub fn everything() -> Self {
        Self::default()
    }

    /// Errors are upstream's messages.
    pub fn parse(text: &str, resource: &Resource) -> Result<Self, String> {
        let mut terms = Vec::new();
        for (label, equal, value) in split(text)? {
            // Clients of the first API version still send it.
            let label = if resource.kind == "Pod" && label == "spec.host" { "spec.nodeName" } else { label };
            let place = match label {
                "metadata.name" => Place::Name,
                "metadata.namespace" if resource.namespaced => Place::Namespace,
                _ => match resource.selectable.iter().position(|(name, _)| *name == label) {
                    Some(index) => Place::Field(index),
                    None => return Err(unknown(label, resource)),
                },
            };
            terms.push(Term { label: label.to_owned(), place, equal, value });
        }
        Ok(Self { terms })
    }

    pub fn is_everything(&self) -> bool {
        self.terms.is_empty()
    }

    pub fn matches(&self, meta: &Meta) -> bool {
        self.terms.iter().all(|term| {
            let value: &str = match term.place {
                Place::Name => &meta.name,
                Place::Namespace => &meta.namespace,
                Place::Field(index) => meta.fields.get(index).map_or("", |value| value),
            };
            (value == term.value) == term.equal
        })
    }

    /// The one value that `label` must have, if the selector says so.
    pub fn exact(&self, label: &str) -> Option<&str> {
        self.terms.iter().find(|term| term.equal && term.label == label).map(|term| term.value.as_str())
    }
}

impl std::fmt::Display for FieldSelector {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, term) in self.terms.iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            let operator = if term.equal { "=" } else { "!=" };
            let value = term.value.replace('\\', "\\\\").replace(',', "\\,").replace('=', "\\=");
            write!(formatter, "{comma}{}{operator}{value}", term.label)?;
        }
        Ok(())
    }
}

fn unknown(label: &str, resource: &Resource) -> String {
    if resource.selectable.is_empty() {
        format!("{} is not a known field selector: only \"metadata.name\", \"metadata.namespace\"", quote(label))
    } else if resource.kind == "Job" {
        format!("field label {} not supported for Job", quote(label))
    } else if resource.kind == "ResourceSlice" {
        let (group, version, kind) = (&resource.group, &resource.version, &resource.kind);
        format!("field label not supported for {group}/{version}, Kind={kind}: {label}")
    } else {
        format!("field label not supported: {label}")
    }
}

/// (label, whether it must be equal, value) of every term, in the order of their texts.
fn split(text: &str) -> Result<Vec<(&str, bool, String)>, String> {
    let mut parts = Vec::new();
    let (mut start, mut escaped) = (0, false);
    for (index, character) in text.char_indices() {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ',' => {
                parts.push(&text[start..index]);
                start = index + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts.sort_unstable();
    let mut terms = Vec::new();
    for part in parts.into_iter().filter(|part| !part.is_empty()) {
        let place = part.find(['=', '!']).and_then(|first| {
            (first..part.len()).find(|index| part.is_char_boundary(*index) && operator(&part[*index..]).is_some())
        });
        let Some(place) = place else {
            return Err(format!("invalid selector: '{text}'; can't understand '{part}'"));
        };
        let (equal, length) = operator(&part[place..]).expect("found above");
        terms.push((&part[..place], equal, unescape(&part[place + length..])?));
    }
    Ok(terms)
}

fn operator(text: &str) -> Option<(bool, usize)> {
    [("!=", false), ("==", true), ("=", true)]
        .iter()
        .find(|(name, _)| text.starts_with(name))
        .map(|(name, equal)| (*equal, name.len()))
}

fn unescape(text: &str) -> Result<String, String> {
    let mut value = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => match characters.next() {
                Some(next @ ('\\' | ',' | '=')) => value.push(next),
                Some(next) => return Err(format!("invalid field selector: invalid escape sequence: \\{next}")),
                None => return Err("invalid field selector: invalid escape sequence: \\".to_owned()),
            },
            ',' | '=' => {
                return Err(format!("invalid field selector: unescaped character in value: {}", u32::from(character)));
            }
            _ => value.push(character),
        }
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_are_split() {
        let owned = |label, equal, value: &str| (label, equal, value.to_owned());
        assert_eq!(
            split("b==2,a=1,c!=x\\,y\\=z,").unwrap(),
            [owned("a", true, "1"), owned("b", true, "2"), owned("c", false, "x,y=z")]
        );
        assert_eq!(split("abc").unwrap_err(), "invalid selector: 'abc'; can't understand 'abc'");
        assert_eq!(split("a=b=c").unwrap_err(), "invalid field selector: unescaped character in value: 61");
    }
}
