//! What a customer is told of, and how its next package is bought.

use serde::{Deserialize, Serialize};

use super::body::{self, Object};
use super::failure::Failure;
use super::query::{PathIds, Query};
use super::time::{Duration, format_duration, format_ms};
use super::{Context, Response, json};
use crate::config::Product;
use crate::ids::{AccountKey, CustomerId, ProductId, RepurchaseId};
use crate::ledger::{
    Account, CAP_COUNT_MAX, Cap, Command, FailureReason, Order, OrderState, Purchase, RepurchaseRule, Rules, Threshold, Watch,
};
use crate::problem::{Code, Problem};
use crate::quantity::Quantity;
use crate::store::{Database, create_account, queries};

/// The longest name of what is bought, in characters.
const SPEC_ID_LENGTH_MAX: usize = 128;

/// The shortest period of a cap: that it is reached is told once a period.
const PERIOD_MIN_MS: i64 = 1_000;

/// The longest currency, in characters.
const CURRENCY_LENGTH_MAX: usize = 16;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RulesBody {
    #[serde(default)]
    alerts: Option<Vec<Threshold>>,
    #[serde(default)]
    repurchase: Option<Object<RuleBody>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleBody {
    enabled: bool,
    trigger: Threshold,
    package: Object<PurchaseBody>,
    cap: Object<CapBody>,
    cooldown: Duration,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PurchaseBody {
    spec_id: String,
    quantity: Quantity,
    price: Quantity,
    currency: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CapBody {
    count: u32,
    #[serde(default)]
    spend: Option<Quantity>,
    period: Duration,
}

#[derive(Serialize)]
struct RulesView<'a> {
    customer_id: &'a CustomerId,
    product_id: &'a ProductId,
    alerts: &'a [Threshold],
    alerts_from: &'static str,
    repurchase: Option<RuleView<'a>>,
}

#[derive(Serialize)]
struct RuleView<'a> {
    enabled: bool,
    trigger: Threshold,
    package: &'a Purchase,
    cap: CapView,
    cooldown: String,
    #[serde(flatten)]
    standing: Standing,
}

#[derive(Serialize)]
struct CapView {
    count: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    spend: Option<Quantity>,
    period: String,
}

/// Where a rule stands. What there is not to say is left out, so that a rule is read back as it was written and `state`.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
struct Standing {
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<Why>,
    #[serde(skip_serializing_if = "Option::is_none")]
    repurchase_id: Option<RepurchaseId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rests_until: Option<String>,
}

/// Why nothing is ordered.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
enum Why {
    Failure(FailureReason),
    Cooldown(&'static str),
}

pub(super) async fn put<D: Database>(
    context: &Context<'_, D>,
    ids: &PathIds,
    query: Query<'_>,
    body: &[u8],
) -> Result<Response, Failure> {
    query.read(&[])?;
    let (key, product) = account(context, ids)?;
    let RulesBody { alerts, repurchase } = body::read(body)?;
    let repurchase = repurchase.map(|Object(rule)| read_rule(rule)).transpose()?;
    if context.config.repurchase.is_none() && repurchase.as_ref().is_some_and(|rule| rule.enabled) {
        let detail =
            "Nobody takes orders: the configuration has no [repurchase]. Without it a rule can be written with enabled false.";
        return Err(Problem::new(Code::Conflict, detail).into());
    }
    let command = Command::SetRules(Box::new(Rules { alerts: alerts.map(without_repeats), repurchase }));
    // Rules that no account accepts must not leave an account behind.
    let accepted = Account::default().decide(&command, context.now_ms);
    accepted.map_err(|refusal| Failure::refusal(&refusal, "customer"))?;
    create_account(context.tables()?, &key, context.now_ms)?;
    let reply = context.book.submit(&key, command, context.now_ms).await?;
    reply.result.map_err(|refusal| Failure::refusal(&refusal, "customer"))?;
    show(context, &key, product)
}

pub(super) fn get<D: Database>(context: &Context<'_, D>, ids: &PathIds, query: Query<'_>) -> Result<Response, Failure> {
    query.read(&[])?;
    let (key, product) = account(context, ids)?;
    show(context, &key, product)
}

/// The account that a path names, and its product.
fn account<'a, D>(context: &Context<'a, D>, ids: &PathIds) -> Result<(AccountKey, &'a Product), Failure> {
    let customer_id = ids.id(0, "customer_id", CustomerId::new)?;
    let product_id = ids.id(1, "product_id", ProductId::new)?;
    let product = context.config.product(&product_id).ok_or_else(|| Failure::not_found("product"))?;
    Ok((AccountKey { customer_id, product_id }, product))
}

fn read_rule(body: RuleBody) -> Result<RepurchaseRule, Failure> {
    let RuleBody { enabled, trigger, package: Object(package), cap: Object(cap), cooldown } = body;
    check_word("package.spec_id", &package.spec_id, SPEC_ID_LENGTH_MAX, |character| !character.is_control())?;
    check_word("package.currency", &package.currency, CURRENCY_LENGTH_MAX, |character| character.is_ascii_graphic())?;
    if !(1..=CAP_COUNT_MAX).contains(&cap.count) {
        return Err(Failure::invalid(format!("cap.count: expected a number from 1 to {CAP_COUNT_MAX}")));
    }
    if cap.period.0 < PERIOD_MIN_MS {
        return Err(Failure::invalid("cap.period: expected at least \"1s\""));
    }
    let PurchaseBody { spec_id, quantity, price, currency } = package;
    Ok(RepurchaseRule {
        enabled,
        trigger,
        package: Purchase { spec_id, quantity, price, currency },
        cap: Cap { count: cap.count, spend: cap.spend, period_ms: cap.period.0 },
        cooldown_ms: cooldown.0,
    })
}

fn check_word(name: &str, text: &str, length_max: usize, is_fine: impl Fn(char) -> bool) -> Result<(), Failure> {
    if !text.is_empty() && text.chars().all(is_fine) && text.chars().nth(length_max).is_none() {
        return Ok(());
    }
    Err(Failure::invalid(format!("{name}: expected 1 to {length_max} visible characters")))
}

/// The same threshold twice is one.
fn without_repeats(alerts: Vec<Threshold>) -> Vec<Threshold> {
    let mut kept = Vec::with_capacity(alerts.len());
    for threshold in alerts {
        if !kept.contains(&threshold) {
            kept.push(threshold);
        }
    }
    kept
}

fn show<D: Database>(context: &Context<'_, D>, key: &AccountKey, product: &Product) -> Result<Response, Failure> {
    let (watch, orders) =
        queries::watch(context.tables()?, key)?.ok_or_else(|| Failure::not_found("customer of this product"))?;
    let own = watch.rules.alerts.as_deref();
    let view = |rule: &'_ RepurchaseRule| Standing::new(key, &watch, &orders, rule, context.now_ms);
    let view = RulesView {
        customer_id: &key.customer_id,
        product_id: &key.product_id,
        alerts: own.unwrap_or(&product.alerts),
        alerts_from: if own.is_some() { "customer" } else { "product" },
        repurchase: watch.rules.repurchase.as_ref().map(|rule| RuleView {
            enabled: rule.enabled,
            trigger: rule.trigger,
            package: &rule.package,
            cap: CapView { count: rule.cap.count, spend: rule.cap.spend, period: format_duration(rule.cap.period_ms) },
            cooldown: format_duration(rule.cooldown_ms),
            standing: view(rule),
        }),
    };
    json::response(200, &view)
}

impl Standing {
    fn new(key: &AccountKey, watch: &Watch, orders: &[Order], rule: &RepurchaseRule, now_ms: i64) -> Self {
        if let Some(reason) = watch.suspended {
            return Self { state: "suspended", reason: Some(Why::Failure(reason)), ..Self::default() };
        }
        if let Some(order) = watch.order_in_flight.and_then(|number| orders.iter().find(|order| order.number == number)) {
            let repurchase_id = Some(RepurchaseId::of(key, order.number, order.requested_at_ms));
            return Self { state: state_word(order.state), repurchase_id, ..Self::default() };
        }
        // A rule that was written since starts anew.
        let failure = orders.last().filter(|_| watch.failures > 0).and_then(|order| order.reason);
        let rests_until_ms = Some(watch.rests_until_ms).filter(|until_ms| rule.enabled && now_ms < *until_ms);
        let is_told = |told_at_ms: i64| rule.enabled && now_ms < told_at_ms.saturating_add(rule.cap.period_ms);
        let reason = if watch.cap_told_at_ms.is_some_and(is_told) {
            Some(Why::Failure(FailureReason::CapReached))
        } else {
            failure.map(Why::Failure).or_else(|| rests_until_ms.map(|_| Why::Cooldown("cooldown")))
        };
        let state = if failure.is_some() { "failed" } else { "idle" };
        Self { state, reason, repurchase_id: None, rests_until: rests_until_ms.map(format_ms) }
    }
}

pub(super) const fn state_word(state: OrderState) -> &'static str {
    match state {
        OrderState::Requested => "requested",
        OrderState::Pending => "pending",
        OrderState::Succeeded => "succeeded",
        OrderState::Failed => "failed",
    }
}
