//! A customer's object as its calls see it: what each step of a call asks of the ledger, and what it is answered.

use tollgate::book::metrics::Step as Measured;
use tollgate::book::{LedgerError, Reply};
use tollgate::gateway::refusal_problem;
use tollgate::ids::AccountKey;
use tollgate::ledger::{Admission, Claim, Command, Fingerprint, Outcome, Refusal, Settlement};
use tollgate::quantity::Quantity;
use tollgate::store::queries;

use super::Core;
use crate::clock::now_ms;
use crate::log;
use crate::message::{CallAnswer, CallMessage, Step, Verdict};

impl Core {
    pub(super) async fn call(&self, message: CallMessage) -> CallAnswer {
        let key = AccountKey { customer_id: message.customer_id.clone(), product_id: message.product_id.clone() };
        self.book.count(|meters| meters.asked(message.step.name()));
        let command = match self.command(&key, &message) {
            Ok(command) => command,
            Err(verdict) => return CallAnswer::of(verdict),
        };
        match self.book.submit(&key, command, now_ms()).await {
            Ok(reply) => self.answer(&key, &message, reply),
            Err(error) => {
                log::line(&error.to_string());
                CallAnswer::of(match error {
                    LedgerError::Unavailable(_) => Verdict::Unavailable,
                    LedgerError::Corrupt(_) => Verdict::Failed,
                })
            }
        }
    }

    /// What a step asks of the ledger, or what is answered without asking it.
    fn command(&self, key: &AccountKey, message: &CallMessage) -> Result<Command, Verdict> {
        let request_id = message.request_id.clone();
        Ok(match &message.step {
            Step::Probe { hold } => Command::Probe { request_id, hold: *hold },
            Step::Admit { valid_until_ms, .. } if now_ms() > *valid_until_ms => return Err(Verdict::Unavailable),
            Step::Admit { fingerprint, hold, lease_ends_ms, replay_limit, idempotency_key, .. } => {
                // Before the hold, and written with it.
                self.arm(lease_ends_ms.saturating_add(1));
                Command::Admit(Claim {
                    request_id,
                    fingerprint: Fingerprint::from_hex(fingerprint).ok_or(Verdict::Failed)?,
                    hold: *hold,
                    lease_ends_ms: *lease_ends_ms,
                    replay_limit: *replay_limit,
                    idempotency_key: Some(*idempotency_key),
                })
            }
            Step::Abandon { idempotency_key } => {
                let attempt = self.attempt_of(key, message, *idempotency_key)?;
                let (charge, status, usage_missing) = (Quantity::ZERO, None, false);
                Command::Settle(Settlement { request_id, attempt, charge, status, usage_missing })
            }
            Step::Renew { attempt, lease_ends_ms } => {
                Command::Renew { request_id, attempt: *attempt, lease_ends_ms: *lease_ends_ms }
            }
            Step::Settle { attempt, charge, status, usage_missing, .. } => Command::Settle(Settlement {
                request_id,
                attempt: *attempt,
                charge: *charge,
                status: *status,
                usage_missing: *usage_missing,
            }),
        })
    }

    /// The attempt that this key was admitted to, or what is answered where there is nothing to take back.
    fn attempt_of(&self, key: &AccountKey, message: &CallMessage, idempotency_key: u64) -> Result<u32, Verdict> {
        let find = |tables| queries::call(tables, &key.customer_id, Some(&key.product_id), &message.request_id);
        let calls = self.book.tables().and_then(find).map_err(|error| {
            log::line(&format!("an abandoned claim cannot be looked for: {error}"));
            Verdict::Unavailable
        })?;
        let call = calls.first().map(|found| &found.call).filter(|call| call.idempotency_key == Some(idempotency_key));
        // A replay that nobody forwards costs nothing: what is charged there is the call before it.
        call.filter(|call| !call.is_final && call.replays == 0).map(|call| call.attempt).ok_or(Verdict::Done)
    }

    fn answer(&self, key: &AccountKey, message: &CallMessage, reply: Reply) -> CallAnswer {
        let verdict = match reply.result {
            Ok(Outcome::Admitted(Admission::Held { attempt, hold })) => Verdict::Held { attempt, hold },
            Ok(Outcome::Admitted(Admission::Replay)) => Verdict::Replay,
            Ok(Outcome::Settled { charge }) => {
                self.count_end(message);
                Verdict::Ended { charge }
            }
            Ok(Outcome::AlreadyEnded { charge }) => Verdict::Ended { charge },
            Ok(_) => Verdict::Done,
            Err(refusal) => self.refuse(key, message, &refusal),
        };
        CallAnswer {
            verdict,
            granted: reply.balance.granted,
            available: reply.balance.available,
            is_unmetered: reply.balance.is_unmetered,
        }
    }

    /// Counts a call that has ended now: a settle that arrives twice has ended it once.
    fn count_end(&self, message: &CallMessage) {
        let Step::Settle { outcome, hold_us, settle_us, .. } = &message.step else { return };
        self.book.count(|meters| {
            meters.latency(Measured::Hold, *hold_us);
            if let Some(settle_us) = settle_us {
                meters.latency(Measured::Settle, *settle_us);
            }
            meters.call(&message.product_id, outcome);
        });
    }

    fn refuse(&self, key: &AccountKey, message: &CallMessage, refusal: &Refusal) -> Verdict {
        if let Some(product) = self.settings.config.product(&key.product_id).filter(|_| !message.is_repeat) {
            let code = refusal_problem(refusal, product).code;
            self.book.count(|meters| meters.call(&key.product_id, code.as_str()));
        }
        match refusal {
            Refusal::Exhausted { needed, available } => Verdict::Exhausted { needed: *needed, available: *available },
            Refusal::Expired => Verdict::Expired,
            Refusal::Frozen => Verdict::Frozen,
            Refusal::NoPackage => Verdict::NoPackage,
            Refusal::InFlight => Verdict::InFlight,
            Refusal::Replayed => Verdict::Replayed,
            Refusal::Reused => Verdict::Reused,
            Refusal::NotFound | Refusal::Conflict(_) | Refusal::Invalid(_) => {
                log::line(&format!("a call's step was refused: {refusal:?}"));
                Verdict::Failed
            }
        }
    }
}
