//! The first stage: options as typed, layered from the command line over the environment over the files.

use std::collections::BTreeMap;
use std::ffi::OsString;

use lexopt::{Arg, ValueExt};

use super::file;
use super::flags::{self, Flag, Kind, Of};
use crate::Failure;
use crate::nearest::hint;

/// Values by flag name, each as text.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Typed {
    values: BTreeMap<&'static str, Vec<String>>,
    /// What is to be logged once logging works.
    pub warnings: Vec<String>,
}

impl Typed {
    /// Everything that was said about a server or an agent.
    pub fn gather(
        arguments: &[OsString],
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Typed, Failure> {
        let mut line = Typed::default();
        line.read_arguments(arguments)?;
        let mut variables = Typed::default();
        variables.read_environment(environment);
        let given = line.last("config").or_else(|| variables.last("config")).map(str::to_owned);
        let mut all = Typed::default();
        file::read(&mut all, given.as_deref())?;
        all.overlay(variables);
        all.overlay(line);
        Ok(all)
    }

    fn read_arguments(&mut self, arguments: &[OsString]) -> Result<(), Failure> {
        let mut parser = lexopt::Parser::from_args(arguments);
        while let Some(argument) = parser.next().map_err(usage)? {
            let (typed, found) = match argument {
                Arg::Long(name) => (format!("--{name}"), flags::find(name).filter(|flag| flag.name.len() > 1)),
                Arg::Short(letter) => (format!("-{letter}"), flags::find_short(letter)),
                Arg::Value(value) => {
                    return Err(Failure::usage(format!("unexpected argument {:?}", value.to_string_lossy())));
                }
            };
            let Some(flag) = found else {
                let name = typed.trim_start_matches('-');
                if flags::is_ignored(name) {
                    self.ignore(name);
                    parser.optional_value();
                    // The value may stand alone: k3s flags of that table all take one or none.
                    skip_value(&mut parser);
                    continue;
                }
                let names = flags::FLAGS.iter().map(|flag| flag.name);
                return Err(Failure::usage(format!("unknown option {typed}{}", hint(name, names, "--"))));
            };
            let text = match flag.kind {
                Kind::Switch => parser.optional_value().map_or(Ok("true".to_owned()), |value| value.string()),
                // -v alone, as often as one likes.
                _ if flag.name == "v" && typed == "-v" => match level(&mut parser) {
                    Some(level) => Ok(level),
                    None => Ok((self.last("v").and_then(|level| level.parse().ok()).unwrap_or(0) + 1).to_string()),
                },
                _ => parser.value().and_then(|value| value.string()),
            };
            self.add(flag, &text.map_err(usage)?);
        }
        Ok(())
    }

    fn read_environment(&mut self, environment: impl IntoIterator<Item = (String, String)>) {
        for (variable, value) in environment {
            // Other variables of that prefix belong to the install script and to tests.
            let flag = flags::FLAGS.iter().find(|flag| flag.variable() == variable && !value.is_empty());
            if let Some(flag) = flag {
                self.add(flag, &value);
            }
        }
    }

    /// Adds one value; single-valued flags keep the last.
    pub(super) fn add(&mut self, flag: &'static Flag, text: &str) {
        let values = self.values.entry(flag.name).or_default();
        match flag.kind {
            Kind::List => {
                values.extend(text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned))
            }
            Kind::Switch | Kind::Value | Kind::Whole => *values = vec![text.to_owned()],
        }
    }

    pub(super) fn replace(&mut self, flag: &'static Flag, texts: &[String]) {
        self.values.remove(flag.name);
        for text in texts {
            self.add(flag, text);
        }
    }

    pub(super) fn ignore(&mut self, name: &str) {
        self.warnings.push(format!("{name} has no meaning in coracle and is ignored"));
    }

    /// What `over` says replaces what is here, flag by flag.
    fn overlay(&mut self, over: Typed) {
        self.values.extend(over.values);
        self.warnings.extend(over.warnings);
    }

    /// Refuses what was given and `command` does not take.
    pub fn only(&self, command: Of) -> Result<(), Failure> {
        let given = self.values.keys().filter_map(|name| flags::find(name));
        match given.into_iter().find(|flag| !flag.is_of(command)) {
            Some(flag) if command == Of::Agent => Err(Failure::usage(format!(
                "--{} is an option of servers; an agent learns it from its server",
                flag.name
            ))),
            Some(flag) => Err(Failure::usage(format!("--{} is an option of agents", flag.name))),
            None => Ok(()),
        }
    }

    pub fn last(&self, name: &str) -> Option<&str> {
        self.values.get(name).and_then(|values| values.last()).map(String::as_str)
    }

    /// What was given, or the table's default.
    pub fn value(&self, name: &str) -> &str {
        self.last(name).unwrap_or_else(|| flags::find(name).map_or("", |flag| flag.default))
    }

    pub fn list(&self, name: &str) -> Vec<&str> {
        match self.values.get(name) {
            Some(values) => values.iter().map(String::as_str).collect(),
            None => flags::find(name).map(|flag| flag.default).into_iter().filter(|text| !text.is_empty()).collect(),
        }
    }
}

/// `-v 2` as well as `-v`.
fn level(parser: &mut lexopt::Parser) -> Option<String> {
    if let Some(attached) = parser.optional_value() {
        return attached.into_string().ok();
    }
    let mut rest = parser.try_raw_args()?;
    let next = rest.peek()?.to_str()?.to_owned();
    (next.len() == 1 && next.parse::<u8>().is_ok()).then(|| {
        rest.next();
        next
    })
}

fn skip_value(parser: &mut lexopt::Parser) {
    if let Some(mut rest) = parser.try_raw_args()
        && rest.peek().is_some_and(|next| !next.to_string_lossy().starts_with('-'))
    {
        rest.next();
    }
}

fn usage(error: lexopt::Error) -> Failure {
    Failure::usage(error.to_string())
}

#[cfg(test)]
mod tests;
