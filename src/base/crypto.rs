//! Cryptography in one place: random ids, hashes and P-256 keys, so that the provider (ring) can be changed here.

use std::cell::RefCell;

use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{self, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};

/// `N` bytes from the system's random source.
pub fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).expect("the kernel's random source does not fail once it is seeded");
    bytes
}

/// Random bytes that one system call brings for many UUIDs, which are names and no secrets.
struct Pool {
    bytes: [u8; 512],
    used: usize,
}

thread_local! {
    static POOL: RefCell<Pool> = const { RefCell::new(Pool { bytes: [0; 512], used: 512 }) };
}

/// A random (version 4) UUID in its usual text form.
pub fn uuid() -> String {
    let mut bytes: [u8; 16] = POOL.with_borrow_mut(|pool| {
        if pool.used == pool.bytes.len() {
            *pool = Pool { bytes: random_bytes(), used: 0 };
        }
        pool.used += 16;
        *pool.bytes[..pool.used].last_chunk().expect("the pool is a multiple of 16 bytes")
    });
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let text = hex(&bytes);
    format!("{}-{}-{}-{}-{}", &text[..8], &text[8..12], &text[12..16], &text[16..20], &text[20..])
}

/// A secret of `N` random bytes as lower-case hex.
pub fn random_hex<const N: usize>() -> String {
    hex(&random_bytes::<N>())
}

pub fn sha256(data: &[u8]) -> [u8; 32] {
    let digest = ring::digest::digest(&ring::digest::SHA256, data);
    digest.as_ref().try_into().expect("a SHA-256 digest has 32 bytes")
}

/// Lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

/// Compares secrets without telling by its duration where they differ. The length is no secret.
pub fn secrets_equal(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
}

/// A P-256 private key that signs as ES256 (RFC 7518: SHA-256, 64-byte signature).
pub struct SigningKey {
    pair: EcdsaKeyPair,
    pkcs8: Vec<u8>,
}

/// A key that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("not a P-256 private key in PKCS #8: {0}")]
pub struct KeyError(String);

impl SigningKey {
    pub fn generate() -> Self {
        let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new())
            .expect("key generation fails only without a random source");
        Self::from_pkcs8(document.as_ref()).expect("a key just made is read back")
    }

    /// Reads PKCS #8 DER.
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, KeyError> {
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der, &SystemRandom::new())
            .map_err(|error| KeyError(error.to_string()))?;
        Ok(Self { pair, pkcs8: der.to_vec() })
    }

    /// PKCS #8 DER, to be kept secret.
    pub fn pkcs8(&self) -> &[u8] {
        &self.pkcs8
    }

    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        let signature = self.pair.sign(&SystemRandom::new(), message);
        signature.expect("signing fails only without a random source").as_ref().to_vec()
    }

    pub fn public(&self) -> PublicKey {
        PublicKey { point: self.pair.public_key().as_ref().to_vec() }
    }
}

/// A P-256 public key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PublicKey {
    /// Uncompressed: 0x04, x, y.
    point: Vec<u8>,
}

/// DER of SubjectPublicKeyInfo up to the point: SEQUENCE { SEQUENCE { ecPublicKey, prime256v1 }, BIT STRING.
const SPKI_PREFIX: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce,
    0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

impl PublicKey {
    /// Whether `signature` (64 bytes) is the key's over `message`.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        let key = signature::UnparsedPublicKey::new(&signature::ECDSA_P256_SHA256_FIXED, &self.point);
        key.verify(message, signature).is_ok()
    }

    /// The affine coordinates, 32 bytes each.
    pub fn coordinates(&self) -> (&[u8], &[u8]) {
        (&self.point[1..33], &self.point[33..])
    }

    /// SubjectPublicKeyInfo in DER (RFC 5480).
    pub fn spki(&self) -> Vec<u8> {
        [&SPKI_PREFIX[..], &self.point].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_signs_what_it_verifies_also_after_a_round_trip() {
        let key = SigningKey::generate();
        let again = SigningKey::from_pkcs8(key.pkcs8()).unwrap();
        let signature = key.sign(b"ahoy");
        assert_eq!(signature.len(), 64);
        assert!(again.public().verify(b"ahoy", &signature));
        assert!(!again.public().verify(b"ahoi", &signature));
        assert!(!SigningKey::generate().public().verify(b"ahoy", &signature));
        assert!(SigningKey::from_pkcs8(b"no key").is_err());
    }

    #[test]
    fn uuids_are_version_4_and_differ() {
        let (a, b) = (uuid(), uuid());
        assert_ne!(a, b);
        assert_eq!((a.len(), &a[14..15]), (36, "4"));
        assert!(matches!(&a[19..20], "8" | "9" | "a" | "b"));
    }

    #[test]
    fn hashes_and_comparisons() {
        assert_eq!(hex(&sha256(b"abc")), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert!(secrets_equal(b"ab", b"ab") && !secrets_equal(b"ab", b"ac") && !secrets_equal(b"ab", b"abc"));
    }
}
