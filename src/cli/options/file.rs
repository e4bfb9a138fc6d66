//! The configuration files: `config.yaml`, then `config.yaml.d/*.yaml` in the order of their names.

use std::path::{Path, PathBuf};
use std::{fs, io};

use serde_json::{Map, Value};

use super::flags::{self, Flag};
use super::typed::Typed;
use crate::Failure;
use crate::nearest::hint;

/// Reads the files into `typed`. `given` is the path that was asked for; the default one may be missing.
pub fn read(typed: &mut Typed, given: Option<&str>) -> Result<(), Failure> {
    let path = PathBuf::from(given.unwrap_or_else(|| flags::find("config").map_or("", |flag| flag.default)));
    let folder = path.with_file_name(format!("{}.d", path.file_name().unwrap_or_default().to_string_lossy()));
    let parts = parts(&folder)?;
    match fs::read_to_string(&path) {
        Ok(text) => merge(typed, &path, &text)?,
        Err(error)
            if error.kind() == io::ErrorKind::NotFound && (given.is_none() || !parts.is_empty() || folder.is_dir()) => {
        }
        Err(error) => return Err(unreadable(&path, &error)),
    }
    for part in parts {
        let text = fs::read_to_string(&part).map_err(|error| unreadable(&part, &error))?;
        merge(typed, &part, &text)?;
    }
    Ok(())
}

fn unreadable(path: &Path, error: &io::Error) -> Failure {
    Failure::usage(format!("cannot read {}: {error}", path.display()))
}

/// The YAML files of the folder, in order.
fn parts(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(unreadable(folder, &error)),
    };
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let is_yaml = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml");
    let mut paths: Vec<PathBuf> = paths.filter(is_yaml).collect();
    paths.sort();
    Ok(paths)
}

/// Reads one file's text.
pub fn merge(typed: &mut Typed, path: &Path, text: &str) -> Result<(), Failure> {
    let wrong = |what: String| Failure::usage(format!("{}: {what}", path.display()));
    if text.trim().is_empty() {
        return Ok(());
    }
    let keys: Option<Map<String, Value>> = serde_yaml::from_str(text)
        .map_err(|error| wrong(format!("not valid YAML: {}", first_line(&error.to_string()))))?;
    for (key, value) in keys.unwrap_or_default() {
        let (name, append) = key.strip_suffix('+').map_or((key.as_str(), false), |name| (name, true));
        match flags::find(name) {
            Some(flag) => set(typed, flag, append, &value)
                .ok_or_else(|| wrong(format!("{name:?} wants a text, a number, true, false or a list of them")))?,
            None if flags::is_ignored(name) => typed.ignore(name),
            None => {
                let names = flags::FLAGS.iter().map(|flag| flag.name);
                return Err(wrong(format!("unknown key {name:?}{}", hint(name, names, ""))));
            }
        }
    }
    Ok(())
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

fn set(typed: &mut Typed, flag: &'static Flag, append: bool, value: &Value) -> Option<()> {
    let texts = match value {
        Value::Array(items) => items.iter().map(text).collect::<Option<Vec<_>>>()?,
        Value::Null => Vec::new(),
        value => vec![text(value)?],
    };
    if append {
        texts.iter().for_each(|text| typed.add(flag, text));
    } else {
        typed.replace(flag, &texts);
    }
    Some(())
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(_) | Value::Number(_) => Some(value.to_string()),
        _ => None,
    }
}
