//! Selecting objects by labels and by fields.

pub mod field;
pub mod label;

pub use field::FieldSelector;
pub use label::LabelSelector;

#[cfg(test)]
mod robustness;
