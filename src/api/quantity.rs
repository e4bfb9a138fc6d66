//! Resource quantities: parsing, Kubernetes' canonical form, exact comparison and sums.
//!
//! Upstream: k8s.io/apimachinery pkg/api/resource. A quantity is `mantissa * 10^exponent`; 38 digits are exact, which
//! covers every amount down to the smallest unit (nano) that upstream keeps.

use std::cmp::Ordering;

use serde_json::Value;

/// An amount with the notation it was written in. Equality and order are by amount.
#[derive(Debug, Clone, Copy)]
pub struct Quantity {
    mantissa: i128,
    exponent: i32,
    notation: Notation,
}

/// The suffixes that the canonical form uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notation {
    /// `m`, `k`, `M`, `G`, ...
    Decimal,
    /// `Ki`, `Mi`, `Gi`, ...
    Binary,
    /// `e3`, `e6`, ...
    Exponent,
}

/// Why a text is no quantity, in upstream's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    #[error("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")]
    Format,
    #[error("unable to parse numeric part of quantity")]
    Numeric,
    #[error("unable to parse quantity's suffix")]
    Suffix,
}

const NANO: i32 = -9;

const DECIMAL_SUFFIXES: [(&str, i32); 10] =
    [("n", -9), ("u", -6), ("m", -3), ("", 0), ("k", 3), ("M", 6), ("G", 9), ("T", 12), ("P", 15), ("E", 18)];

const BINARY_SUFFIXES: [(&str, u32); 6] = [("Ki", 10), ("Mi", 20), ("Gi", 30), ("Ti", 40), ("Pi", 50), ("Ei", 60)];

impl Quantity {
    pub const ZERO: Quantity = Quantity { mantissa: 0, exponent: 0, notation: Notation::Decimal };

    /// `amount` whole units.
    pub fn new(amount: i64, notation: Notation) -> Self {
        Self { mantissa: amount.into(), exponent: 0, notation }
    }

    /// `amount` thousandths.
    pub fn milli(amount: i64) -> Self {
        Self { mantissa: amount.into(), exponent: -3, notation: Notation::Decimal }
    }

    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let (number, suffix) = split(text)?;
        let (unit, notation) = Unit::of(suffix)?;
        let (mut mantissa, mut exponent) = decimal(number)?;
        match unit {
            Unit::PowerOfTen(power) => exponent += power,
            Unit::PowerOfTwo(power) => {
                (mantissa, exponent) = trimmed(mantissa, exponent);
                mantissa = mantissa.checked_mul(1 << power).unwrap_or(i128::MAX * mantissa.signum());
            }
        }
        let mut quantity = Self { mantissa, exponent, notation }.rounded_up_to(NANO);
        if notation == Notation::Binary {
            let limit = Self::new(i64::MAX, notation);
            if quantity.magnitude() > limit {
                quantity = Self { mantissa: limit.mantissa * quantity.mantissa.signum(), ..limit };
            }
            if quantity.mantissa != 0 && quantity.magnitude() < Self::new(1, notation) {
                quantity.notation = Notation::Decimal;
            }
        }
        Ok(quantity)
    }

    /// Reads a JSON string or number, as upstream's decoder does.
    pub fn from_value(value: &Value) -> Result<Self, ParseError> {
        match value {
            Value::String(text) => Self::parse(text.trim()),
            Value::Number(number) => Self::parse(&number.to_string()),
            Value::Null => Ok(Self::ZERO),
            _ => Err(ParseError::Format),
        }
    }

    pub fn is_zero(&self) -> bool {
        self.mantissa == 0
    }

    pub fn is_negative(&self) -> bool {
        self.mantissa < 0
    }

    /// Whole units, rounded away from zero, within `i64`.
    pub fn value(&self) -> i64 {
        self.scaled(0)
    }

    /// Thousandths, rounded away from zero, within `i64`.
    pub fn milli_value(&self) -> i64 {
        self.scaled(-3)
    }

    /// For ratios only: precision is lost.
    pub fn as_f64(&self) -> f64 {
        self.mantissa as f64 * 10f64.powi(self.exponent)
    }

    /// No digits below thousandths, which the API does not keep in resource lists.
    pub fn rounded_up_to_milli(self) -> Self {
        self.rounded_up_to(-3)
    }

    fn scaled(&self, exponent: i32) -> i64 {
        let rounded = self.rounded_up_to(exponent);
        let factor = power_of_ten(rounded.exponent - exponent);
        let scaled = factor.and_then(|factor| rounded.mantissa.checked_mul(factor));
        let limit = if self.mantissa < 0 { i64::MIN } else { i64::MAX };
        scaled.and_then(|scaled| scaled.try_into().ok()).unwrap_or(limit)
    }

    fn magnitude(&self) -> Self {
        Self { mantissa: self.mantissa.saturating_abs(), ..*self }
    }

    /// No digits below `10^exponent`: what is cut off rounds away from zero.
    fn rounded_up_to(self, exponent: i32) -> Self {
        if self.exponent >= exponent {
            return self;
        }
        let mantissa = match power_of_ten(exponent - self.exponent) {
            Some(factor) if self.mantissa % factor == 0 => self.mantissa / factor,
            Some(factor) => self.mantissa / factor + self.mantissa.signum(),
            None => self.mantissa.signum(),
        };
        Self { mantissa, exponent, ..self }
    }

    /// Both mantissas at one exponent, the smaller of the two; saturates.
    fn aligned(self, other: Self) -> (i128, i128, i32) {
        let (ours, theirs) = (trimmed_quantity(self), trimmed_quantity(other));
        let exponent = ours.exponent.min(theirs.exponent);
        let raise = |quantity: Quantity| {
            let limit = i128::MAX * quantity.mantissa.signum();
            power_of_ten(quantity.exponent - exponent)
                .and_then(|factor| quantity.mantissa.checked_mul(factor))
                .unwrap_or(limit)
        };
        (raise(ours), raise(theirs), exponent)
    }
}

fn trimmed_quantity(quantity: Quantity) -> Quantity {
    let (mantissa, exponent) = trimmed(quantity.mantissa, quantity.exponent);
    Quantity { mantissa, exponent, ..quantity }
}

/// Factors of ten moved into the exponent.
fn trimmed(mut mantissa: i128, mut exponent: i32) -> (i128, i32) {
    if mantissa == 0 {
        return (0, 0);
    }
    while mantissa % 10 == 0 {
        mantissa /= 10;
        exponent += 1;
    }
    (mantissa, exponent)
}

fn power_of_ten(exponent: i32) -> Option<i128> {
    10i128.checked_pow(exponent.try_into().ok()?)
}

enum Unit {
    PowerOfTen(i32),
    PowerOfTwo(u32),
}

impl Unit {
    fn of(suffix: &str) -> Result<(Unit, Notation), ParseError> {
        if let Some((_, power)) = DECIMAL_SUFFIXES.iter().find(|(name, _)| *name == suffix) {
            return Ok((Unit::PowerOfTen(*power), Notation::Decimal));
        }
        if let Some((_, power)) = BINARY_SUFFIXES.iter().find(|(name, _)| *name == suffix) {
            return Ok((Unit::PowerOfTwo(*power), Notation::Binary));
        }
        let digits = suffix.strip_prefix(['e', 'E']).ok_or(ParseError::Suffix)?;
        let power: i32 = digits.parse().map_err(|_| ParseError::Suffix)?;
        // Far beyond anything exact, and keeps the arithmetic on exponents within i32.
        Ok((Unit::PowerOfTen(power.clamp(-100_000, 100_000)), Notation::Exponent))
    }
}

/// The signed number and the suffix.
fn split(text: &str) -> Result<(&str, &str), ParseError> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let sign = text.len() - unsigned.len();
    let digits = unsigned.bytes().take_while(u8::is_ascii_digit).count();
    let mut number = sign + digits;
    if text[number..].starts_with('.') {
        number += 1;
        number += text[number..].bytes().take_while(u8::is_ascii_digit).count();
    }
    let (number, suffix) = text.split_at(number);
    let rest = suffix.trim_start_matches(|letter| "eEinumkKMGTP".contains(letter));
    let rest = rest.strip_prefix(['+', '-']).unwrap_or(rest);
    if text.is_empty() || !rest.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(ParseError::Format);
    }
    Ok((number, suffix))
}

fn decimal(number: &str) -> Result<(i128, i32), ParseError> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if !number.bytes().any(|byte| byte.is_ascii_digit()) {
        return Err(ParseError::Numeric);
    }
    let negative = whole.starts_with('-');
    let digits = whole.trim_start_matches(['+', '-']).bytes().chain(fraction.bytes());
    let (mut mantissa, mut dropped, mut inexact) = (0i128, 0, false);
    for digit in digits.map(|byte| i128::from(byte - b'0')) {
        match mantissa.checked_mul(10).and_then(|shifted| shifted.checked_add(digit)) {
            Some(next) if dropped == 0 => mantissa = next,
            _ => {
                dropped += 1;
                inexact |= digit != 0;
            }
        }
    }
    mantissa += i128::from(inexact && mantissa < i128::MAX);
    let fraction_digits = i32::try_from(fraction.len()).map_err(|_| ParseError::Numeric)?;
    Ok((if negative { -mantissa } else { mantissa }, dropped - fraction_digits))
}

impl std::fmt::Display for Quantity {
    /// The canonical form.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (mantissa, exponent) = trimmed(self.mantissa, self.exponent);
        if mantissa == 0 {
            return formatter.write_str("0");
        }
        if self.notation == Notation::Binary
            && exponent >= 0
            && let Some(whole) = power_of_ten(exponent).and_then(|factor| mantissa.checked_mul(factor))
            && whole.abs() >= 1024
        {
            let (mut amount, mut steps) = (whole, 0);
            while amount % 1024 == 0 && steps < BINARY_SUFFIXES.len() {
                amount /= 1024;
                steps += 1;
            }
            let suffix = if steps == 0 { "" } else { BINARY_SUFFIXES[steps - 1].0 };
            return write!(formatter, "{amount}{suffix}");
        }
        let step = exponent.rem_euclid(3);
        let (zeroes, exponent) = (&"00"[..usize::try_from(step).expect("0, 1 or 2")], exponent - step);
        match DECIMAL_SUFFIXES.iter().find(|(_, power)| *power == exponent) {
            Some((suffix, _)) if self.notation != Notation::Exponent => write!(formatter, "{mantissa}{zeroes}{suffix}"),
            _ if exponent == 0 => write!(formatter, "{mantissa}{zeroes}"),
            _ => write!(formatter, "{mantissa}{zeroes}e{exponent}"),
        }
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        let (ours, theirs, _) = self.aligned(*other);
        ours.cmp(&theirs)
    }
}

impl std::ops::Add for Quantity {
    type Output = Self;

    /// Keeps the notation of the left side, or takes the right's when the left is zero.
    fn add(self, other: Self) -> Self {
        let (ours, theirs, exponent) = self.aligned(other);
        let notation = if self.is_zero() { other.notation } else { self.notation };
        Self { mantissa: ours.saturating_add(theirs), exponent, notation }
    }
}

impl std::ops::Neg for Quantity {
    type Output = Self;

    fn neg(self) -> Self {
        Self { mantissa: self.mantissa.saturating_neg(), ..self }
    }
}

impl std::ops::Sub for Quantity {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        self + -other
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canonical_forms() {
        for (text, canonical) in [
            ("0", "0"),
            ("0Mi", "0"),
            ("1", "1"),
            ("1000", "1k"),
            ("1024", "1024"),
            ("1024Ki", "1Mi"),
            ("1.5Gi", "1536Mi"),
            ("0.5Ki", "512"),
            ("0.1", "100m"),
            ("100m", "100m"),
            ("1500m", "1500m"),
            ("2000m", "2"),
            ("0.0000000001", "1n"),
            ("-0.5", "-500m"),
            ("1e3", "1e3"),
            ("12e2", "1200"),
            ("1.2345e3", "1234500e-3"),
            ("100M", "100M"),
            ("123456789", "123456789"),
            ("1Ei", "1Ei"),
            ("100Ei", "9223372036854775807"),
            (".5", "500m"),
            ("1.", "1"),
            ("+3", "3"),
            ("1.1Ki", "1126400m"),
        ] {
            assert_eq!(Quantity::parse(text).map(|quantity| quantity.to_string()).as_deref(), Ok(canonical), "{text}");
        }
    }

    #[test]
    fn what_is_no_quantity() {
        for (text, error) in [
            ("", ParseError::Format),
            ("1 Gi", ParseError::Format),
            ("1Gb", ParseError::Format),
            ("1GiB", ParseError::Format),
            ("1mm", ParseError::Suffix),
            ("1e", ParseError::Suffix),
            ("m", ParseError::Numeric),
            ("1.2.3", ParseError::Format),
        ] {
            assert_eq!(Quantity::parse(text), Err(error), "{text}");
        }
    }

    #[test]
    fn arithmetic_is_exact() {
        let quantity = |text| Quantity::parse(text).unwrap();
        assert!(quantity("1Gi") > quantity("1G"));
        assert_eq!(quantity("1000m"), quantity("1"));
        assert_eq!((quantity("1Gi") + quantity("512Mi")).to_string(), "1536Mi");
        assert_eq!((quantity("0") + quantity("1Ki")).to_string(), "1Ki");
        assert_eq!((quantity("1") - quantity("1n")).to_string(), "999999999n");
        assert_eq!(quantity("1500m").value(), 2);
        assert_eq!(quantity("1Mi").milli_value(), 1_048_576_000);
        assert_eq!(quantity("1e300").value(), i64::MAX);
        assert!(quantity("1e300") > quantity("1e200") || quantity("1e300") == quantity("1e200"));
    }
}
