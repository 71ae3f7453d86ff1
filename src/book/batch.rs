//! One batch: commands of several accounts decided and written as one commit.

use std::collections::HashMap;

use super::metrics::charged_metric;
use super::{Book, CACHED_ACCOUNTS_MAX, LedgerError, Reply, Waiting};
use crate::ids::{AccountKey, PackageId, ProductId, RequestId};
use crate::ledger::{Account, Admission, Balance, CallState, Claim, Command, CorrectionKey, CorrectionTarget, Outcome, Refusal};
use crate::store::{self, Commit, Database, LoadRequest, StoreError, Stored};

impl<D: Database> Book<D> {
    /// Decides all, writes all, and answers all. Where one command is at fault for a failure of all, each half is tried alone.
    ///
    /// # Errors
    /// The last error; every command has its own answer all the same.
    pub(super) fn decide_and_write(&self, waiting: &[Waiting]) -> Result<(), LedgerError> {
        let error = match self.attempt(waiting) {
            Ok(replies) => {
                if self.are_counts_written.take() {
                    self.meters.borrow_mut().clear();
                }
                for (one, reply) in waiting.iter().zip(replies) {
                    *one.answer.borrow_mut() = Some(Ok(reply));
                }
                return Ok(());
            }
            Err(error) => error,
        };
        // What was decided and not written must not be remembered, nor what was written and not committed.
        self.forget();
        match error {
            StoreError::PackageIdTaken | StoreError::Corrupt(_) if waiting.len() > 1 => {
                let (first, second) = waiting.split_at(waiting.len() / 2);
                let result = self.decide_and_write(first);
                self.decide_and_write(second).and(result)
            }
            StoreError::PackageIdTaken => {
                for one in waiting {
                    *one.answer.borrow_mut() = Some(Ok(Reply { result: Err(PACKAGE_ID_TAKEN), balance: Balance::default() }));
                }
                Ok(())
            }
            error => {
                let error = LedgerError::from(error);
                self.meters.borrow_mut().ledger_errors += 1;
                if matches!(error, LedgerError::Unavailable(_)) {
                    self.is_failing.set(true);
                }
                for one in waiting {
                    *one.answer.borrow_mut() = Some(Err(error.clone()));
                }
                Err(error)
            }
        }
    }

    /// First on the accounts as they are remembered; where that was too late or is not enough, on loaded ones.
    fn attempt(&self, waiting: &[Waiting]) -> Result<Vec<Reply>, StoreError> {
        self.are_counts_written.set(false);
        let is_locked = self.contention.is_wary()
            || self.follower.followed().is_none()
            || self.follower.is_application_due()
            || !unknown_accounts(&self.accounts.borrow(), waiting).is_empty();
        self.follower.take_applying();
        let attempted = if is_locked {
            self.database.transaction(|| self.attempt_remembered(waiting, true))
        } else {
            self.attempt_remembered(waiting, false)
        };
        if self.follower.take_applying() && attempted.is_err() {
            // What was applied in the transaction is no longer.
            self.forget();
        }
        match attempted {
            Ok(Some(replies)) => return Ok(replies),
            // Whoever is refused again and again keeps nobody from writing.
            Ok(None) if !self.has_decided(waiting) && !self.are_counts_due(waiting) => {
                if let Some(replies) = self.database.snapshot(|| self.attempt_loaded(waiting, false))? {
                    return Ok(replies);
                }
            }
            Ok(None) => {}
            Err(StoreError::Stale) if !is_locked => self.contention.was_too_late(),
            Err(StoreError::Stale | StoreError::ClaimTaken | StoreError::PackageIdTaken) => {}
            Err(error) => return Err(error),
        }
        let loaded = self.database.transaction(|| self.attempt_loaded(waiting, true))?;
        loaded.ok_or_else(|| StoreError::Unavailable("accounts cannot be loaded".to_owned()))
    }

    /// Nothing that is remembered is what the database has.
    fn forget(&self) {
        self.accounts.borrow_mut().clear();
        self.follower.lose();
    }

    fn has_decided(&self, waiting: &[Waiting]) -> bool {
        let accounts = self.accounts.borrow();
        waiting.iter().any(|one| accounts.get(&one.key).is_some_and(|stored| stored.account.has_changes()))
    }

    /// Whether a batch is to write the counters. After a failure they wait for a flush, so that who is refused is told so.
    fn are_counts_due(&self, waiting: &[Waiting]) -> bool {
        waiting.is_empty() || (self.meters.borrow().are_due() && !self.is_failing.get())
    }

    /// Has the tables follow the log. Where that cannot be, nothing is written until it can.
    fn apply(&self, accounts: &mut HashMap<AccountKey, Stored>) -> Result<(), StoreError> {
        store::log::apply(&self.database)?;
        self.follower.applies();
        self.applied_to(accounts, self.follower.followed().unwrap_or_default());
        Ok(())
    }

    fn applied_to(&self, accounts: &mut HashMap<AccountKey, Stored>, position: i64) {
        if self.follower.applied_to(position) {
            accounts.values_mut().for_each(|stored| stored.applied_to(position));
        }
    }

    /// None where only an account loaded with every call that the batch names can tell.
    fn attempt_remembered(&self, waiting: &[Waiting], is_locked: bool) -> Result<Option<Vec<Reply>>, StoreError> {
        let mut accounts = self.accounts.borrow_mut();
        if is_locked {
            self.follow(&mut accounts)?;
            if self.follower.is_application_due() {
                self.apply(&mut accounts)?;
            }
        }
        let unknown = unknown_accounts(&accounts, waiting);
        self.load_into(&mut accounts, waiting, |key| unknown.contains(&key), is_locked)?;
        let replies = decide(&mut accounts, waiting);
        // A refusal may come from an account that is no longer as it was, or that does not remember a call that has ended.
        if waiting.iter().zip(&replies).any(|(one, reply)| reply.result.is_err() && !unknown.contains(&&one.key)) {
            return Ok(None);
        }
        self.write(&mut accounts, waiting, is_locked)?;
        Ok(Some(replies))
    }

    /// Under the write lock or in a snapshot: brings all accounts that are remembered up to date, or forgets those that others changed by more than steps.
    pub(super) fn follow(&self, accounts: &mut HashMap<AccountKey, Stored>) -> Result<(), StoreError> {
        let Some(position) = self.follower.followed() else {
            accounts.clear();
            self.follower.begin(store::log::ends(&self.database)?);
            return Ok(());
        };
        let mut others = store::log::follow(&self.database, position, None)?;
        self.contention.looked(!others.steps.is_empty());
        let (Some(first), Some(last)) = (others.steps.first(), others.steps.last()) else { return Ok(()) };
        if first.position != position + 1 {
            // What was between is applied and gone.
            accounts.clear();
        }
        let last = last.position;
        // Those of an account together, and in their order.
        others.steps.sort_by_key(|step| step.account_id);
        accounts.retain(|_, stored| {
            let account_id = Some(stored.account_id);
            let first = others.steps.partition_point(|step| step.account_id < account_id);
            others.steps.iter().skip(first).take_while(|step| step.account_id == account_id).all(|step| stored.follow(step))
        });
        self.follower.followed_to(last);
        self.applied_to(accounts, others.applied);
        Ok(())
    }

    /// Under the write lock; or in a snapshot, where None says that something is to be written.
    fn attempt_loaded(&self, waiting: &[Waiting], is_locked: bool) -> Result<Option<Vec<Reply>>, StoreError> {
        {
            let mut accounts = self.accounts.borrow_mut();
            self.follow(&mut accounts)?;
            if !self.load_into(&mut accounts, waiting, |_| true, is_locked)? {
                return Ok(None);
            }
        }
        let replies = decide(&mut self.accounts.borrow_mut(), waiting);
        if is_locked {
            self.write(&mut self.accounts.borrow_mut(), waiting, true)?;
        } else if self.has_decided(waiting) {
            return Ok(None);
        }
        Ok(Some(replies))
    }

    /// False where the tables would have to follow the log first, which only the write lock allows.
    fn load_into(
        &self,
        accounts: &mut HashMap<AccountKey, Stored>,
        waiting: &[Waiting],
        wanted: impl Fn(&AccountKey) -> bool,
        is_locked: bool,
    ) -> Result<bool, StoreError> {
        let mut requests: Vec<LoadRequest> = Vec::new();
        for one in waiting.iter().filter(|one| wanted(&one.key)) {
            let place = requests.iter().position(|request| request.key == one.key);
            let place = place.unwrap_or_else(|| {
                requests.push(LoadRequest::new(one.key.clone()));
                requests.len() - 1
            });
            let Some(request) = requests.get_mut(place) else { continue };
            request.request_ids.extend(one.command.request_id().cloned());
            request.package_ids.extend(one.command.package_id().cloned());
            request.corrections.extend(one.command.correction());
            request.orders.extend(one.command.order());
        }
        if requests.is_empty() {
            return Ok(true);
        }
        if accounts.len() + requests.len() > CACHED_ACCOUNTS_MAX {
            // What the batch in hand needs or has decided stays.
            accounts.retain(|key, _| waiting.iter().any(|one| one.key == *key));
        }
        let now_ms = waiting.iter().map(|one| one.now_ms).min().unwrap_or_default();
        for request in &requests {
            accounts.remove(&request.key);
        }
        let mut loaded = store::load(&self.database, &requests, now_ms)?;
        if !self.catch_up(&mut loaded, waiting)? {
            if !is_locked {
                return Ok(false);
            }
            self.apply(accounts)?;
            loaded = store::load(&self.database, &requests, now_ms)?;
        }
        for mut stored in loaded {
            stored.account.put_terms(self.terms.get(&stored.key.product_id).cloned().unwrap_or_default());
            accounts.insert(stored.key.clone(), stored);
        }
        Ok(true)
    }

    /// Has accounts follow the steps that were not applied when they were loaded; false where a command names a call of such a step, which only the tables can
    /// tell whole.
    fn catch_up(&self, loaded: &mut [Stored], waiting: &[Waiting]) -> Result<bool, StoreError> {
        let Some(applied) = self.follower.unapplied_behind() else { return Ok(true) };
        let account_ids: Vec<i64> = loaded.iter().map(|stored| stored.account_id).collect();
        let unapplied = store::log::follow(&self.database, applied, Some(&account_ids))?;
        let is_named = |request_id: &RequestId| waiting.iter().any(|one| one.command.request_id() == Some(request_id));
        if unapplied.steps.iter().filter_map(|step| step.request_id.as_ref()).any(is_named) {
            return Ok(false);
        }
        Ok(loaded.iter_mut().all(|stored| unapplied.steps.iter().all(|step| stored.follow(step))))
    }

    /// Writes what the accounts decided, and the counters where they are due or nothing else was asked for.
    fn write(
        &self,
        accounts: &mut HashMap<AccountKey, Stored>,
        waiting: &[Waiting],
        in_transaction: bool,
    ) -> Result<(), StoreError> {
        let meters = self.meters.borrow();
        let mut commit = Commit::behind(self.follower.followed().unwrap_or_default());
        let mut written: Vec<&AccountKey> = Vec::new();
        let mut charged: Vec<(&ProductId, u64)> = Vec::new();
        for one in waiting {
            if let Some(stored) = accounts.get_mut(&one.key).filter(|stored| stored.account.has_changes()) {
                let (product_id, parts) = (&one.key.product_id, commit.add_account(stored)?.parts().unsigned_abs());
                match charged.iter_mut().find(|(other, _)| *other == product_id) {
                    Some((_, sum)) => *sum = sum.saturating_add(parts),
                    None => charged.push((product_id, parts)),
                }
                written.push(&one.key);
            }
        }
        for (product_id, parts) in charged.into_iter().filter(|(_, parts)| *parts > 0) {
            commit.add_metric(charged_metric(product_id), parts);
        }
        let are_counts_due = self.are_counts_due(waiting);
        if written.is_empty() && !are_counts_due {
            return Ok(());
        }
        if are_counts_due {
            for (name, increment) in meters.counts() {
                commit.add_metric(name, increment);
            }
        }
        store::commit(&self.database, &mut commit, in_transaction)?;
        self.is_writing_again.set(self.is_failing.get());
        self.follower.followed_to(commit.last());
        if commit.is_more_than_steps() {
            self.applied_to(accounts, commit.last());
        }
        if commit.has_events() {
            self.are_events_written.set(true);
        }
        self.are_counts_written.set(are_counts_due);
        for key in written {
            if let Some(stored) = accounts.get_mut(key) {
                stored.account.forget_ended();
            }
        }
        Ok(())
    }
}

const PACKAGE_ID_TAKEN: Refusal = Refusal::Conflict("another package was granted under this id");

/// The accounts of which a command names something that is not remembered, and not new as far as anyone can tell.
fn unknown_accounts<'batch>(accounts: &HashMap<AccountKey, Stored>, waiting: &'batch [Waiting]) -> Vec<&'batch AccountKey> {
    let is_known = |one: &Waiting| {
        accounts.get(&one.key).is_some_and(|stored| match &one.command {
            // A request id that nothing is known of is most likely new; where it is not, its claim is refused.
            Command::Probe { request_id, .. } | Command::Admit(Claim { request_id, .. }) => !stored.has_unapplied(request_id),
            Command::Renew { request_id, .. } => is_live(&stored.account, request_id),
            Command::Settle(settlement) => is_live(&stored.account, &settlement.request_id),
            _ => false,
        })
    };
    waiting.iter().filter(|one| !is_known(one)).map(|one| &one.key).collect()
}

fn is_live(account: &Account, request_id: &RequestId) -> bool {
    account.call(request_id).is_some_and(|call| call.state == CallState::Held)
}

fn decide(accounts: &mut HashMap<AccountKey, Stored>, waiting: &[Waiting]) -> Vec<Reply> {
    waiting.iter().map(|one| decide_one(accounts.get_mut(&one.key), one)).collect()
}

fn decide_one(stored: Option<&mut Stored>, one: &Waiting) -> Reply {
    let Some(stored) = stored else {
        // An account comes with its first package, so nothing was ever granted here.
        let refusal = if one.command.is_for_caller() { Refusal::NoPackage } else { Refusal::NotFound };
        return Reply { result: Err(refusal), balance: Balance::default() };
    };
    let result = stored.account.decide(&one.command, one.now_ms);
    Reply { result, balance: stored.account.balance(one.now_ms) }
}

impl Command {
    /// The call that a command names.
    pub(super) fn request_id(&self) -> Option<&RequestId> {
        match self {
            Self::Probe { request_id, .. }
            | Self::Admit(Claim { request_id, .. })
            | Self::Renew { request_id, .. }
            | Self::LoseHold { request_id, .. }
            | Self::Refund { request_id, .. } => Some(request_id),
            Self::Settle(settlement) => Some(&settlement.request_id),
            Self::Look
            | Self::SetRules(_)
            | Self::ConcludeOrder { .. }
            | Self::Grant(_)
            | Self::Change { .. }
            | Self::Adjust { .. } => None,
        }
    }

    /// The package that a command names.
    fn package_id(&self) -> Option<&PackageId> {
        match self {
            Self::Grant(grant) => Some(&grant.package_id),
            Self::ConcludeOrder { package, .. } => package.as_ref().map(|grant| &grant.package_id),
            Self::Change { package_id, .. } | Self::Adjust { package_id, .. } => Some(package_id),
            _ => None,
        }
    }

    /// The correction that a command names.
    fn correction(&self) -> Option<CorrectionKey> {
        let (target, id) = match self {
            Self::Refund { request_id, refund_id, .. } => (CorrectionTarget::Call(request_id.clone()), refund_id),
            Self::Adjust { package_id, adjustment_id, .. } => (CorrectionTarget::Package(package_id.clone()), adjustment_id),
            _ => return None,
        };
        Some(CorrectionKey { target, id: id.clone() })
    }

    /// The order that a command names.
    fn order(&self) -> Option<u32> {
        match self {
            Self::ConcludeOrder { number, .. } => Some(*number),
            Self::Grant(grant) => grant.repurchase,
            _ => None,
        }
    }

    fn is_for_caller(&self) -> bool {
        matches!(self, Self::Probe { .. } | Self::Admit { .. })
    }
}

impl Reply {
    /// How the call was admitted, where it was.
    #[must_use]
    pub fn admission(&self) -> Option<&Admission> {
        match &self.result {
            Ok(Outcome::Admitted(admission)) => Some(admission),
            _ => None,
        }
    }
}
