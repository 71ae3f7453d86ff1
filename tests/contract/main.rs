//! The contract suite: what a caller and an operator see of a gateway, over real sockets, against a backend that records.
//!
//! It knows the gateway by its public interface alone, so the same cases run on every edge: on the bundled runner, which it starts
//! itself, on workerd with `TOLLGATE_EDGE=workerd`, or on any gateway that `TOLLGATE_URL` names (see `tollgate.toml` in this folder). Cases share one gateway and run at
//! the same time, each with customers of its own; a case that kills or configures a gateway starts its own.

#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a case fails by panicking")]

mod alert_crashes;
mod alerts;
mod balances;
mod burn_down;
mod calls;
mod changes;
mod charging;
mod clients;
mod configuration;
mod control;
mod corrections;
mod crashes;
mod credentials;
mod events;
mod failures;
mod harness;
mod headers;
mod identity;
mod inapplicable;
mod large;
mod leases;
mod limits;
mod listings;
mod lost_answers;
mod objects;
mod order_hook;
mod packages;
mod replays;
mod repurchase_crashes;
mod repurchases;
mod rules;
mod smuggling;
mod streams;
mod support;
mod two_gateways;
mod unwritable;
mod usage_asking;
mod usage_charges;
mod usage_coded;
mod usage_crashes;
mod usage_endings;
mod usage_holds;
mod usage_memory;
mod usage_overrun;
mod usage_packages;
mod usage_replies;
mod usage_requests;
mod usage_streams;
mod webhooks;

use libtest_mimic::{Arguments, Trial};
use std::pin::Pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use support::gateway::{Gateway, missing_artefact};
use support::{Suite, Target};

/// A case that takes longer than this hangs.
const CASE_DEADLINE: Duration = Duration::from_secs(120);
/// Cases wait more than they work, so more of them than there are cores run at once.
const CASES_AT_ONCE: usize = 8;

type Running = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A rule and how it is checked.
pub(crate) struct Case {
    name: &'static str,
    /// Why it cannot run on a gateway that runs already.
    own_gateway: Option<&'static str>,
    run: fn(Arc<Suite>) -> Running,
}

/// Lists the cases of a module; `own` ones start a gateway of their own.
macro_rules! cases {
    ($($name:ident),* $(,)? ; own: $($own:ident),* $(,)?) => {
        pub(crate) const CASES: &[$crate::Case] = &[
            $($crate::Case { name: stringify!($name), own_gateway: None, run: |suite| Box::pin($name(suite)) },)*
            $($crate::Case {
                name: stringify!($own),
                own_gateway: Some("starts a gateway of its own"),
                run: |suite| Box::pin($own(suite)),
            },)*
        ];
    };
    ($($name:ident),* $(,)?) => { $crate::cases! { $($name),* ; own: } };
}
pub(crate) use cases;

const GROUPS: &[(&str, &[Case])] = &[
    ("harness", harness::CASES),
    ("calls", calls::CASES),
    ("headers", headers::CASES),
    ("streams", streams::CASES),
    ("identity", identity::CASES),
    ("credentials", credentials::CASES),
    ("smuggling", smuggling::CASES),
    ("charging", charging::CASES),
    ("replays", replays::CASES),
    ("failures", failures::CASES),
    ("burn_down", burn_down::CASES),
    ("packages", packages::CASES),
    ("corrections", corrections::CASES),
    ("balances", balances::CASES),
    ("listings", listings::CASES),
    ("control", control::CASES),
    ("configuration", configuration::CASES),
    ("leases", leases::CASES),
    ("large", large::CASES),
    ("crashes", crashes::CASES),
    ("alerts", alerts::CASES),
    ("changes", changes::CASES),
    ("rules", rules::CASES),
    ("repurchases", repurchases::CASES),
    ("order_hook", order_hook::CASES),
    ("limits", limits::CASES),
    ("events", events::CASES),
    ("webhooks", webhooks::CASES),
    ("two_gateways", two_gateways::CASES),
    ("unwritable", unwritable::CASES),
    ("clients", clients::CASES),
    ("usage_asking", usage_asking::CASES),
    ("usage_charges", usage_charges::CASES),
    ("usage_coded", usage_coded::CASES),
    ("usage_crashes", usage_crashes::CASES),
    ("usage_endings", usage_endings::CASES),
    ("usage_holds", usage_holds::CASES),
    ("usage_memory", usage_memory::CASES),
    ("usage_overrun", usage_overrun::CASES),
    ("usage_packages", usage_packages::CASES),
    ("usage_replies", usage_replies::CASES),
    ("usage_requests", usage_requests::CASES),
    ("usage_streams", usage_streams::CASES),
    ("objects", objects::CASES),
    ("lost_answers", lost_answers::CASES),
    ("alert_crashes", alert_crashes::CASES),
    ("repurchase_crashes", repurchase_crashes::CASES),
];

fn target() -> Result<Target, String> {
    match std::env::var("TOLLGATE_URL") {
        Ok(url) => {
            let token = std::env::var("TOLLGATE_ADMIN_TOKEN").map_err(|_| "TOLLGATE_ADMIN_TOKEN is not set")?;
            Ok(Target::Running(Gateway::running(&url, token)?))
        }
        Err(_) => Ok(Target::Bundled),
    }
}

fn trial(
    group: &str,
    case: &'static Case,
    suite: &Arc<Suite>,
    runtime: &tokio::runtime::Handle,
    bundled: bool,
    edge: &str,
) -> Trial {
    let (suite, runtime) = (Arc::clone(suite), runtime.clone());
    let skipped =
        case.own_gateway.filter(|_| !bundled).or_else(|| inapplicable::reason(edge, &format!("{group}::{}", case.name)));
    let trial = Trial::test(format!("{group}::{}", case.name), move || {
        runtime.block_on(async {
            tokio::time::timeout(CASE_DEADLINE, (case.run)(suite))
                .await
                .map_err(|_| format!("not over within {CASE_DEADLINE:?}").into())
        })
    });
    trial.with_ignored_flag(skipped.is_some()).with_kind(skipped.unwrap_or_default())
}

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(CASES_AT_ONCE);
    let target = match target() {
        Ok(target) => target,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    let bundled = matches!(target, Target::Bundled);
    let only_harness = arguments.filter.as_deref().is_some_and(|filter| filter.starts_with("harness"));
    if let Some(missing) = missing_artefact().filter(|_| bundled && !arguments.list && !only_harness) {
        eprintln!("{missing}");
        return ExitCode::FAILURE;
    }
    let edge = std::env::var("TOLLGATE_EDGE").unwrap_or_else(|_| if bundled { "spin" } else { "unnamed" }.to_owned());
    let all: Vec<String> =
        GROUPS.iter().flat_map(|(group, cases)| cases.iter().map(move |case| format!("{group}::{}", case.name))).collect();
    if let [unknown, ..] = &inapplicable::unknown(&edge, |listed| all.iter().any(|case| case == listed))[..] {
        eprintln!("inapplicable.rs names {unknown}, which is no case");
        return ExitCode::FAILURE;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let suite = runtime.block_on(Suite::new(target));
    let cases = GROUPS.iter().flat_map(|(group, cases)| cases.iter().map(move |case| (*group, case)));
    let trials = cases.map(|(group, case)| trial(group, case, &suite, runtime.handle(), bundled, &edge)).collect();
    let outcome = libtest_mimic::run(&arguments, trials);
    suite.stop();
    if !arguments.list {
        println!(
            "contract suite on {edge}: {} passed, {} failed, {} skipped",
            outcome.num_passed, outcome.num_failed, outcome.num_ignored
        );
    }
    outcome.exit_code()
}
