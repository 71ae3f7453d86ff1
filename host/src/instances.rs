//! Instances of the component: how they are made and what they may use.
//!
//! An instance serves several requests at once and many in its life, as on Spin. One that traps fails the
//! requests in it and no others. While a task of the guest runs, its instance lives, for a while also through a shutdown.

use std::convert::Infallible;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};

use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use wasmtime::component::{Component, Linker};
use wasmtime::{Cache, CacheConfig, Config, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, Store};
use wasmtime_wasi_http::handler::{Proxy, ProxyPre};
use wasmtime_wasi_http::p3::bindings::ServicePre;

use crate::args::Reuse;
use crate::guest::{Grants, Guest, link};

/// Instances that may live at once; a request that would need one more waits.
pub(crate) const INSTANCES_MAX: u32 = 1000;
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
    /// Held by every instance, so that a shutdown can wait for them.
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

    /// Makes one more instance.
    pub(crate) async fn instantiate(&self) -> wasmtime::Result<(Store<Guest>, Proxy)> {
        let ProxyPre::P3(pre) = &self.pre;
        let mut store = Store::new(pre.engine(), Guest::new(&self.grants)?);
        let proxy = self.pre.instantiate_async(&mut store).await?;
        Ok((store, proxy))
    }

    pub(crate) fn reuse(&self) -> Reuse {
        self.reuse
    }

    /// Ends when the runner is told to stop.
    pub(crate) fn shutdown(&self) -> WaitForCancellationFutureOwned {
        self.shutdown.clone().cancelled_owned()
    }

    /// What an instance holds while it lives, so that a shutdown waits for it.
    pub(crate) fn alive(&self) -> mpsc::Sender<Infallible> {
        self.alive.clone()
    }
}

/// What ties a request to the instance it was given to: set when the instance begins it, and true once that failed.
pub(crate) type Placement = Arc<OnceLock<Arc<AtomicBool>>>;

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
