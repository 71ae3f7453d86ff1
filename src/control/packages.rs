//! Packages: granted, shown, rescheduled, frozen, taken back, adjusted.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::body::{self, not_null};
use super::failure::Failure;
use super::json::{self, PackageView};
use super::query::{PathIds, Query, write_cursor};
use super::routes::Action;
use super::time::Timestamp;
use super::{Context, Response};
use crate::ids::{AccountKey, CorrectionId, CustomerId, ORDER_ID_LENGTH_MAX, PackageId, ProductId, RepurchaseId};
use crate::ledger::{Account, Command, Grant, Outcome, PackageChange, PackageKind};
use crate::problem::{Code, Problem};
use crate::quantity::{Delta, Quantity};
use crate::store::queries::{self, PackageFilter};
use crate::store::{Database, create_account};

/// The longest reason of a correction, in characters.
pub(super) const REASON_LENGTH_MAX: usize = 500;

const LIST: &str = "packages";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PutBody {
    customer_id: CustomerId,
    product_id: ProductId,
    #[serde(default, deserialize_with = "not_null")]
    kind: Option<PackageKind>,
    #[serde(default, deserialize_with = "not_null")]
    quantity: Option<Quantity>,
    #[serde(default)]
    starts_at: Option<Timestamp>,
    #[serde(default)]
    expires_at: Option<Timestamp>,
    #[serde(default)]
    priority: i32,
    #[serde(default)]
    order_id: Option<String>,
    #[serde(default)]
    repurchase_id: Option<RepurchaseId>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PatchBody {
    #[serde(default, deserialize_with = "not_null")]
    expires_at: Option<Option<Timestamp>>,
    #[serde(default, deserialize_with = "not_null")]
    priority: Option<i32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AdjustmentBody {
    adjustment_id: CorrectionId,
    quantity: Delta,
    reason: String,
}

pub(super) async fn put<D: Database>(
    context: &Context<'_, D>,
    ids: &PathIds,
    query: Query<'_>,
    body: &[u8],
) -> Result<Response, Failure> {
    query.read(&[])?;
    let package_id = ids.id(0, "package_id", PackageId::new)?;
    let body: PutBody = body::read(body)?;
    let key = AccountKey { customer_id: body.customer_id.clone(), product_id: body.product_id.clone() };
    if context.config.product(&key.product_id).is_none() {
        return Err(Failure::invalid("product_id: the configuration has no such product"));
    }
    let repurchase = body.repurchase_id.as_ref().map(|id| order_number(context, id, &key)).transpose()?;
    let command = Command::Grant(Box::new(read_grant(package_id.clone(), body, repurchase)?));
    // The account of an order is there already.
    if !check_id_of(context, &package_id, &key)? && repurchase.is_none() {
        // A grant that no account accepts must not leave an account behind.
        let accepted = Account::default().decide(&command, context.now_ms);
        accepted.map_err(|refusal| Failure::refusal(&refusal, "package"))?;
        create_account(context.tables()?, &key, context.now_ms)?;
    }
    submit(context, &key, command).await
}

/// Whether an account has a package of this id; that another account has it is a conflict.
pub(super) fn check_id_of<D: Database>(
    context: &Context<'_, D>,
    package_id: &PackageId,
    key: &AccountKey,
) -> Result<bool, Failure> {
    match queries::package(context.tables()?, package_id)? {
        Some(other) if other.key != *key => {
            Err(Problem::new(Code::Conflict, "Another package was granted under this id.").into())
        }
        found => Ok(found.is_some()),
    }
}

/// The number of the order that a package is for.
fn order_number<D: Database>(context: &Context<'_, D>, repurchase_id: &RepurchaseId, key: &AccountKey) -> Result<u32, Failure> {
    let (owner, order) =
        queries::order_by_id(context.tables()?, repurchase_id)?.ok_or_else(|| Failure::not_found("repurchase"))?;
    if owner != *key {
        return Err(Problem::new(Code::Conflict, "The repurchase is another customer's, or of another product.").into());
    }
    Ok(order.number)
}

fn read_grant(package_id: PackageId, body: PutBody, repurchase: Option<u32>) -> Result<Grant, Failure> {
    let kind = body.kind.unwrap_or(PackageKind::Prepaid);
    if kind == PackageKind::Prepaid && body.quantity.is_none() {
        return Err(Failure::invalid("quantity: a prepaid package has one"));
    }
    if let Some(order_id) = &body.order_id {
        body::check_text("order_id", order_id, ORDER_ID_LENGTH_MAX)?;
    }
    Ok(Grant {
        package_id,
        kind,
        quantity: body.quantity.unwrap_or(Quantity::ZERO),
        starts_at_ms: body.starts_at.map(|at| at.0),
        expires_at_ms: body.expires_at.map(|at| at.0),
        priority: body.priority,
        order_id: body.order_id,
        repurchase,
    })
}

/// Has a command on a package decided, and answers with the package as it is then.
async fn submit<D: Database>(context: &Context<'_, D>, key: &AccountKey, command: Command) -> Result<Response, Failure> {
    let reply = context.book.submit(key, command, context.now_ms).await?;
    let outcome = reply.result.map_err(|refusal| Failure::refusal(&refusal, "package"))?;
    let (status, package) = match outcome {
        Outcome::Granted(package) => (201, package),
        Outcome::Package(package) => (200, package),
        _ => return Err(Failure::Internal("a command on a package answered with something else")),
    };
    json::response(status, &PackageView::new(key, &package, context.config, context.now_ms))
}

/// The account of the package that a path names.
fn account_of<D: Database>(context: &Context<'_, D>, package_id: &PackageId) -> Result<AccountKey, Failure> {
    let found = queries::package(context.tables()?, package_id)?;
    found.map(|owned| owned.key).ok_or_else(|| Failure::not_found("package"))
}

pub(super) fn get<D: Database>(context: &Context<'_, D>, ids: &PathIds, query: Query<'_>) -> Result<Response, Failure> {
    query.read(&[])?;
    let package_id = ids.id(0, "package_id", PackageId::new)?;
    let found = queries::package(context.tables()?, &package_id)?.ok_or_else(|| Failure::not_found("package"))?;
    json::response(200, &PackageView::new(&found.key, &found.package, context.config, context.now_ms))
}

pub(super) fn list<D: Database>(context: &Context<'_, D>, query: Query<'_>) -> Result<Response, Failure> {
    #[derive(Serialize)]
    struct List<'a> {
        packages: Vec<PackageView<'a>>,
        next_cursor: Option<String>,
    }

    let query = query.read(&["customer_id", "product_id", "state", "limit", "cursor"])?;
    let filter = PackageFilter {
        customer_id: query.id("customer_id", CustomerId::new)?,
        product_id: query.id("product_id", ProductId::new)?,
        state: query.word("state", "scheduled, active, frozen, exhausted, expired, released")?,
    };
    let after = query.cursor(LIST, |text| PackageId::new(text).ok())?;
    let after = after.as_ref().map_or("", PackageId::as_str);
    let page = queries::packages(context.tables()?, &filter, after, query.limit()?, context.now_ms)?;
    let packages = page.items.iter().map(|owned| PackageView::new(&owned.key, &owned.package, context.config, context.now_ms));
    json::response(
        200,
        &List { packages: packages.collect(), next_cursor: page.next.map(|position| write_cursor(LIST, &position)) },
    )
}

pub(super) async fn patch<D: Database>(
    context: &Context<'_, D>,
    ids: &PathIds,
    query: Query<'_>,
    body: &[u8],
) -> Result<Response, Failure> {
    query.read(&[])?;
    let package_id = ids.id(0, "package_id", PackageId::new)?;
    let PatchBody { expires_at, priority } = body::read(body)?;
    let change = PackageChange::Reschedule { expires_at_ms: expires_at.map(|at| at.map(|at| at.0)), priority };
    let key = account_of(context, &package_id)?;
    submit(context, &key, Command::Change { package_id, change }).await
}

pub(super) async fn change_standing<D: Database>(
    context: &Context<'_, D>,
    action: Action,
    ids: &PathIds,
    query: Query<'_>,
    body: &[u8],
) -> Result<Response, Failure> {
    query.read(&[])?;
    let package_id = ids.id(0, "package_id", PackageId::new)?;
    body::read_nothing(body)?;
    let change = match action {
        Action::FreezePackage => PackageChange::Freeze,
        Action::UnfreezePackage => PackageChange::Unfreeze,
        Action::ReleasePackage => PackageChange::Release,
        _ => return Err(Failure::Internal("an action is no change of standing")),
    };
    let key = account_of(context, &package_id)?;
    submit(context, &key, Command::Change { package_id, change }).await
}

pub(super) async fn adjust<D: Database>(
    context: &Context<'_, D>,
    ids: &PathIds,
    query: Query<'_>,
    body: &[u8],
) -> Result<Response, Failure> {
    query.read(&[])?;
    let package_id = ids.id(0, "package_id", PackageId::new)?;
    let AdjustmentBody { adjustment_id, quantity, reason } = body::read(body)?;
    body::check_text("reason", &reason, REASON_LENGTH_MAX)?;
    let key = account_of(context, &package_id)?;
    submit(context, &key, Command::Adjust { package_id, adjustment_id, quantity, reason: Arc::from(reason) }).await
}
