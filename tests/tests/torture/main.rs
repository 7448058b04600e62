//! Bytes that were made to be misread, sent through heddle and through three proxies that others wrote.
//!
//! Of each request heddle makes what the corpus says: it refuses, or the server behind it sees exactly one well-formed
//! message. And it is never the lax one: what two of Envoy, nginx and HAProxy refuse it does not forward, unless the
//! corpus says with the sentence of an RFC why.

mod backend;
mod case;
mod contender;
mod strict;

use std::time::Duration;

use case::{Case, Expect};
use contender::{Answers, Contender};
use heddle_tests::say;
use strict::Message;

const REQUESTS: &str = include_str!("requests.txt");
const RESPONSES: &str = include_str!("responses.txt");

/// What became of a case.
struct Outcome {
    answers: Answers,
    requests: Vec<Message>,
    wrong: Vec<String>,
    settled: u16,
}

async fn run(contender: &Contender, bytes: &[u8], answer: Option<&[u8]>, count: usize) -> Outcome {
    contender.backend.with(|seen| {
        (seen.answer, seen.requests, seen.wrong) = (answer.map(<[u8]>::to_vec), Vec::new(), Vec::new());
    });
    let answers = contender.send(bytes, count, Duration::from_millis(1500)).await;
    // Whatever was left on a connection to the backend would be read before this.
    let settled = contender.settle().await;
    let (requests, wrong) =
        contender.backend.with(|seen| (std::mem::take(&mut seen.requests), std::mem::take(&mut seen.wrong)));
    Outcome { answers, requests, wrong, settled }
}

/// What is not as the case says.
fn complaints(case: &Case, outcome: &Outcome) -> Vec<String> {
    let mut found = Vec::new();
    let mut requests = outcome.requests.iter();
    let mut statuses = outcome.answers.statuses().into_iter();
    for expect in &case.expect {
        match expect {
            Expect::Forward { method, target, rest } => {
                match requests.next() {
                    None => found.push(format!("{method} {target} did not reach the upstream")),
                    Some(seen) => {
                        found.extend(unequal("method", method, seen.word(0)));
                        found.extend(unequal("target", target, seen.word(1)));
                        found.extend(differences(seen, rest));
                    }
                }
                let status = statuses.next();
                if status != Some(200) {
                    found.push(format!("{method} {target} was answered {status:?}"));
                }
            }
            Expect::Refuse(status) => {
                let got = statuses.next();
                if got != Some(*status) {
                    found.push(format!("not {status} but {got:?}"));
                }
            }
            Expect::Answer { .. } | Expect::Cut(_) => found.push("not said of requests".into()),
        }
    }
    found.extend(requests.map(|more| format!("the upstream also saw {:?} {:?}", more.first, more.fields)));
    found.extend(statuses.map(|more| format!("the client also got {more}")));
    let refused = !matches!(case.expect.last(), Some(Expect::Forward { .. }));
    if refused && !outcome.answers.closed {
        found.push("the connection was not closed".into());
    }
    found.extend(after(outcome));
    found
}

/// What no case may lead to.
fn after(outcome: &Outcome) -> Vec<String> {
    let mut found = Vec::new();
    found.extend(outcome.wrong.iter().map(|wrong| format!("the upstream saw {wrong}")));
    found.extend(outcome.answers.wrong.iter().map(|wrong| format!("the client got {wrong}")));
    if outcome.settled != 200 {
        found.push(format!("the next client was answered {}", outcome.settled));
    }
    found
}

fn unequal(what: &str, want: &str, got: &str) -> Option<String> {
    (want != got).then(|| format!("{what}: not {want:?} but {got:?}"))
}

fn differences(seen: &Message, rest: &[(String, String)]) -> Vec<String> {
    let there = |name: &str| if seen.all(name).next().is_some() { "there" } else { "absent" };
    let one = |(name, value): &(String, String)| match name.as_str() {
        "body" => unequal("body", value, &String::from_utf8_lossy(&seen.body)),
        "host" => unequal("host", value, seen.all("host").next().unwrap_or_default()),
        "has" => unequal(value, "there", there(value)),
        "not" => unequal(value, "absent", there(value)),
        other => Some(format!("the corpus asks for {other:?}")),
    };
    rest.iter().filter_map(one).collect()
}

/// What is not as the case says of the answer to the first request; the second is an ordinary one on the same connection.
fn response_complaints(case: &Case, outcome: &Outcome) -> Vec<String> {
    let mut found = Vec::new();
    let mut answers = outcome.answers.responses.iter();
    match case.expect.first() {
        Some(Expect::Answer { status, rest }) => match answers.next() {
            None => found.push("no answer".into()),
            Some(first) => {
                found.extend(unequal("status", &status.to_string(), &first.status().to_string()));
                found.extend(differences(first, rest));
            }
        },
        Some(Expect::Refuse(status)) => {
            let first = answers.next().map_or(0, Message::status);
            found.extend(unequal("status", &status.to_string(), &first.to_string()));
        }
        Some(Expect::Cut(status)) => {
            let start = format!("cut: \"HTTP/1.1 {status} ");
            if !outcome.answers.wrong.as_ref().is_some_and(|cut| cut.starts_with(&start)) {
                found.push(format!("not cut but {:?}", outcome.answers));
            }
        }
        _ => found.push("not said of responses".into()),
    }
    if let Some(second) = answers.next() {
        found.extend(unequal("the next answer is to", "/next", second.all("x-target").next().unwrap_or("?")));
    } else if !outcome.answers.closed {
        found.push("the next request was not answered".into());
    }
    found.extend(answers.map(|more| format!("the client also got {more:?}")));
    let mut rest = after(outcome);
    if matches!(case.expect.first(), Some(Expect::Cut(_))) {
        rest.retain(|complaint| !complaint.starts_with("the client got cut"));
    }
    found.extend(rest);
    found
}

async fn contenders(dir: &std::path::Path) -> Vec<Contender> {
    for name in ["envoy", "nginx", "haproxy"] {
        std::fs::create_dir_all(dir.join(name)).unwrap_or_else(|e| panic!("{e}"));
    }
    let mut all = vec![Contender::heddle().await];
    all.extend(Contender::envoy(&dir.join("envoy")).await);
    all.extend(Contender::nginx(&dir.join("nginx")).await);
    all.extend(Contender::haproxy(&dir.join("haproxy")).await);
    all
}

/// Every case on every contender, each contender by itself at its own pace.
async fn run_all<F>(cases: &[Case], contenders: &[Contender], one: F) -> Vec<Vec<Outcome>>
where
    F: AsyncFn(&Contender, &Case) -> Outcome,
{
    let all = contenders.iter().map(async |contender| {
        let mut outcomes = Vec::new();
        for case in cases {
            outcomes.push(one(contender, case).await);
        }
        outcomes
    });
    futures_util::future::join_all(all).await
}

/// Complaints about heddle: by the case, and by what the others do with it.
struct Judge {
    complain: fn(&Case, &Outcome) -> Vec<String>,
    /// How much of a case was passed on.
    passed: fn(&Case, &Outcome) -> usize,
}

impl Judge {
    fn judge(&self, cases: &[Case], contenders: &[Contender], all: &[Vec<Outcome>]) {
        let mut failures = Vec::new();
        for (index, case) in cases.iter().enumerate() {
            let mine = &all[0][index];
            let complaints = (self.complain)(case, mine);
            failures.extend(complaints.into_iter().map(|what| format!("{}: {what}", case.name)));
            let passed = |outcome: &Outcome| (self.passed)(case, outcome);
            let others = || contenders[1..].iter().zip(&all[1..]);
            let theirs: Vec<String> = others()
                .filter(|(_, outcomes)| passed(&outcomes[index]) < passed(mine))
                .map(|(contender, outcomes)| {
                    format!("{} {:?}", contender.name, outcomes[index].answers.statuses())
                })
                .collect();
            if theirs.len() >= 2 && case.lax.is_none() {
                failures.push(format!("{}: passed on, but not by {}", case.name, theirs.join(" and ")));
            }
            if std::env::var_os("HEDDLE_TORTURE_TABLE").is_some() {
                let row = contenders.iter().zip(all).map(|(contender, outcomes)| {
                    let outcome = &outcomes[index];
                    let wrong = if after(outcome).is_empty() { "" } else { "!" };
                    format!("{} {}{wrong} {:?}", contender.name, passed(outcome), outcome.answers.statuses())
                });
                say(&format!("{:<40} {}", case.name, row.collect::<Vec<_>>().join("  ")));
            }
        }
        say(&format!("{} cases, {} complaints", cases.len(), failures.len()));
        assert!(failures.is_empty(), "{}", failures.join("\n"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_have_one_meaning_or_none() {
    let scratch = tempfile::tempdir().unwrap_or_else(|e| panic!("{e}"));
    let (cases, contenders) = (case::read(REQUESTS), contenders(scratch.path()).await);
    assert!(cases.len() >= 200, "{}", cases.len());
    let all = run_all(&cases, &contenders, async |contender, case| {
        run(contender, &case.bytes, None, case.expect.len()).await
    })
    .await;
    let judge = Judge { complain: complaints, passed: |_, outcome| outcome.requests.len() };
    judge.judge(&cases, &contenders, &all);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn responses_have_one_meaning_or_none() {
    let scratch = tempfile::tempdir().unwrap_or_else(|e| panic!("{e}"));
    let (cases, contenders) = (case::read(RESPONSES), contenders(scratch.path()).await);
    assert!(cases.len() >= 70, "{}", cases.len());
    let all = run_all(&cases, &contenders, async |contender, case| {
        let first: &[u8] = if case.request.is_empty() {
            b"GET /case HTTP/1.1\r\nHost: a.mesh\r\n\r\n"
        } else {
            &case.request
        };
        let both = [first, b"GET /next HTTP/1.1\r\nHost: a.mesh\r\n\r\n"].concat();
        run(contender, &both, Some(&case.bytes), 2).await
    })
    .await;
    let passed = |case: &Case, outcome: &Outcome| {
        let first = outcome.answers.responses.first();
        usize::from(matches!((case.expect.first(), first), (Some(Expect::Answer { status, .. }), Some(first))
            if *status == first.status()))
    };
    Judge { complain: response_complaints, passed }.judge(&cases, &contenders, &all);
}
