//! Documents with places to fill in, encoded once.

use anyhow::Context;
use bytes::Bytes;
use coracle_api::codec;
use coracle_api::object::Encoding;
use coracle_api::schema::Schema;
use serde_json::Value;

/// Where the number of the object stands, the number of the write, and the last digit of the object's number.
const NUMBER: &[u8] = b"@@@@@@@";
const SEQUENCE: &[u8] = b"%%%%%%%";
const GROUP: &[u8] = b"~";

/// A document as it is sent; the places are of fixed width, so filling in copies and overwrites.
pub struct Template {
    bytes: Vec<u8>,
    numbers: Vec<usize>,
    sequences: Vec<usize>,
    groups: Vec<usize>,
}

impl Template {
    pub fn new(bytes: Vec<u8>) -> Self {
        let find = |mark: &[u8]| -> Vec<usize> {
            bytes.windows(mark.len()).enumerate().filter(|(_, window)| *window == mark).map(|(at, _)| at).collect()
        };
        let (numbers, sequences, groups) = (find(NUMBER), find(SEQUENCE), find(GROUP));
        Self { bytes, numbers, sequences, groups }
    }

    /// The document of a file, in JSON or in protobuf.
    pub fn read(path: &str, encoding: Encoding) -> anyhow::Result<Self> {
        let text = std::fs::read(path).with_context(|| path.to_owned())?;
        let document: Value = serde_json::from_slice(&text).with_context(|| path.to_owned())?;
        let json = document.to_string().into_bytes();
        if encoding == Encoding::Json {
            return Ok(Self::new(json));
        }
        let meta = codec::type_meta(Encoding::Json, &json)?;
        let ty = codec::type_of(Schema::builtin(), &meta).context("of no known kind")?;
        let tree = codec::decode(ty, Encoding::Json, &json)?.value;
        Ok(Self::new(codec::encode(ty, encoding, &tree)?))
    }

    pub fn fill(&self, number: usize, sequence: usize) -> Bytes {
        let mut bytes = self.bytes.clone();
        let (number, sequence) = (digits(number), digits(sequence));
        self.numbers.iter().for_each(|&at| bytes[at..at + number.len()].copy_from_slice(&number));
        self.sequences.iter().for_each(|&at| bytes[at..at + sequence.len()].copy_from_slice(&sequence));
        self.groups.iter().for_each(|&at| bytes[at] = number[number.len() - 1]);
        Bytes::from(bytes)
    }
}

/// `metadata.name` of a file's document, `@@@@@@@` and all.
pub fn name_of(path: &str) -> anyhow::Result<String> {
    let text = std::fs::read(path).with_context(|| path.to_owned())?;
    let document: Value = serde_json::from_slice(&text).with_context(|| path.to_owned())?;
    document["metadata"]["name"].as_str().map(str::to_owned).context("the body has no name")
}

/// Seven decimal digits.
pub fn digits(number: usize) -> [u8; 7] {
    let mut digits = [b'0'; 7];
    let mut rest = number;
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    digits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_filled_in() {
        let template = Template::new(br##"{"name":"a-@@@@@@@","group":"~","value":"%%%%%%%"}"##.to_vec());
        assert_eq!(&template.fill(123, 45)[..], br#"{"name":"a-0000123","group":"3","value":"0000045"}"#);
    }
}
