//! Amounts given as a number or as percent.
//!
//! Upstream: GetScaledValueFromIntOrPercent in k8s.io/apimachinery/pkg/util/intstr.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// A number, or so many percent of `total`.
pub fn scaled(value: Option<&IntOrString>, total: i32, round_up: bool) -> i32 {
    match value {
        None => 0,
        Some(IntOrString::Int(number)) => *number,
        Some(IntOrString::String(text)) => {
            let percent: i64 = text.trim_end_matches('%').parse().unwrap_or(0);
            let hundredths = percent * i64::from(total);
            let rounded = if round_up { (hundredths + 99) / 100 } else { hundredths / 100 };
            i32::try_from(rounded).unwrap_or(i32::MAX)
        }
    }
}
