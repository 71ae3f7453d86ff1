//! How fast the meter reads bodies inside wasm, on the runner: built, optimised and run as in Tollgate's component.

use crate::args::Args;
use crate::backend::Backend;
use crate::bodies::{self, Body};
use crate::error::BenchError;
use crate::gateway::{self, Edge};
use crate::http;
use crate::report::{median, spread};
use std::net::SocketAddr;
use std::path::Path;

/// Measures and prints. There is no bound of its own: what reading may cost is bounded beside forwarding.
pub(crate) async fn run(args: &Args, backend: Backend, work: &Path) -> Result<(), BenchError> {
    let gateway = gateway::forward(Edge::Runner, "scanner", "measured", backend.address, work)?;
    let bodies = bodies::all();
    let mut speeds: Vec<Vec<f64>> = bodies.iter().map(|_| Vec::new()).collect();
    for body in &bodies {
        measure(gateway.address, body).await?;
    }
    for _ in 0..args.rounds {
        for (body, speeds) in bodies.iter().zip(&mut speeds) {
            speeds.push(measure(gateway.address, body).await?);
        }
    }
    println!("\n{:<24} {:>11} {:>10} {:>7}", "scanner in wasm", "body bytes", "MB/s", "spread");
    for (body, speeds) in bodies.iter().zip(&speeds) {
        let Body { name, text, .. } = body;
        println!("{name:<24} {:>11} {:>10.0} {:>6.0}%", text.len(), median(speeds), spread(speeds) * 100.0);
    }
    println!();
    for (body, speeds) in bodies.iter().zip(&speeds) {
        println!("bench: scanner body={} body_bytes={} mb_per_s={:.0}", body.name, body.text.len(), median(speeds));
    }
    Ok(())
}

/// Has the component read a body again and again; returns MB/s by its own clock.
async fn measure(address: SocketAddr, body: &Body) -> Result<f64, BenchError> {
    let wrong = |what: String| BenchError::WrongReply { name: format!("the scanner of {}", body.name), what };
    let reply = http::once(address, "POST", "/", "", body.content_type, &body.text).await;
    let (status, answer) = reply.map_err(|error| wrong(error.to_string()))?;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let mut numbers = answer.split(' ').map(|word| word.parse::<f64>());
    match (status, numbers.next(), numbers.next()) {
        (200, Some(Ok(bytes)), Some(Ok(ns))) => Ok(bytes * 1000.0 / ns),
        _ => Err(wrong(format!("{status} {answer}"))),
    }
}
