//! Why a request of the control API was not done, and what its sender reads of it.

use super::Response;
use crate::book::LedgerError;
use crate::ledger::Refusal;
use crate::problem::{Code, Problem};
use crate::store::StoreError;

/// Why a request was not done.
#[derive(Debug)]
pub(super) enum Failure {
    /// The sender causes it, and its problem says whether trying again helps.
    Refused(Problem),
    /// The path exists and does not take this method. The sender causes it; no retry helps.
    WrongMethod {
        /// The methods it takes.
        allow: String,
    },
    /// The ledger could not be used: retry later where it is unavailable; where it is corrupt, no retry helps.
    Ledger(LedgerError),
    /// The gateway contradicts itself. No retry helps; the text is for the log.
    Internal(&'static str),
}

impl Failure {
    /// The request itself is wrong: in which way.
    pub(super) fn invalid(detail: impl Into<String>) -> Self {
        Self::Refused(Problem::new(Code::Invalid, detail))
    }

    pub(super) fn not_found(what: &str) -> Self {
        Self::Refused(Problem::new(Code::NotFound, format!("There is no such {what}.")))
    }

    /// From what an account refused. `what` names what the request was about.
    pub(super) fn refusal(refusal: &Refusal, what: &str) -> Self {
        match refusal {
            Refusal::NotFound => Self::not_found(what),
            Refusal::Conflict(reason) => Self::Refused(Problem::new(Code::Conflict, sentence(reason))),
            Refusal::Invalid(reason) => Self::Refused(Problem::new(Code::Invalid, sentence(reason))),
            _ => Self::Internal("a command of the control API was refused like a call"),
        }
    }

    pub(super) fn into_response(self) -> Response {
        let (problem, header, log) = match self {
            Self::Refused(problem) if problem.code == Code::Unauthorized && problem.status == 401 => {
                (problem, Some(("WWW-Authenticate", "Bearer".to_owned())), None)
            }
            Self::Refused(problem) => (problem, None, None),
            Self::WrongMethod { allow } => {
                let problem = Problem::new(Code::MethodNotAllowed, format!("This path takes {allow}."));
                (problem, Some(("Allow", allow)), None)
            }
            Self::Ledger(error @ LedgerError::Unavailable(_)) => {
                let problem = Problem::new(Code::LedgerUnavailable, "Nothing was done. Try again.").with_retry_after_s(1);
                (problem, None, Some(error.to_string()))
            }
            Self::Ledger(error @ LedgerError::Corrupt(_)) => (internal(), None, Some(error.to_string())),
            Self::Internal(reason) => (internal(), None, Some(reason.to_owned())),
        };
        let retry_after = problem.retry_after_s.map(|seconds| ("Retry-After", seconds.to_string()));
        Response {
            status: problem.status,
            content_type: "application/problem+json",
            body: problem.to_json(None),
            headers: header.into_iter().chain(retry_after).collect(),
            log,
        }
    }
}

fn internal() -> Problem {
    Problem::new(Code::Internal, "The gateway's log says more.")
}

/// A reason of the ledger as a sentence. One that starts with the name of a member keeps it as it is written.
fn sentence(reason: &str) -> String {
    let starts_with_member = reason.split(' ').next().is_some_and(|word| word.contains('_'));
    let mut characters = reason.chars();
    let first = characters.next().map(|first| if starts_with_member { first } else { first.to_ascii_uppercase() });
    first.into_iter().chain(characters).chain(std::iter::once('.')).collect()
}

impl From<Problem> for Response {
    /// As the control API answers it.
    fn from(problem: Problem) -> Self {
        Failure::from(problem).into_response()
    }
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        Self::Refused(problem)
    }
}

impl From<LedgerError> for Failure {
    fn from(error: LedgerError) -> Self {
        Self::Ledger(error)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Ledger(error.into())
    }
}

#[cfg(test)]
mod tests {
    use super::sentence;

    #[test]
    fn a_sentence_leaves_the_name_of_a_member_as_it_is_written() {
        assert_eq!(sentence("the package was released"), "The package was released.");
        assert_eq!(sentence("expires_at must be after starts_at"), "expires_at must be after starts_at.");
    }
}
