//! Instances of the component: making them, giving them requests, and letting them go.
//!
//! An instance serves several requests at once and many in its life, as on Spin. One that traps fails the
//! requests in it and no others. While a task of the guest runs, its instance lives, also through a shutdown.

use std::convert::Infallible;
use std::path::Path;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Instant;

use tokio::sync::mpsc;
use tokio::time::Sleep;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use wasmtime::component::{Component, GuestTaskId, Linker};
use wasmtime::{Cache, CacheConfig, Config, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, Store, StoreContextMut};
use wasmtime_wasi_http::WasiHttpView as _;
use wasmtime_wasi_http::handler::{HandlerState, Instance, ProxyPre, ShouldAccept, WorkerExpiration, WorkerState, WorkerStatus};
use wasmtime_wasi_http::p3::bindings::ServicePre;

use crate::args::Reuse;
use crate::guest::{Grants, Guest, link};

/// Instances that may live at once; a request that would need one more fails.
const INSTANCES_MAX: u32 = 1000;
/// The most memory one instance may use.
const INSTANCE_MEMORY_BYTES_MAX: usize = 256 * 1024 * 1024;
/// Memory a slot keeps for its next instance instead of giving it back to the system.
const INSTANCE_MEMORY_KEPT_BYTES: usize = 1024 * 1024;

/// Makes instances of one component.
pub(crate) struct Instances {
    pre: ProxyPre<Guest>,
    grants: Grants,
    reuse: Reuse,
    shutdown: CancellationToken,
    /// Held by everything that a shutdown waits for.
    alive: mpsc::Sender<Infallible>,
}

impl Instances {
    /// Compiles the component at `source`, or takes it from the user's cache of compiled components.
    pub(crate) fn new(
        source: &Path,
        grants: Grants,
        reuse: Reuse,
        shutdown: CancellationToken,
        alive: mpsc::Sender<Infallible>,
    ) -> wasmtime::Result<Self> {
        let engine = engine()?;
        let component = Component::from_file(&engine, source)?;
        let mut linker = Linker::new(&engine);
        link(&mut linker)?;
        let pre = ProxyPre::P3(ServicePre::new(linker.instantiate_pre(&component)?)?);
        Ok(Self { pre, grants, reuse, shutdown, alive })
    }
}

fn engine() -> wasmtime::Result<Engine> {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(INSTANCES_MAX)
        .total_core_instances(INSTANCES_MAX.saturating_mul(8))
        .total_memories(INSTANCES_MAX)
        .total_tables(INSTANCES_MAX.saturating_mul(4))
        .total_stacks(INSTANCES_MAX)
        .max_memory_size(INSTANCE_MEMORY_BYTES_MAX)
        .linear_memory_keep_resident(INSTANCE_MEMORY_KEPT_BYTES)
        .table_keep_resident(INSTANCE_MEMORY_KEPT_BYTES);
    let mut config = Config::new();
    // A component is built without names, so a backtrace of it says nothing.
    config.wasm_backtrace_max_frames(None);
    // Without a cache the component is compiled anew, which is all that a missing home directory costs.
    config.wasm_component_model_async(true).cache(Cache::new(CacheConfig::new()).ok());
    let pooled = Engine::new(config.clone().allocation_strategy(InstanceAllocationStrategy::Pooling(pool)));
    // Where address space is limited the pool cannot be reserved; instances are then allocated one by one.
    pooled.or_else(|_| Engine::new(&config))
}

impl HandlerState for Instances {
    type StoreData = Guest;
    type WorkerExpiration = Expiration;
    type WorkerState = Worker;

    async fn instantiate(&self) -> wasmtime::Result<Instance<Guest, Expiration, Worker>> {
        let guest = Guest::new(&self.grants)?;
        let ProxyPre::P3(pre) = &self.pre;
        let mut store = Store::new(pre.engine(), guest);
        let proxy = self.pre.instantiate_async(&mut store).await?;
        Ok(Instance {
            store,
            proxy,
            view: Guest::http,
            expiration: Expiration {
                idle_timeout: self.reuse.idle_timeout,
                idle: Box::pin(tokio::time::sleep(self.reuse.idle_timeout)),
                shutdown: Box::pin(self.shutdown.clone().cancelled_owned()),
            },
            state: Worker { reuse: self.reuse, failed: Arc::default(), _alive: self.alive.clone() },
        })
    }
}

/// When an instance is let go: idle for too long, or idle while the runner shuts down.
pub(crate) struct Expiration {
    idle_timeout: std::time::Duration,
    idle: Pin<Box<Sleep>>,
    shutdown: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl WorkerExpiration for Expiration {
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>, status: WorkerStatus, start: Instant) -> Poll<()> {
        match status {
            WorkerStatus::Requests | WorkerStatus::PostReturn => return Poll::Pending,
            WorkerStatus::Idle => {}
        }
        if self.shutdown.as_mut().poll(context).is_ready() {
            return Poll::Ready(());
        }
        let Some(deadline) = start.checked_add(self.idle_timeout) else {
            return Poll::Pending;
        };
        if self.idle.deadline() != deadline.into() {
            self.idle.as_mut().reset(deadline.into());
        }
        self.idle.as_mut().poll(context)
    }
}

/// What ties a request to the instance it was given to: set when the instance accepts it.
pub(crate) type Placement = Arc<OnceLock<Arc<AtomicBool>>>;

/// One instance's rules and fate.
pub(crate) struct Worker {
    reuse: Reuse,
    /// Set before anything of a failed instance is dropped, so that a reply it leaves unfinished is seen to be cut.
    failed: Arc<AtomicBool>,
    _alive: mpsc::Sender<Infallible>,
}

impl WorkerState for Worker {
    type StoreData = Guest;
    type RequestData = Placement;

    fn should_accept_request(&self, concurrent: usize, total: usize) -> ShouldAccept {
        if total >= self.reuse.total {
            ShouldAccept::Never
        } else if concurrent >= self.reuse.concurrent {
            ShouldAccept::No
        } else {
            ShouldAccept::Yes
        }
    }

    fn on_request_start(
        &self,
        _: StoreContextMut<'_, Guest>,
        placement: Placement,
        _: GuestTaskId,
    ) -> Pin<Box<dyn Future<Output = ()> + Send + Sync>> {
        _ = placement.set(Arc::clone(&self.failed));
        Box::pin(std::future::pending())
    }

    fn drop(&self, store: Store<Guest>, result: wasmtime::Result<()>) {
        if let Err(error) = result {
            self.failed.store(true, Ordering::Release);
            crate::log(&format_args!("an instance failed: {error:?}"));
        }
        drop(store);
    }
}
