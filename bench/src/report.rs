//! Medians, and of servers under the same load the table for people, the lines for machines, and the bounds.

use crate::load::Round;

/// What one subject measured at one number of connections.
pub(crate) struct Measured {
    pub(crate) name: &'static str,
    pub(crate) durability: Option<&'static str>,
    pub(crate) connections: usize,
    /// The name of the subject that it is a share of.
    pub(crate) baseline: Option<&'static str>,
    /// The least share of it that is enough.
    pub(crate) least_ratio: Option<f64>,
    pub(crate) rounds: Vec<Round>,
}

/// The middle one.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

/// How far values lie apart, as a share of their median: what the machine itself adds.
pub(crate) fn spread(values: &[f64]) -> f64 {
    let (least, most) = (values.iter().copied().fold(f64::INFINITY, f64::min), values.iter().copied().fold(0.0, f64::max));
    (most - least) / median(values)
}

impl Measured {
    fn of(&self, value: impl Fn(&Round) -> f64) -> Vec<f64> {
        self.rounds.iter().map(value).collect()
    }

    fn p50_ms(&self) -> f64 {
        median(&self.of(|round| round.p50_ms))
    }

    pub(crate) fn p99_ms(&self) -> f64 {
        median(&self.of(|round| round.p99_ms))
    }

    pub(crate) fn p99_spread(&self) -> f64 {
        spread(&self.of(|round| round.p99_ms))
    }

    fn calls_per_s(&self) -> f64 {
        median(&self.of(|round| round.calls_per_s))
    }

    fn ratio(&self, all: &[Self]) -> Option<f64> {
        let baseline = all.iter().find(|other| Some(other.name) == self.baseline && other.connections == self.connections)?;
        Some(self.calls_per_s() / baseline.calls_per_s())
    }

    fn title(&self) -> String {
        format!("{}{}", self.name, self.durability.map(|durability| format!(" ({durability})")).unwrap_or_default())
    }
}

/// Prints the table and then the lines.
pub(crate) fn print(all: &[Measured]) {
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
            measured.p50_ms(),
            measured.p99_ms(),
            measured.ratio(all).map(|ratio| format!("{ratio:.2}")).unwrap_or_default(),
            spread(&measured.of(|round| round.calls_per_s)) * 100.0,
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
}

/// The bounds that were missed.
pub(crate) fn missed(all: &[Measured]) -> Vec<String> {
    let missed = |measured: &Measured| {
        let (least, ratio) = (measured.least_ratio?, measured.ratio(all)?);
        (ratio < least).then(|| format!("{} at {} connections: {ratio:.3} of {least}", measured.title(), measured.connections))
    };
    all.iter().filter_map(missed).collect()
}

fn line(measured: &Measured, all: &[Measured]) -> String {
    let durability = measured.durability.map(|durability| format!(" durability={durability}")).unwrap_or_default();
    let ratio = measured.ratio(all).map(|ratio| format!(" ratio={ratio:.2}")).unwrap_or_default();
    format!(
        "bench: {}{durability} connections={}{ratio} calls_per_s={:.0} p50_ms={:.2} p99_ms={:.2}",
        measured.name,
        measured.connections,
        measured.calls_per_s(),
        measured.p50_ms(),
        measured.p99_ms(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn least_ratio(durability: Option<&str>) -> Option<f64> {
        durability.map(|durability| if durability == "power" { 0.5 } else { 0.7 })
    }

    fn measured(name: &'static str, durability: Option<&'static str>, calls_per_s: [f64; 3]) -> Measured {
        let round = |calls_per_s| Round { calls_per_s, p50_ms: 1.0, p99_ms: 2.0, replies: 1 };
        let baseline = durability.map(|_| "forward");
        let least_ratio = least_ratio(durability);
        Measured { name, durability, connections: 64, baseline, least_ratio, rounds: calls_per_s.map(round).into() }
    }

    #[test]
    fn a_ratio_is_of_medians_and_below_its_bound_is_missed() {
        let forward = measured("forward", None, [900.0, 1000.0, 5000.0]);
        let all = [forward, measured("metered", Some("process"), [699.0, 1.0, 2000.0])];
        assert_eq!(missed(&all).len(), 1);
        assert_eq!(
            line(&all[1], &all).split(" calls").next(),
            Some("bench: metered durability=process connections=64 ratio=0.70")
        );
    }

    #[test]
    fn a_ratio_at_its_bound_is_met() {
        let all = [measured("forward", None, [1000.0; 3]), measured("metered", Some("power"), [500.0; 3])];
        assert!(missed(&all).is_empty());
    }
}
