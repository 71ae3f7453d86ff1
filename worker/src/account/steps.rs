//! A customer's object as its calls see it: what each step of a call asks of the ledger, and what it is answered.

use tollgate::book::metrics::Step as Measured;
use tollgate::book::{LedgerError, Reply};
use tollgate::gateway::refusal_problem;
use tollgate::ids::AccountKey;
use tollgate::ledger::{Admission, CallState, Command, Fingerprint, Outcome, Refusal, Settlement};
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
        let Some(command) = self.command(&message) else { return CallAnswer::of(Verdict::Failed) };
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

    fn command(&self, message: &CallMessage) -> Option<Command> {
        let request_id = message.request_id.clone();
        Some(match &message.step {
            Step::Probe { hold } => Command::Probe { request_id, hold: *hold },
            Step::Admit { fingerprint, hold, lease_ends_ms, replay_limit } => {
                // Before the hold, and written with it.
                self.arm(lease_ends_ms.saturating_add(1));
                Command::Admit {
                    request_id,
                    fingerprint: Fingerprint::from_hex(fingerprint)?,
                    hold: *hold,
                    lease_ends_ms: *lease_ends_ms,
                    replay_limit: *replay_limit,
                }
            }
            Step::Renew { attempt, lease_ends_ms } => {
                Command::Renew { request_id, attempt: *attempt, lease_ends_ms: *lease_ends_ms }
            }
            Step::Settle { attempt, charge, status, usage_missing, outcome, hold_us, settle_us } => {
                self.book.count(|meters| {
                    meters.latency(Measured::Hold, *hold_us);
                    if let Some(settle_us) = settle_us {
                        meters.latency(Measured::Settle, *settle_us);
                    }
                    meters.call(&message.product_id, outcome);
                });
                Command::Settle(Settlement {
                    request_id,
                    attempt: *attempt,
                    charge: *charge,
                    status: *status,
                    usage_missing: *usage_missing,
                })
            }
        })
    }

    fn answer(&self, key: &AccountKey, message: &CallMessage, reply: Reply) -> CallAnswer {
        let verdict = match reply.result {
            Ok(Outcome::Admitted(Admission::Held { attempt, hold })) => Verdict::Held { attempt, hold },
            Ok(Outcome::Admitted(Admission::Replay)) => Verdict::Replay,
            Ok(Outcome::Settled { charge } | Outcome::AlreadyEnded { charge }) => Verdict::Ended { charge },
            Ok(_) => Verdict::Done,
            Err(Refusal::InFlight) => self.repeated(key, message).unwrap_or_else(|| self.refuse(key, &Refusal::InFlight)),
            Err(refusal) => self.refuse(key, &refusal),
        };
        CallAnswer {
            verdict,
            granted: reply.balance.granted,
            available: reply.balance.available,
            is_unmetered: reply.balance.is_unmetered,
        }
    }

    /// How an admission was answered that was heard the first time, when its answer got lost.
    fn repeated(&self, key: &AccountKey, message: &CallMessage) -> Option<Verdict> {
        let Step::Admit { fingerprint, lease_ends_ms, .. } = &message.step else { return None };
        if !message.is_repeat {
            return None;
        }
        let calls = queries::call(self.book.database(), &key.customer_id, Some(&key.product_id), &message.request_id).ok()?;
        let call = &calls.first()?.call;
        let is_same = call.lease_ends_ms == *lease_ends_ms && call.fingerprint.to_hex() == *fingerprint;
        (is_same && call.state == CallState::Held).then(|| {
            let hold = call.legs.iter().fold(Quantity::ZERO, |sum, leg| sum.saturating_add(leg.quantity));
            Verdict::Held { attempt: call.attempt, hold }
        })
    }

    fn refuse(&self, key: &AccountKey, refusal: &Refusal) -> Verdict {
        if let Some(product) = self.settings.config.product(&key.product_id) {
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
