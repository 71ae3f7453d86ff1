//! Notices: the rows of a commit beside its operations. One writes what an account remembers, an event or an order, and `apply_notices.sql` says how.

use super::database::Value;
use super::events::event_data;
use super::load::Stored;
use super::rows::order_state_word;
use crate::ids::{EventId, RepurchaseId};
use crate::ledger::{Changes, Event, Order, Watch};

/// How many columns a notice has.
pub(super) const NOTICE_COLUMNS: usize = 7;

/// One row for the view `notices`: what it writes, the account, a number, an id, a word, a time, JSON.
type Notice = [Value; NOTICE_COLUMNS];

/// The notices of what an account decided.
pub(super) fn of(stored: &Stored, changes: &Changes) -> Vec<Notice> {
    let watch = changes.watch.then(|| watch_notice(stored.account_id, stored.account.watch()));
    let orders = changes.orders.iter().filter_map(|number| stored.account.order(*number));
    let orders = orders.map(|order| order_notice(stored, order));
    let events = changes.events.iter().map(|event| event_notice(stored, event));
    watch.into_iter().chain(orders).chain(events).collect()
}

fn watch_notice(account_id: i64, watch: &Watch) -> Notice {
    // Numbers and texts: nothing of it can fail to serialize.
    let detail = serde_json::to_string(watch).unwrap_or_default();
    [1.into(), account_id.into(), Value::Null, Value::Null, Value::Null, watch.due_at_ms.into(), detail.into()]
}

fn event_notice(stored: &Stored, event: &Event) -> Notice {
    let event_id = EventId::of(&stored.key, event.number, event.at_ms);
    [
        2.into(),
        stored.account_id.into(),
        Value::Null,
        event_id.as_str().into(),
        event.kind.as_str().into(),
        event.at_ms.into(),
        event_data(stored, event).into(),
    ]
}

fn order_notice(stored: &Stored, order: &Order) -> Notice {
    let repurchase_id = RepurchaseId::of(&stored.key, order.number, order.requested_at_ms);
    // As above.
    let detail = serde_json::to_string(order).unwrap_or_default();
    [
        3.into(),
        stored.account_id.into(),
        i64::from(order.number).into(),
        repurchase_id.as_str().into(),
        order_state_word(order.state).into(),
        Value::Null,
        detail.into(),
    ]
}
