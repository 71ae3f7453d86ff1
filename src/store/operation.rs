//! Operations: the rows of a commit. One writes one row of one table, and `apply_operations.sql` says how.

use super::database::Value;

/// How many columns an operation has.
pub(super) const COLUMNS: usize = 11;

/// One row for the view `operations`. What is not named stays null.
#[derive(Default)]
pub(super) struct Operation {
    pub(super) op: Op,
    pub(super) account_id: Option<i64>,
    /// The entry's place, or that of the call's hold, or how many entries the account has.
    pub(super) seq: Option<i64>,
    pub(super) request_id: Option<String>,
    pub(super) package_number: Option<i64>,
    /// What moved; an account's overrun; what a package was granted.
    pub(super) quantity: Option<i64>,
    pub(super) at_ms: Option<i64>,
    /// What is used of a package; the end of a call's lease; an entry's kind; a correction's quantity.
    pub(super) number_1: Option<i64>,
    /// What is held of a package.
    pub(super) number_2: Option<i64>,
    /// A call's state; an entry's or a correction's correction id.
    pub(super) word: Option<String>,
    /// JSON of the rest.
    pub(super) detail: Option<String>,
}

/// What an operation writes.
#[derive(Clone, Copy, Default)]
pub(super) enum Op {
    #[default]
    SeenAccount = 1,
    MovedPackage = 2,
    NewCall = 3,
    ChangedCall = 4,
    Entry = 5,
    RewrittenPackage = 6,
    Correction = 7,
}

impl Operation {
    /// The row's values, in the order of the view's columns.
    pub(super) fn into_values(self) -> [Value; COLUMNS] {
        [
            Value::Integer(self.op as i64),
            self.account_id.into(),
            self.seq.into(),
            self.request_id.into(),
            self.package_number.into(),
            self.quantity.into(),
            self.at_ms.into(),
            self.number_1.into(),
            self.number_2.into(),
            self.word.into(),
            self.detail.into(),
        ]
    }
}
