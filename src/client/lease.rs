//! Leader election on a Lease: of several servers, one runs controllers and scheduler.
//!
//! Upstream: client-go tools/leaderelection. Clocks of different machines are never compared: a holder is given up when its
//! Lease has not changed for its duration by this machine's clock.

use std::time::Duration;

use coracle_base::backoff::random_share;
use coracle_base::clock::Clock;
use coracle_base::shutdown::Shutdown;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, PostParams};
use tokio::time::Instant;

use crate::{Error, found};

/// How fast candidates move.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// For how long a silent holder is believed.
    pub duration: Duration,
    /// A holder that could not renew for so long gives up.
    pub deadline: Duration,
    /// Between renewals.
    pub retry: Duration,
}

impl Pace {
    /// Upstream's defaults for its components.
    pub const SHARED: Pace =
        Pace { duration: Duration::from_secs(15), deadline: Duration::from_secs(10), retry: Duration::from_secs(2) };

    /// For a datastore that only one process can open: there is nobody to take over from it, so it need not hurry. Its
    /// identity is the datastore's own, by which it finds its Lease again after a crash.
    pub const ALONE: Pace = Pace {
        duration: Duration::from_secs(600),
        deadline: Duration::from_secs(400),
        retry: Duration::from_secs(180),
    };
}

/// Between looks at another's Lease.
const ACQUIRE: Duration = Duration::from_secs(2);
/// What is waited for on the way out.
const RELEASE: Duration = Duration::from_secs(2);

/// A candidate.
pub struct Election {
    pub client: kube::Client,
    pub namespace: String,
    pub name: String,
    /// Unique among the candidates: `HOST_UUID`.
    pub identity: String,
    pub clock: Clock,
    pub pace: Pace,
}

/// The Lease as it was last seen to change.
#[derive(Debug, Clone)]
struct Observed {
    spec: LeaseSpec,
    at: Instant,
}

/// What a candidate may do with the Lease it sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Create,
    /// It is this candidate's own.
    Renew,
    /// Nobody holds it, or its holder is silent.
    Take,
    Wait,
}

impl Election {
    /// Waits until this candidate leads, then runs `work` with a signal that begins when leadership is lost or
    /// shutdown begins. Returns when `work` has returned; the caller decides whether to stand again.
    pub async fn lead<W: Future<Output = ()>>(&self, shutdown: &Shutdown, work: impl FnOnce(Shutdown) -> W) {
        let mut observed = None;
        loop {
            match self.attempt(&mut observed).await {
                Ok(true) => break,
                Ok(false) => {}
                Err(error) => tracing::warn!(lease = self.name, error = error.chain(), "lease cannot be taken"),
            }
            if shutdown.bound(tokio::time::sleep(ACQUIRE.mul_f64(1.0 + random_share() / 5.0))).await.is_none() {
                return;
            }
        }
        tracing::info!(lease = self.name, identity = self.identity, "leads");
        let term = shutdown.child();
        tokio::join!(work(term.clone()), async {
            term.bound(self.keep(&mut observed)).await;
            term.begin();
        });
        self.release(observed).await;
    }

    /// Returns when the Lease could not be renewed in time or has another holder.
    async fn keep(&self, observed: &mut Option<Observed>) {
        let mut renewed = Instant::now();
        loop {
            tokio::time::sleep(self.pace.retry).await;
            match tokio::time::timeout_at(renewed + self.pace.deadline, self.attempt(observed)).await {
                Ok(Ok(true)) => renewed = Instant::now(),
                Ok(Ok(false)) => return tracing::warn!(lease = self.name, "another leads"),
                Ok(Err(error)) => tracing::warn!(lease = self.name, error = error.chain(), "lease not renewed"),
                Err(_) => {}
            }
            if renewed.elapsed() >= self.pace.deadline {
                return tracing::warn!(lease = self.name, "leadership lost: the lease was not renewed in time");
            }
        }
    }

    /// Takes or renews the Lease if that is possible; says whether this candidate leads.
    async fn attempt(&self, observed: &mut Option<Observed>) -> Result<bool, Error> {
        let api: Api<Lease> = Api::namespaced(self.client.clone(), &self.namespace);
        let there = found(api.get(&self.name).await)?;
        let spec = there.as_ref().map(|lease| lease.spec.clone().unwrap_or_default());
        observe(observed, spec.as_ref(), Instant::now());
        let step = judge(observed.as_ref(), &self.identity, Instant::now());
        if step == Step::Wait {
            return Ok(false);
        }
        let mut lease = there.unwrap_or_else(|| Lease {
            metadata: ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() },
            ..Lease::default()
        });
        let now = Some(MicroTime(Timestamp::try_from(self.clock.now()).unwrap_or_default()));
        let spec = lease.spec.get_or_insert_default();
        if step != Step::Renew {
            let transitions = spec.lease_transitions.unwrap_or(0);
            spec.lease_transitions = Some(if step == Step::Create { 0 } else { transitions + 1 });
            spec.acquire_time = now.clone();
            spec.holder_identity = Some(self.identity.clone());
        }
        spec.lease_duration_seconds = Some(self.pace.duration.as_secs() as i32);
        spec.renew_time = now;
        let options = PostParams::default();
        let written = match step {
            Step::Create => api.create(&options, &lease).await,
            _ => api.replace(&self.name, &options, &lease).await,
        };
        match written.map_err(Error::from) {
            // Another candidate was faster.
            Err(error) if error.is_conflict() || error.is_already_exists() => Ok(false),
            Err(error) => Err(error),
            Ok(lease) => {
                observe(observed, lease.spec.as_ref(), Instant::now());
                Ok(true)
            }
        }
    }

    /// Lets another candidate take over at once; best effort.
    async fn release(&self, observed: Option<Observed>) {
        if observed.is_none_or(|it| it.spec.holder_identity.as_deref() != Some(&self.identity)) {
            return;
        }
        let api: Api<Lease> = Api::namespaced(self.client.clone(), &self.namespace);
        let released = async {
            let Some(mut lease) = found(api.get(&self.name).await)? else { return Ok(()) };
            let spec = lease.spec.get_or_insert_default();
            if spec.holder_identity.as_deref() == Some(&self.identity) {
                spec.holder_identity = Some(String::new());
                spec.lease_duration_seconds = Some(1);
                api.replace(&self.name, &PostParams::default(), &lease).await?;
            }
            Ok::<(), Error>(())
        };
        if let Ok(Err(error)) = tokio::time::timeout(RELEASE, released).await {
            tracing::debug!(lease = self.name, error = error.chain(), "lease not released");
        }
    }
}

fn observe(observed: &mut Option<Observed>, spec: Option<&LeaseSpec>, now: Instant) {
    match (&observed, spec) {
        (Some(known), Some(spec)) if known.spec == *spec => {}
        (_, spec) => *observed = spec.map(|spec| Observed { spec: spec.clone(), at: now }),
    }
}

fn judge(observed: Option<&Observed>, identity: &str, now: Instant) -> Step {
    let Some(observed) = observed else { return Step::Create };
    let holder = observed.spec.holder_identity.as_deref().unwrap_or_default();
    if holder == identity {
        return Step::Renew;
    }
    let seconds = observed.spec.lease_duration_seconds.unwrap_or(0).max(0).unsigned_abs();
    let silent = now >= observed.at + Duration::from_secs(seconds.into());
    if holder.is_empty() || silent { Step::Take } else { Step::Wait }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(holder: &str, transitions: i32) -> LeaseSpec {
        LeaseSpec {
            holder_identity: Some(holder.to_owned()),
            lease_duration_seconds: Some(15),
            lease_transitions: Some(transitions),
            ..LeaseSpec::default()
        }
    }

    #[tokio::test]
    async fn a_silent_holder_is_replaced_after_its_duration_here() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut observed = None;
        assert_eq!(judge(observed.as_ref(), "me", start), Step::Create);
        observe(&mut observed, Some(&spec("other", 0)), start);
        assert_eq!(judge(observed.as_ref(), "me", at(14)), Step::Wait);
        // Seeing the same again is no sign of life; a change is.
        observe(&mut observed, Some(&spec("other", 0)), at(14));
        assert_eq!(judge(observed.as_ref(), "me", at(15)), Step::Take);
        observe(&mut observed, Some(&spec("other", 1)), at(15));
        assert_eq!(judge(observed.as_ref(), "me", at(29)), Step::Wait);
        observe(&mut observed, Some(&spec("", 1)), at(29));
        assert_eq!(judge(observed.as_ref(), "me", at(29)), Step::Take);
        observe(&mut observed, Some(&spec("me", 2)), at(30));
        assert_eq!(judge(observed.as_ref(), "me", at(300)), Step::Renew);
        observe(&mut observed, None, at(300));
        assert_eq!(judge(observed.as_ref(), "me", at(300)), Step::Create);
    }
}
