//! How packages and calls are kept: the words and the JSON of their rows.

use serde::{Deserialize, Serialize};

use super::database::{StoreError, json};
use crate::ids::{PackageId, RequestId};
use crate::ledger::{Call, CallState, Fingerprint, Leg, OrderState, Package, PackageKind, Phase, Standing};
use crate::quantity::Quantity;

/// A package as a JSON array, in the order of its table's columns after `account_id`.
pub(super) type PackageRow =
    (u32, String, String, i64, i64, i64, i64, Option<i64>, i32, i64, Option<String>, String, String, String);

/// What a call's row keeps as JSON: everything no statement looks for.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct CallDetail {
    fingerprint: String,
    attempt: u32,
    pub(super) hold: i64,
    pub(super) legs: Vec<(u32, i64)>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(super) charge: i64,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(super) refunded: i64,
    #[serde(default, skip_serializing_if = "is_default")]
    overrun: i64,
    #[serde(default, skip_serializing_if = "is_default")]
    lost: bool,
    #[serde(default, skip_serializing_if = "is_default")]
    is_final: bool,
    #[serde(default, skip_serializing_if = "is_default")]
    usage_missing: bool,
    #[serde(default, skip_serializing_if = "is_default")]
    replays: u32,
    #[serde(default, skip_serializing_if = "is_default")]
    status: Option<u16>,
    created_at_ms: i64,
    #[serde(default, skip_serializing_if = "is_default")]
    settled_at_ms: Option<i64>,
    #[serde(default, skip_serializing_if = "is_default")]
    idempotency_key: Option<u64>,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

pub(super) fn kind_word(kind: PackageKind) -> &'static str {
    match kind {
        PackageKind::Prepaid => "prepaid",
        PackageKind::Unmetered => "unmetered",
    }
}

pub(super) fn standing_word(standing: Standing) -> &'static str {
    match standing {
        Standing::Open => "open",
        Standing::Frozen => "frozen",
        Standing::Released => "released",
    }
}

pub(super) fn phase_word(phase: Phase) -> &'static str {
    match phase {
        Phase::Scheduled => "scheduled",
        Phase::Running => "running",
        Phase::Over => "over",
    }
}

pub(super) fn order_state_word(state: OrderState) -> &'static str {
    match state {
        OrderState::Requested => "requested",
        OrderState::Pending => "pending",
        OrderState::Succeeded => "succeeded",
        OrderState::Failed => "failed",
    }
}

pub(super) fn state_word(state: CallState) -> &'static str {
    match state {
        CallState::Held => "held",
        CallState::Settled => "settled",
        CallState::Released => "released",
    }
}

/// A whole number as SQLite has it; counts and sequences never come near its end.
pub(super) fn integer(number: u64) -> Option<i64> {
    i64::try_from(number).ok()
}

fn quantity(parts: i64) -> Result<Quantity, StoreError> {
    Quantity::from_parts(parts).ok_or_else(|| StoreError::unreadable("quantity"))
}

pub(super) fn read_package(row: PackageRow) -> Result<Package, StoreError> {
    let (number, id, kind, granted, used, held, starts_at_ms, expires_at_ms, priority, created_at_ms, order_id, ..) = row;
    let (.., standing, phase, grant_digest) = row;
    Ok(Package {
        number,
        id: PackageId::new(&id).map_err(|_| StoreError::unreadable("package id"))?,
        kind: match kind.as_str() {
            "prepaid" => PackageKind::Prepaid,
            "unmetered" => PackageKind::Unmetered,
            _ => return Err(StoreError::unreadable("package kind")),
        },
        granted: quantity(granted)?,
        used: quantity(used)?,
        held: quantity(held)?,
        starts_at_ms,
        expires_at_ms,
        priority,
        created_at_ms,
        order_id,
        standing: match standing.as_str() {
            "open" => Standing::Open,
            "frozen" => Standing::Frozen,
            "released" => Standing::Released,
            _ => return Err(StoreError::unreadable("package standing")),
        },
        phase: match phase.as_str() {
            "scheduled" => Phase::Scheduled,
            "running" => Phase::Running,
            "over" => Phase::Over,
            _ => return Err(StoreError::unreadable("package phase")),
        },
        grant_digest,
    })
}

/// The JSON of a call's `detail`.
pub(super) fn call_detail(call: &Call) -> String {
    let detail = CallDetail {
        fingerprint: call.fingerprint.to_hex(),
        attempt: call.attempt,
        hold: call.hold.parts(),
        legs: call.legs.iter().map(|leg| (leg.package_number, leg.quantity.parts())).collect(),
        charge: call.charge.parts(),
        refunded: call.refunded.parts(),
        overrun: call.overrun.parts(),
        lost: call.lost,
        is_final: call.is_final,
        usage_missing: call.usage_missing,
        replays: call.replays,
        status: call.status,
        created_at_ms: call.created_at_ms,
        settled_at_ms: call.settled_at_ms,
        idempotency_key: call.idempotency_key,
    };
    json(&detail)
}

/// A call from its columns: request id, state, end of lease, sequence of its hold, detail.
pub(super) fn read_call(
    request_id: &str,
    state: &str,
    lease_ends_ms: Option<i64>,
    hold_seq: u64,
    detail: CallDetail,
) -> Result<Call, StoreError> {
    let mut legs = Vec::with_capacity(detail.legs.len());
    for (package_number, parts) in detail.legs {
        legs.push(Leg { package_number, quantity: quantity(parts)? });
    }
    Ok(Call {
        request_id: RequestId::new(request_id).map_err(|_| StoreError::unreadable("request id"))?,
        fingerprint: Fingerprint::from_hex(&detail.fingerprint).ok_or_else(|| StoreError::unreadable("fingerprint"))?,
        attempt: detail.attempt,
        state: match state {
            "held" => CallState::Held,
            "settled" => CallState::Settled,
            "released" => CallState::Released,
            _ => return Err(StoreError::unreadable("call state")),
        },
        hold: quantity(detail.hold)?,
        legs,
        charge: quantity(detail.charge)?,
        refunded: quantity(detail.refunded)?,
        overrun: quantity(detail.overrun)?,
        lost: detail.lost,
        is_final: detail.is_final,
        usage_missing: detail.usage_missing,
        replays: detail.replays,
        status: detail.status,
        created_at_ms: detail.created_at_ms,
        settled_at_ms: detail.settled_at_ms,
        lease_ends_ms: lease_ends_ms.unwrap_or(0),
        hold_seq,
        idempotency_key: detail.idempotency_key,
    })
}
