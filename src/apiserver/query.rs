//! The query of a request as upstream's option structs read it.

use coracle_api::Status;

use crate::request_info::percent_decode;

/// Decoded pairs in their order; a repeated key keeps all its values, and options take the first.
#[derive(Debug, Clone, Default)]
pub struct Query {
    pairs: Vec<(String, String)>,
}

impl Query {
    pub fn parse(query: &str) -> Self {
        let decode = |text: &str| percent_decode(&text.replace('+', " "));
        let pairs = query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(key), decode(value))
        });
        Self { pairs: pairs.collect() }
    }

    /// The first value; an empty one counts as absent.
    pub fn get(&self, key: &str) -> Option<&str> {
        let (_, value) = self.pairs.iter().find(|(own, _)| own == key)?;
        (!value.is_empty()).then_some(value)
    }

    pub fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.pairs.iter().filter(move |(own, _)| own == key).map(|(_, value)| value.as_str())
    }

    /// Go's `Convert_Slice_string_To_bool`: present and neither `false` nor `0` is true, also when empty.
    pub fn flag(&self, key: &str) -> bool {
        self.optional_flag(key).unwrap_or(false)
    }

    pub fn optional_flag(&self, key: &str) -> Option<bool> {
        let (_, value) = self.pairs.iter().find(|(own, _)| own == key)?;
        Some(!value.eq_ignore_ascii_case("false") && value != "0")
    }

    /// A whole number; 400 when it is none.
    pub fn number(&self, key: &str) -> Result<Option<i64>, Status> {
        let Some(text) = self.get(key) else { return Ok(None) };
        text.parse()
            .map(Some)
            .map_err(|_| Status::bad_request(format!("strconv.ParseInt: parsing {text:?}: invalid syntax")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_as_upstream_reads_them() {
        let query = Query::parse("watch&limit=5&a=b%3Dc+d&e=&f=0&g=False&command=ls&command=-l");
        assert!(query.flag("watch") && !query.flag("f") && !query.flag("g") && !query.flag("absent"));
        assert_eq!((query.get("a"), query.get("e")), (Some("b=c d"), None));
        assert_eq!(query.number("limit").unwrap(), Some(5));
        assert_eq!(query.number("a").unwrap_err().code, 400);
        assert_eq!(query.all("command").collect::<Vec<_>>(), ["ls", "-l"]);
    }
}
