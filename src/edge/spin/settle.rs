//! The end of a call: its settle, durable before anyone waits no longer for it.

use super::background::{self, LeaseGuard};
use super::call::Admitted;
use super::instance::{Instance, elapsed_us, monotonic_ns, now_ms, sleep_ms};
use super::log;
use crate::book::metrics::Step;
use crate::gateway::{Identified, Outcome};
use crate::ids::{AccountKey, RequestId};
use crate::ledger::{Admission, Command, Outcome as LedgerOutcome, Settlement};
use crate::quantity::Quantity;

/// How long settling may take before the reply is aborted (contract section 2).
const SETTLE_PATIENCE_MS: i64 = 5000;

/// Between two tries to settle.
const SETTLE_RETRY_MS: i64 = 50;

/// A call that is to be settled once its outcome is known. While this lives, its hold is kept.
pub(super) struct Unsettled {
    instance: &'static Instance,
    account: AccountKey,
    request_id: RequestId,
    admission: Admission,
    lease: Option<LeaseGuard>,
}

impl Unsettled {
    pub(super) fn new(instance: &'static Instance, identified: &Identified<'_>, admitted: Admitted) -> Self {
        Self {
            instance,
            account: identified.account.clone(),
            request_id: identified.request_id.clone(),
            admission: admitted.admission,
            lease: admitted.lease,
        }
    }

    pub(super) fn admission(&self) -> &Admission {
        &self.admission
    }

    /// The command that settles; none for a replay, which was settled before.
    fn command(&self, outcome: Outcome, status: Option<u16>) -> Option<Command> {
        let Admission::Held { attempt, .. } = self.admission else { return None };
        Some(Command::Settle(Settlement {
            request_id: self.request_id.clone(),
            attempt,
            charge: outcome.charge(),
            status,
            usage_missing: outcome.is_usage_missing(),
        }))
    }

    /// Settles, and says how the call has ended; none where the charge is not durable in time.
    pub(super) async fn settle(self, outcome: Outcome, status: Option<u16>) -> Option<Outcome> {
        let Some(command) = self.command(outcome, status) else { return Some(outcome) };
        let charge = settle_durably(self.instance, &self.account, command).await;
        drop(self.lease);
        charge.map(|charge| outcome.covered(charge))
    }

    /// Ends a call that got a reply: soon where what it costs is durable already, else at once. None where the charge is not durable in time.
    pub(super) async fn end(self, outcome: Outcome, status: u16, is_durable: bool) -> Option<Outcome> {
        self.instance.book.count(|meters| meters.call(&self.account.product_id, outcome.label()));
        if is_durable {
            self.settle_later(outcome, Some(status));
            return Some(outcome);
        }
        self.settle(outcome, Some(status)).await
    }

    /// Settles soon: for a charge that a crash right now would leave as it is.
    fn settle_later(self, outcome: Outcome, status: Option<u16>) {
        let Some(command) = self.command(outcome, status) else { return };
        if let Err(error) = self.instance.book.defer(&self.account, command, now_ms()) {
            log::line(format!("a settle is left to its hold's lease: {error}"));
        }
        background::start(self.instance);
    }
}

/// Settles, trying again while the ledger is unavailable, and says what was charged; none where it took too long. The settle is then left to the background,
/// and to the hold's lease after it.
async fn settle_durably(instance: &'static Instance, account: &AccountKey, command: Command) -> Option<Quantity> {
    let started_ns = monotonic_ns();
    loop {
        let try_started_ns = monotonic_ns();
        let answer = instance.book.submit(account, command.clone(), now_ms()).await;
        account_for_riders(instance, try_started_ns);
        let error = match answer {
            Ok(reply) => {
                instance.book.count(|meters| meters.latency(Step::Settle, elapsed_us(started_ns)));
                return match reply.result {
                    Ok(LedgerOutcome::Settled { charge } | LedgerOutcome::AlreadyEnded { charge }) => Some(charge),
                    result => {
                        log::line(format!("a call that was admitted cannot be settled: {:?}", result.err()));
                        None
                    }
                };
            }
            Err(error) => error,
        };
        instance.leave_ledger_alone();
        // A ledger that is locked takes its time to say so: a try that would end too late is not begun.
        let next_ends_us = elapsed_us(started_ns).saturating_add(elapsed_us(try_started_ns));
        if next_ends_us / 1000 >= SETTLE_PATIENCE_MS.unsigned_abs() {
            log::line(format!("a settle is not durable in time: {error}"));
            if let Err(error) = instance.book.defer(account, command, now_ms()) {
                log::line(format!("a settle is left to its hold's lease: {error}"));
            }
            background::start(instance);
            return None;
        }
        sleep_ms(SETTLE_RETRY_MS).await;
    }
}

/// Counts or logs what became of the settles that rode along with a command since it was submitted.
pub(super) fn account_for_riders(instance: &Instance, submitted_ns: u64) {
    match instance.book.take_riders() {
        // One durable step, however many calls it ended.
        Some(Ok(())) => instance.book.count(|meters| meters.latency(Step::Settle, elapsed_us(submitted_ns))),
        Some(Err(error)) => log::line(format!("a settle cannot be written: {error}")),
        None => {}
    }
}
