//! Notices: the rows of a commit beside its operations. One writes what an account remembers, an event or an order, and `apply_notices.sql` says how.

use super::database::{Value, json};
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
    [1.into(), account_id.into(), Value::Null, Value::Null, Value::Null, watch.due_at_ms.into(), json(watch).into()]
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
    [
        3.into(),
        stored.account_id.into(),
        i64::from(order.number).into(),
        repurchase_id.as_str().into(),
        order_state_word(order.state).into(),
        Value::Null,
        json(order).into(),
    ]
}

#[cfg(test)]
mod tests {
    use super::{NOTICE_COLUMNS, watch_notice};
    use crate::ids::{AccountKey, CustomerId, ProductId};
    use crate::ledger::{Cap, Counted, FailureReason, Purchase, RepurchaseRule, Rules, Threshold, Watch};
    use crate::quantity::Quantity;
    use crate::store::database::Database;
    use crate::store::testing::memory;
    use crate::store::{LoadRequest, create_account, load};

    fn quantity(text: &str) -> Quantity {
        text.parse().unwrap()
    }

    /// Nothing of it is as it is where nothing was written.
    fn full_watch() -> Watch {
        let package = Purchase {
            spec_id: "a \"spec\" \u{1f600}".to_owned(),
            quantity: quantity("0.0001"),
            price: Quantity::MAX,
            currency: "EUR".to_owned(),
        };
        let repurchase = RepurchaseRule {
            enabled: true,
            trigger: Threshold::Percent(quantity("12.5")),
            package,
            cap: Cap { count: 3, spend: Some(quantity("9.99")), period_ms: i64::MAX },
            cooldown_ms: 1,
        };
        let alerts = Some(vec![Threshold::Remaining(Quantity::ZERO), Threshold::Percent(quantity("100"))]);
        Watch {
            event_count: u64::MAX,
            percent_base: Quantity::MAX,
            due_at_ms: Some(17),
            rules: Rules { alerts, repurchase: Some(repurchase) },
            order_count: u32::MAX,
            order_in_flight: Some(u32::MAX),
            counted: vec![Counted { number: 7, at_ms: i64::MIN, price: quantity("0.5") }],
            rests_until_ms: i64::MAX,
            failures: u32::MAX,
            suspended: Some(FailureReason::ZeroPrice),
            cap_told_at_ms: Some(-1),
        }
    }

    #[test]
    fn all_that_an_account_remembers_is_loaded_as_it_was_written() {
        let database = memory();
        let customer_id = CustomerId::new("c").unwrap();
        let key = AccountKey { customer_id, product_id: ProductId::new("p").unwrap() };
        create_account(&database, &key, 0).unwrap();
        let loaded = || load(&database, &[LoadRequest::new(key.clone())], 0).unwrap().remove(0).account.watch().clone();
        assert_eq!(loaded(), Watch::default());
        for watch in [full_watch(), Watch::default()] {
            let row = ["?"; NOTICE_COLUMNS].join(",");
            database.execute(&format!("INSERT INTO notices VALUES ({row})"), &watch_notice(1, &watch)).unwrap();
            assert_eq!(loaded(), watch);
            let due_at_ms = database.execute("SELECT due_at_ms FROM accounts", &[]).unwrap()[0][0].integer();
            assert_eq!(due_at_ms, watch.due_at_ms);
        }
    }
}
