//! Which exchanges with backends are under way, so that a shutdown can wait for them: a call whose caller has left may still be reading its reply, to learn
//! what it costs.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc;

/// Held from a request's first byte to the end of its reply. `None` where nobody waits any more.
pub(crate) type Exchange = Option<mpsc::Sender<Infallible>>;

/// Begins exchanges; clones are handles of the same thing.
#[derive(Debug, Clone)]
pub(crate) struct Exchanges(Arc<Mutex<Exchange>>);

impl Exchanges {
    pub(crate) fn new(alive: mpsc::Sender<Infallible>) -> Self {
        Self(Arc::new(Mutex::new(Some(alive))))
    }

    pub(crate) fn begin(&self) -> Exchange {
        self.lock().clone()
    }

    /// What begins from now on is not waited for: instances may go on for ever with what no caller asked for.
    pub(crate) fn close(&self) {
        *self.lock() = None;
    }

    /// A poisoned lock guards what is whole all the same.
    fn lock(&self) -> std::sync::MutexGuard<'_, Exchange> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
