//! Edges: the runtimes that Tollgate runs on. Each moves bytes and time for the rooms, which know nothing of it.

#[cfg(all(target_arch = "wasm32", target_os = "wasi"))]
mod spin;
