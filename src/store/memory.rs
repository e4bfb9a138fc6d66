//! A datastore in memory, for tests; a clone sees the same data, as a second start would.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::datastore::{Batch, CommitError, Datastore, Loaded, OpenError};
use crate::entry::{Frame, Key};

#[derive(Clone, Default)]
pub struct Memory {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    entries: BTreeMap<Key, (Frame, u64)>,
    last_changes: BTreeMap<Arc<str>, u64>,
    ceiling: u64,
    closed_at: Option<u64>,
}

impl Memory {
    pub fn new() -> Self {
        Self::default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Datastore for Memory {
    fn load(&mut self) -> Result<Loaded, OpenError> {
        let state = self.state();
        Ok(Loaded {
            entries: state
                .entries
                .iter()
                .map(|(key, (frame, revision))| (key.clone(), frame.clone(), *revision))
                .collect(),
            last_changes: state.last_changes.clone(),
            ceiling: state.ceiling,
            closed_at: state.closed_at,
        })
    }

    fn commit(&mut self, batch: &Batch) -> Result<(), CommitError> {
        let mut state = self.state();
        for op in &batch.ops {
            match &op.frame {
                Some(frame) => {
                    state.entries.insert(op.key.clone(), (frame.clone(), op.revision));
                }
                None => {
                    state.entries.remove(&op.key);
                    state.last_changes.insert(op.key.partition.clone(), op.revision);
                }
            }
        }
        Ok(())
    }

    fn reserve(&mut self, ceiling: u64) -> Result<(), CommitError> {
        let mut state = self.state();
        state.ceiling = ceiling;
        state.closed_at = None;
        Ok(())
    }

    fn close(&mut self, revision: u64) -> Result<(), CommitError> {
        self.state().closed_at = Some(revision);
        Ok(())
    }
}
