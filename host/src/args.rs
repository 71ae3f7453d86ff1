//! The command line: what `spin up` takes, as far as this runner honours it.
//!
//! Parsing touches nothing outside its input, so every mistake is found before anything is opened.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Printed for `--help`, and after a usage error.
pub(crate) const USAGE: &str = "\
usage: tollgate-host up [options]

  --listen ADDR                              address to listen on (default 127.0.0.1:3000)
  --from PATH                                spin.toml, or the directory it is in (default spin.toml)
  --state-dir DIR                            where the database lives (default .spin beside spin.toml)
  --variable KEY=VALUE                       sets a variable; KEY=@FILE reads it from a file; repeatable
  --max-instance-reuse-count N               requests an instance serves in its life (default 128)
  --max-instance-concurrent-reuse-count N    requests an instance serves at once (default 16)
  --idle-instance-timeout DURATION           an instance idle this long is dropped (default 1s)";

/// A checked command line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Args {
    pub(crate) listen: SocketAddr,
    pub(crate) from: PathBuf,
    pub(crate) state_dir: Option<PathBuf>,
    pub(crate) variables: Vec<VariableArg>,
    pub(crate) reuse: Reuse,
}

/// One `--variable`, in the order given; a later one wins.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct VariableArg {
    pub(crate) name: String,
    pub(crate) source: VariableSource,
}

/// Where the value of a `--variable` comes from.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum VariableSource {
    Text(String),
    File(PathBuf),
}

/// How long an instance is kept and how much it is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reuse {
    pub(crate) total: usize,
    pub(crate) concurrent: usize,
    pub(crate) idle_timeout: Duration,
}

/// Why a command line was refused. All are the caller's mistakes.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum ArgsError {
    /// `--help` was asked for; not a mistake, but nothing is to be run.
    #[error("help")]
    Help,
    #[error("the command must be \"up\"")]
    Command,
    #[error("unknown option {0}")]
    UnknownOption(String),
    #[error("{0} needs a value")]
    MissingValue(String),
    #[error("{option}: {value:?} is not {accepted}")]
    InvalidValue { option: String, value: String, accepted: &'static str },
    #[error("an argument is not UTF-8")]
    NotUtf8,
}

/// Parses the arguments after the program's name.
pub(crate) fn parse(args: impl IntoIterator<Item = std::ffi::OsString>) -> Result<Args, ArgsError> {
    let mut words = args.into_iter().map(|word| word.into_string().map_err(|_| ArgsError::NotUtf8));
    match words.next().transpose()?.as_deref() {
        Some("up") => {}
        Some("--help" | "-h" | "help") => return Err(ArgsError::Help),
        _ => return Err(ArgsError::Command),
    }
    let mut parsed = Args {
        listen: SocketAddr::from(([127, 0, 0, 1], 3000)),
        from: PathBuf::from("spin.toml"),
        state_dir: None,
        variables: Vec::new(),
        reuse: Reuse { total: 128, concurrent: 16, idle_timeout: Duration::from_secs(1) },
    };
    while let Some(word) = words.next().transpose()? {
        let (option, inline) = match word.split_once('=') {
            Some((option, value)) if option.starts_with("--") => (option.to_owned(), Some(value.to_owned())),
            _ => (word, None),
        };
        if matches!(option.as_str(), "--help" | "-h") {
            return Err(ArgsError::Help);
        }
        if !is_known(&option) {
            return Err(ArgsError::UnknownOption(option));
        }
        let value = match inline {
            Some(value) => value,
            None => words.next().transpose()?.ok_or_else(|| ArgsError::MissingValue(option.clone()))?,
        };
        apply(&mut parsed, &option, value)?;
    }
    Ok(parsed)
}

fn is_known(option: &str) -> bool {
    matches!(
        option,
        "--listen"
            | "--from"
            | "-f"
            | "--state-dir"
            | "--variable"
            | "--max-instance-reuse-count"
            | "--max-instance-concurrent-reuse-count"
            | "--idle-instance-timeout"
    )
}

fn apply(args: &mut Args, option: &str, value: String) -> Result<(), ArgsError> {
    let refused = |accepted| ArgsError::InvalidValue { option: option.to_owned(), value: value.clone(), accepted };
    match option {
        "--listen" => args.listen = value.parse().map_err(|_| refused("an address like 127.0.0.1:3000"))?,
        "--state-dir" => args.state_dir = Some(PathBuf::from(value)),
        "--variable" => args.variables.push(variable(&value).ok_or_else(|| {
            // The value may be a secret, so a malformed pair is not repeated.
            ArgsError::InvalidValue { option: option.to_owned(), value: "...".to_owned(), accepted: "KEY=VALUE or KEY=@FILE" }
        })?),
        "--max-instance-reuse-count" => args.reuse.total = count(&value).ok_or_else(|| refused("a number from 1"))?,
        "--max-instance-concurrent-reuse-count" => {
            args.reuse.concurrent = count(&value).ok_or_else(|| refused("a number from 1"))?;
        }
        "--idle-instance-timeout" => {
            args.reuse.idle_timeout = duration(&value).ok_or_else(|| refused("a duration like 500ms, 1s or 2m"))?;
        }
        _ => args.from = PathBuf::from(value),
    }
    Ok(())
}

fn variable(pair: &str) -> Option<VariableArg> {
    let (name, value) = pair.split_once('=')?;
    let source = match value.strip_prefix('@') {
        Some(path) => VariableSource::File(PathBuf::from(path)),
        None => VariableSource::Text(value.to_owned()),
    };
    Some(VariableArg { name: name.to_owned(), source })
}

fn count(value: &str) -> Option<usize> {
    value.parse().ok().filter(|count| *count > 0)
}

fn duration(value: &str) -> Option<Duration> {
    let digits = value.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = value.split_at(digits);
    let number: u64 = number.parse().ok()?;
    let unit_ms = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        _ => return None,
    };
    number.checked_mul(unit_ms).map(Duration::from_millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_words(words: &[&str]) -> Result<Args, ArgsError> {
        parse(words.iter().map(|word| (*word).into()))
    }

    #[test]
    fn defaults_are_those_of_spin() {
        let args = parse_words(&["up"]).unwrap();
        assert_eq!(args.listen.to_string(), "127.0.0.1:3000");
        assert_eq!(args.from, PathBuf::from("spin.toml"));
        assert_eq!(args.reuse, Reuse { total: 128, concurrent: 16, idle_timeout: Duration::from_secs(1) });
    }

    #[test]
    fn options_take_their_value_after_a_space_or_an_equals_sign() {
        let args = parse_words(&["up", "--listen=127.0.0.1:0", "--variable", "a=b=c", "--variable=d=@e"]).unwrap();
        assert_eq!(args.listen.port(), 0);
        assert_eq!(args.variables[0].source, VariableSource::Text("b=c".to_owned()));
        assert_eq!(args.variables[1].source, VariableSource::File(PathBuf::from("e")));
    }

    #[test]
    fn mistakes_are_refused() {
        for words in [
            &["serve"][..],
            &["up", "--bogus"],
            &["up", "--listen"],
            &["up", "--listen", "here"],
            &["up", "--variable", "novalue"],
            &["up", "--max-instance-reuse-count", "0"],
            &["up", "--idle-instance-timeout", "1h"],
        ] {
            assert!(parse_words(words).is_err(), "{words:?}");
        }
    }
}
