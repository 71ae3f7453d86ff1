//! Where the component may connect: the manifest's `allowed_outbound_hosts`, in Spin's syntax.
//!
//! An entry is `scheme://host:port`, each part `*` for any; `*.domain` is every name below the domain;
//! a port may be a range `from..to` (its end excluded) and defaults to the scheme's own. What no entry
//! allows is denied.

use http::Uri;

/// The checked list. Empty allows nothing.
#[derive(Debug, Clone, Default)]
pub(crate) struct AllowedHosts(Vec<AllowedHost>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct AllowedHost {
    /// `None` is any scheme.
    scheme: Option<String>,
    host: HostRule,
    ports: PortRule,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum HostRule {
    Any,
    Exact(String),
    /// Holds the domain with its leading dot.
    Below(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum PortRule {
    Any,
    Range(std::ops::Range<u32>),
}

/// Why an entry was refused; for the operator to mend.
#[derive(Debug, thiserror::Error)]
#[error("allowed_outbound_hosts: {entry:?}: {problem}")]
pub(crate) struct AllowedHostError {
    entry: String,
    problem: &'static str,
}

impl AllowedHosts {
    /// Checks every entry, its templates already filled.
    pub(crate) fn parse<'a>(entries: impl IntoIterator<Item = &'a str>) -> Result<Self, AllowedHostError> {
        let parse =
            |entry: &str| AllowedHost::parse(entry).map_err(|problem| AllowedHostError { entry: entry.to_owned(), problem });
        entries.into_iter().map(parse).collect::<Result<_, _>>().map(Self)
    }

    /// Whether a request to `uri` may be sent.
    pub(crate) fn allow(&self, uri: &Uri) -> bool {
        let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
            return false;
        };
        let Some(port) = authority.port_u16().or_else(|| default_port(scheme)) else {
            return false;
        };
        self.0.iter().any(|allowed| allowed.matches(scheme, authority.host(), port))
    }
}

impl AllowedHost {
    fn parse(entry: &str) -> Result<Self, &'static str> {
        let (scheme, rest) = entry.split_once("://").ok_or("a scheme is missing, as in https://example.com")?;
        let scheme = match scheme {
            "*" => None,
            scheme if !scheme.is_empty() && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c)) => {
                Some(scheme.to_ascii_lowercase())
            }
            _ => return Err("the scheme is not a name or *"),
        };
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        if authority.contains(['/', '?', '#', '@']) {
            return Err("only a host and a port may follow the scheme");
        }
        let (host, port) = match authority.rfind(']') {
            Some(end) => match authority.split_at_checked(end.saturating_add(1)) {
                Some((host, port)) => (host, port.strip_prefix(':')),
                None => return Err("the address has no end"),
            },
            None => match authority.rsplit_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (authority, None),
            },
        };
        let ports = match port {
            Some("*") => PortRule::Any,
            Some(port) => PortRule::Range(port_range(port).ok_or("the port is not a number, a range or *")?),
            None => match scheme.as_deref().and_then(default_port) {
                Some(port) => PortRule::Range(u32::from(port)..u32::from(port).saturating_add(1)),
                None => return Err("a port is missing and the scheme has no default"),
            },
        };
        Ok(Self { scheme, host: host_rule(host)?, ports })
    }

    fn matches(&self, scheme: &str, host: &str, port: u16) -> bool {
        let scheme_fits = self.scheme.as_deref().is_none_or(|allowed| allowed.eq_ignore_ascii_case(scheme));
        let host_fits = match &self.host {
            HostRule::Any => true,
            HostRule::Exact(allowed) => allowed.eq_ignore_ascii_case(host),
            HostRule::Below(domain) => {
                host.len() > domain.len()
                    && host.get(host.len().saturating_sub(domain.len())..).is_some_and(|end| end.eq_ignore_ascii_case(domain))
            }
        };
        let port_fits = match &self.ports {
            PortRule::Any => true,
            PortRule::Range(range) => range.contains(&u32::from(port)),
        };
        scheme_fits && host_fits && port_fits
    }
}

fn host_rule(host: &str) -> Result<HostRule, &'static str> {
    if host == "*" {
        return Ok(HostRule::Any);
    }
    let (domain, rule): (&str, fn(String) -> HostRule) = match host.strip_prefix('*') {
        Some(domain) if domain.starts_with('.') => (domain, HostRule::Below),
        _ => (host, HostRule::Exact),
    };
    if domain.is_empty() || domain == "." || domain.contains('*') {
        return Err("the host is not a name, an address, *.domain or *");
    }
    Ok(rule(domain.to_ascii_lowercase()))
}

fn port_range(port: &str) -> Option<std::ops::Range<u32>> {
    let (from, to) = match port.split_once("..") {
        Some((from, to)) => (from.parse().ok()?, to.parse().ok()?),
        None => {
            let port: u16 = port.parse().ok()?;
            (port, port.checked_add(1).map_or(65_536, u32::from))
        }
    };
    let from = u32::from(from);
    (from < to).then_some(from..to)
}

fn default_port(scheme: &str) -> Option<u16> {
    match scheme {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(entry: &str, uri: &str) -> bool {
        AllowedHosts::parse([entry]).unwrap().allow(&uri.parse().unwrap())
    }

    #[test]
    fn an_entry_allows_what_it_says() {
        assert!(allows("http://127.0.0.1:*", "http://127.0.0.1:9000/a"));
        assert!(allows("https://*.example.com", "https://a.b.Example.com/"));
        assert!(allows("*://host:8000", "https://host:8000/"));
        assert!(allows("http://host:8000..8002", "http://host:8001/"));
        assert!(allows("https://[::1]:8443", "https://[::1]:8443/"));
        assert!(allows("https://*:*", "https://anything:1/"));
        assert!(allows("http://host:65535", "http://host:65535/"));
    }

    #[test]
    fn an_entry_denies_everything_else() {
        assert!(!allows("http://127.0.0.1:*", "http://127.0.0.2:9000/"));
        assert!(!allows("http://127.0.0.1:*", "https://127.0.0.1:9000/"));
        assert!(!allows("https://*.example.com", "https://example.com/"));
        assert!(!allows("https://*.example.com", "https://evilexample.com/"));
        assert!(!allows("https://example.com", "https://example.com:8443/"));
        assert!(!allows("http://host:8000..8002", "http://host:8002/"));
        assert!(!AllowedHosts::default().allow(&"http://127.0.0.1/".parse().unwrap()));
    }

    #[test]
    fn entries_that_mean_nothing_are_refused() {
        for entry in ["", "example.com", "http://", "http://a/b", "x://host", "http://a*b", "http://h:0x", "http://h:5..4"] {
            assert!(AllowedHosts::parse([entry]).is_err(), "{entry}");
        }
    }
}
