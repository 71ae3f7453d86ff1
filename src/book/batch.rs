//! One batch: commands of several accounts decided and written as one commit.

use std::collections::{HashMap, HashSet};

use super::contention::Approach;
use super::metrics::charged_metric;
use super::{Book, CACHED_ACCOUNTS_MAX, LedgerError, Reply, Waiting};
use crate::ids::{AccountKey, ProductId, RequestId};
use crate::ledger::{Account, Admission, Balance, CallState, Claim, Command, CorrectionKey, CorrectionTarget, Outcome, Refusal};
use crate::store::{self, Commit, Database, LoadRequest, StoreError, Stored};

impl<D: Database> Book<D> {
    /// Decides all, writes all, and answers all. Where one command is at fault for a failure of all, each is tried alone.
    ///
    /// # Errors
    /// The last error; every command has its own answer all the same.
    pub(super) fn decide_and_write(&self, waiting: &[Waiting]) -> Result<(), LedgerError> {
        let error = match self.attempt(waiting) {
            Ok(replies) => {
                for (one, reply) in waiting.iter().zip(replies) {
                    *one.answer.borrow_mut() = Some(Ok(reply));
                }
                return Ok(());
            }
            Err(error) => error,
        };
        // What was decided and not written must not be remembered.
        self.accounts.borrow_mut().clear();
        match error {
            StoreError::PackageIdTaken | StoreError::Corrupt(_) if waiting.len() > 1 => {
                let mut result = Ok(());
                for one in waiting {
                    if let Err(error) = self.decide_and_write(std::slice::from_ref(one)) {
                        result = Err(error);
                    }
                }
                result
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
                for one in waiting {
                    *one.answer.borrow_mut() = Some(Err(error.clone()));
                }
                Err(error)
            }
        }
    }

    /// First on the accounts as they are remembered, as far as others let that be trusted; where that was too late or is not enough, on accounts loaded
    /// under the write lock.
    fn attempt(&self, waiting: &[Waiting]) -> Result<Vec<Reply>, StoreError> {
        let approach = if waiting.is_empty() { Approach::Trusting } else { self.contention.approach() };
        let attempted = if approach == Approach::Locking {
            self.database.transaction(|| self.attempt_remembered(waiting, approach))
        } else {
            self.attempt_remembered(waiting, approach)
        };
        match attempted {
            Ok(Some(replies)) => {
                self.contention.was_in_time(approach);
                return Ok(replies);
            }
            Ok(None) | Err(StoreError::ClaimTaken | StoreError::PackageIdTaken) => {}
            Err(StoreError::Stale) => self.contention.was_too_late(approach),
            Err(error) => return Err(error),
        }
        self.database.transaction(|| self.attempt_loaded(waiting))
    }

    /// None where only an account loaded with every call that the batch names can tell.
    fn attempt_remembered(&self, waiting: &[Waiting], approach: Approach) -> Result<Option<Vec<Reply>>, StoreError> {
        let mut accounts = self.accounts.borrow_mut();
        let mut known = known_accounts(&accounts, waiting);
        if approach != Approach::Trusting {
            self.refresh(&mut accounts, &mut known)?;
        }
        self.load_into(&mut accounts, waiting, |key| !known.contains(key))?;
        let mut replies = decide(&mut accounts, waiting);
        // A refusal may come from an account that is no longer as it was, or that does not remember a call that has ended.
        let doubtful: HashSet<&AccountKey> = waiting
            .iter()
            .zip(&replies)
            .filter(|(one, reply)| known.contains(&one.key) && reply.result.is_err())
            .map(|(one, _)| &one.key)
            .collect();
        if doubtful.iter().any(|key| accounts.get(*key).is_some_and(|stored| stored.account.has_changes())) {
            return Ok(None);
        }
        if !doubtful.is_empty() {
            self.load_into(&mut accounts, waiting, |key| doubtful.contains(key))?;
            for (index, reply) in decide_where(&mut accounts, waiting, |key| doubtful.contains(key)) {
                if let Some(slot) = replies.get_mut(index) {
                    *slot = reply;
                }
            }
        }
        self.write(&mut accounts, waiting, approach == Approach::Locking)?;
        Ok(Some(replies))
    }

    /// Brings known accounts up to date as far as that takes no load. The others are no longer known.
    fn refresh(&self, accounts: &mut HashMap<AccountKey, Stored>, known: &mut HashSet<&AccountKey>) -> Result<(), StoreError> {
        let versions: Vec<(i64, i64)> =
            known.iter().filter_map(|key| accounts.get(key)).map(|stored| (stored.account_id, stored.version)).collect();
        if versions.is_empty() {
            return Ok(());
        }
        let written = store::written_since(&self.database, &versions)?;
        self.contention.looked(!written.is_empty());
        known.retain(|key| {
            let Some(stored) = accounts.get_mut(key) else { return false };
            // In the order of their rows.
            let place = written.binary_search_by_key(&stored.account_id, |refreshed| refreshed.account_id);
            place.ok().and_then(|place| written.get(place)).is_none_or(|refreshed| stored.refresh(refreshed))
        });
        Ok(())
    }

    /// In a transaction.
    fn attempt_loaded(&self, waiting: &[Waiting]) -> Result<Vec<Reply>, StoreError> {
        let mut accounts = self.accounts.borrow_mut();
        self.load_into(&mut accounts, waiting, |_| true)?;
        let replies = decide(&mut accounts, waiting);
        self.write(&mut accounts, waiting, true)?;
        Ok(replies)
    }

    fn load_into(
        &self,
        accounts: &mut HashMap<AccountKey, Stored>,
        waiting: &[Waiting],
        wanted: impl Fn(&AccountKey) -> bool,
    ) -> Result<(), StoreError> {
        let mut requests: HashMap<&AccountKey, LoadRequest> = HashMap::new();
        for one in waiting.iter().filter(|one| wanted(&one.key)) {
            let request = requests.entry(&one.key).or_insert_with(|| LoadRequest::new(one.key.clone()));
            request.request_ids.extend(one.command.request_id().cloned());
            request.corrections.extend(one.command.correction());
            request.orders.extend(one.command.order());
        }
        if requests.is_empty() {
            return Ok(());
        }
        if accounts.len() + requests.len() > CACHED_ACCOUNTS_MAX {
            // What the batch in hand needs or has decided stays.
            accounts.retain(|key, _| waiting.iter().any(|one| one.key == *key));
        }
        for key in requests.keys() {
            accounts.remove(*key);
        }
        let requests: Vec<LoadRequest> = requests.into_values().collect();
        for mut stored in store::load(&self.database, &requests)? {
            stored.account.put_terms(self.terms.get(&stored.key.product_id).cloned().unwrap_or_default());
            accounts.insert(stored.key.clone(), stored);
        }
        Ok(())
    }

    /// Writes what the accounts decided, and the counters where they are due or nothing else was asked for.
    fn write(
        &self,
        accounts: &mut HashMap<AccountKey, Stored>,
        waiting: &[Waiting],
        in_transaction: bool,
    ) -> Result<(), StoreError> {
        let mut meters = self.meters.borrow_mut();
        let mut commit = Commit::default();
        let mut written: Vec<&AccountKey> = Vec::new();
        let mut charged: Vec<(&ProductId, u64)> = Vec::new();
        for one in waiting {
            if let Some(stored) = accounts.get_mut(&one.key).filter(|stored| stored.account.has_changes()) {
                let (product_id, parts) = (&one.key.product_id, commit.add_account(stored).parts().unsigned_abs());
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
        let are_counts_due = waiting.is_empty() || meters.are_due();
        if written.is_empty() && !are_counts_due {
            return Ok(());
        }
        if are_counts_due {
            for (name, increment) in meters.counts() {
                commit.add_metric(name, increment);
            }
        }
        store::commit(&self.database, &mut commit, in_transaction)?;
        if commit.has_events() {
            self.are_events_written.set(true);
        }
        if are_counts_due {
            meters.clear();
        }
        for key in written {
            if let Some(stored) = accounts.get_mut(key) {
                stored.account.forget_ended();
            }
        }
        Ok(())
    }
}

const PACKAGE_ID_TAKEN: Refusal = Refusal::Conflict("another package was granted under this id");

/// The accounts of which everything that the commands name is remembered, or is new as far as anyone can tell.
fn known_accounts<'batch>(accounts: &HashMap<AccountKey, Stored>, waiting: &'batch [Waiting]) -> HashSet<&'batch AccountKey> {
    let mut is_known: HashMap<&AccountKey, bool> = HashMap::new();
    for one in waiting {
        let is_one_known = accounts.get(&one.key).is_some_and(|stored| match &one.command {
            // A request id that is not remembered is most likely new; where it is not, the claim's primary key says so.
            Command::Probe { .. } | Command::Admit(_) => true,
            Command::Renew { request_id, .. } => is_live(&stored.account, request_id),
            Command::Settle(settlement) => is_live(&stored.account, &settlement.request_id),
            _ => false,
        });
        is_known.entry(&one.key).and_modify(|known| *known &= is_one_known).or_insert(is_one_known);
    }
    is_known.into_iter().filter_map(|(key, known)| known.then_some(key)).collect()
}

fn is_live(account: &Account, request_id: &RequestId) -> bool {
    account.call(request_id).is_some_and(|call| call.state == CallState::Held)
}

fn decide(accounts: &mut HashMap<AccountKey, Stored>, waiting: &[Waiting]) -> Vec<Reply> {
    decide_where(accounts, waiting, |_| true).into_iter().map(|(_, reply)| reply).collect()
}

fn decide_where(
    accounts: &mut HashMap<AccountKey, Stored>,
    waiting: &[Waiting],
    wanted: impl Fn(&AccountKey) -> bool,
) -> Vec<(usize, Reply)> {
    let chosen = waiting.iter().enumerate().filter(|(_, one)| wanted(&one.key));
    chosen.map(|(index, one)| (index, decide_one(accounts.get_mut(&one.key), one))).collect()
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
