//! The command line: a command, then `--name value` pairs.

use std::collections::BTreeMap;
use std::str::FromStr;

use anyhow::{Context, bail};
use lexopt::{Arg, Parser, ValueExt};

pub struct Arguments {
    pub command: String,
    values: BTreeMap<String, String>,
}

impl Arguments {
    pub fn read() -> anyhow::Result<Self> {
        let mut parser = Parser::from_env();
        let mut arguments = Self { command: String::new(), values: BTreeMap::new() };
        while let Some(argument) = parser.next()? {
            match argument {
                Arg::Long("help") => arguments.command.clear(),
                Arg::Long(name) => {
                    let name = name.to_owned();
                    let value = parser.value()?.string()?;
                    arguments.values.insert(name, value);
                }
                Arg::Value(value) if arguments.command.is_empty() => arguments.command = value.string()?,
                other => bail!("{}", other.unexpected()),
            }
        }
        Ok(arguments)
    }

    pub fn optional(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str)
    }

    pub fn text(&self, name: &str) -> anyhow::Result<&str> {
        self.optional(name).with_context(|| format!("--{name} is missing"))
    }

    pub fn number<T: FromStr>(&self, name: &str, default: T) -> anyhow::Result<T>
    where
        T::Err: std::error::Error + Send + Sync + 'static,
    {
        self.optional(name).map_or(Ok(default), |text| text.parse().with_context(|| format!("--{name} {text}")))
    }
}
