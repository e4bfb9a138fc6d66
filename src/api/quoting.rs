//! Text as Go prints it, because clients and users compare messages: `%q` strings and `encoding/json` values.

use std::fmt::Write;

use serde_json::Value;

/// A string as Go's `%q` (strconv.Quote) prints it.
pub fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for character in text.chars() {
        match character {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\u{07}' => quoted.push_str("\\a"),
            '\u{08}' => quoted.push_str("\\b"),
            '\u{0c}' => quoted.push_str("\\f"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\u{0b}' => quoted.push_str("\\v"),
            ' '..='~' => quoted.push(character),
            _ if (character as u32) < 0x80 => write(&mut quoted, format_args!("\\x{:02x}", character as u32)),
            _ if !character.is_control() && !character.is_whitespace() => quoted.push(character),
            _ if (character as u32) < 0x10000 => write(&mut quoted, format_args!("\\u{:04x}", character as u32)),
            _ => write(&mut quoted, format_args!("\\U{:08x}", character as u32)),
        }
    }
    quoted.push('"');
    quoted
}

/// Quoted values joined by `, `.
pub fn quote_all<'a>(values: impl IntoIterator<Item = &'a str>) -> String {
    values.into_iter().map(quote).collect::<Vec<_>>().join(", ")
}

/// A value as Go's `json.Marshal` writes it, with `<`, `>` and `&` escaped.
pub fn json(value: &Value) -> String {
    value
        .to_string()
        .replace('<', "\\u003c")
        .replace('>', "\\u003e")
        .replace('&', "\\u0026")
        .replace('\u{2028}', "\\u2028")
        .replace('\u{2029}', "\\u2029")
}

fn write(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    text.write_fmt(arguments).expect("a String takes any text");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_quoted_as_go_does() {
        assert_eq!(quote("a\"b\\c\n\u{1}é\u{a0}"), r#""a\"b\\c\n\x01é\u00a0""#);
        assert_eq!(json(&serde_json::json!({"a": "<b>"})), r#"{"a":"\u003cb\u003e"}"#);
    }
}
