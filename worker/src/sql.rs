//! A Durable Object's SQLite behind the store's port. The engine owns transactions and durability: what an object writes in one go without an await is one
//! unit, and no answer leaves the object before it is on disk.

use js_sys::{Array, Function, Number};
use tollgate::store::{Database, StoreError, Value};
use wasm_bindgen::prelude::*;

#[wasm_bindgen]
extern "C" {
    type Storage;
    type Sql;
    type Cursor;

    #[wasm_bindgen(method, getter)]
    fn sql(this: &Storage) -> Sql;

    #[wasm_bindgen(method, catch, js_name = transactionSync)]
    fn transaction_sync(this: &Storage, run: &mut dyn FnMut() -> Result<JsValue, JsValue>) -> Result<JsValue, JsValue>;

    #[wasm_bindgen(method, catch, variadic)]
    fn exec(this: &Sql, statement: &str, parameters: &Array) -> Result<Cursor, JsValue>;

    #[wasm_bindgen(method, catch)]
    fn raw(this: &Cursor) -> Result<JsValue, JsValue>;

    #[wasm_bindgen(js_namespace = Array, js_name = from, catch)]
    fn array_from(iterator: &JsValue) -> Result<Array, JsValue>;
}

/// The largest whole number that JavaScript stores exactly.
const INTEGER_MAX: i64 = (1 << 53) - 1;

/// One object's database.
pub(crate) struct Sqlite {
    storage: Storage,
    sql: Sql,
}

impl Sqlite {
    pub(crate) fn of(state: &worker::State) -> Result<Self, StoreError> {
        let storage = state.as_raw().storage().map_err(|error| read_error(&error))?;
        let storage: Storage = JsValue::from(storage).unchecked_into();
        let sql = storage.sql();
        Ok(Self { storage, sql })
    }

    /// Wakes the object at this time, in unix milliseconds, in place of the time that was set. Part of the writes around it.
    pub(crate) fn set_alarm(&self, at_ms: i64) -> Result<(), StoreError> {
        let set = js_sys::Reflect::get(&self.storage, &"setAlarm".into()).map_err(|error| read_error(&error))?;
        let promise = Function::from(set).call1(&self.storage, &number(at_ms)).map_err(|error| read_error(&error))?;
        // It fails only with the object, and then nothing of this is answered.
        let promise: js_sys::Promise = promise.unchecked_into();
        wasm_bindgen_futures::spawn_local(async move {
            let _ = wasm_bindgen_futures::JsFuture::from(promise).await;
        });
        Ok(())
    }
}

impl Database for Sqlite {
    const PARAMETERS_MAX: usize = 100;
    const OR_ROLLBACK: &'static str = "";

    fn execute(&self, statement: &str, parameters: &[Value]) -> Result<Vec<Vec<Value>>, StoreError> {
        let bound = Array::new_with_length(u32::try_from(parameters.len()).unwrap_or(u32::MAX));
        for (place, value) in (0..).zip(parameters) {
            bound.set(place, write_value(value));
        }
        let read = || array_from(&self.sql.exec(statement, &bound)?.raw()?);
        let rows = read().map_err(|error| read_error(&error))?;
        rows.iter().map(|row| Array::from(&row).iter().map(|value| read_value(&value)).collect()).collect()
    }

    fn transaction<T>(&self, run: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
        let mut run = Some(run);
        let mut result = None;
        let mut once = || {
            let ran = run.take().map(|run| run());
            // Only an exception has the engine roll back.
            let is_right = matches!(ran, Some(Ok(_)));
            result = ran;
            if is_right { Ok(JsValue::UNDEFINED) } else { Err(JsValue::from_str("rolled back")) }
        };
        let ended = self.storage.transaction_sync(&mut once);
        match (ended, result) {
            (_, Some(Err(error))) => Err(error),
            (Ok(_), Some(Ok(value))) => Ok(value),
            (Err(error), _) => Err(read_error(&error)),
            (Ok(_), None) => Err(StoreError::Unavailable("the transaction did not run".to_owned())),
        }
    }

    fn snapshot<T>(&self, read: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
        // Nothing else runs in an object between two statements.
        read()
    }
}

#[expect(clippy::cast_precision_loss, reason = "the number is within what a double stores exactly")]
fn number(integer: i64) -> JsValue {
    // What is larger than any quantity or time is a bound that nothing reaches.
    JsValue::from_f64(integer.clamp(-INTEGER_MAX, INTEGER_MAX) as f64)
}

fn write_value(value: &Value) -> JsValue {
    match value {
        Value::Integer(integer) => number(*integer),
        Value::Text(text) => JsValue::from_str(text),
        Value::Null => JsValue::NULL,
    }
}

fn read_value(value: &JsValue) -> Result<Value, StoreError> {
    if value.is_null() {
        return Ok(Value::Null);
    }
    if let Some(text) = value.as_string() {
        return Ok(Value::Text(text));
    }
    // A number that is not whole, or too large to be exact, cannot be what was stored.
    let exact = value.as_f64().filter(|_| Number::is_safe_integer(value));
    #[expect(clippy::cast_possible_truncation, reason = "checked to be a whole number below 2^53")]
    exact.map(|number| Value::Integer(number as i64)).ok_or_else(|| StoreError::Corrupt("a column of a foreign type".to_owned()))
}

fn read_error(error: &JsValue) -> StoreError {
    StoreError::from_message(&crate::log::describe(error))
}
