//! A call's hold: kept while the call lives, and ended by its settle, durable before anyone waits no longer for it.

use std::cell::Cell;
use std::convert::Infallible;
use std::pin::pin;
use std::rc::Rc;

use futures::future::{Either, select};
use tollgate::gateway::{Identified, Outcome};
use tollgate::ids::{AccountKey, RequestId};
use tollgate::ledger::{Admission, Refusal};
use tollgate::quantity::Quantity;

use crate::call::Gateway;
use crate::clock::{elapsed_us, now_ms, sleep_ms};
use crate::log;
use crate::message::{CallAnswer, CallMessage, Step, Unanswered, Verdict, ask_within};

/// How long settling may take before the reply is aborted (contract section 2).
const SETTLE_PATIENCE_MS: i64 = 5000;

/// The first pause between two tries, and the longest: each is about twice the one before.
const RETRY_MS: i64 = 20;
const RETRY_MS_MAX: i64 = 1_000;

/// For how long a settle that was not durable in time is tried on: a Worker may outlive its caller by 30 s.
const LATE_PATIENCE_MS: i64 = 24_000;

thread_local! {
    /// How long the last settle of this isolate took: the next one takes it along to the counters.
    static SETTLE_US: Cell<Option<u64>> = const { Cell::new(None) };
}

/// Asks the customer's object, again where it was overloaded or restarted: what arrives twice is decided once.
pub(crate) async fn ask_patiently(
    gateway: &Gateway,
    mut message: CallMessage,
    patience_ms: i64,
) -> Result<CallAnswer, Unanswered> {
    let until_ms = now_ms() + patience_ms;
    let mut pause_ms = RETRY_MS;
    loop {
        let left_ms = until_ms - now_ms();
        let asked = async {
            let stub = gateway.settings.account(&gateway.env, &message.customer_id)?;
            ask_within::<CallAnswer>(&stub, "/call", &message, left_ms).await
        };
        let error = match asked.await {
            Ok(CallAnswer { verdict: Verdict::Unavailable, .. }) => Unanswered("the ledger is unavailable".to_owned()),
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        if now_ms() + pause_ms >= until_ms {
            return Err(error);
        }
        message.is_repeat = true;
        sleep_ms(jittered(pause_ms)).await;
        pause_ms = (2 * pause_ms).min(RETRY_MS_MAX);
    }
}

/// Half to all of a pause, so that many who wait do not ask at once.
fn jittered(pause_ms: i64) -> i64 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "a second at most")]
    let jitter_ms = (js_sys::Math::random() * (pause_ms / 2) as f64) as i64;
    pause_ms - jitter_ms
}

/// Why a step was refused; none where it was not.
pub(crate) fn refusal(verdict: &Verdict) -> Option<Refusal> {
    Some(match verdict {
        Verdict::Done | Verdict::Ended { .. } | Verdict::Held { .. } | Verdict::Replay => return None,
        Verdict::Exhausted { needed, available } => Refusal::Exhausted { needed: *needed, available: *available },
        Verdict::Expired => Refusal::Expired,
        Verdict::Frozen => Refusal::Frozen,
        Verdict::NoPackage => Refusal::NoPackage,
        Verdict::InFlight => Refusal::InFlight,
        Verdict::Replayed => Refusal::Replayed,
        Verdict::Reused => Refusal::Reused,
        Verdict::Unavailable | Verdict::Failed => Refusal::Invalid("the object's log has it"),
    })
}

/// A call that is to be settled once its outcome is known.
pub(crate) struct Hold {
    gateway: Rc<Gateway>,
    account: AccountKey,
    request_id: RequestId,
    admission: Admission,
    hold_us: u64,
    renew_at_ms: Cell<i64>,
}

impl Hold {
    /// Of a call that was admitted at this time, so long ago.
    pub(crate) fn new(gateway: &Rc<Gateway>, identified: &Identified<'_>, admission: Admission, admitted_ms: i64) -> Self {
        Self {
            gateway: Rc::clone(gateway),
            account: identified.account.clone(),
            request_id: identified.request_id.clone(),
            admission,
            hold_us: elapsed_us(admitted_ms),
            renew_at_ms: Cell::new(admitted_ms + gateway.settings.config.gateway.hold_lease_ms / 3),
        }
    }

    pub(crate) fn admission(&self) -> &Admission {
        &self.admission
    }

    /// A replay was settled before.
    fn attempt(&self) -> Option<u32> {
        match self.admission {
            Admission::Held { attempt, .. } => Some(attempt),
            Admission::Replay => None,
        }
    }

    fn message(&self, step: Step) -> CallMessage {
        CallMessage {
            customer_id: self.account.customer_id.clone(),
            product_id: self.account.product_id.clone(),
            request_id: self.request_id.clone(),
            is_repeat: false,
            step,
        }
    }

    /// Waits for something, and renews the lease meanwhile where that takes long.
    pub(crate) async fn kept_during<T>(&self, future: impl Future<Output = T>) -> T {
        match select(pin!(future), pin!(self.keep())).await {
            Either::Left((value, _)) => value,
            Either::Right((never, _)) => match never {},
        }
    }

    async fn keep(&self) -> Infallible {
        let Some(attempt) = self.attempt() else { return std::future::pending().await };
        let lease_ms = self.gateway.settings.config.gateway.hold_lease_ms;
        loop {
            sleep_ms(self.renew_at_ms.get() - now_ms()).await;
            self.renew_at_ms.set(now_ms() + lease_ms / 3);
            let step = Step::Renew { attempt, lease_ends_ms: now_ms() + lease_ms };
            if let Err(error) = ask_patiently(&self.gateway, self.message(step), lease_ms / 3).await {
                log::line(&format!("a lease cannot be renewed: {}", error.0));
            }
        }
    }

    /// Ends the call, and says how it has ended; none where that is not durable in time. Its lease decides then.
    pub(crate) async fn settle(self, outcome: Outcome, status: u16) -> Option<Outcome> {
        let charge = self.end(outcome.charge(), Some(status), outcome.is_usage_missing(), outcome.label()).await?;
        Some(outcome.covered(charge))
    }

    /// Ends a call that got no reply: it costs nothing.
    pub(crate) async fn release(self, reason: &str) -> bool {
        self.end(Quantity::ZERO, None, false, reason).await.is_some()
    }

    async fn end(self, charge: Quantity, status: Option<u16>, usage_missing: bool, outcome: &str) -> Option<Quantity> {
        let Some(attempt) = self.attempt() else { return Some(charge) };
        let started_ms = now_ms();
        let step = Step::Settle {
            attempt,
            charge,
            status,
            usage_missing,
            outcome: outcome.to_owned(),
            hold_us: self.hold_us,
            settle_us: SETTLE_US.take(),
        };
        let message = self.message(step);
        let told = ask_patiently(&self.gateway, message.clone(), SETTLE_PATIENCE_MS).await;
        SETTLE_US.set(Some(elapsed_us(started_ms)));
        match told {
            Ok(CallAnswer { verdict: Verdict::Ended { charge }, .. }) => Some(charge),
            Ok(_) => {
                log::line("a call that was admitted cannot be settled");
                None
            }
            Err(error) => {
                log::line(&format!("a settle is not durable in time: {}", error.0));
                self.settle_late(message);
                None
            }
        }
    }

    /// Goes on while a Worker may: what was used is charged all the same, once that can be written. After that the hold's lease decides.
    fn settle_late(&self, message: CallMessage) {
        let gateway = Rc::clone(&self.gateway);
        self.gateway.context.wait_until(async move {
            if let Err(error) = ask_patiently(&gateway, message, LATE_PATIENCE_MS).await {
                log::line(&format!("a settle is left to its lease: {}", error.0));
            }
        });
    }
}
