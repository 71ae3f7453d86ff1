//! The command line.

use crate::error::BenchError;
use std::time::Duration;

const CONNECTIONS: [usize; 2] = [16, 64];

/// What to measure, and for how long.
pub(crate) struct Args {
    pub(crate) rounds: usize,
    pub(crate) duration: Duration,
    pub(crate) connections: Vec<usize>,
    pub(crate) durabilities: Vec<&'static str>,
    pub(crate) hot: bool,
    pub(crate) peers: bool,
}

impl Args {
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
        let known = ["process", "power", "hot", "peers", "16", "64"];
        if let Some(word) = only.iter().find(|word| !known.contains(&word.as_str())) {
            return Err(BenchError::Usage(format!("--only does not know {word}")));
        }
        let has = |word: &str| only.iter().any(|named| named == word);
        // Of each kind, what is named; all where none of the kind is.
        let connections: Vec<usize> = CONNECTIONS.into_iter().filter(|n| has(&n.to_string())).collect();
        let durabilities: Vec<&'static str> = ["process", "power"].into_iter().filter(|word| has(word)).collect();
        let is_narrowed = !durabilities.is_empty() || has("hot") || has("peers");
        Ok(Self {
            rounds,
            duration: Duration::from_secs(seconds as u64),
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
