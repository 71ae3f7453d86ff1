//! Which method and path is which action.

use super::query::PathIds;

/// What can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Health,
    Ready,
    PutPackage,
    GetPackage,
    ListPackages,
    PatchPackage,
    FreezePackage,
    UnfreezePackage,
    ReleasePackage,
    AdjustPackage,
    ListCustomers,
    GetBalance,
    ListCalls,
    GetCall,
    RefundCall,
    PutRules,
    GetRules,
    ListRepurchases,
    GetRepurchase,
    ConcludeRepurchase,
    ListEvents,
    RedeliverEvent,
    ListWebhooks,
    EnableWebhook,
    Tick,
    Audit,
    Metrics,
}

const TABLE: [(&str, &str, Action); 27] = [
    ("GET", "/_tollgate/healthz", Action::Health),
    ("GET", "/_tollgate/readyz", Action::Ready),
    ("PUT", "/_tollgate/v1/packages/{package_id}", Action::PutPackage),
    ("GET", "/_tollgate/v1/packages/{package_id}", Action::GetPackage),
    ("GET", "/_tollgate/v1/packages", Action::ListPackages),
    ("PATCH", "/_tollgate/v1/packages/{package_id}", Action::PatchPackage),
    ("POST", "/_tollgate/v1/packages/{package_id}/freeze", Action::FreezePackage),
    ("POST", "/_tollgate/v1/packages/{package_id}/unfreeze", Action::UnfreezePackage),
    ("POST", "/_tollgate/v1/packages/{package_id}/release", Action::ReleasePackage),
    ("POST", "/_tollgate/v1/packages/{package_id}/adjustments", Action::AdjustPackage),
    ("GET", "/_tollgate/v1/customers", Action::ListCustomers),
    ("GET", "/_tollgate/v1/customers/{customer_id}/balance", Action::GetBalance),
    ("GET", "/_tollgate/v1/customers/{customer_id}/calls", Action::ListCalls),
    ("GET", "/_tollgate/v1/customers/{customer_id}/calls/{request_id}", Action::GetCall),
    ("POST", "/_tollgate/v1/customers/{customer_id}/calls/{request_id}/refunds", Action::RefundCall),
    ("PUT", "/_tollgate/v1/customers/{customer_id}/products/{product_id}/rules", Action::PutRules),
    ("GET", "/_tollgate/v1/customers/{customer_id}/products/{product_id}/rules", Action::GetRules),
    ("GET", "/_tollgate/v1/repurchases", Action::ListRepurchases),
    ("GET", "/_tollgate/v1/repurchases/{repurchase_id}", Action::GetRepurchase),
    ("POST", "/_tollgate/v1/repurchases/{repurchase_id}/outcome", Action::ConcludeRepurchase),
    ("GET", "/_tollgate/v1/events", Action::ListEvents),
    ("POST", "/_tollgate/v1/events/{event_id}/redeliver", Action::RedeliverEvent),
    ("GET", "/_tollgate/v1/webhooks", Action::ListWebhooks),
    ("POST", "/_tollgate/v1/webhooks/{n}/enable", Action::EnableWebhook),
    ("POST", "/_tollgate/v1/tick", Action::Tick),
    ("GET", "/_tollgate/v1/audit", Action::Audit),
    ("GET", "/_tollgate/v1/metrics", Action::Metrics),
];

/// Method and path template of everything that can be asked for.
pub const ROUTES: &[(&str, &str)] = &PAIRS;

const PAIRS: [(&str, &str); TABLE.len()] = {
    let mut pairs = [("", ""); TABLE.len()];
    let mut index = 0;
    #[expect(clippy::indexing_slicing, reason = "evaluated while compiling, where an index out of bounds is an error")]
    while index < TABLE.len() {
        pairs[index] = (TABLE[index].0, TABLE[index].1);
        index += 1;
    }
    pairs
};

/// What a method and path lead to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Routed {
    /// An action, with the path's parameters as they arrived.
    Found { action: Action, path_ids: PathIds },
    /// A path that does not take this method.
    WrongMethod { allow: String, is_open: bool },
    /// No path of the control API.
    Unknown,
}

impl Routed {
    /// Whether it takes no token.
    pub(super) fn is_open(&self) -> bool {
        match self {
            Self::Found { action, .. } => is_open(*action),
            Self::WrongMethod { is_open, .. } => *is_open,
            Self::Unknown => false,
        }
    }
}

fn is_open(action: Action) -> bool {
    matches!(action, Action::Health | Action::Ready)
}

pub(super) fn find(method: &str, path: &str) -> Routed {
    let mut allow: Vec<&str> = Vec::new();
    let mut any_is_open = false;
    for (route_method, template, action) in TABLE {
        let Some(path_ids) = matched(template, path) else { continue };
        if route_method == method {
            return Routed::Found { action, path_ids };
        }
        allow.push(route_method);
        any_is_open |= is_open(action);
        if route_method == "GET" {
            allow.push("HEAD");
        }
    }
    if allow.is_empty() { Routed::Unknown } else { Routed::WrongMethod { allow: allow.join(", "), is_open: any_is_open } }
}

/// The path's parameters, where it is one of the template's. Nothing but parameters is ever percent-decoded.
fn matched(template: &str, path: &str) -> Option<PathIds> {
    let mut parameters = Vec::new();
    let mut segments = path.split('/');
    for wanted in template.split('/') {
        let segment = segments.next()?;
        if wanted.starts_with('{') && !segment.is_empty() {
            parameters.push(segment.to_owned());
        } else if wanted != segment {
            return None;
        }
    }
    segments.next().is_none().then_some(PathIds(parameters))
}

#[cfg(test)]
mod tests {
    use super::{Action, ROUTES, Routed, find};

    #[test]
    fn every_route_is_found_by_its_own_template() {
        for (method, template) in ROUTES {
            assert!(matches!(find(method, template), Routed::Found { .. }), "{method} {template}");
        }
    }

    #[test]
    fn a_path_is_matched_whole_and_its_parameters_stay_encoded() {
        let Routed::Found { action, path_ids } = find("GET", "/_tollgate/v1/packages/p%2F1") else { panic!("not found") };
        assert_eq!((action, path_ids.0), (Action::GetPackage, vec!["p%2F1".to_owned()]));
        for path in ["/_tollgate", "/_tollgate/v1/packages/", "/_tollgate/v1/packages/a/b", "/_tollgate/v1/%70ackages", "//", ""]
        {
            assert_eq!(find("GET", path), Routed::Unknown, "{path}");
        }
    }

    #[test]
    fn a_wrong_method_is_told_the_right_ones() {
        let routed = find("POST", "/_tollgate/v1/packages/p");
        assert_eq!(routed, Routed::WrongMethod { allow: "PUT, GET, HEAD, PATCH".to_owned(), is_open: false });
        assert!(find("POST", "/_tollgate/healthz").is_open());
    }
}
