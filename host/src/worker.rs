//! One instance at work: it runs the calls it is given until it fails, is used up, or was idle for long.
//!
//! The worker takes calls from inside the store's event loop, and its idle time is watched from outside of it.
//! Whatever ends a worker, `failed` is set before any part of a failed instance is dropped.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures::stream::{FuturesUnordered, Stream as _};
use tokio::sync::mpsc;
use tokio::time::Sleep;
use tokio_util::sync::WaitForCancellationFutureOwned;
use wasmtime::component::Accessor;
use wasmtime::{AsContextMut as _, Store};
use wasmtime_wasi_http::WasiHttpView as _;
use wasmtime_wasi_http::handler::{Prepared, Proxy};

use crate::dispatch::{Call, Dispatcher};
use crate::guest::Guest;

/// One instance's place with the dispatcher, and its fate.
pub(crate) struct Worker {
    dispatcher: Dispatcher,
    id: u64,
    /// Tells a reply that its instance failed and left it unfinished.
    failed: Arc<AtomicBool>,
    /// Set where the worker came to an end that it knows of; otherwise it panicked or the runner has no time left.
    has_ended: bool,
    _alive: mpsc::Sender<Infallible>,
}

impl Worker {
    pub(crate) fn new(dispatcher: Dispatcher, id: u64) -> Self {
        let alive = dispatcher.instances().alive();
        Self { dispatcher, id, failed: Arc::default(), has_ended: false, _alive: alive }
    }

    /// Makes the instance and lives as long as it does.
    pub(crate) async fn run(self) {
        let (mut store, proxy) = match self.dispatcher.instances().instantiate().await {
            Ok(instance) => instance,
            Err(error) => {
                crate::log(&format_args!("cannot start an instance: {error:?}"));
                return;
            }
        };
        // Declared after the store: a panic drops it first, which marks the instance as failed.
        let mut worker = self;
        if let Err(error) = worker.serve(&mut store, &proxy).await {
            worker.failed.store(true, Ordering::Release);
            crate::log(&format_args!("an instance failed: {error:?}"));
        }
        worker.has_ended = true;
        // Its memory must be free before the dispatcher counts it as gone.
        drop(store);
    }

    async fn serve(&self, store: &mut Store<Guest>, proxy: &Proxy) -> wasmtime::Result<()> {
        let idle_since = Mutex::new(None);
        let instances = self.dispatcher.instances();
        let mut expiration = Expiration::new(instances.reuse().idle_timeout, instances.shutdown());
        let mut work = pin!(store.run_concurrent(async |accessor| self.work(accessor, proxy, &idle_since).await));
        poll_fn(|context| {
            if let Poll::Ready(ended) = work.as_mut().poll(context) {
                return Poll::Ready(ended.flatten());
            }
            let since = *idle_since.lock().unwrap_or_else(PoisonError::into_inner);
            since.map_or(Poll::Pending, |since| expiration.poll(context, since).map(Ok))
        })
        .await
    }

    /// Runs calls until the instance is used up.
    async fn work(&self, accessor: &Accessor<Guest>, proxy: &Proxy, idle_since: &Mutex<Option<Instant>>) -> wasmtime::Result<()> {
        let Proxy::P3(service) = proxy;
        let handle = *service.wasi_http_handler().func_handle().func();
        let mut running = pin!(FuturesUnordered::new());
        poll_fn(|context| {
            loop {
                // First, so that room is given back and a failure is seen before more calls are begun.
                while let Poll::Ready(Some(ended)) = running.as_mut().poll_next(context) {
                    if let Err(error) = ended {
                        return Poll::Ready(Err(error));
                    }
                    self.dispatcher.release(self.id);
                }
                let is_ready = accessor.poll_ready_for_concurrent_call(handle, context).is_ready();
                let mut is_last = !is_ready;
                if is_ready {
                    let taken = self.dispatcher.take(self.id, context.waker());
                    is_last = taken.is_last;
                    if !taken.calls.is_empty() {
                        running.extend(taken.calls.into_iter().map(|call| self.begin(accessor, proxy, call)));
                        set_idle(idle_since, false);
                        continue;
                    }
                }
                if !running.is_empty() || accessor.poll_no_interesting_tasks(context).is_pending() {
                    return Poll::Pending;
                }
                if is_last {
                    return Poll::Ready(Ok(()));
                }
                set_idle(idle_since, true);
                return Poll::Pending;
            }
        })
        .await
    }

    /// Starts the guest's task at once, so that all that begin together are there when the guest runs.
    fn begin<'a>(
        &self,
        accessor: &'a Accessor<Guest>,
        proxy: &'a Proxy,
        call: Call,
    ) -> impl Future<Output = wasmtime::Result<()>> + Send + use<'a> {
        let prepared = (!call.reply.is_canceled()).then(|| {
            _ = call.placement.set(Arc::clone(&self.failed));
            accessor.with(|mut store| Prepared::new(store.as_context_mut(), proxy, call.request, Guest::http, call.reply))
        });
        async move {
            match prepared {
                Some(prepared) => prepared?.run(accessor, std::future::pending()).await.map(|_| ()),
                // Its caller left while it waited.
                None => Ok(()),
            }
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if self.has_ended {
            self.dispatcher.leave(self.id);
        } else {
            self.failed.store(true, Ordering::Release);
            self.dispatcher.discard(self.id);
        }
    }
}

fn set_idle(idle_since: &Mutex<Option<Instant>>, is_idle: bool) {
    let mut since = idle_since.lock().unwrap_or_else(PoisonError::into_inner);
    if is_idle {
        since.get_or_insert_with(Instant::now);
    } else {
        *since = None;
    }
}

/// When an idle instance is let go: after a time, or at once while the runner shuts down.
struct Expiration {
    idle_timeout: Duration,
    idle: Pin<Box<Sleep>>,
    shutdown: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl Expiration {
    fn new(idle_timeout: Duration, shutdown: WaitForCancellationFutureOwned) -> Self {
        Self { idle_timeout, idle: Box::pin(tokio::time::sleep(idle_timeout)), shutdown: Box::pin(shutdown) }
    }

    fn poll(&mut self, context: &mut Context<'_>, idle_since: Instant) -> Poll<()> {
        if self.shutdown.as_mut().poll(context).is_ready() {
            return Poll::Ready(());
        }
        let Some(deadline) = idle_since.checked_add(self.idle_timeout) else {
            return Poll::Pending;
        };
        if self.idle.deadline() != deadline.into() {
            self.idle.as_mut().reset(deadline.into());
        }
        self.idle.as_mut().poll(context)
    }
}
