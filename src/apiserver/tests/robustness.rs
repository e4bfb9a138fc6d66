//! Paths, queries and continue tokens of any form are an answer or an error, and never name what they do not say.

use http::Method;
use proptest::prelude::*;

use crate::request_info::RequestInfo;
use crate::verbs::continuation::Continuation;
use coracle_base::url::Query;

/// Text that is often nearly a request's target.
fn target() -> impl Strategy<Value = String> {
    let word = prop::sample::select(vec![
        "/",
        "/",
        "/",
        "api",
        "apis",
        "v1",
        "apps",
        "watch",
        "proxy",
        "namespaces",
        "pods",
        "status",
        "finalize",
        "a",
        "..",
        "%",
        "%2",
        "%2f",
        "%2F..",
        "%00",
        "%ff",
        "%+f",
        "%é",
        "?",
        "&",
        "=",
        "+",
        "watch=",
        "fieldSelector=metadata.name%3D",
    ]);
    prop_oneof![4 => prop::collection::vec(word, 0..16).prop_map(|words| words.concat()), 1 => ".*"]
}

proptest! {
    #[test]
    fn targets_of_any_form(target in target()) {
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let query = Query::parse(query);
        for method in [Method::GET, Method::POST, Method::DELETE, Method::OPTIONS] {
            let info = RequestInfo::parse(&method, path, &query);
            if info.is_resource {
                prop_assert!(path.trim_matches('/').starts_with("api"));
            } else {
                prop_assert!(info.name.is_empty() && info.namespace.is_empty(), "{info:?}");
            }
        }
        let _ = (query.number::<i64>("watch"), query.optional_flag("watch"), query.get("fieldSelector"));
    }

    #[test]
    fn continue_tokens_come_back(revision in 1..u64::from(u32::MAX), after in "[a-z][a-z0-9.:-]{0,20}(/[a-z0-9]{1,9})?") {
        let continuation = Continuation { revision: Some(revision), after };
        prop_assert_eq!(Continuation::decode(&continuation.encode()).expect("it is ours"), continuation);
    }

    #[test]
    fn continue_tokens_of_any_form(text in prop_oneof![".*", "[A-Za-z0-9_-]{0,60}"]) {
        if let Err(refused) = Continuation::decode(&text) {
            prop_assert_eq!(refused.code, 400);
        }
    }
}
