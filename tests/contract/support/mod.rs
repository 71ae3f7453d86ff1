//! What the cases share: the gateway under test, the recording backend and receiver, callers and waiting.

pub(crate) mod backend;
pub(crate) mod buyer;
pub(crate) mod call;
pub(crate) mod gateway;
pub(crate) mod jwt;
pub(crate) mod load;
pub(crate) mod metered;
pub(crate) mod receiver;
pub(crate) mod script;
pub(crate) mod stage;
pub(crate) mod watched;
pub(crate) mod wire;

use backend::Backend;
use buyer::Buyer;
use gateway::{Gateway, Home};
use receiver::Receiver;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::OnceCell;
use watched::Watched;

/// How long a condition may take to come true.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// A name that no other case has.
pub(crate) fn fresh(kind: &str) -> String {
    format!("{kind}-{}", uuid::Uuid::now_v7().simple())
}

/// Waits for a condition, at most [`DEADLINE`].
pub(crate) async fn eventually<F: Future<Output = bool>>(what: &str, condition: impl FnMut() -> F) {
    eventually_within(DEADLINE, what, condition).await;
}

/// Waits for a condition.
pub(crate) async fn eventually_within<F: Future<Output = bool>>(limit: Duration, what: &str, mut condition: impl FnMut() -> F) {
    let deadline = Instant::now() + limit;
    while !condition().await {
        assert!(Instant::now() < deadline, "not within {limit:?}: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Seconds since 1970, moved by an offset.
pub(crate) fn unix_seconds(offset: i64) -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(now.as_secs()).unwrap() + offset
}

/// RFC 3339 of a moment that many seconds from now.
pub(crate) fn in_seconds(offset: i64) -> String {
    let seconds = unix_seconds(offset);
    let (days, second_of_day) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (mut year, mut day_of_year) = (1970, days);
    loop {
        let length = if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) { 366 } else { 365 };
        if day_of_year < length {
            break;
        }
        day_of_year -= length;
        year += 1;
    }
    let february = if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) { 29 } else { 28 };
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if day_of_year < length {
            break;
        }
        day_of_year -= length;
        month += 1;
    }
    let (hour, minute, second) = (second_of_day / 3600, second_of_day / 60 % 60, second_of_day % 60);
    format!("{year:04}-{month:02}-{:02}T{hour:02}:{minute:02}:{second:02}Z", day_of_year + 1)
}

/// How the gateway under test is reached.
pub(crate) enum Target {
    /// It runs already.
    Running(Gateway),
    /// The suite starts the bundled runner.
    Bundled,
}

/// The state all cases share.
pub(crate) struct Suite {
    pub(crate) backend: Backend,
    pub(crate) receiver: Receiver,
    target: Target,
    /// The gateway that cases share, or why it did not start.
    started: OnceCell<Result<(Gateway, Home), String>>,
}

impl Suite {
    pub(crate) async fn new(target: Target) -> Arc<Self> {
        let listen = |name: &str| std::env::var(name).unwrap_or_else(|_| "127.0.0.1:0".to_owned());
        let backend = Backend::listen(&listen("TOLLGATE_BACKEND_LISTEN")).await;
        let receiver = Receiver::listen(&listen("TOLLGATE_RECEIVER_LISTEN")).await;
        Arc::new(Self { backend, receiver, target, started: OnceCell::new() })
    }

    /// The gateway that cases share, started with the first of them.
    pub(crate) async fn gateway(&self) -> Gateway {
        match &self.target {
            Target::Running(gateway) => gateway.clone(),
            Target::Bundled => match self.started.get_or_init(|| self.start_shared()).await {
                Ok((gateway, _)) => gateway.clone(),
                Err(error) => panic!("the shared gateway did not start: {error}"),
            },
        }
    }

    async fn start_shared(&self) -> Result<(Gateway, Home), String> {
        let home = Home::new(gateway::CONFIG, &self.backend, &self.receiver);
        Ok((home.try_start().await?, home))
    }

    /// A gateway of the case's own, with a config of its own.
    pub(crate) async fn start(&self, config: &str) -> (Gateway, Home) {
        let home = Home::new(config, &self.backend, &self.receiver);
        (home.start().await, home)
    }

    /// A new customer of a product on the shared gateway, with nothing granted.
    pub(crate) async fn stranger(&self, product_id: &str) -> Buyer {
        Buyer::new(&self.gateway().await, &self.backend, product_id)
    }

    /// A new customer of a product on the shared gateway, with one package.
    pub(crate) async fn buyer(&self, product_id: &str, quantity: &str) -> Buyer {
        let buyer = self.stranger(product_id).await;
        buyer.grant(quantity).await;
        buyer
    }

    /// A new customer on a gateway, with what the merchant is told about it.
    pub(crate) fn watched_on(&self, gateway: &Gateway, product_id: &str) -> Watched {
        Watched { buyer: Buyer::new(gateway, &self.backend, product_id), receiver: self.receiver.clone() }
    }

    /// A new customer on the shared gateway, with what the merchant is told about it and nothing granted.
    pub(crate) async fn watched(&self, product_id: &str) -> Watched {
        self.watched_on(&self.gateway().await, product_id)
    }

    /// Ends what the suite started.
    pub(crate) fn stop(&self) {
        if let Some(Ok((gateway, _))) = self.started.get() {
            gateway.kill();
        }
    }
}
