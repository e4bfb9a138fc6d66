//! Views and controllers over a source that the test plays.

use std::borrow::Cow;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use coracle_api::object::Meta;
use coracle_api::resource::Row;
use coracle_api::{Resource, Status};
use coracle_base::shutdown::Shutdown;
use coracle_base::task;
use futures::StreamExt;
use futures::stream::BoxStream;
use tokio::sync::mpsc;

use super::*;
use crate::{Controller, Error, Next, ObjectSource, Selection};

static ROW: Row = Row {
    group: Cow::Borrowed(""),
    version: Cow::Borrowed("v1"),
    kind: Cow::Borrowed("Boat"),
    list_kind: Cow::Borrowed("BoatList"),
    plural: Cow::Borrowed("boats"),
    singular: Cow::Borrowed("boat"),
    short_names: Cow::Borrowed(&[]),
    categories: Cow::Borrowed(&[]),
    namespaced: true,
    verbs: Cow::Borrowed(&[]),
    subresources: Cow::Borrowed(&[]),
    type_name: Cow::Borrowed(""),
    storage: (Cow::Borrowed(""), Cow::Borrowed("v1")),
    selectable: Cow::Borrowed(&[]),
};

fn boats() -> Resource {
    Resource::of_row(&ROW)
}

fn boat(name: &str, uid: &str, revision: u64, owner: &str) -> Object {
    let json = Bytes::from(format!(r#"{{"owner":"{owner}"}}"#));
    let meta = Meta { namespace: "river".into(), name: name.into(), uid: uid.into(), ..Meta::default() };
    Object::new(boats(), revision, json, meta)
}

#[derive(serde::Deserialize, Debug, PartialEq)]
struct Boat {
    owner: String,
}

impl Project for Boat {
    fn project(object: &Object) -> Option<Self> {
        object.decode().ok().filter(|boat: &Boat| !boat.owner.is_empty())
    }

    fn terms(&self) -> Vec<Box<str>> {
        vec![self.owner.as_str().into()]
    }
}

/// Gives each list_watch the next of its prepared streams.
struct Played {
    streams: Mutex<Vec<mpsc::Receiver<Result<ObjectEvent, Status>>>>,
    opened: AtomicUsize,
}

impl Played {
    fn with(streams: usize) -> (Arc<Self>, Vec<mpsc::Sender<Result<ObjectEvent, Status>>>) {
        let (senders, mut receivers): (Vec<_>, Vec<_>) = (0..streams).map(|_| mpsc::channel(16)).unzip();
        receivers.reverse();
        (Arc::new(Self { streams: Mutex::new(receivers), opened: AtomicUsize::new(0) }), senders)
    }
}

impl ObjectSource for Played {
    fn list_watch(&self, _: &Resource, _: Selection) -> BoxStream<'static, Result<ObjectEvent, Status>> {
        self.opened.fetch_add(1, Ordering::SeqCst);
        let receiver = self.streams.lock().unwrap().pop().expect("opened more often than played");
        futures::stream::unfold(receiver, |mut receiver| async { receiver.recv().await.map(|event| (event, receiver)) })
            .boxed()
    }
}

fn names<T: Project>(items: &[Arc<Item<T>>]) -> String {
    items.iter().map(|item| &*item.key.name).collect::<Vec<_>>().join(" ")
}

fn told(changes: &[Change<Boat>]) -> String {
    let text = |change: &Change<Boat>| match change {
        Change::Added(item) => format!("+{}@{}", item.key.name, item.revision),
        Change::Updated { old, new } => format!("{}@{}>{}", new.key.name, old.revision, new.revision),
        Change::Removed(item) => format!("-{}@{}", item.key.name, item.revision),
    };
    changes.iter().map(text).collect::<Vec<_>>().join(" ")
}

#[test]
fn a_store_steps_through_lists_and_changes() {
    use ObjectEvent::{Applied, Deleted, Restarted, Synced};
    let mut state = State::<Boat> { items: BTreeMap::new(), terms: HashMap::new(), unseen: None };
    let cases = [
        (Restarted, ""),
        (Applied(boat("a", "1", 5, "ann")), "+a@5"),
        (Applied(boat("b", "2", 6, "bob")), "+b@6"),
        (Synced(6), ""),
        (Applied(boat("a", "1", 7, "bob")), "a@5>7"),
        // Not for this view: the projection refuses it.
        (Applied(boat("c", "3", 8, "")), ""),
        // Leaves the view without being deleted.
        (Applied(boat("b", "2", 9, "")), "-b@6"),
        (Applied(boat("b", "2", 10, "bob")), "+b@10"),
        // The same name, another object.
        (Applied(boat("a", "4", 11, "ann")), "-a@7 +a@11"),
        // A new list: what does not come again is gone, what comes unchanged is not told.
        (Restarted, ""),
        (Applied(boat("a", "4", 11, "ann")), ""),
        (Synced(12), "-b@10"),
        (Deleted(boat("a", "4", 13, "ann")), "-a@11"),
        (Deleted(boat("a", "4", 13, "ann")), ""),
    ];
    for (number, (event, expected)) in cases.into_iter().enumerate() {
        assert_eq!(told(&state.step(&event)), expected, "step {number}");
    }
    assert!(state.items.is_empty() && state.terms.is_empty());
}

#[tokio::test]
async fn views_of_one_type_share_a_store_and_all_share_the_watch() {
    struct Name;
    impl Project for Name {
        fn project(_: &Object) -> Option<Self> {
            Some(Name)
        }
    }
    let (source, senders) = Played::with(1);
    let views = Views::new(source.clone());
    let (first, second) = (views.view::<Boat>(&boats()), views.view::<Boat>(&boats()));
    let other = views.view::<Name>(&boats());
    assert!(Arc::ptr_eq(&first.store, &second.store));
    views.start();
    for event in [
        ObjectEvent::Restarted,
        ObjectEvent::Applied(boat("a", "1", 5, "ann")),
        ObjectEvent::Applied(boat("b", "2", 6, "ann")),
        ObjectEvent::Synced(9),
    ] {
        senders[0].send(Ok(event)).await.unwrap();
    }
    first.synced().await;
    other.reached(9).await;
    assert_eq!((first.len(), other.len(), source.opened.load(Ordering::SeqCst)), (2, 2, 1));
    assert_eq!(names(&first.find("ann")), "a b");
    assert_eq!(names(&first.in_namespace("river")), "a b");
    assert!(first.in_namespace("rive").is_empty());
    assert_eq!(first.get(&Key::new("river", "a")).unwrap().owner, "ann");
    drop((first, second, other));
    senders[0].closed().await;
}

#[tokio::test]
async fn a_view_that_joins_late_gets_a_list_of_its_own() {
    let (source, senders) = Played::with(2);
    let views = Views::new(source);
    views.start();
    let first = views.view::<Boat>(&boats());
    senders[0].send(Ok(ObjectEvent::Synced(1))).await.unwrap();
    first.synced().await;
    struct Late;
    impl Project for Late {
        fn project(_: &Object) -> Option<Self> {
            Some(Late)
        }
    }
    let late = views.view::<Late>(&boats());
    senders[0].closed().await;
    senders[1].send(Ok(ObjectEvent::Restarted)).await.unwrap();
    senders[1].send(Ok(ObjectEvent::Applied(boat("a", "1", 5, "ann")))).await.unwrap();
    senders[1].send(Ok(ObjectEvent::Synced(5))).await.unwrap();
    late.synced().await;
    assert_eq!((late.len(), first.len()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_controller_retries_failures_and_panics() {
    let (source, senders) = Played::with(1);
    let views = Views::new(source);
    let view = views.view::<Boat>(&boats());
    let controller = Controller::new("shipyard").workers(2).on(&view, |change| Some(change.item().key.clone()));
    views.start();
    let shutdown = Shutdown::new();
    let (attempts, done) = (Arc::new(Mutex::new(HashMap::<Key, u32>::new())), Arc::new(tokio::sync::Semaphore::new(0)));
    let (tried, finished, stop) = (attempts.clone(), done.clone(), shutdown.clone());
    let running = task::spawn("running", async move {
        let reconcile = move |key: Key| {
            let (tried, finished) = (tried.clone(), finished.clone());
            async move {
                let attempt = {
                    let mut tried = tried.lock().unwrap();
                    let attempt = tried.entry(key).or_insert(0);
                    *attempt += 1;
                    *attempt
                };
                match attempt {
                    1 => panic!("first try"),
                    2 => Err(Error::Other("second try".to_owned())),
                    3 => Ok(Next::After(Duration::from_secs(30))),
                    _ => {
                        finished.add_permits(1);
                        Ok(Next::Done)
                    }
                }
            }
        };
        controller.run(&stop, reconcile).await;
    });
    senders[0].send(Ok(ObjectEvent::Applied(boat("a", "1", 5, "ann")))).await.unwrap();
    senders[0].send(Ok(ObjectEvent::Applied(boat("b", "2", 6, "ann")))).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(attempts.lock().unwrap().is_empty(), "reconciled before the list was complete");
    senders[0].send(Ok(ObjectEvent::Synced(6))).await.unwrap();
    let _both = done.acquire_many(2).await.unwrap();
    assert!(attempts.lock().unwrap().values().all(|count| *count == 4));
    shutdown.begin();
    running.await.unwrap();
}

#[tokio::test]
async fn a_controller_keeps_the_views_that_only_trigger_it() {
    let (source, senders) = Played::with(1);
    let views = Views::new(source);
    let view = views.view::<Boat>(&boats());
    let controller = Controller::new("shipyard").on(&view, |change| Some(change.item().key.clone()));
    drop(view);
    views.start();
    let shutdown = Shutdown::new();
    let done = Arc::new(tokio::sync::Semaphore::new(0));
    let (finished, stop) = (done.clone(), shutdown.clone());
    let running = task::spawn("running", async move {
        let reconcile = move |_: Key| {
            finished.add_permits(1);
            async { Ok(Next::Done) }
        };
        controller.run(&stop, reconcile).await;
    });
    senders[0].send(Ok(ObjectEvent::Applied(boat("a", "1", 5, "ann")))).await.unwrap();
    senders[0].send(Ok(ObjectEvent::Synced(5))).await.unwrap();
    done.acquire().await.unwrap().forget();
    // The list is complete and reconciled; what happens from here on must come, too.
    senders[0].send(Ok(ObjectEvent::Applied(boat("b", "2", 6, "ann")))).await.expect("the watch goes on");
    done.acquire().await.unwrap().forget();
    shutdown.begin();
    running.await.unwrap();
}
