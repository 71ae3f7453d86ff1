//! Orders of the next package: listed, shown, and told what became of them.

use serde::{Deserialize, Serialize};

use super::body::{self, Object};
use super::failure::Failure;
use super::packages::check_id_of;
use super::query::{PathIds, Query, write_cursor};
use super::time::format_ms;
use super::{Context, Response, json};
use crate::courier::BoughtPackage;
use crate::ids::{CustomerId, PackageId, ProductId, RepurchaseId};
use crate::ledger::{Command, Conclusion, FailureReason, OrderState, Outcome, Purchase};
use crate::store::Database;
use crate::store::queries::{self, ListedOrder};

const LIST: &str = "repurchases";

#[derive(Deserialize)]
#[serde(tag = "status", rename_all = "snake_case", deny_unknown_fields)]
enum OutcomeBody {
    Succeeded {
        #[serde(default)]
        package: Option<Object<BoughtPackage>>,
    },
    Failed {
        reason: FailureReason,
    },
}

#[derive(Serialize)]
struct RepurchaseView<'a> {
    repurchase_id: &'a RepurchaseId,
    customer_id: &'a CustomerId,
    product_id: &'a ProductId,
    state: OrderState,
    reason: Option<FailureReason>,
    #[serde(flatten)]
    purchase: &'a Purchase,
    package_id: Option<&'a PackageId>,
    requested_at: String,
    times_out_at: String,
    ended_at: Option<String>,
}

impl<'a> RepurchaseView<'a> {
    fn new(listed: &'a ListedOrder) -> Self {
        let order = &listed.order;
        Self {
            repurchase_id: &listed.repurchase_id,
            customer_id: &listed.key.customer_id,
            product_id: &listed.key.product_id,
            state: order.state,
            reason: order.reason,
            purchase: &order.purchase,
            package_id: listed.package_id.as_ref(),
            requested_at: format_ms(order.requested_at_ms),
            times_out_at: format_ms(order.times_out_at_ms),
            ended_at: order.ended_at_ms.map(format_ms),
        }
    }
}

pub(super) fn list<D: Database>(context: &Context<'_, D>, query: Query<'_>) -> Result<Response, Failure> {
    #[derive(Serialize)]
    struct List<'a> {
        repurchases: Vec<RepurchaseView<'a>>,
        next_cursor: Option<String>,
    }

    let query = query.read(&["customer_id", "state", "limit", "cursor"])?;
    let customer_id = query.id("customer_id", CustomerId::new)?;
    let state = query.word("state", "requested, pending, succeeded, failed")?;
    let below = query.position(LIST)?;
    let page = queries::repurchases(context.tables()?, customer_id.as_ref(), state, below, query.limit()?)?;
    let repurchases = page.items.iter().map(RepurchaseView::new).collect();
    let next_cursor = page.next.map(|position| write_cursor(LIST, &position.to_string()));
    json::response(200, &List { repurchases, next_cursor })
}

/// The order that a path names.
fn find<D: Database>(context: &Context<'_, D>, ids: &PathIds) -> Result<ListedOrder, Failure> {
    let repurchase_id = ids.id(0, "repurchase_id", RepurchaseId::new)?;
    queries::repurchase(context.tables()?, &repurchase_id)?.ok_or_else(|| Failure::not_found("repurchase"))
}

pub(super) fn get<D: Database>(context: &Context<'_, D>, ids: &PathIds, query: Query<'_>) -> Result<Response, Failure> {
    query.read(&[])?;
    json::response(200, &RepurchaseView::new(&find(context, ids)?))
}

pub(super) async fn conclude<D: Database>(
    context: &Context<'_, D>,
    ids: &PathIds,
    query: Query<'_>,
    body: &[u8],
) -> Result<Response, Failure> {
    query.read(&[])?;
    let body: OutcomeBody = body::read(body)?;
    let ListedOrder { key, order, repurchase_id, .. } = find(context, ids)?;
    let (conclusion, package) = match body {
        OutcomeBody::Succeeded { package } => (Conclusion::Succeeded, package),
        OutcomeBody::Failed { reason: FailureReason::CapReached } => {
            return Err(Failure::invalid("reason: an order that was made has not failed for the cap"));
        }
        OutcomeBody::Failed { reason } => (Conclusion::Failed(reason), None),
    };
    let package = package.map(|Object(package)| package.into_grant(&key, &repurchase_id, &order)).transpose();
    let package = package.map_err(|reason| Failure::invalid(format!("package.{reason}")))?;
    if let Some(grant) = &package {
        check_id_of(context, &grant.package_id, &key)?;
    }
    let command = Command::ConcludeOrder { number: order.number, conclusion, package: package.map(Box::new) };
    let reply = context.book.submit(&key, command, context.now_ms).await?;
    match reply.result.map_err(|refusal| Failure::refusal(&refusal, "repurchase"))? {
        // Read again: the package that it credited has its name there.
        Outcome::Order(_) => json::response(200, &RepurchaseView::new(&find(context, ids)?)),
        _ => Err(Failure::Internal("the outcome of an order answered with something else")),
    }
}
