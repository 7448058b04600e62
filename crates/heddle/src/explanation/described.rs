//! A decision in words.

use heddle_proxy::{
    decide::{Decision, Forward, Names, Respond},
    snapshot::{RetryOn, Snapshot},
};

/// Verdict, whether something is forwarded, and what else holds.
pub(super) type Described = (String, bool, Vec<(String, String)>);

pub(super) fn describe(snapshot: &Snapshot, decision: Decision<'_>) -> Described {
    match decision {
        Decision::Forward(forward) => forwarded(snapshot, &forward),
        Decision::Respond(answer) => respond(&answer),
        Decision::Need(Names::Routes(name)) => {
            (format!("route configuration {} is missing", name.as_str()), false, Vec::new())
        }
        Decision::Need(Names::VirtualHost(_, host)) => {
            (format!("no virtual host for {host}"), false, Vec::new())
        }
    }
}

fn forwarded(snapshot: &Snapshot, forward: &Forward<'_>) -> Described {
    let mut effects = Vec::new();
    let mut say = |name: &str, value: String| effects.push((name.to_owned(), value));
    say("timeout", forward.timeout.map_or("none (default)".to_owned(), |t| format!("{t:?}")));
    say("retries", retries(forward.max_retries, forward.retry_on));
    if let Some(fault) = &forward.fault {
        if let Some(delay) = fault.delay {
            say("fault", format!("delayed by {delay:?}"));
        }
        if let Some(abort) = &fault.abort {
            say("fault", format!("answered {} in place of the service", abort.status));
        }
    }
    for mirror in &forward.mirrors {
        say("mirrored to", mirror.cluster.name.as_str().to_owned());
    }
    if let Some(set) = snapshot.endpoints(forward.cluster) {
        say("endpoints", set.endpoints.len().to_string());
    }
    let aborted = forward.fault.as_ref().and_then(|f| f.abort.as_ref()).map(|a| a.status);
    match aborted {
        Some(status) => (
            format!("answered {status} by a fault, before {}", forward.cluster.name.as_str()),
            false,
            effects,
        ),
        None => (format!("to {}", forward.cluster.name.as_str()), true, effects),
    }
}

/// `2 on connect-failure,unavailable`
fn retries(most: u32, on: RetryOn) -> String {
    if most == 0 || on.is_empty() { "none".to_owned() } else { format!("{most} on {on}") }
}

pub(super) fn respond(answer: &Respond<'_>) -> Described {
    let mut effects: Vec<(String, String)> = answer
        .headers
        .iter()
        .map(|(name, value)| ((*name).to_owned(), String::from_utf8_lossy(value).into_owned()))
        .collect();
    if !answer.flag.is_empty() {
        effects.push(("response flag".to_owned(), answer.flag.to_owned()));
    }
    if !answer.body.is_empty() {
        effects.push(("body".to_owned(), String::from_utf8_lossy(&answer.body).into_owned()));
    }
    (format!("answered {} by the proxy", answer.status), false, effects)
}
