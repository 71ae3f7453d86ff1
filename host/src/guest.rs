//! What one instance of the component owns on the host's side, and the functions it can call.

use std::path::Path;
use std::sync::Arc;

use wasmtime::component::{HasData, Linker, ResourceTable};
use wasmtime_wasi::{FsPerms, WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use crate::bindings::{sqlite, variables};
use crate::outbound::Outbound;
use crate::sqlite::{Databases, Sqlite, SqliteView};
use crate::variables::Variables;

/// What every instance of the component is given.
#[derive(Debug)]
pub(crate) struct Grants {
    /// Mounted read-only as the guest's `/`; `None` where the manifest lists no files.
    pub(crate) files: Option<std::path::PathBuf>,
    pub(crate) database: Option<Arc<Path>>,
    pub(crate) variables: Arc<Variables>,
    pub(crate) outbound: Outbound,
}

/// The data of an instance's store.
pub(crate) struct Guest {
    table: ResourceTable,
    wasi: WasiCtx,
    http: WasiHttpCtx,
    outbound: Outbound,
    databases: Databases,
    variables: Arc<Variables>,
}

impl Guest {
    pub(crate) fn new(grants: &Grants) -> wasmtime::Result<Self> {
        let mut wasi = WasiCtxBuilder::new();
        wasi.stdout(std::io::stderr()).stderr(std::io::stderr()).allow_blocking_current_thread(true);
        if let Some(files) = &grants.files {
            wasi.preopened_dir(files, "/", FsPerms::ReadOnly)?;
        }
        Ok(Self {
            table: ResourceTable::new(),
            wasi: wasi.build(),
            http: WasiHttpCtx::new(),
            outbound: grants.outbound.clone(),
            databases: Databases::new(grants.database.clone()),
            variables: Arc::clone(&grants.variables),
        })
    }

    fn sqlite(&mut self) -> SqliteView<'_> {
        SqliteView { table: &mut self.table, databases: &mut self.databases }
    }
}

/// Offers a guest everything it may import.
pub(crate) fn link(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    wasmtime_wasi::p2::add_to_linker_async(linker)?;
    wasmtime_wasi::p3::add_to_linker(linker)?;
    wasmtime_wasi_http::p3::add_to_linker(linker)?;
    sqlite::add_to_linker::<_, Sqlite>(linker, Guest::sqlite)?;
    variables::add_to_linker::<_, GuestVariables>(linker, |guest| VariablesView(&guest.variables))
}

impl WasiView for Guest {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl WasiHttpView for Guest {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { ctx: &mut self.http, table: &mut self.table, hooks: &mut self.outbound }
    }
}

struct VariablesView<'a>(&'a Variables);

struct GuestVariables;

impl HasData for GuestVariables {
    type Data<'a> = VariablesView<'a>;
}

impl variables::Host for VariablesView<'_> {}

impl<T: 'static> variables::HostWithStore<T> for GuestVariables {
    async fn get(
        accessor: &wasmtime::component::Accessor<T, Self>,
        name: String,
    ) -> wasmtime::Result<Result<String, variables::Error>> {
        let well_formed = name.starts_with(|c: char| c.is_ascii_lowercase())
            && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
        if !well_formed {
            return Ok(Err(variables::Error::InvalidName(name)));
        }
        let value = accessor.with(|mut store| store.get().0.get(&name).map(str::to_owned));
        Ok(value.ok_or(variables::Error::Undefined(name)))
    }
}
