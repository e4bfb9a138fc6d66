//! Reads the type tables: a `package` line, then `type` lines with their fields (two spaces) and rules (`!`).

use std::path::Path;

use super::compile::{
    DEPRECATED, FieldDefinition, MERGE_NAMES, OMIT_EMPTY, OMIT_ZERO, POINTER, REQUIRED, TypeDefinition,
};

/// Every type of the tables in a folder.
pub fn read(folder: &Path) -> Result<Vec<TypeDefinition>, String> {
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .map_err(|error| format!("{}: {error}", folder.display()))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect();
    files.sort();
    let mut types = Vec::new();
    for file in files {
        parse(&super::read(&file)?, &mut types).map_err(|error| format!("{}: {error}", file.display()))?;
    }
    Ok(types)
}

fn parse(text: &str, types: &mut Vec<TypeDefinition>) -> Result<(), String> {
    let mut package = "";
    for (number, line) in text.lines().enumerate() {
        let bad = |what: &str| format!("line {}: {what}: {line}", number + 1);
        if line.is_empty() || line.starts_with('#') {
            continue;
        } else if let Some(rest) = line.strip_prefix("package ") {
            package = rest.split(' ').next().unwrap_or_default();
        } else if let Some(rest) = line.strip_prefix("type ") {
            types.push(type_line(rest, package).ok_or_else(|| bad("not a type"))?);
        } else {
            let ty = types.last_mut().ok_or_else(|| bad("a field before any type"))?;
            match line.trim_start().strip_prefix("! ") {
                Some(rule) if line.starts_with("    ") => {
                    ty.fields.last_mut().ok_or_else(|| bad("a rule before any field"))?.rules.push(rule.to_owned());
                }
                Some(rule) => ty.rules.push(rule.to_owned()),
                None => ty.fields.push(field_line(line.trim_start(), package).ok_or_else(|| bad("not a field"))?),
            }
        }
    }
    Ok(())
}

fn type_line(line: &str, package: &str) -> Option<TypeDefinition> {
    let (line, enum_values) = match line.split_once(" enum=") {
        Some((line, values)) => (line, string_list(values)?),
        None => (line, Vec::new()),
    };
    let mut words = line.split(' ');
    let name = format!("{package}.{}", words.next()?);
    let reference = expand(words.next()?, package);
    let mut ty = TypeDefinition { name, reference, enum_values, ..TypeDefinition::default() };
    for word in words {
        match word {
            "atomic" => ty.atomic = true,
            "wrapped" => ty.wrapped = true,
            _ => {
                let mut gvk = word.strip_prefix("gvk=")?.split('/');
                ty.kind = Some((gvk.next()?.to_owned(), gvk.next()?.to_owned(), gvk.next()?.to_owned()));
            }
        }
    }
    Some(ty)
}

/// A JSON array of strings without escapes.
fn string_list(text: &str) -> Option<Vec<String>> {
    let inner = text.strip_prefix('[')?.strip_suffix(']')?;
    if inner.is_empty() {
        return Some(Vec::new());
    }
    inner.split("\",\"").map(|item| Some(item.trim_matches('"').to_owned())).collect()
}

fn field_line(line: &str, package: &str) -> Option<FieldDefinition> {
    let (line, default) = match line.split_once(" default=") {
        Some((line, rest)) => match rest.strip_suffix(" deprecated") {
            Some(default) => (format!("{line} deprecated"), default),
            None => (line.to_owned(), rest),
        },
        None => (line.to_owned(), ""),
    };
    let mut words = line.split(' ');
    let name = words.next()?;
    let mut field = FieldDefinition { default: default.to_owned(), ..FieldDefinition::default() };
    field.inline = name == "..";
    if !field.inline {
        name.clone_into(&mut field.json);
    }
    field.number = words.next()?.parse().ok()?;
    let mut reference = words.next()?;
    if let Some(target) = reference.strip_prefix('*') {
        field.presence |= POINTER;
        reference = target;
    }
    field.reference = expand(reference, package);
    for word in words {
        match word.split_once('=') {
            None if word == "omitempty" => field.presence |= OMIT_EMPTY,
            None if word == "omitzero" => field.presence |= OMIT_ZERO,
            None if word == "required" => field.flags |= REQUIRED,
            None if word == "deprecated" => field.flags |= DEPRECATED,
            Some(("list" | "map", merge)) => {
                field.merge = MERGE_NAMES.iter().position(|name| *name == merge)? as u8;
            }
            Some(("keys", keys)) => field.keys = keys.split(',').map(str::to_owned).collect(),
            Some(("patch", strategy)) => strategy.clone_into(&mut field.patch_strategy),
            Some(("patchkey", key)) => key.clone_into(&mut field.patch_merge_key),
            _ => return None,
        }
    }
    Some(field)
}

/// Puts the package before a name that begins with a dot: `[].Container`.
fn expand(reference: &str, package: &str) -> String {
    let mut start = 0;
    while let Some(prefix) = ["[]", "map:"].iter().find(|prefix| reference[start..].starts_with(**prefix)) {
        start += prefix.len();
    }
    let (prefix, name) = reference.split_at(start);
    if name.starts_with('.') { format!("{prefix}{package}{name}") } else { reference.to_owned() }
}
