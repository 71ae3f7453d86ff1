//! Tollgate on Cloudflare Workers: the same rooms, with a customer's part of the ledger in a Durable Object of its own.
//!
//! The worker owns the sockets' side of a call and the way of a control request; [`account::Account`] decides for one customer; [`index::Index`] lists what
//! spans customers. What always holds: a call is forwarded only after its customer's object has its hold on disk.
//!
//! The border: which rule applies is decided in `tollgate::gateway`, `control` and `ledger`.

mod account;
mod alarm;
mod answer;
mod body;
mod call;
mod clock;
mod control;
mod forward;
mod index;
mod log;
mod message;
mod outside;
mod replica;
mod settings;
mod settle;
mod sql;
mod wire;

use tollgate::control as control_api;
use tollgate::problem::{Code, Problem};
use worker::{Context, Env, Request, Response, ScheduleContext, ScheduledEvent, event};

use call::Gateway;
use settings::Settings;

#[event(fetch)]
async fn fetch(request: Request, env: Env, context: Context) -> worker::Result<Response> {
    Ok(serve(request.inner(), env, context).await.into())
}

async fn serve(request: &web_sys::Request, env: Env, context: Context) -> web_sys::Response {
    let head = wire::read_head(request);
    let is_control = control_api::owns(&head.path);
    if is_control && let Some(healthy) = control_api::health_check(&head.method, &head.path) {
        return wire::control_reply(healthy.into(), &head.method);
    }
    let Some(settings) = Settings::get(&env) else {
        let problem = Problem::new(Code::ConfigInvalid, "The gateway's configuration is not valid. Its log says why.");
        return wire::problem(&problem, None, Vec::new());
    };
    if is_control {
        return control::control(settings, &env, request, &head).await;
    }
    call::call(Gateway { settings, env, context }, Clone::clone(request), head).await
}

/// The clock's own tick: a safety net, since every object sets its own alarm.
#[event(scheduled)]
async fn scheduled(_event: ScheduledEvent, env: Env, _context: ScheduleContext) {
    if let Some(settings) = Settings::get(&env) {
        control::tick(settings, &env).await;
    }
}
