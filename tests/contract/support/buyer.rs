//! A customer of one product, made for one case, so that cases can share a gateway.

use super::backend::{Backend, Received};
use super::call::{Call, Reply};
use super::gateway::Gateway;
use serde_json::{Value, json};

/// Units of a quantity: an exact count of ten-thousandths.
pub(crate) fn units(quantity: &Value) -> i64 {
    let text = quantity.as_str().unwrap_or_else(|| panic!("a quantity is a string, not {quantity}"));
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    assert!(fraction.len() <= 4 && !text.contains(['e', 'E', '+']), "{text}");
    let padded = format!("{whole}{fraction:0<4}");
    padded.parse().unwrap_or_else(|_| panic!("{text} is no quantity"))
}

/// The quantity a case writes as a number.
pub(crate) fn quantity(text: &str) -> i64 {
    units(&json!(text))
}

#[derive(Clone)]
pub(crate) struct Buyer {
    pub(crate) id: String,
    pub(crate) product_id: String,
    pub(crate) gateway: Gateway,
    pub(crate) backend: Backend,
}

impl Buyer {
    /// A customer with nothing granted.
    pub(crate) fn new(gateway: &Gateway, backend: &Backend, product_id: &str) -> Self {
        let (gateway, backend) = (gateway.clone(), backend.clone());
        Self { id: super::fresh("customer"), product_id: product_id.to_owned(), gateway, backend }
    }

    /// The body that grants a package.
    pub(crate) fn package(&self, quantity: &str) -> Value {
        json!({ "customer_id": self.id, "product_id": self.product_id, "quantity": quantity })
    }

    /// Grants a package of a quantity; returns its id.
    pub(crate) async fn grant(&self, quantity: &str) -> String {
        self.grant_with(self.package(quantity)).await
    }

    /// Grants a package with more members than a quantity.
    pub(crate) async fn grant_with(&self, package: Value) -> String {
        let id = super::fresh("package");
        let reply = self.gateway.write("PUT", &format!("/packages/{id}"), &package).await;
        assert_eq!(reply.status, 201, "{}", reply.text());
        id
    }

    /// Grants a package with some members more.
    pub(crate) async fn grant_and(&self, quantity: &str, more: Value) -> String {
        let mut package = self.package(quantity);
        for (name, value) in more.as_object().unwrap() {
            package[name] = value.clone();
        }
        self.grant_with(package).await
    }

    pub(crate) async fn package_state(&self, package_id: &str) -> Value {
        self.gateway.read(&format!("/packages/{package_id}")).await
    }

    /// The customer's packages of any state.
    pub(crate) async fn packages(&self) -> Vec<Value> {
        self.pages(&format!("/packages?customer_id={}&limit=100", self.id), "packages").await
    }

    /// Freezes, unfreezes or releases a package.
    pub(crate) async fn change(&self, package_id: &str, action: &str) -> Value {
        let reply = self.gateway.write("POST", &format!("/packages/{package_id}/{action}"), &json!({})).await;
        assert_eq!(reply.status, 200, "{action}: {}", reply.text());
        reply.json()
    }

    /// A GET to the product with a request id of its own.
    pub(crate) fn call(&self) -> Call {
        let call = self.gateway.call("GET", &format!("/{}/call", self.product_id));
        call.customer(&self.id).id(&super::fresh("request"))
    }

    /// A POST to the product.
    pub(crate) fn post(&self, body: impl AsRef<[u8]>) -> Call {
        self.call().method("POST").body(body)
    }

    /// Sends calls until that many succeeded; they must.
    pub(crate) async fn spend(&self, calls: usize) {
        for _ in 0..calls {
            self.call().send().await.assert_ok();
        }
    }

    /// What the control API says of the customer's product.
    pub(crate) async fn balance(&self) -> Value {
        let balance = self.gateway.read(&format!("/customers/{}/balance", self.id)).await;
        let products = balance["products"].as_array().unwrap();
        let product = products.iter().find(|product| product["product_id"] == self.product_id.as_str());
        product.unwrap_or_else(|| panic!("{} is not in {balance}", self.product_id)).clone()
    }

    pub(crate) async fn available(&self) -> i64 {
        units(&self.balance().await["available"])
    }

    /// Waits until what was charged is this, and nothing is held.
    pub(crate) async fn expect_used(&self, expected: &str) {
        super::eventually(&format!("{expected} is used and nothing is held"), || async {
            let balance = self.balance().await;
            assert!(units(&balance["used"]) <= quantity(expected), "too much was charged: {balance}");
            units(&balance["used"]) == quantity(expected) && units(&balance["held"]) == 0
        })
        .await;
    }

    /// Checks at once that nothing is charged or held.
    pub(crate) async fn expect_untouched(&self) {
        let balance = self.balance().await;
        assert_eq!((units(&balance["used"]), units(&balance["held"])), (0, 0), "{balance}");
        assert_eq!(balance["available"], balance["remaining"]);
    }

    /// Checks that no request of the customer reached the backend.
    pub(crate) fn expect_nothing_forwarded(&self) {
        assert_eq!(self.received().len(), 0, "{:?}", self.received());
    }

    /// Checks a refusal that must leave no trace.
    pub(crate) async fn expect_refused(&self, reply: &Reply, status: u16, code: &str) {
        reply.problem(status, code);
        self.expect_untouched().await;
        self.expect_nothing_forwarded();
    }

    pub(crate) fn received(&self) -> Vec<Received> {
        self.backend.of(&self.id)
    }

    /// The only request of the customer that reached the backend.
    pub(crate) fn only_received(&self) -> Received {
        let mut received = self.received();
        assert_eq!(received.len(), 1, "{received:?}");
        received.remove(0)
    }

    /// Waits until that many requests have reached the backend.
    pub(crate) async fn expect_forwarded(&self, count: usize) {
        super::eventually(&format!("{count} requests are at the backend"), || async {
            assert!(self.received().len() <= count, "too many were forwarded");
            self.received().len() == count
        })
        .await;
    }

    /// A call as the control API shows it now.
    pub(crate) async fn call_record(&self, request_id: &str) -> Value {
        self.gateway.read(&format!("/customers/{}/calls/{request_id}?product_id={}", self.id, self.product_id)).await
    }

    /// A call once it is in this state.
    pub(crate) async fn call_in_state(&self, request_id: &str, state: &str) -> Value {
        super::eventually(&format!("{request_id} is {state}"), || async { self.call_record(request_id).await["state"] == state })
            .await;
        self.call_record(request_id).await
    }

    /// All calls of the customer, page by page.
    pub(crate) async fn calls(&self) -> Vec<Value> {
        self.pages(&format!("/customers/{}/calls?product_id={}&limit=200", self.id, self.product_id), "calls").await
    }

    /// A whole list, page by page.
    pub(crate) async fn pages(&self, path: &str, member: &str) -> Vec<Value> {
        let (mut all, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = self.gateway.read(&format!("{path}{cursor}")).await;
            all.extend(page[member].as_array().unwrap_or_else(|| panic!("no {member} in {page}")).iter().cloned());
            assert!(all.len() < 10_000, "the list does not end");
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return all,
            }
        }
    }

    pub(crate) async fn refund(&self, request_id: &str, body: &Value) -> Reply {
        let path = format!("/customers/{}/calls/{request_id}/refunds?product_id={}", self.id, self.product_id);
        self.gateway.write("POST", &path, body).await
    }
}
