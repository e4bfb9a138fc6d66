//! Escapes of URLs, and queries as Go's servers read them.

use std::str::FromStr;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// What RFC 3986 calls unreserved stays as it is.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A value for a query string or one segment of a path, percent-encoded.
pub fn encode(value: &str) -> String {
    utf8_percent_encode(value, RESERVED).to_string()
}

/// A path segment without its escapes; what is no escape stays, and so does all of a segment that would not be UTF-8.
pub fn decode(segment: &str) -> String {
    percent_decode_str(segment).decode_utf8().map_or_else(|_| segment.to_owned(), Into::into)
}

/// Decoded pairs of a query in their order; a repeated key keeps all its values, and options take the first.
#[derive(Debug, Clone, Default)]
pub struct Query {
    pairs: Vec<(String, String)>,
}

/// A value that is not the number that was expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {text:?} is not a number")]
pub struct NotANumber {
    pub key: String,
    pub text: String,
}

impl Query {
    pub fn parse(query: &str) -> Self {
        Self { pairs: form_urlencoded::parse(query.as_bytes()).into_owned().collect() }
    }

    /// The first value; an empty one counts as absent.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.first(key).filter(|value| !value.is_empty())
    }

    pub fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.pairs.iter().filter(move |(own, _)| own == key).map(|(_, value)| value.as_str())
    }

    /// Present and neither `false` nor `0`, also when empty: `Convert_Slice_string_To_bool` of k8s.io/apimachinery.
    pub fn flag(&self, key: &str) -> bool {
        self.optional_flag(key).unwrap_or(false)
    }

    pub fn optional_flag(&self, key: &str) -> Option<bool> {
        self.first(key).map(|value| !value.eq_ignore_ascii_case("false") && value != "0")
    }

    pub fn number<T: FromStr>(&self, key: &str) -> Result<Option<T>, NotANumber> {
        let parsed = self
            .get(key)
            .map(|text| text.parse().map_err(|_| NotANumber { key: key.to_owned(), text: text.to_owned() }));
        parsed.transpose()
    }

    fn first(&self, key: &str) -> Option<&str> {
        self.pairs.iter().find(|(own, _)| own == key).map(|(_, value)| value.as_str())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn options_are_read_as_upstream_reads_them() {
        let query = Query::parse("watch&limit=5&a=b%3Dc+d%2B&e=&f=0&g=False&command=ls&command=-l&bad=%zz");
        assert!(query.flag("watch") && !query.flag("f") && !query.flag("g") && !query.flag("absent"));
        assert_eq!((query.get("a"), query.get("e"), query.get("bad")), (Some("b=c d+"), None, Some("%zz")));
        assert_eq!(query.number("limit"), Ok(Some(5)));
        assert_eq!(query.number::<u64>("absent"), Ok(None));
        assert_eq!(query.number::<u64>("bad").unwrap_err().text, "%zz");
        assert_eq!(query.all("command").collect::<Vec<_>>(), ["ls", "-l"]);
    }

    #[test]
    fn a_segment_that_is_not_utf_8_stays() {
        assert_eq!(decode("a%FFb"), "a%FFb");
        assert_eq!(decode("system%3Anode"), "system:node");
        assert_eq!(encode("a b/c&é~-._"), "a%20b%2Fc%26%C3%A9~-._");
    }

    proptest! {
        #[test]
        fn escapes_come_back(text in ".*") {
            prop_assert_eq!(decode(&encode(&text)), &text[..]);
            let escaped: String = text.bytes().map(|byte| format!("%{byte:02X}")).collect();
            prop_assert_eq!(decode(&escaped), text);
        }

        #[test]
        fn what_is_no_escape_stays(text in "(%[g-zG-Z+-][0-9a-f]|%[0-9a-f]?[g-z]|a){0,8}%?") {
            prop_assert_eq!(decode(&text), text);
        }
    }
}
