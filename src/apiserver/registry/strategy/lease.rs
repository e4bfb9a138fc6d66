//! Leases: a write that only renews stays in memory, so that heartbeats wear out no disk.

use serde_json::{Map, Value};

/// Whether nothing but `spec.renewTime` differs: holder, duration and transitions are durable.
pub fn is_renewal(old: &Value, new: &Value) -> bool {
    same(&old["spec"], &new["spec"], &["renewTime"])
        && same(&old["metadata"], &new["metadata"], &["managedFields", "resourceVersion"])
}

/// Whether two maps are equal but for the named entries.
fn same(left: &Value, right: &Value, but: &[&str]) -> bool {
    let keys = |value: &Value| value.as_object().into_iter().flat_map(Map::keys).cloned().collect::<Vec<_>>();
    let counts = |key: &String| !but.contains(&key.as_str());
    keys(left).iter().chain(&keys(right)).filter(|key| counts(key)).all(|key| left.get(key) == right.get(key))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_a_later_renew_time_is_a_renewal() {
        let old = json!({"metadata": {"name": "n", "resourceVersion": "1"}, "spec": {"holderIdentity": "a", "renewTime": "1"}});
        let with = |field: &str, value: &str| {
            let mut new = old.clone();
            new["spec"][field] = json!(value);
            new["metadata"]["resourceVersion"] = json!("2");
            new
        };
        assert!(is_renewal(&old, &with("renewTime", "2")));
        assert!(!is_renewal(&old, &with("holderIdentity", "b")));
        assert!(!is_renewal(&old, &with("acquireTime", "2")));
        let mut labelled = with("renewTime", "2");
        labelled["metadata"]["labels"] = json!({"a": "b"});
        assert!(!is_renewal(&old, &labelled));
    }
}
