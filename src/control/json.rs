//! The JSON of packages, balances and calls, as the contract's table has it.

use serde::Serialize;

use super::Response;
use super::failure::Failure;
use super::time::format_ms;
use crate::config::Config;
use crate::ids::{AccountKey, CustomerId, PackageId, ProductId, RequestId};
use crate::ledger::{Account, CallState, Package, PackageKind, PackageState};
use crate::quantity::Quantity;
use crate::store::queries::ListedCall;

pub(super) const CONTENT_TYPE: &str = "application/json";

/// An answer with a JSON body.
pub(super) fn response(status: u16, document: &impl Serialize) -> Result<Response, Failure> {
    let body = serde_json::to_string(document).map_err(|_| Failure::Internal("an answer cannot be written as JSON"))?;
    Ok(Response { status, ..Response::ok(CONTENT_TYPE, body) })
}

/// What a product counts, where it is still configured.
pub(super) fn unit<'c>(config: &'c Config, product_id: &ProductId) -> Option<&'c str> {
    config.product(product_id).map(|product| product.meter.unit())
}

#[derive(Serialize)]
pub(super) struct PackageView<'a> {
    package_id: &'a PackageId,
    customer_id: &'a CustomerId,
    product_id: &'a ProductId,
    kind: PackageKind,
    unit: Option<&'a str>,
    granted: Option<Quantity>,
    used: Quantity,
    held: Quantity,
    remaining: Option<Quantity>,
    state: PackageState,
    starts_at: String,
    expires_at: Option<String>,
    priority: i32,
    created_at: String,
    order_id: Option<&'a str>,
}

impl<'a> PackageView<'a> {
    pub(super) fn new(key: &'a AccountKey, package: &'a Package, config: &'a Config, now_ms: i64) -> Self {
        let has_quantity = package.kind == PackageKind::Prepaid;
        Self {
            package_id: &package.id,
            customer_id: &key.customer_id,
            product_id: &key.product_id,
            kind: package.kind,
            unit: unit(config, &key.product_id),
            granted: has_quantity.then_some(package.granted),
            used: package.used,
            held: package.held,
            remaining: has_quantity.then(|| package.remaining()),
            state: package.state(now_ms),
            starts_at: format_ms(package.starts_at_ms),
            expires_at: package.expires_at_ms.map(format_ms),
            priority: package.priority,
            created_at: format_ms(package.created_at_ms),
            order_id: package.order_id.as_deref(),
        }
    }
}

#[derive(Serialize)]
pub(super) struct ProductBalanceView<'a> {
    product_id: &'a ProductId,
    unit: Option<&'a str>,
    granted: Quantity,
    used: Quantity,
    held: Quantity,
    remaining: Quantity,
    available: Quantity,
    overrun: Quantity,
    packages: Vec<PackageView<'a>>,
}

impl<'a> ProductBalanceView<'a> {
    pub(super) fn new(key: &'a AccountKey, account: &'a Account, config: &'a Config, now_ms: i64) -> Self {
        let balance = account.balance(now_ms);
        Self {
            product_id: &key.product_id,
            unit: unit(config, &key.product_id),
            granted: balance.granted,
            used: balance.used,
            held: balance.held,
            remaining: balance.remaining,
            available: balance.available,
            overrun: balance.overrun,
            packages: account
                .packages_in_burn_order()
                .into_iter()
                .map(|package| PackageView::new(key, package, config, now_ms))
                .collect(),
        }
    }
}

#[derive(Serialize)]
struct LegView<'a> {
    package_id: &'a PackageId,
    quantity: Quantity,
}

#[derive(Serialize)]
pub(super) struct CallView<'a> {
    request_id: &'a RequestId,
    product_id: &'a ProductId,
    state: CallState,
    hold: Quantity,
    charge: Quantity,
    refunded: Quantity,
    overrun: Quantity,
    lost: bool,
    usage_missing: bool,
    replays: u32,
    status: Option<u16>,
    legs: Vec<LegView<'a>>,
    created_at: String,
    settled_at: Option<String>,
}

impl<'a> CallView<'a> {
    pub(super) fn new(listed: &'a ListedCall) -> Self {
        let call = &listed.call;
        let leg = |number: u32, quantity| {
            listed.package_ids.iter().find(|(of, _)| *of == number).map(|(_, package_id)| LegView { package_id, quantity })
        };
        Self {
            request_id: &call.request_id,
            product_id: &listed.product_id,
            state: call.state,
            hold: call.hold,
            charge: call.charge,
            refunded: call.refunded,
            overrun: call.overrun,
            lost: call.lost,
            usage_missing: call.usage_missing,
            replays: call.replays,
            status: call.status,
            legs: call.legs.iter().filter_map(|held| leg(held.package_number, held.quantity)).collect(),
            created_at: format_ms(call.created_at_ms),
            settled_at: call.settled_at_ms.map(format_ms),
        }
    }
}
