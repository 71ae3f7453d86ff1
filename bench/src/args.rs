//! The command line.

use crate::error::BenchError;
use std::time::Duration;

const CONNECTIONS: [usize; 2] = [16, 64];

/// What is measured one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// The scanner in wasm.
    Scan,
    /// Large replies that are read for their usage.
    Replies,
    /// Streams that are.
    Streams,
    /// Calls while the webhook's endpoint hangs.
    Hooks,
    /// Calls that cost one unit each.
    Calls,
    /// The same on workerd.
    Workerd,
}

const PARTS: [(&str, Part); 6] = [
    ("scan", Part::Scan),
    ("replies", Part::Replies),
    ("streams", Part::Streams),
    ("hooks", Part::Hooks),
    ("calls", Part::Calls),
    ("workerd", Part::Workerd),
];

/// What the part `Calls` can be narrowed to, besides numbers of connections.
const OF_CALLS: [&str; 4] = ["process", "power", "hot", "peers"];

/// What to measure, and for how long.
pub(crate) struct Args {
    pub(crate) rounds: usize,
    pub(crate) duration: Duration,
    pub(crate) parts: Vec<Part>,
    pub(crate) connections: Vec<usize>,
    pub(crate) durabilities: Vec<&'static str>,
    pub(crate) hot: bool,
    pub(crate) peers: bool,
}

impl Args {
    /// More and shorter rounds, in less time altogether: for subjects that differ by less than the machine does from one second to the next.
    pub(crate) fn short_rounds(&self) -> (usize, Duration) {
        (self.rounds * 2, self.duration / 3)
    }

    /// Reads the arguments that follow the program's name.
    pub(crate) fn parse(mut words: impl Iterator<Item = String>) -> Result<Self, BenchError> {
        let (mut rounds, mut seconds, mut only) = (5, 3, Vec::new());
        while let Some(flag) = words.next() {
            let value = words.next().ok_or_else(|| BenchError::Usage(format!("{flag} needs a value")))?;
            match flag.as_str() {
                "--rounds" => rounds = number(&flag, &value, 50)?,
                "--seconds" => seconds = number(&flag, &value, 60)?,
                "--only" => only = value.split(',').map(str::to_owned).collect(),
                _ => return Err(BenchError::Usage(format!("unknown flag {flag}"))),
            }
        }
        let is_connections = |word: &str| CONNECTIONS.iter().any(|n| n.to_string() == word);
        let is_known =
            |word: &str| is_connections(word) || OF_CALLS.contains(&word) || PARTS.iter().any(|(name, _)| *name == word);
        if let Some(word) = only.iter().find(|word| !is_known(word)) {
            return Err(BenchError::Usage(format!("--only does not know {word}")));
        }
        let has = |word: &str| only.iter().any(|named| named == word);
        // Of each kind, what is named; all where none of the kind is.
        let connections: Vec<usize> = CONNECTIONS.into_iter().filter(|n| has(&n.to_string())).collect();
        let durabilities: Vec<&'static str> = ["process", "power"].into_iter().filter(|word| has(word)).collect();
        let narrows_calls = OF_CALLS.into_iter().any(has) || (!connections.is_empty() && !has("workerd"));
        let is_asked = |name: &str, part: Part| only.is_empty() || has(name) || (part == Part::Calls && narrows_calls);
        let parts = PARTS.into_iter().filter(|(name, part)| is_asked(name, *part)).map(|(_, part)| part).collect();
        let is_narrowed = !durabilities.is_empty() || has("hot") || has("peers");
        Ok(Self {
            rounds,
            duration: Duration::from_secs(seconds as u64),
            parts,
            connections: if connections.is_empty() { CONNECTIONS.to_vec() } else { connections },
            durabilities: if durabilities.is_empty() { vec!["process", "power"] } else { durabilities },
            hot: !is_narrowed || has("hot"),
            peers: !is_narrowed || has("peers"),
        })
    }
}

fn number(flag: &str, value: &str, most: usize) -> Result<usize, BenchError> {
    let number = value.parse().ok().filter(|number| (1..=most).contains(number));
    number.ok_or_else(|| BenchError::Usage(format!("{flag} {value}: 1 to {most} is accepted")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &str) -> Args {
        Args::parse(words.split_whitespace().map(str::to_owned)).unwrap()
    }

    #[test]
    fn what_is_named_is_measured_and_all_is_where_nothing_is() {
        assert_eq!(parse("").parts.len(), PARTS.len());
        assert_eq!(parse("--only streams,scan").parts, [Part::Scan, Part::Streams]);
        let narrowed = parse("--only process,64");
        assert_eq!((narrowed.parts, narrowed.durabilities, narrowed.connections), (vec![Part::Calls], vec!["process"], vec![64]));
        let narrowed = parse("--only workerd,16");
        assert_eq!((narrowed.parts, narrowed.connections), (vec![Part::Workerd], vec![16]));
    }
}
