//! What calls and ledger say together.

use std::collections::BTreeMap;
use std::time::Duration;

use super::clients::{End, Outcome};
use super::ledger::Executions;

/// Errors that a call may end with when its runner is in trouble, or its function too late.
const ERRORS: [u16; 3] = [502, 503, 504];

/// What must not have happened, and did.
pub(super) fn violations(
    outcomes: &[Outcome],
    executions: &Executions,
    limit: Duration,
) -> Vec<String> {
    let mut found = Vec::new();
    for outcome in outcomes {
        let number = outcome.plan.number;
        let runs = executions.get(&number).copied().unwrap_or_default();
        if runs > 1 {
            found.push(format!("call {number} ran {runs} times"));
        }
        let mut wrong = |what: &str| {
            let took = outcome.took.as_millis();
            let manner = outcome.plan.manner;
            found.push(format!("call {number} ({manner:?}, {took} ms): {what}"));
        };
        if outcome.took > limit {
            wrong("it is late");
        }
        match &outcome.end {
            End::Hangs => wrong("it has no answer"),
            End::Left | End::Broken(_) => {}
            End::Answered(answer) if answer.status == 200 => {
                if runs == 0 {
                    wrong("it was answered, and never ran");
                }
                if let Some(mistake) = outcome.plan.mistake(answer) {
                    wrong(&mistake);
                }
            }
            End::Answered(answer) if ERRORS.contains(&answer.status.as_u16()) => {}
            End::Answered(answer) => wrong(&format!("{answer:?}")),
        }
    }
    found
}

/// Says how many calls ended how.
pub(super) fn print(outcomes: &[Outcome]) {
    let mut ends: BTreeMap<String, u32> = BTreeMap::new();
    for outcome in outcomes {
        let end = match &outcome.end {
            End::Answered(answer) if answer.status == 200 => "200".to_owned(),
            End::Answered(answer) => {
                let body = String::from_utf8_lossy(&answer.body).trim().to_owned();
                format!("{} {body}", answer.status.as_u16())
            }
            End::Broken(why) => why.clone(),
            End::Left => "left".to_owned(),
            End::Hangs => "hangs".to_owned(),
        };
        *ends.entry(end).or_default() += 1;
    }
    let slowest = outcomes.iter().map(|outcome| outcome.took).max();
    println!("{ends:#?}, slowest {slowest:?}");
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::{HeaderMap, HeaderValue, StatusCode};

    use super::super::clients::Answer;
    use super::super::plan::Plan;
    use super::*;

    const LIMIT: Duration = Duration::from_secs(8);

    fn outcome(took: u64, end: End) -> Outcome {
        let (plan, took) = (Plan::plain(1), Duration::from_secs(took));
        Outcome { plan, took, end }
    }

    fn answered(status: u16, whose: &'static str) -> End {
        let mut headers = HeaderMap::new();
        headers.insert("X-Call", HeaderValue::from_static(whose));
        let status = StatusCode::from_u16(status).expect("a status");
        let body = format!(
            r#"{{"request": {{"tell": {{"text": "{whose}"}}}}, "data": {{"bodyLength": "11"}}}}"#
        );
        let body = Bytes::from(body);
        End::Answered(Answer {
            status,
            headers,
            body,
        })
    }

    #[test]
    fn each_rule_has_its_violation() {
        let cases: [(u64, End, u32, &str); 11] = [
            (1, answered(200, "1"), 1, ""),
            (1, answered(502, ""), 0, ""),
            (1, answered(503, ""), 1, ""),
            (8, End::Broken("reset".to_owned()), 1, ""),
            (1, End::Left, 0, ""),
            (1, answered(200, "1"), 2, "ran 2 times"),
            (1, answered(200, "1"), 0, "never ran"),
            (1, answered(200, "2"), 1, "the answer of"),
            (9, answered(200, "1"), 1, "late"),
            (23, End::Hangs, 1, "no answer"),
            (1, answered(500, ""), 1, "500"),
        ];
        for (took, end, runs, expected) in cases {
            let executions = Executions::from([(1, runs)]);
            let found = violations(&[outcome(took, end)], &executions, LIMIT).join("; ");
            assert_eq!(found.is_empty(), expected.is_empty(), "{found}");
            assert!(found.contains(expected), "{found}");
        }
    }
}
