//! A command line of the built-in verbs; one that uses more than they know is not for them.

use std::collections::BTreeMap;
use std::ffi::OsString;

use lexopt::{Arg, ValueExt};

/// Long name, letter, whether a value follows.
type Known = (&'static str, Option<char>, bool);
type Options = &'static [Known];

const EVERYWHERE: Options = &[("kubeconfig", None, true), ("namespace", Some('n'), true)];

const VERBS: &[(&str, Options)] = &[
    (
        "get",
        &[
            ("output", Some('o'), true),
            ("all-namespaces", Some('A'), false),
            ("selector", Some('l'), true),
            ("field-selector", None, true),
            ("no-headers", None, false),
            ("ignore-not-found", None, false),
            ("show-labels", None, false),
            ("filename", Some('f'), true),
            ("raw", None, true),
        ],
    ),
    (
        "apply",
        &[
            ("filename", Some('f'), true),
            ("server-side", None, false),
            ("force-conflicts", None, false),
            ("field-manager", None, true),
        ],
    ),
    (
        "delete",
        &[
            ("filename", Some('f'), true),
            ("selector", Some('l'), true),
            ("all", None, false),
            ("all-namespaces", Some('A'), false),
            ("force", None, false),
            ("grace-period", None, true),
            ("ignore-not-found", None, false),
            ("wait", None, false),
            ("now", None, false),
        ],
    ),
    ("wait", &[("for", None, true), ("timeout", None, true), ("selector", Some('l'), true), ("all", None, false)]),
    (
        "logs",
        &[
            ("follow", Some('f'), false),
            ("container", Some('c'), true),
            ("previous", Some('p'), false),
            ("tail", None, true),
            ("timestamps", None, false),
            ("since", None, true),
        ],
    ),
    ("exec", &[("stdin", Some('i'), false), ("tty", Some('t'), false), ("container", Some('c'), true)]),
];

/// What was typed.
#[derive(Debug, PartialEq)]
pub struct Line {
    pub verb: String,
    pub words: Vec<String>,
    options: BTreeMap<&'static str, Vec<String>>,
}

impl Line {
    /// `None` when the verb or one of its options is not built in.
    pub fn parse(arguments: &[OsString]) -> Option<Line> {
        // Options of every verb may stand before it.
        let position = arguments.iter().position(|word| VERBS.iter().any(|(verb, _)| word == verb))?;
        let (verb, own) = VERBS.iter().find(|(verb, _)| arguments[position] == *verb)?;
        let rest = arguments.iter().enumerate().filter(|(index, _)| *index != position).map(|(_, word)| word);
        let mut line = Line { verb: (*verb).to_owned(), words: Vec::new(), options: BTreeMap::new() };
        let mut parser = lexopt::Parser::from_args(rest);
        while let Some(argument) = parser.next().ok()? {
            let known =
                |wanted: &dyn Fn(&Known) -> bool| EVERYWHERE.iter().chain(*own).find(|option| wanted(option)).copied();
            let long = matches!(argument, Arg::Long(_));
            let (name, _, has_value) = match argument {
                Arg::Long(name) => {
                    let name = name.to_owned();
                    known(&|option| option.0 == name)?
                }
                Arg::Short(letter) => known(&|option| option.1 == Some(letter))?,
                Arg::Value(word) => {
                    line.words.push(word.string().ok()?);
                    continue;
                }
            };
            let value = match (has_value, long) {
                (true, _) => parser.value().ok()?.string().ok()?,
                (false, true) => {
                    parser.optional_value().map_or(Some("true".to_owned()), |value| value.string().ok())?
                }
                // What follows a letter is the next letter, as in `-it`.
                (false, false) => "true".to_owned(),
            };
            line.options.entry(name).or_default().push(value);
        }
        Some(line)
    }

    pub fn value(&self, name: &str) -> Option<&str> {
        self.options.get(name).and_then(|values| values.last()).map(String::as_str)
    }

    pub fn values(&self, name: &str) -> &[String] {
        self.options.get(name).map(Vec::as_slice).unwrap_or_default()
    }

    pub fn is_set(&self, name: &str) -> bool {
        self.value(name) == Some("true")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Option<Line> {
        Line::parse(&line.split(' ').map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn built_in_lines_are_read() {
        let line = parse("-n web get pods a --output=yaml -l app=x").unwrap();
        assert_eq!((line.verb.as_str(), line.words.join(" ").as_str()), ("get", "pods a"));
        assert_eq!((line.value("namespace"), line.value("output")), (Some("web"), Some("yaml")));
        assert!(parse("get pods -A").unwrap().is_set("all-namespaces"));
        let exec = parse("exec -it web -- get -l").unwrap();
        assert_eq!((exec.verb.as_str(), exec.words.join(" ").as_str()), ("exec", "web get -l"));
        assert!(exec.is_set("stdin") && exec.is_set("tty"));
        assert_eq!(parse("apply -f a -f b").unwrap().values("filename"), ["a", "b"]);
        assert_eq!(parse("get --raw /readyz").unwrap().value("raw"), Some("/readyz"));
    }

    #[test]
    fn the_rest_is_for_kubectl() {
        for line in ["describe pod a", "get pods -w", "get pods --context x", "rollout status deploy/x", ""] {
            assert_eq!(parse(line), None, "{line}");
        }
    }
}
