//! Idle connections, kept for the next request to the same target.
//!
//! A connection in the pool has no request on it. Nothing watches it there: whether the backend has
//! closed it is found out when it is taken.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use wasmtime_wasi_http::Error;

use super::connection::{Connection, Target};

/// Shorter than what common servers allow (Node closes after 5 s): a connection must not be used at the moment the
/// backend closes it, since a request lost that way cannot be repeated.
const IDLE_TIMEOUT: Duration = Duration::from_secs(4);
/// Idle connections kept per target.
const IDLE_PER_TARGET_MAX: usize = 256;
/// Targets with idle connections; with more, what is idle for another target is closed.
const TARGETS_MAX: usize = 64;

/// All idle connections of the process.
#[derive(Default)]
pub(crate) struct Pool {
    plain: Mutex<Idle>,
    encrypted: Mutex<Idle>,
    tls: OnceLock<Arc<rustls::ClientConfig>>,
}

/// By authority; the latest used last.
type Idle = HashMap<String, Vec<(Connection, Instant)>>;

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").finish_non_exhaustive()
    }
}

impl Pool {
    /// The connection used last, if one is still good.
    pub(crate) fn take(&self, target: &Target) -> Option<Connection> {
        loop {
            let (mut connection, since) = self.idle(target).get_mut(target.authority.as_str())?.pop()?;
            if since.elapsed() < IDLE_TIMEOUT && connection.is_idle() {
                return Some(connection);
            }
        }
    }

    /// Keeps a connection that has just become idle.
    pub(crate) fn put(&self, target: &Target, connection: Connection) {
        let now = Instant::now();
        let mut idle = self.idle(target);
        let list = match idle.get_mut(target.authority.as_str()) {
            Some(list) => list,
            None => {
                if idle.len() >= TARGETS_MAX {
                    idle.clear();
                }
                idle.entry(target.authority.as_str().to_owned()).or_default()
            }
        };
        if list.first().is_some_and(|(_, since)| now.duration_since(*since) >= IDLE_TIMEOUT) {
            list.retain(|(_, since)| now.duration_since(*since) < IDLE_TIMEOUT);
        }
        if list.len() < IDLE_PER_TARGET_MAX {
            list.push((connection, now));
        }
    }

    /// TLS settings: the web's root certificates, made when first needed.
    pub(crate) fn tls(&self) -> Result<&Arc<rustls::ClientConfig>, Error> {
        if let Some(config) = self.tls.get() {
            return Ok(config);
        }
        let roots = rustls::RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        let config = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|_| Error::TlsProtocolError)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(self.tls.get_or_init(|| Arc::new(config)))
    }

    fn idle(&self, target: &Target) -> std::sync::MutexGuard<'_, Idle> {
        let idle = if target.tls { &self.encrypted } else { &self.plain };
        // No code that can panic runs half-way through a change, so what a poisoned lock guards is whole.
        idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
