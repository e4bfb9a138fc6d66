//! Names made from templates.

use std::hash::Hasher;

use serde::Serialize;

/// A name for what is given. Not upstream's value (which hashes Go's memory), but of its form: FNV-1a in the alphabet
/// of generated names.
pub fn name_of(what: &impl Serialize, collisions: Option<i32>) -> String {
    const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    let mut hasher = Fnv(0x811c_9dc5);
    // A tree of typed fields always encodes; an empty text would only make a worse name.
    hasher.write(serde_json::to_string(what).unwrap_or_default().as_bytes());
    if let Some(collisions) = collisions {
        hasher.write(&collisions.to_le_bytes());
    }
    let number = hasher.finish().to_string();
    number.bytes().map(|digit| char::from(ALPHABET[usize::from(digit) % ALPHABET.len()])).collect()
}

/// FNV-1a, 32 bits.
struct Fnv(u32);

impl Hasher for Fnv {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
        }
    }

    fn finish(&self) -> u64 {
        self.0.into()
    }
}
