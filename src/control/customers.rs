//! Customers and what they have.

use serde::Serialize;

use super::failure::Failure;
use super::json::{self, ProductBalanceView};
use super::query::{PathIds, Query, write_cursor};
use super::time::format_ms;
use super::{Context, Response};
use crate::config::Config;
use crate::ids::{CustomerId, ProductId};
use crate::quantity::Quantity;
use crate::store::{Database, LoadRequest, load, queries};

const LIST: &str = "customers";

#[derive(Serialize)]
struct CustomerView<'a> {
    customer_id: &'a CustomerId,
    products: Vec<ProductView<'a>>,
}

#[derive(Serialize)]
struct ProductView<'a> {
    product_id: &'a ProductId,
    unit: Option<&'a str>,
    remaining: Quantity,
    last_call_at: Option<String>,
}

pub(super) fn list<D: Database>(context: &Context<'_, D>, query: Query<'_>) -> Result<Response, Failure> {
    #[derive(Serialize)]
    struct List<'a> {
        customers: Vec<CustomerView<'a>>,
        next_cursor: Option<String>,
    }

    let query = query.read(&["limit", "cursor"])?;
    let after = query.cursor(LIST, |text| CustomerId::new(text).ok())?;
    let after = after.as_ref().map_or("", CustomerId::as_str);
    let page = queries::customers(context.tables()?, after, query.limit()?, context.now_ms)?;
    let customers = page.items.iter().map(|row| CustomerView {
        customer_id: &row.customer_id,
        products: row.products.iter().map(|product| product_view(product, context.config)).collect(),
    });
    let next_cursor = page.next.map(|position| write_cursor(LIST, &position));
    json::response(200, &List { customers: customers.collect(), next_cursor })
}

fn product_view<'a>(row: &'a queries::ProductRow, config: &'a Config) -> ProductView<'a> {
    ProductView {
        product_id: &row.product_id,
        unit: json::unit(config, &row.product_id),
        remaining: row.remaining,
        last_call_at: row.last_call_at_ms.map(format_ms),
    }
}

pub(super) fn balance<D: Database>(context: &Context<'_, D>, ids: &PathIds, query: Query<'_>) -> Result<Response, Failure> {
    #[derive(Serialize)]
    struct Balance<'a> {
        customer_id: &'a CustomerId,
        products: Vec<ProductBalanceView<'a>>,
    }

    query.read(&[])?;
    let customer_id = ids.id(0, "customer_id", CustomerId::new)?;
    let keys = queries::account_keys(context.tables()?, &customer_id)?;
    if keys.is_empty() {
        return Err(Failure::not_found("customer"));
    }
    let requests: Vec<LoadRequest> = keys.into_iter().map(LoadRequest::new).collect();
    let mut accounts = load(context.tables()?, &requests, context.now_ms)?;
    accounts.sort_by(|one, other| one.key.cmp(&other.key));
    let products =
        accounts.iter().map(|stored| ProductBalanceView::new(&stored.key, &stored.account, context.config, context.now_ms));
    json::response(200, &Balance { customer_id: &customer_id, products: products.collect() })
}
