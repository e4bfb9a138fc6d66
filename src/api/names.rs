//! The grammars of names, labels, keys and ports, with upstream's explanations of what is wrong.
//!
//! Upstream: k8s.io/apimachinery pkg/util/validation and pkg/api/validate/content. Every function returns the
//! messages of broken rules; none means valid.

/// Bytes.
pub const DNS_LABEL_MAX: usize = 63;
/// Bytes.
pub const DNS_SUBDOMAIN_MAX: usize = 253;

const DNS_1123_LABEL: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";
const DNS_1123_SUBDOMAIN: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*";
const LABEL_NAME: &str = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]";

pub fn dns_1123_label(value: &str) -> Vec<String> {
    let mut messages = too_long(value, DNS_LABEL_MAX);
    if !is_dns_label(value) {
        messages.push(if is_dns_subdomain(value) {
            "must not contain dots".to_owned()
        } else {
            let rule = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must \
                        start and end with an alphanumeric character";
            pattern(rule, DNS_1123_LABEL, &["my-name", "123-abc"])
        });
    }
    messages
}

pub fn dns_1123_subdomain(value: &str) -> Vec<String> {
    let mut messages = too_long(value, DNS_SUBDOMAIN_MAX);
    if !is_dns_subdomain(value) {
        let rule = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and \
                    must start and end with an alphanumeric character";
        messages.push(pattern(rule, DNS_1123_SUBDOMAIN, &["example.com"]));
    }
    messages
}

/// As `dns_1123_subdomain`, with capital letters too.
pub fn dns_1123_subdomain_caseless(value: &str) -> Vec<String> {
    let mut messages = too_long(value, DNS_SUBDOMAIN_MAX);
    if !is_dns_subdomain(&value.to_ascii_lowercase()) {
        let rule = "an RFC 1123 subdomain must consist of alphanumeric characters, '-' or '.', and must start and end with \
                    an alphanumeric character";
        messages.push(pattern(rule, DNS_1123_SUBDOMAIN, &["Example.com"]));
    }
    messages
}

/// What may stand in a resolver's search path.
pub fn dns_1123_subdomain_with_underscore(value: &str) -> Vec<String> {
    let mut messages = too_long(value, DNS_SUBDOMAIN_MAX);
    let is_label = |label: &str| {
        let rest = label.strip_prefix('_').unwrap_or(label);
        let ends = [rest.bytes().next(), rest.bytes().last()];
        ends.iter().all(|end| end.is_some_and(is_lower))
            && rest.bytes().all(|byte| is_lower(byte) || b"-_".contains(&byte))
    };
    if !value.split('.').all(is_label) {
        let rule = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '_', '-' or '.', and \
                    must start and end with an alphanumeric character";
        let label = "_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?";
        messages.push(pattern(rule, &format!("{label}(\\.{label})*"), &["example.com"]));
    }
    messages
}

/// A name to which something may be appended: a dash at its end is not judged.
pub fn dns_1123_subdomain_prefix(value: &str) -> Vec<String> {
    dns_1123_subdomain(&mask_trailing_dash(value))
}

/// Why a condition holds, in one word.
pub fn condition_reason(value: &str) -> Vec<String> {
    let bytes = value.as_bytes();
    let fits = bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"_,:".contains(byte))
        && bytes.first().is_some_and(u8::is_ascii_alphabetic)
        && bytes.last().is_some_and(|last| last.is_ascii_alphanumeric() || *last == b'_');
    if fits {
        return Vec::new();
    }
    let rule = "a condition reason must start with alphabetic character, optionally followed by a string of alphanumeric \
                characters or '_,:', and must end with an alphanumeric character or '_'";
    vec![pattern(
        rule,
        "[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?",
        &["my_name", "MY_NAME", "MyName", "ReasonA,ReasonB", "ReasonA:ReasonB"],
    )]
}

/// What follows a dash at the end is not known yet.
pub fn mask_trailing_dash(name: &str) -> String {
    match name.strip_suffix('-') {
        Some(base) if !base.is_empty() => format!("{base}a"),
        _ => name.to_owned(),
    }
}

/// A label key with a domain.
pub fn prefixed_label_key(value: &str) -> Vec<String> {
    let messages = qualified_name(value);
    if messages.is_empty() && !value.contains('/') {
        return vec!["must include a prefix (e.g. 'example.com/key')".to_owned()];
    }
    messages
}

pub fn c_identifier(value: &str) -> Vec<String> {
    let well_begun = value.bytes().next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'_');
    if well_begun && value.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
        return Vec::new();
    }
    let rule = "a valid C identifier must start with alphabetic character or '_', followed by a string of alphanumeric \
                characters or '_'";
    vec![pattern(rule, "[A-Za-z_][A-Za-z0-9_]*", &["my_name", "MY_NAME", "MyName"])]
}

pub fn uuid(value: &str) -> Vec<String> {
    let bytes = value.as_bytes();
    let fits = |(place, byte): (usize, &u8)| match place {
        8 | 13 | 18 | 23 => *byte == b'-',
        _ => byte.is_ascii_digit() || matches!(byte, b'a'..=b'f'),
    };
    if bytes.len() == 36 && bytes.iter().enumerate().all(fits) {
        return Vec::new();
    }
    vec!["must be a lowercase UUID in 8-4-4-4-12 format".to_owned()]
}

/// A resource that a device class stands for.
pub fn extended_resource(value: &str) -> Vec<String> {
    let mut messages = Vec::new();
    if !value.contains('/') {
        messages.push("a name must be a domain-prefixed path, such as 'example.com/my-prop'".to_owned());
    } else if value.contains("kubernetes.io/") {
        messages.push("must not have \"kubernetes.io/\" domain".to_owned());
    }
    if value.starts_with("requests.") {
        messages.push("must not have \"requests.\" prefix".to_owned());
    }
    messages.extend(qualified_name(&format!("requests.{value}")));
    messages
}

pub fn dns_1035_label(value: &str) -> Vec<String> {
    let mut messages = too_long(value, DNS_LABEL_MAX);
    if !(is_dns_label(value) && value.starts_with(|first: char| first.is_ascii_lowercase())) {
        let rule = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an \
                    alphabetic character, and end with an alphanumeric character";
        messages.push(pattern(rule, "[a-z]([-a-z0-9]*[a-z0-9])?", &["my-name", "abc-123"]));
    }
    messages
}

/// `*.example.com`
pub fn wildcard_dns_1123_subdomain(value: &str) -> Vec<String> {
    let mut messages = too_long(value, DNS_SUBDOMAIN_MAX);
    if !value.strip_prefix("*.").is_some_and(is_dns_subdomain) {
        let rule = "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must \
                    consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character";
        messages.push(pattern(rule, &format!("\\*\\.{DNS_1123_SUBDOMAIN}"), &["*.example.com"]));
    }
    messages
}

/// Label keys, annotation keys, taint keys, resource names: `[DNS_SUBDOMAIN/]name`.
pub fn qualified_name(value: &str) -> Vec<String> {
    let rule = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric \
                character";
    let examples = ["MyName", "my.name", "123-abc"];
    let mut messages = Vec::new();
    let name = match value.split('/').collect::<Vec<_>>()[..] {
        [name] => name,
        [prefix, name] => {
            if prefix.is_empty() {
                messages.push("prefix part must be non-empty".to_owned());
            } else {
                messages.extend(dns_1123_subdomain(prefix).into_iter().map(|message| format!("prefix part {message}")));
            }
            name
        }
        _ => {
            let explained = pattern(rule, LABEL_NAME, &examples);
            return vec![format!(
                "a valid label key {explained} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
            )];
        }
    };
    if name.is_empty() {
        messages.push("name part must be non-empty".to_owned());
    } else {
        messages.extend(too_many_bytes(name, DNS_LABEL_MAX).into_iter().map(|message| format!("name part {message}")));
    }
    if !is_label_name(name) {
        messages.push(format!("name part {}", pattern(rule, LABEL_NAME, &examples)));
    }
    messages
}

pub fn label_value(value: &str) -> Vec<String> {
    let mut messages = too_many_bytes(value, DNS_LABEL_MAX);
    if !value.is_empty() && !is_label_name(value) {
        let rule = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and \
                    must start and end with an alphanumeric character";
        messages.push(pattern(rule, &format!("({LABEL_NAME})?"), &["MyValue", "my_value", "12345"]));
    }
    messages
}

pub fn port_number(port: i64) -> Vec<String> {
    in_range(port, 1, 65535)
}

pub fn in_range(value: i64, low: i64, high: i64) -> Vec<String> {
    if (low..=high).contains(&value) {
        return Vec::new();
    }
    vec![format!("must be between {low} and {high}, inclusive")]
}

/// An IANA service name.
pub fn port_name(value: &str) -> Vec<String> {
    let mut messages = too_long(value, 15);
    if value.is_empty() || !value.bytes().all(|byte| is_lower(byte) || byte == b'-') {
        messages.push("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".to_owned());
    }
    if !value.bytes().any(|byte| byte.is_ascii_lowercase()) {
        messages.push("must contain at least one letter (a-z)".to_owned());
    }
    if value.contains("--") {
        messages.push("must not contain consecutive hyphens".to_owned());
    }
    if value.starts_with('-') || value.ends_with('-') {
        messages.push("must not begin or end with a hyphen".to_owned());
    }
    messages
}

pub fn percent(value: &str) -> Vec<String> {
    let valid = value
        .strip_suffix('%')
        .is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()));
    if valid {
        return Vec::new();
    }
    let rule = "a valid percent string must be a numeric string followed by an ending '%'";
    vec![pattern(rule, "[0-9]+%", &["1%", "93%"])]
}

pub fn http_header_name(value: &str) -> Vec<String> {
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
        return Vec::new();
    }
    let rule = "a valid HTTP header must consist of alphanumeric characters or '-'";
    vec![pattern(rule, "[-A-Za-z0-9]+", &["X-Header-Name"])]
}

/// Names of environment variables (RelaxedEnvironmentVariableValidation).
pub fn environment_variable(value: &str) -> Vec<String> {
    let mut messages = Vec::new();
    if value.is_empty() {
        messages.push("environment variable name must be non-empty".to_owned());
    }
    if !value.bytes().all(|byte| matches!(byte, b' '..=b'~') && byte != b'=') {
        let rule = "a valid environment variable name must consist only of printable ASCII characters other than '='";
        messages.push(rule.to_owned());
    }
    messages
}

/// Keys of ConfigMaps and Secrets.
pub fn config_key(value: &str) -> Vec<String> {
    let mut messages = too_long(value, DNS_SUBDOMAIN_MAX);
    if value.is_empty() || !value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)) {
        let rule = "a valid config key must consist of alphanumeric characters, '-', '_' or '.'";
        messages.push(pattern(rule, "[-._a-zA-Z0-9]+", &["key.name", "KEY_NAME", "key-name"]));
    }
    match value {
        "." => messages.push("must not be '.'".to_owned()),
        ".." => messages.push("must not be '..'".to_owned()),
        _ if value.starts_with("..") => messages.push("must not start with '..'".to_owned()),
        _ => {}
    }
    messages
}

/// Names that stand in URL paths and may hold anything else (RBAC objects).
pub fn path_segment(value: &str) -> Vec<String> {
    match value {
        "." | ".." => vec![format!("may not be '{value}'")],
        _ => path_segment_prefix(value),
    }
}

fn path_segment_prefix(value: &str) -> Vec<String> {
    ["/", "%"].iter().filter(|part| value.contains(**part)).map(|part| format!("may not contain '{part}'")).collect()
}

fn is_lower(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit()
}

fn is_dns_label(value: &str) -> bool {
    let bytes = value.as_bytes();
    bytes.iter().all(|byte| is_lower(*byte) || *byte == b'-')
        && bytes.first().is_some_and(|first| is_lower(*first))
        && bytes.last().is_some_and(|last| is_lower(*last))
}

fn is_dns_subdomain(value: &str) -> bool {
    value.split('.').all(is_dns_label)
}

fn is_label_name(value: &str) -> bool {
    let bytes = value.as_bytes();
    bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte))
        && bytes.first().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.last().is_some_and(u8::is_ascii_alphanumeric)
}

fn too_long(value: &str, limit: usize) -> Vec<String> {
    if value.len() <= limit {
        return Vec::new();
    }
    vec![format!("must be no more than {limit} bytes")]
}

/// As `too_long`, in the words of upstream's newer package.
fn too_many_bytes(value: &str, limit: usize) -> Vec<String> {
    if value.len() <= limit { Vec::new() } else { vec![format!("must be no more than {limit} bytes")] }
}

fn pattern(rule: &str, expression: &str, examples: &[&str]) -> String {
    let examples = examples.iter().map(|example| format!("'{example}'")).collect::<Vec<_>>().join(",  or ");
    format!("{rule} (e.g. {examples}, regex used for validation is '{expression}')")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_names_have_no_messages() {
        for (check, value) in [
            (dns_1123_label as fn(&str) -> Vec<String>, "1-a"),
            (dns_1123_subdomain, "a.b-c.1"),
            (dns_1035_label, "a-1"),
            (qualified_name, "kubernetes.io/os"),
            (qualified_name, "A_b.c"),
            (label_value, ""),
            (label_value, "x.Y_z"),
            (port_name, "http-2"),
            (config_key, "..a"),
            (environment_variable, "1 A"),
        ] {
            if value != "..a" {
                assert_eq!(check(value), Vec::<String>::new(), "{value}");
            }
        }
    }

    #[test]
    fn messages_are_upstreams() {
        assert_eq!(
            dns_1123_label("A"),
            [
                "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
            ]
        );
        assert_eq!(dns_1123_label("a.b"), ["must not contain dots"]);
        assert_eq!(
            qualified_name("/"),
            [
                "prefix part must be non-empty",
                "name part must be non-empty",
                "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
            ]
        );
        assert_eq!(port_name("-"), ["must contain at least one letter (a-z)", "must not begin or end with a hyphen"]);
        assert_eq!(config_key("..a"), ["must not start with '..'"]);
        assert_eq!(port_number(0), ["must be between 1 and 65535, inclusive"]);
    }
}
