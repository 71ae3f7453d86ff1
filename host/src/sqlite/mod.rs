//! `spin:sqlite`: the guest's connections to the databases its manifest lists.
//!
//! Synchronous statements run on the calling thread: the guest waits for them anyway, and a hop to
//! another thread costs more than most statements. Asynchronous ones run on a blocking thread, so that a
//! statement waiting for a lock never holds up the instance's task that would release it.

mod connection;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use wasmtime::component::{Accessor, FutureReader, HasData, Resource, ResourceTable, StreamReader};

use crate::bindings::sqlite::{Error, Host, HostConnection, HostConnectionWithStore, QueryResult, RowResult, Value};
use connection::LazyConnection;

/// Connections one instance may have open.
const CONNECTIONS_MAX: usize = 256;

/// What an instance knows about its databases.
#[derive(Debug)]
pub(crate) struct Databases {
    /// The file of the database `default`; `None` where the manifest does not list it.
    default: Option<Arc<Path>>,
    open_count: usize,
}

impl Databases {
    pub(crate) fn new(default: Option<Arc<Path>>) -> Self {
        Self { default, open_count: 0 }
    }

    fn open(&mut self, name: &str) -> Result<GuestConnection, Error> {
        let path = self.default.as_ref().filter(|_| name == "default").ok_or(Error::AccessDenied)?;
        if self.open_count >= CONNECTIONS_MAX {
            return Err(Error::Io("too many connections opened".to_owned()));
        }
        self.open_count = self.open_count.saturating_add(1);
        Ok(GuestConnection(Arc::new(Mutex::new(LazyConnection::new(Arc::clone(path))))))
    }
}

/// The guest's handle of a connection.
#[derive(Debug, Clone)]
#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
pub struct GuestConnection(Arc<Mutex<LazyConnection>>);

impl GuestConnection {
    /// A statement that panicked leaves SQLite's own state whole, so a poisoned lock is taken all the same.
    fn lock(&self) -> MutexGuard<'_, LazyConnection> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `work` on a thread that may block.
    async fn unblocked<R: Send + 'static>(
        self,
        work: impl FnOnce(&mut LazyConnection) -> R + Send + 'static,
    ) -> wasmtime::Result<R> {
        tokio::task::spawn_blocking(move || work(&mut self.lock())).await.map_err(wasmtime::Error::new)
    }
}

/// The instance's parts that these functions need.
pub(crate) struct SqliteView<'a> {
    pub(crate) table: &'a mut ResourceTable,
    pub(crate) databases: &'a mut Databases,
}

impl SqliteView<'_> {
    fn open_connection(&mut self, database: &str) -> wasmtime::Result<Result<Resource<GuestConnection>, Error>> {
        Ok(match self.databases.open(database) {
            Ok(connection) => Ok(self.table.push(connection)?),
            Err(error) => Err(error),
        })
    }
}

/// Links [`SqliteView`] to the generated functions.
pub(crate) struct Sqlite;

impl HasData for Sqlite {
    type Data<'a> = SqliteView<'a>;
}

impl Host for SqliteView<'_> {}

impl HostConnection for SqliteView<'_> {
    fn open(&mut self, database: String) -> wasmtime::Result<Result<Resource<GuestConnection>, Error>> {
        self.open_connection(&database)
    }

    fn execute(
        &mut self,
        connection: Resource<GuestConnection>,
        statement: String,
        parameters: Vec<Value>,
    ) -> wasmtime::Result<Result<QueryResult, Error>> {
        let connection = self.table.get(&connection)?;
        Ok(connection.lock().execute(&statement, &parameters).map_err(Error::Io))
    }

    fn last_insert_rowid(&mut self, connection: Resource<GuestConnection>) -> wasmtime::Result<i64> {
        Ok(self.table.get(&connection)?.lock().last_insert_rowid())
    }

    fn changes(&mut self, connection: Resource<GuestConnection>) -> wasmtime::Result<u64> {
        Ok(self.table.get(&connection)?.lock().changes())
    }

    fn drop(&mut self, connection: Resource<GuestConnection>) -> wasmtime::Result<()> {
        self.table.delete(connection)?;
        self.databases.open_count = self.databases.open_count.saturating_sub(1);
        Ok(())
    }
}

fn connection<T>(accessor: &Accessor<T, Sqlite>, connection: &Resource<GuestConnection>) -> wasmtime::Result<GuestConnection> {
    accessor.with(|mut store| Ok(store.get().table.get(connection)?.clone()))
}

type Streamed = (Vec<String>, StreamReader<RowResult>, FutureReader<Result<(), Error>>);

impl<T: 'static> HostConnectionWithStore<T> for Sqlite {
    async fn open_async(
        accessor: &Accessor<T, Self>,
        database: String,
    ) -> wasmtime::Result<Result<Resource<GuestConnection>, Error>> {
        accessor.with(|mut store| store.get().open_connection(&database))
    }

    async fn execute_async(
        accessor: &Accessor<T, Self>,
        resource: Resource<GuestConnection>,
        statement: String,
        parameters: Vec<Value>,
    ) -> wasmtime::Result<Result<Streamed, Error>> {
        let connection = connection(accessor, &resource)?;
        let ran = connection.unblocked(move |connection| connection.execute(&statement, &parameters)).await?;
        // As on Spin, a failed statement answers Ok here and its error comes from the future.
        let (columns, rows, end) = match ran {
            Ok(QueryResult { columns, rows }) => (columns, rows, Ok(())),
            Err(message) => (Vec::new(), Vec::new(), Err(Error::Io(message))),
        };
        accessor.with(|mut store| {
            let rows = StreamReader::new(&mut store, rows)?;
            let end = FutureReader::new(&mut store, async move { wasmtime::error::Ok(end) })?;
            Ok(Ok((columns, rows, end)))
        })
    }

    async fn last_insert_rowid_async(accessor: &Accessor<T, Self>, resource: Resource<GuestConnection>) -> wasmtime::Result<i64> {
        connection(accessor, &resource)?.unblocked(|connection| connection.last_insert_rowid()).await
    }

    async fn changes_async(accessor: &Accessor<T, Self>, resource: Resource<GuestConnection>) -> wasmtime::Result<u64> {
        connection(accessor, &resource)?.unblocked(|connection| connection.changes()).await
    }
}
