//! What the order hook's answer means for an order (contract section 4, auto-repurchase).

use serde::Deserialize;

use super::verdict::Failure;
use super::{Reply, Unreached};
use crate::ids::{AccountKey, CustomerId, ORDER_ID_LENGTH_MAX, PackageId, ProductId, RepurchaseId, is_written_text};
use crate::ledger::{Conclusion, FailureReason, Grant, Order, PackageKind};
use crate::object::Object;
use crate::quantity::Quantity;
use crate::timestamp::Timestamp;

/// The longest message of a reader that is shown: it may quote the answer.
const MESSAGE_LENGTH_MAX: usize = 160;

/// What an answer says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// This became of the order, with the package where it came along.
    Concluded(Conclusion, Option<Box<Grant>>),
    /// The hook refuses the order.
    Refused(Failure),
    /// Nothing that can be relied on: the order is posted again under its name until its time is over.
    None(Failure),
}

#[derive(Deserialize)]
struct Body {
    status: String,
    /// The order that is answered, where the hook says it: what came over a connection that others use too is then taken for no other's.
    #[serde(default)]
    repurchase_id: Option<String>,
    #[serde(default)]
    package: Option<Object<BoughtPackage>>,
    #[serde(default)]
    reason: Option<String>,
}

/// The package that an order brought, as it is written for `PUT /packages`. What the order says already may be left out.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BoughtPackage {
    package_id: Option<PackageId>,
    customer_id: Option<CustomerId>,
    product_id: Option<ProductId>,
    kind: Option<PackageKind>,
    quantity: Option<Quantity>,
    starts_at: Option<Timestamp>,
    expires_at: Option<Timestamp>,
    priority: i32,
    order_id: Option<String>,
    repurchase_id: Option<RepurchaseId>,
}

impl BoughtPackage {
    /// The grant of this package, which credits the order. Its name is the order's unless it has its own.
    ///
    /// # Errors
    /// What contradicts the order, in words.
    pub fn into_grant(self, key: &AccountKey, repurchase_id: &RepurchaseId, order: &Order) -> Result<Grant, &'static str> {
        if self.customer_id.is_some_and(|id| id != key.customer_id) {
            return Err("customer_id: the order is another customer's");
        }
        if self.product_id.is_some_and(|id| id != key.product_id) {
            return Err("product_id: the order is for another product");
        }
        if self.repurchase_id.is_some_and(|id| id != *repurchase_id) {
            return Err("repurchase_id: it is another order's");
        }
        if !self.order_id.as_deref().is_none_or(|text| is_written_text(text, ORDER_ID_LENGTH_MAX)) {
            return Err("order_id: expected 1 to 256 characters, without control characters");
        }
        let own_name = PackageId::new(repurchase_id.as_str()).map_err(|_| "package_id: missing")?;
        let kind = self.kind.unwrap_or(PackageKind::Prepaid);
        Ok(Grant {
            package_id: self.package_id.unwrap_or(own_name),
            kind,
            quantity: self.quantity.unwrap_or(match kind {
                PackageKind::Prepaid => order.purchase.quantity,
                PackageKind::Unmetered => Quantity::ZERO,
            }),
            starts_at_ms: self.starts_at.map(|at| at.0),
            expires_at_ms: self.expires_at.map(|at| at.0),
            priority: self.priority,
            order_id: self.order_id,
            repurchase: Some(order.number),
        })
    }
}

/// The meaning of an answer to an order.
pub(super) fn read(
    replied: &Result<Reply, Unreached>,
    key: &AccountKey,
    repurchase_id: &RepurchaseId,
    order: &Order,
    now_ms: i64,
) -> Answer {
    let reply = match replied {
        Ok(reply) => reply,
        Err(unreached) => return Answer::None(unreached.into()),
    };
    match reply.status {
        200..300 => match read_body(reply.body.as_deref(), key, repurchase_id, order) {
            Ok((conclusion, package)) => Answer::Concluded(conclusion, package),
            Err(reason) => Answer::None(Failure::of(format!("status {}: {reason}", reply.status))),
        },
        408 | 429 => Answer::None(Failure::of_reply(reply, now_ms)),
        400..500 => Answer::Refused(Failure::of_reply(reply, now_ms)),
        _ => Answer::None(Failure::of_reply(reply, now_ms)),
    }
}

fn read_body(
    body: Option<&[u8]>,
    key: &AccountKey,
    repurchase_id: &RepurchaseId,
    order: &Order,
) -> Result<(Conclusion, Option<Box<Grant>>), String> {
    let body = body.ok_or("the answer is too long or broke off")?;
    let unreadable = |error: serde_json::Error| {
        let shown: String = error.to_string().chars().take(MESSAGE_LENGTH_MAX).collect();
        format!("the answer is not understood: {shown}")
    };
    // What is read from objects could also be read from arrays, which nobody means.
    if !body.trim_ascii_start().starts_with(b"{") {
        return Err("the answer is no JSON object".to_owned());
    }
    let Body { status, repurchase_id: answered, package, reason } = serde_json::from_slice(body).map_err(unreadable)?;
    if answered.is_some_and(|id| id != repurchase_id.as_str()) {
        return Err("repurchase_id: it is another order's answer".to_owned());
    }
    match (status.as_str(), package) {
        ("pending", None) => Ok((Conclusion::Pending, None)),
        ("succeeded", None) => Ok((Conclusion::Succeeded, None)),
        ("succeeded", Some(Object(package))) => {
            let grant = package.into_grant(key, repurchase_id, order).map_err(|reason| format!("package.{reason}"))?;
            Ok((Conclusion::Succeeded, Some(Box::new(grant))))
        }
        ("failed", None) => Ok((Conclusion::Failed(failure_reason(reason.as_deref())), None)),
        ("pending" | "failed", Some(_)) => Err("only an order that succeeded brings a package".to_owned()),
        _ => Err("status: expected \"pending\", \"succeeded\" or \"failed\"".to_owned()),
    }
}

/// The reason that an answer names. One that is not the hook's to name, or that nobody knows, is a failure of the hook.
fn failure_reason(text: Option<&str>) -> FailureReason {
    match text {
        Some("spec_delisted") => FailureReason::SpecDelisted,
        Some("price_changed") => FailureReason::PriceChanged,
        Some("purchase_restricted") => FailureReason::PurchaseRestricted,
        Some("zero_price") => FailureReason::ZeroPrice,
        Some("timeout") => FailureReason::Timeout,
        _ => FailureReason::HookFailed,
    }
}

#[cfg(test)]
mod tests {
    use super::{Answer, read};
    use crate::courier::{Reply, Unreached};
    use crate::ids::{AccountKey, CustomerId, ProductId, RepurchaseId};
    use crate::ledger::{Conclusion, FailureReason, Grant, Order, OrderState, PackageKind, Purchase};

    fn key() -> AccountKey {
        AccountKey { customer_id: CustomerId::new("alice").unwrap(), product_id: ProductId::new("translate").unwrap() }
    }

    fn answer(status: u16, body: Option<&str>) -> Answer {
        let body = body.map(|body| body.as_bytes().to_vec());
        answer_of(Ok(Reply { status, retry_after: Some("7".to_owned()), body }))
    }

    fn answer_of(replied: Result<Reply, Unreached>) -> Answer {
        let purchase = Purchase {
            spec_id: "spec".to_owned(),
            quantity: "500".parse().unwrap(),
            price: "9.9".parse().unwrap(),
            currency: "CNY".to_owned(),
        };
        let order = Order {
            number: 3,
            state: OrderState::Requested,
            reason: None,
            purchase,
            requested_at_ms: 0,
            times_out_at_ms: 900_000,
            ended_at_ms: None,
            package_number: None,
        };
        read(&replied, &key(), &RepurchaseId::new("rep_1").unwrap(), &order, 0)
    }

    fn package(members: &str) -> Result<Grant, String> {
        match answer(200, Some(&format!("{{\"status\":\"succeeded\",\"package\":{members}}}"))) {
            Answer::Concluded(Conclusion::Succeeded, Some(grant)) => Ok(*grant),
            Answer::None(failure) => Err(failure.error),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_answer_says_what_became_of_the_order() {
        for (body, conclusion) in [
            (r#"{"status":"pending"}"#, Conclusion::Pending),
            (r#"{"status":"pending","note":"soon"}"#, Conclusion::Pending),
            (r#"{"status":"succeeded"}"#, Conclusion::Succeeded),
            (r#"{"status":"succeeded","package":null}"#, Conclusion::Succeeded),
            (r#"{"status":"failed","reason":"spec_delisted"}"#, Conclusion::Failed(FailureReason::SpecDelisted)),
            (r#"{"status":"failed","reason":"price_changed"}"#, Conclusion::Failed(FailureReason::PriceChanged)),
            (r#"{"status":"failed","reason":"purchase_restricted"}"#, Conclusion::Failed(FailureReason::PurchaseRestricted)),
            (r#"{"status":"failed","reason":"zero_price"}"#, Conclusion::Failed(FailureReason::ZeroPrice)),
            (r#"{"status":"failed","reason":"timeout"}"#, Conclusion::Failed(FailureReason::Timeout)),
            (r#"{"status":"failed","reason":"cap_reached"}"#, Conclusion::Failed(FailureReason::HookFailed)),
            (r#"{"status":"failed","reason":"moon phase"}"#, Conclusion::Failed(FailureReason::HookFailed)),
            (r#"{"status":"failed"}"#, Conclusion::Failed(FailureReason::HookFailed)),
        ] {
            assert_eq!(answer(200, Some(body)), Answer::Concluded(conclusion, None), "{body}");
        }
    }

    #[test]
    fn a_package_takes_from_the_order_what_it_does_not_say() {
        let plain = package("{}").unwrap();
        assert_eq!(
            (plain.package_id.as_str(), plain.kind, plain.quantity.to_string()),
            ("rep_1", PackageKind::Prepaid, "500".to_owned())
        );
        assert_eq!((plain.repurchase, plain.priority, plain.expires_at_ms), (Some(3), 0, None));
        let whole = package(
            r#"{"package_id":"p1","customer_id":"alice","product_id":"translate","kind":"prepaid","quantity":"7","starts_at":"1970-01-01T00:00:01Z",
                "expires_at":"1970-01-01T00:00:02Z","priority":-1,"order_id":"o","repurchase_id":"rep_1"}"#,
        )
        .unwrap();
        assert_eq!((whole.package_id.as_str(), whole.quantity.to_string(), whole.priority), ("p1", "7".to_owned(), -1));
        assert_eq!((whole.starts_at_ms, whole.expires_at_ms, whole.order_id.as_deref()), (Some(1_000), Some(2_000), Some("o")));
        assert_eq!(package(r#"{"order_id":"line\n\tof two"}"#).unwrap().order_id.as_deref(), Some("line\n\tof two"));
    }

    #[test]
    fn a_package_that_contradicts_its_order_is_no_answer() {
        for (members, expected) in [
            (r#"{"customer_id":"bob"}"#, "status 200: package.customer_id: "),
            (r#"{"product_id":"chat"}"#, "status 200: package.product_id: "),
            (r#"{"repurchase_id":"rep_2"}"#, "status 200: package.repurchase_id: "),
            (r#"{"order_id":""}"#, "status 200: package.order_id: "),
            (r#"{"order_id":"\u0007"}"#, "status 200: package.order_id: "),
            (r#"{"quantity":7}"#, "status 200: the answer is not understood: "),
            (r#"{"expire_at":"1970-01-01T00:00:02Z"}"#, "status 200: the answer is not understood: unknown field `expire_at`"),
            (r#""p1""#, "status 200: the answer is not understood: "),
            ("[]", "status 200: the answer is not understood: "),
            (r#"["p1"]"#, "status 200: the answer is not understood: "),
        ] {
            let error = package(members).map(|grant| format!("{grant:?}")).expect_err(members);
            assert!(error.starts_with(expected), "{error}");
        }
    }

    #[test]
    fn an_answer_that_names_another_order_is_none() {
        for body in [
            r#"{"status":"succeeded","repurchase_id":"rep_2"}"#,
            r#"{"status":"failed","reason":"spec_delisted","repurchase_id":""}"#,
            r#"{"status":"pending","repurchase_id":7}"#,
        ] {
            assert!(matches!(answer(200, Some(body)), Answer::None(_)), "{body}");
        }
        for body in [r#"{"status":"pending","repurchase_id":"rep_1"}"#, r#"{"status":"pending","repurchase_id":null}"#] {
            assert_eq!(answer(200, Some(body)), Answer::Concluded(Conclusion::Pending, None), "{body}");
        }
    }

    #[test]
    fn what_is_no_clear_answer_is_asked_again_and_a_refusal_is_a_refusal() {
        for status in [100, 301, 307, 408, 429, 500, 503] {
            let Answer::None(failure) = answer(status, Some(r#"{"status":"succeeded"}"#)) else { panic!("{status}") };
            assert_eq!((failure.error, failure.retry_after_ms), (format!("status {status}"), Some(7_000)));
        }
        for status in [400, 401, 404, 409, 410, 422] {
            assert!(matches!(answer(status, Some(r#"{"status":"succeeded"}"#)), Answer::Refused(_)), "{status}");
        }
        for body in [
            None,
            Some(""),
            Some("OK"),
            Some("{}"),
            Some("null"),
            Some(r#"{"status":"done"}"#),
            Some(r#"{"status":"pending","package":{}}"#),
            Some("[\"pending\"]"),
        ] {
            assert!(matches!(answer(200, body), Answer::None(_)), "{body:?}");
        }
        let unreached = answer_of(Err(Unreached::TimedOut));
        assert!(matches!(unreached, Answer::None(ref failure) if failure.error == "no answer in time"), "{unreached:?}");
    }
}
