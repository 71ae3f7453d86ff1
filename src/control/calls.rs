//! Calls: listed, shown, refunded.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::body;
use super::failure::Failure;
use super::json::{self, CallView};
use super::packages::REASON_LENGTH_MAX;
use super::query::{PathIds, Query, write_cursor};
use super::{Context, Response};
use crate::ids::{AccountKey, CorrectionId, CustomerId, ProductId, RequestId};
use crate::ledger::Command;
use crate::quantity::Quantity;
use crate::store::Database;
use crate::store::queries::{self, CallList, CallPosition, ListedCall};

const LIST: &str = "calls";

/// The most products whose calls are merged into one list.
const MERGED_PRODUCTS_MAX: usize = 50;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RefundBody {
    refund_id: CorrectionId,
    #[serde(default)]
    quantity: Option<Quantity>,
    reason: String,
}

pub(super) fn list<D: Database>(context: &Context<'_, D>, ids: &PathIds, query: Query<'_>) -> Result<Response, Failure> {
    #[derive(Serialize)]
    struct List<'a> {
        calls: Vec<CallView<'a>>,
        next_cursor: Option<String>,
    }

    let customer_id = ids.id(0, "customer_id", CustomerId::new)?;
    let query = query.read(&["product_id", "state", "limit", "cursor"])?;
    let product_id = query.id("product_id", ProductId::new)?;
    let state = query.word("state", "held, settled, released")?;
    let from: Option<CallPosition> = query.cursor(LIST, |text| serde_json::from_str(text).ok())?;
    let limit = query.limit()?;
    match queries::account_keys(context.tables()?, &customer_id)?.len() {
        0 => return Err(Failure::not_found("customer")),
        accounts if accounts > MERGED_PRODUCTS_MAX && product_id.is_none() => {
            return Err(Failure::invalid("product_id: this customer has too many products to list their calls together"));
        }
        _ => {}
    }
    let list = CallList { customer_id: &customer_id, product_id: product_id.as_ref(), state, from: from.as_ref() };
    let page = queries::calls(context.tables()?, &list, limit)?;
    let position = page.next.map(|position| serde_json::to_string(&position)).transpose();
    let position = position.map_err(|_| Failure::Internal("a position cannot be written as JSON"))?;
    let next_cursor = position.map(|position| write_cursor(LIST, &position));
    json::response(200, &List { calls: page.items.iter().map(CallView::new).collect(), next_cursor })
}

/// The call that a path and its `product_id` name.
fn find<D: Database>(context: &Context<'_, D>, ids: &PathIds, query: Query<'_>) -> Result<(AccountKey, ListedCall), Failure> {
    let customer_id = ids.id(0, "customer_id", CustomerId::new)?;
    let request_id = ids.id(1, "request_id", RequestId::new)?;
    let product_id = query.read(&["product_id"])?.id("product_id", ProductId::new)?;
    let mut found = queries::call(context.tables()?, &customer_id, product_id.as_ref(), &request_id)?;
    let call = found.pop().ok_or_else(|| Failure::not_found("call"))?;
    if !found.is_empty() {
        return Err(Failure::invalid("product_id: calls of several products have this id; say which"));
    }
    Ok((AccountKey { customer_id, product_id: call.product_id.clone() }, call))
}

pub(super) fn get<D: Database>(context: &Context<'_, D>, ids: &PathIds, query: Query<'_>) -> Result<Response, Failure> {
    let (_, call) = find(context, ids, query)?;
    json::response(200, &CallView::new(&call))
}

pub(super) async fn refund<D: Database>(
    context: &Context<'_, D>,
    ids: &PathIds,
    query: Query<'_>,
    body: &[u8],
) -> Result<Response, Failure> {
    let RefundBody { refund_id, quantity, reason } = body::read(body)?;
    body::check_text("reason", &reason, REASON_LENGTH_MAX)?;
    if quantity.is_some_and(Quantity::is_zero) {
        return Err(Failure::invalid("quantity: must be above 0"));
    }
    let (key, found) = find(context, ids, query)?;
    let request_id = found.call.request_id;
    let command = Command::Refund { request_id, refund_id, quantity, reason: Arc::from(reason) };
    let reply = context.book.submit(&key, command, context.now_ms).await?;
    reply.result.map_err(|refusal| Failure::refusal(&refusal, "call"))?;
    // Read again: the call's legs may name packages that were charged after it was looked up.
    let (_, call) = find(context, ids, query)?;
    json::response(200, &CallView::new(&call))
}
