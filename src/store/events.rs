//! What an event says: the `data` object of its webhook, written once, with the decision that caused it.

use serde::Serialize;

use super::database::json;
use super::load::Stored;
use crate::ids::{CustomerId, PackageId, ProductId, RepurchaseId, RequestId};
use crate::ledger::{Event, EventDetail, EventKind, FailureReason, Threshold};
use crate::quantity::Quantity;

/// The members of `data`. Those that an event has no word for are left out.
#[derive(Serialize)]
struct EventData<'a> {
    customer_id: &'a CustomerId,
    product_id: &'a ProductId,
    #[serde(skip_serializing_if = "Option::is_none")]
    package_id: Option<&'a PackageId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<&'a RequestId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    overrun: Option<Quantity>,
    #[serde(skip_serializing_if = "Option::is_none")]
    charge: Option<Quantity>,
    #[serde(flatten)]
    balance: Option<BalanceData<'a>>,
    #[serde(flatten)]
    order: Option<OrderData<'a>>,
}

#[derive(Serialize)]
struct BalanceData<'a> {
    threshold: Threshold,
    remaining: Quantity,
    granted: Quantity,
    unit: &'a str,
}

#[derive(Serialize)]
struct OrderData<'a> {
    repurchase_id: Option<RepurchaseId>,
    spec_id: &'a str,
    quantity: Quantity,
    price: Quantity,
    currency: &'a str,
    reason: Option<FailureReason>,
}

/// An event's `data` as JSON.
pub(super) fn event_data(stored: &Stored, event: &Event) -> String {
    let quantity_of = |kind: EventKind| match event.detail {
        EventDetail::Quantity(quantity) if event.kind == kind => Some(quantity),
        _ => None,
    };
    json(&EventData {
        customer_id: &stored.key.customer_id,
        product_id: &stored.key.product_id,
        package_id: event.package_number.and_then(|number| stored.account.package(number)).map(|package| &package.id),
        request_id: event.request_id.as_ref(),
        overrun: quantity_of(EventKind::CallOverrun),
        charge: quantity_of(EventKind::CallLost),
        balance: balance_data(&event.detail),
        order: order_data(stored, &event.detail),
    })
}

fn balance_data(detail: &EventDetail) -> Option<BalanceData<'_>> {
    let EventDetail::Balance { threshold, remaining, granted, unit } = detail else { return None };
    let threshold = threshold.unwrap_or(Threshold::Remaining(Quantity::ZERO));
    Some(BalanceData { threshold, remaining: *remaining, granted: *granted, unit })
}

fn order_data<'a>(stored: &Stored, detail: &'a EventDetail) -> Option<OrderData<'a>> {
    let EventDetail::Order { order, purchase, reason } = detail else { return None };
    Some(OrderData {
        repurchase_id: order.map(|(number, requested_at_ms)| RepurchaseId::of(&stored.key, number, requested_at_ms)),
        spec_id: &purchase.spec_id,
        quantity: purchase.quantity,
        price: purchase.price,
        currency: &purchase.currency,
        reason: *reason,
    })
}
