//! The slot of an object for its further forms: one pointer while nobody asks, and bounded over all objects.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use jiff::Timestamp;

use super::Inner;
use crate::resource::Resource;

/// Bytes of all forms together; above it the oldest go.
const LIMIT: usize = 16 << 20;
/// What a form costs beside its bytes.
const OVERHEAD: usize = 128;

/// Which form: of a served version, what.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Form {
    pub resource: Resource,
    pub kind: FormKind,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FormKind {
    /// Canonical JSON of a version that is not stored.
    Json,
    /// The protobuf message without its envelope.
    Protobuf,
    /// The cells of a Table's row.
    Row,
}

/// A form that was just made.
pub struct Made {
    pub bytes: Bytes,
    /// Until when it is true, where it tells ages.
    pub until: Option<Timestamp>,
}

impl From<Vec<u8>> for Made {
    fn from(bytes: Vec<u8>) -> Self {
        Self { bytes: bytes.into(), until: None }
    }
}

#[derive(Default)]
pub(super) struct Forms(ArcSwapOption<Vec<(Form, Arc<Made>)>>);

impl Forms {
    pub(super) fn find(&self, form: &Form) -> Option<Bytes> {
        let forms = self.0.load();
        let (_, made) = forms.as_ref()?.iter().find(|(own, _)| own == form)?;
        made.until.is_none_or(|until| Timestamp::now() < until).then(|| made.bytes.clone())
    }

    fn take(&self, made: &Arc<Made>) {
        self.0.rcu(|forms| {
            let others = forms.iter().flat_map(|forms| forms.iter()).filter(|(_, own)| !Arc::ptr_eq(own, made));
            let others: Vec<_> = others.cloned().collect();
            (!others.is_empty()).then(|| Arc::new(others))
        });
    }

    fn put(&self, form: &Form, made: &Arc<Made>) {
        self.0.rcu(|forms| {
            let others = forms.iter().flat_map(|forms| forms.iter()).filter(|(own, _)| own != form).cloned();
            Some(Arc::new(others.chain([(form.clone(), made.clone())]).collect()))
        });
    }
}

/// What all slots hold, oldest first. What is gone already, with its object or for a newer age, counts until its turn comes.
struct Kept {
    order: VecDeque<(Weak<Inner>, Weak<Made>, usize)>,
    bytes: usize,
}

static KEPT: Mutex<Kept> = Mutex::new(Kept { order: VecDeque::new(), bytes: 0 });

/// Puts a form into the slot of its object, and takes the oldest of others where there are too many.
pub(super) fn keep(object: &Arc<Inner>, form: Form, made: Made) {
    let size = made.bytes.len() + OVERHEAD;
    let made = Arc::new(made);
    object.forms.put(&form, &made);
    let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    kept.order.push_back((Arc::downgrade(object), Arc::downgrade(&made), size));
    kept.bytes += size;
    kept.shrink(LIMIT);
}

impl Kept {
    fn shrink(&mut self, limit: usize) {
        while self.bytes > limit {
            let Some((object, made, size)) = self.order.pop_front() else { return };
            self.bytes -= size;
            if let (Some(object), Some(made)) = (object.upgrade(), made.upgrade()) {
                object.forms.take(&made);
            }
        }
    }
}

/// Empties all slots: what they hold can be made again.
pub fn forget() {
    let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    kept.shrink(0);
    kept.order = VecDeque::new();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object::{Meta, Object};

    fn object() -> Object {
        let resource = Resource::find("", "v1", "configmaps").unwrap();
        Object::new(resource, 1, Bytes::from_static(b"{}"), Meta::default())
    }

    fn ask(object: &Object, kind: FormKind, bytes: usize, until: Option<Timestamp>) -> bool {
        let mut made = false;
        let form = Form { resource: object.resource().clone(), kind };
        let make = || {
            made = true;
            Ok(Made { bytes: vec![0; bytes].into(), until })
        };
        assert_eq!(object.form(form, make).unwrap().len(), bytes);
        made
    }

    /// One test, for what is kept is counted over the whole process.
    #[test]
    fn forms_are_made_once_and_the_oldest_go_first() {
        assert_eq!(size_of::<Forms>(), size_of::<usize>());
        let (first, second) = (object(), object());
        assert!(ask(&first, FormKind::Protobuf, 10, None) && !ask(&first, FormKind::Protobuf, 10, None));
        assert!(ask(&first, FormKind::Json, 20, None) && !ask(&first, FormKind::Protobuf, 10, None));
        let past = Some(Timestamp::UNIX_EPOCH);
        assert!(ask(&second, FormKind::Row, 10, past) && ask(&second, FormKind::Row, 10, past), "an age that is over");
        assert!(ask(&second, FormKind::Protobuf, LIMIT - 300, None));
        assert!(!ask(&second, FormKind::Protobuf, LIMIT - 300, None));
        assert!(ask(&first, FormKind::Protobuf, 10, None), "the older object's forms went");
        forget();
        assert!(ask(&second, FormKind::Protobuf, 10, None));
    }
}
