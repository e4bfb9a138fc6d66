//! Selectors from the network never panic, and what is printed of one selects the same.

use proptest::prelude::*;

use super::{FieldSelector, LabelSelector};
use crate::resource::Resource;

/// Text that is often nearly a selector.
fn text() -> impl Strategy<Value = String> {
    let word = prop::sample::select(vec![
        "a",
        "b.c/d",
        "metadata.name",
        "spec.nodeName",
        "in",
        "notin",
        "!",
        "=",
        "==",
        "!=",
        ",",
        "(",
        ")",
        " ",
        "<",
        ">",
        "1",
        "\\",
        "\\,",
        "\\=",
        "é",
        "\u{0}",
    ]);
    prop_oneof![3 => prop::collection::vec(word, 0..12).prop_map(|words| words.concat()), 1 => ".*"]
}

proptest! {
    #[test]
    fn label_selectors_come_back_from_their_text(text in text()) {
        if let Ok(selector) = LabelSelector::parse(&text) {
            let printed = selector.to_string();
            let again = LabelSelector::parse(&printed).expect("what is printed is read");
            prop_assert_eq!(again.to_string(), printed);
        }
    }

    #[test]
    fn field_selectors_are_an_answer_or_an_error(text in text()) {
        let pods = Resource::find("", "v1", "pods").expect("pods are served");
        let _ = FieldSelector::parse(&text, &pods);
    }
}
