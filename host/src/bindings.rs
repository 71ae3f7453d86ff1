//! Spin's own interfaces, generated from `wit/`: only what the component imports.

mod generated {
    wasmtime::component::bindgen!({
        path: "wit",
        world: "tollgate:host/spin",
        imports: { default: trappable },
        with: { "spin:sqlite/sqlite.connection": crate::sqlite::GuestConnection },
    });
}

pub(crate) use generated::spin::{sqlite::sqlite, variables::variables};
