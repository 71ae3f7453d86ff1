//! Medians, the table for people, the lines for machines, and the bounds.

use crate::load::Round;

/// What one subject measured at one number of connections.
pub(crate) struct Measured {
    pub(crate) name: &'static str,
    pub(crate) durability: Option<&'static str>,
    pub(crate) connections: usize,
    /// The name of the subject that it is a share of.
    pub(crate) baseline: Option<&'static str>,
    pub(crate) rounds: Vec<Round>,
}

/// The least share of forwarding that the metered path must reach.
const BOUNDS: [(&str, usize, f64); 3] = [("process", 16, 0.70), ("process", 64, 0.70), ("power", 64, 0.50)];

impl Measured {
    fn median(&self, value: impl Fn(&Round) -> f64) -> f64 {
        let mut values: Vec<f64> = self.rounds.iter().map(value).collect();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied().unwrap_or(0.0)
    }

    fn calls_per_s(&self) -> f64 {
        self.median(|round| round.calls_per_s)
    }

    /// How far the rounds lie apart, as a share of their median: what the machine itself adds.
    fn spread(&self) -> f64 {
        let values = || self.rounds.iter().map(|round| round.calls_per_s);
        (values().fold(0.0, f64::max) - values().fold(f64::INFINITY, f64::min)) / self.calls_per_s()
    }

    fn ratio(&self, all: &[Self]) -> Option<f64> {
        let baseline = all.iter().find(|other| Some(other.name) == self.baseline && other.connections == self.connections)?;
        Some(self.calls_per_s() / baseline.calls_per_s())
    }

    fn title(&self) -> String {
        format!("{}{}", self.name, self.durability.map(|durability| format!(" ({durability})")).unwrap_or_default())
    }
}

/// Prints the table and then the lines; returns the bounds that were missed.
pub(crate) fn print(all: &[Measured]) -> Vec<String> {
    println!(
        "\n{:<24} {:>11} {:>10} {:>9} {:>9} {:>7} {:>7}",
        "", "connections", "calls/s", "p50 ms", "p99 ms", "ratio", "spread"
    );
    for measured in all {
        println!(
            "{:<24} {:>11} {:>10.0} {:>9.2} {:>9.2} {:>7} {:>6.0}%",
            measured.title(),
            measured.connections,
            measured.calls_per_s(),
            measured.median(|round| round.p50_ms),
            measured.median(|round| round.p99_ms),
            measured.ratio(all).map(|ratio| format!("{ratio:.2}")).unwrap_or_default(),
            measured.spread() * 100.0,
        );
    }
    println!(
        "\nMedians of the rounds; ratio: calls/s as a share of the forwarding beside it; spread: the machine's own noise.\n"
    );
    // The plain ones last but for the metered ones, whose lines end the output.
    let (metered, others): (Vec<_>, Vec<_>) = all.iter().partition(|measured| measured.name.starts_with("metered"));
    for measured in others.into_iter().chain(metered) {
        println!("{}", line(measured, all));
    }
    all.iter().filter_map(|measured| missed(measured, all)).collect()
}

fn line(measured: &Measured, all: &[Measured]) -> String {
    let durability = measured.durability.map(|durability| format!(" durability={durability}")).unwrap_or_default();
    let ratio = measured.ratio(all).map(|ratio| format!(" ratio={ratio:.2}")).unwrap_or_default();
    format!(
        "bench: {}{durability} connections={}{ratio} calls_per_s={:.0} p50_ms={:.2} p99_ms={:.2}",
        measured.name,
        measured.connections,
        measured.calls_per_s(),
        measured.median(|round| round.p50_ms),
        measured.median(|round| round.p99_ms),
    )
}

fn missed(measured: &Measured, all: &[Measured]) -> Option<String> {
    let (_, _, least) = BOUNDS.iter().find(|(durability, connections, _)| {
        measured.name == "metered" && measured.durability == Some(*durability) && measured.connections == *connections
    })?;
    let ratio = measured.ratio(all)?;
    (ratio < *least).then(|| format!("{} at {} connections: {ratio:.3} of {least}", measured.title(), measured.connections))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(name: &'static str, durability: Option<&'static str>, calls_per_s: [f64; 3]) -> Measured {
        let round = |calls_per_s| Round { calls_per_s, p50_ms: 1.0, p99_ms: 2.0, replies: 1 };
        let baseline = durability.map(|_| "forward");
        Measured { name, durability, connections: 64, baseline, rounds: calls_per_s.map(round).into() }
    }

    #[test]
    fn a_ratio_is_of_medians_and_below_its_bound_is_missed() {
        let forward = measured("forward", None, [900.0, 1000.0, 5000.0]);
        let all = [forward, measured("metered", Some("process"), [699.0, 1.0, 2000.0])];
        assert_eq!(all.iter().filter_map(|m| missed(m, &all)).count(), 1);
        assert_eq!(
            line(&all[1], &all).split(" calls").next(),
            Some("bench: metered durability=process connections=64 ratio=0.70")
        );
    }

    #[test]
    fn a_ratio_at_its_bound_is_met() {
        let all = [measured("forward", None, [1000.0; 3]), measured("metered", Some("power"), [500.0; 3])];
        assert!(all.iter().all(|m| missed(m, &all).is_none()));
    }
}
