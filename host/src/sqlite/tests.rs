//! What a guest may rely on, checked on real files.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::connection::LazyConnection;
use super::{CONNECTIONS_MAX, Databases, Error};
use crate::bindings::sqlite::Value;

struct Directory(tempfile::TempDir);

impl Directory {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn connection(&self) -> LazyConnection {
        LazyConnection::new(self.0.path().join("sqlite_db.db").into())
    }
}

fn run(connection: &mut LazyConnection, statement: &str) -> Result<Vec<Vec<Value>>, String> {
    connection.execute(statement, &[]).map(|result| result.rows.into_iter().map(|row| row.values).collect())
}

fn refusal(connection: &mut LazyConnection, statement: &str) -> String {
    run(connection, statement).map(|_| ()).unwrap_err()
}

fn single_integer(connection: &mut LazyConnection, statement: &str) -> i64 {
    match run(connection, statement).unwrap().as_slice() {
        [row] => match row.as_slice() {
            [Value::Integer(integer)] => *integer,
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_connection_opens_its_file_at_the_first_statement() {
    let directory = Directory::new();
    let mut connection = directory.connection();
    assert!(!directory.0.path().join("sqlite_db.db").exists());
    run(&mut connection, "CREATE TABLE t (a)").unwrap();
    assert!(directory.0.path().join("sqlite_db.db").exists());
}

#[test]
fn settings_are_those_of_spin() {
    let directory = Directory::new();
    let mut connection = directory.connection();
    assert_eq!(single_integer(&mut connection, "PRAGMA foreign_keys"), 1);
    assert_eq!(single_integer(&mut connection, "PRAGMA synchronous"), 2);
    let mode = run(&mut connection, "PRAGMA journal_mode").unwrap();
    assert!(matches!(mode[0].as_slice(), [Value::Text(mode)] if mode == "delete"), "{mode:?}");
}

#[test]
fn values_of_every_type_come_back_as_they_went() {
    let directory = Directory::new();
    let mut connection = directory.connection();
    let parameters =
        [Value::Integer(i64::MIN), Value::Real(0.5), Value::Text("tëxt".to_owned()), Value::Blob(vec![0, 255]), Value::Null];
    let result = connection.execute("SELECT ?1 AS a, ?2, ?3, ?4, ?5", &parameters).unwrap();
    assert_eq!(result.columns[0], "a");
    assert!(matches!(
        result.rows[0].values.as_slice(),
        [Value::Integer(i64::MIN), Value::Real(_), Value::Text(text), Value::Blob(blob), Value::Null]
            if text == "tëxt" && blob == &[0, 255]
    ));
}

#[test]
fn a_statement_takes_exactly_its_parameters_and_nothing_may_follow_it() {
    let directory = Directory::new();
    let mut connection = directory.connection();
    assert!(connection.execute("SELECT ?1", &[]).is_err());
    assert!(connection.execute("SELECT 1", &[Value::Null]).is_err());
    assert!(run(&mut connection, "SELECT 1; SELECT 2").is_err());
    assert!(run(&mut connection, "SELECT 1;").is_ok());
}

#[test]
fn other_files_are_out_of_reach() {
    let directory = Directory::new();
    let mut connection = directory.connection();
    let other = directory.0.path().join("other.db");
    assert_eq!(refusal(&mut connection, &format!("ATTACH '{}' AS o", other.display())), "not authorized");
    assert!(run(&mut connection, &format!("VACUUM INTO '{}'", other.display())).is_err());
    assert!(!other.exists());
    run(&mut connection, "VACUUM").unwrap();
}

#[test]
fn errors_and_counts_are_those_of_sqlite() {
    let directory = Directory::new();
    let mut connection = directory.connection();
    run(&mut connection, "CREATE TABLE t (a UNIQUE)").unwrap();
    run(&mut connection, "INSERT INTO t VALUES (1)").unwrap();
    assert_eq!((connection.changes(), connection.last_insert_rowid()), (1, 1));
    assert_eq!(refusal(&mut connection, "INSERT INTO t VALUES (1)"), "UNIQUE constraint failed: t.a");
    assert_eq!(refusal(&mut connection, "SELECT * FROM u"), "no such table: u");
}

#[test]
fn a_second_writer_waits_for_the_first() {
    let directory = Directory::new();
    let mut first = directory.connection();
    run(&mut first, "CREATE TABLE t (a)").unwrap();
    run(&mut first, "BEGIN IMMEDIATE").unwrap();
    run(&mut first, "INSERT INTO t VALUES (1)").unwrap();

    let mut second = directory.connection();
    let committed = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&committed);
    let started = Arc::new(std::sync::Barrier::new(2));
    let ready = Arc::clone(&started);
    let writer = std::thread::spawn(move || {
        ready.wait();
        run(&mut second, "INSERT INTO t VALUES (2)").unwrap();
        assert!(seen.load(Ordering::SeqCst), "wrote while another held the lock");
    });
    started.wait();
    committed.store(true, Ordering::SeqCst);
    run(&mut first, "COMMIT").unwrap();
    writer.join().unwrap();
    assert_eq!(single_integer(&mut first, "SELECT count(*) FROM t"), 2);
}

#[test]
fn a_lock_that_is_never_given_up_ends_in_database_is_locked() {
    let directory = Directory::new();
    let mut first = directory.connection();
    run(&mut first, "BEGIN IMMEDIATE").unwrap();
    let mut second = directory.connection();
    let started = std::time::Instant::now();
    assert_eq!(refusal(&mut second, "BEGIN IMMEDIATE"), "database is locked");
    assert!(started.elapsed() >= std::time::Duration::from_secs(5));
}

#[test]
fn only_listed_databases_open_and_only_so_many_times() {
    assert!(matches!(Databases::new(None).open("default"), Err(Error::AccessDenied)));
    let mut databases = Databases::new(Some(std::path::Path::new("unused.db").into()));
    assert!(matches!(databases.open("other"), Err(Error::AccessDenied)));
    for _ in 0..CONNECTIONS_MAX {
        databases.open("default").unwrap();
    }
    assert!(matches!(databases.open("default"), Err(Error::Io(_))));
}
