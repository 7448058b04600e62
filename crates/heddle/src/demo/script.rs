//! The steps of the demo: what is changed, what traffic is sent, and what the services' own logs must say then.

use super::{resources, shop::Served};

/// What one step saw.
#[derive(Default)]
pub(crate) struct Outcome {
    /// What the services wrote down.
    pub(crate) served: Vec<Served>,
    /// What the traffic source got, by user.
    pub(crate) answers: Vec<(&'static str, u16)>,
}

impl Outcome {
    fn served_by(&self, instance: &str) -> usize {
        self.served.iter().filter(|s| s.instance == instance).count()
    }

    fn of_service(&self, service: &str) -> usize {
        self.served.iter().filter(|s| s.service == service).count()
    }

    fn answered(&self, status: u16) -> usize {
        self.answers.iter().filter(|(_, s)| *s == status).count()
    }

    fn everyone_got_an_answer(&self) -> Result<(), String> {
        match self.answers.len() - self.answered(200) {
            0 => Ok(()),
            failed => Err(format!("{failed} of {} requests failed", self.answers.len())),
        }
    }
}

/// What happens to the shop itself, beside its resources.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    None,
    /// `shipping-b` begins to answer 503 now and then.
    ShippingFails,
    /// The proxy of `shipping-b` is killed with kill -9.
    ShippingDies,
}

pub(crate) struct Step {
    pub(crate) title: &'static str,
    /// What the watcher should see, in a sentence.
    pub(crate) story: &'static str,
    /// The resource that is applied, if any: a host and its rules.
    pub(crate) change: Option<(&'static str, &'static str)>,
    pub(crate) event: Event,
    /// The `end-user` of each request, in turn.
    pub(crate) users: &'static [&'static str],
    /// The service whose route this step is about.
    pub(crate) about: &'static str,
    /// `Ok` says what was found, `Err` what was wrong.
    pub(crate) check: fn(&Outcome) -> Result<String, String>,
}

pub(crate) const STEPS: &[Step] = &[
    Step {
        title: "everything to v1",
        story: "three versions of `price` run; a VirtualService sends all of its traffic to v1",
        change: Some(("price", resources::ALL_TO_V1)),
        event: Event::None,
        users: &[""],
        about: "price",
        check: all_to_v1,
    },
    Step {
        title: "a canary: 90/10",
        story: "one request in ten goes to v2",
        change: Some(("price", resources::NINETY_TEN)),
        event: Event::None,
        users: &[""],
        about: "price",
        check: ninety_ten,
    },
    Step {
        title: "a tester sees v3",
        story: "requests with `end-user: ada` go to v3, all others to v1",
        change: Some(("price", resources::ADA_TO_V3)),
        event: Event::None,
        users: &["", "ada"],
        about: "price",
        check: ada_to_v3,
    },
    Step {
        title: "a fault for one user",
        story: "the mesh answers 418 to bob in place of `price`; `price` never sees him",
        change: Some(("price", resources::FAULT_FOR_BOB)),
        event: Event::None,
        users: &["", "bob"],
        about: "price",
        check: fault_for_bob,
    },
    Step {
        title: "an instance that fails now and then",
        story: "`shipping-b` answers 503 to every third request; retries on 5xx hide it from the shop",
        change: Some(("shipping", resources::RETRY_FAILURES)),
        event: Event::ShippingFails,
        users: &[""],
        about: "shipping",
        check: failures_are_hidden,
    },
    Step {
        title: "kill -9",
        story: "the proxy of `shipping-b` dies without a word; nobody notices",
        change: None,
        event: Event::ShippingDies,
        users: &[""],
        about: "shipping",
        check: death_goes_unnoticed,
    },
];

fn all_to_v1(o: &Outcome) -> Result<String, String> {
    o.everyone_got_an_answer()?;
    let (v1, all) = (o.served_by("price-v1"), o.of_service("price"));
    if let Some(idle) = ["shipping-a", "shipping-b"].iter().find(|instance| o.served_by(instance) == 0) {
        return Err(format!("{idle} served nothing; is its sidecar reached?"));
    }
    if v1 == all && all == o.answers.len() {
        return Ok(format!("price-v1 served all of {all}"));
    }
    Err(format!("price-v1 served {v1} of {all}, with {} requests sent", o.answers.len()))
}

fn ninety_ten(o: &Outcome) -> Result<String, String> {
    o.everyone_got_an_answer()?;
    let (v1, v2, v3) = (o.served_by("price-v1"), o.served_by("price-v2"), o.served_by("price-v3"));
    let all = o.answers.len() as f64;
    // Four sigma: a fair split is further off once in 16,000 times.
    let (expected, most) = (all * 0.1, 4.0 * (all * 0.1 * 0.9).sqrt());
    let off = (v2 as f64 - expected).abs();
    if v3 != 0 || v1 + v2 != o.answers.len() || off > most {
        return Err(format!(
            "price served v1 {v1}, v2 {v2}, v3 {v3}; expected {expected:.0} ± {most:.0} at v2"
        ));
    }
    Ok(format!("price-v1 served {v1}, price-v2 {v2} ({expected:.0} ± {most:.0} expected)"))
}

fn ada_to_v3(o: &Outcome) -> Result<String, String> {
    o.everyone_got_an_answer()?;
    let astray = o
        .served
        .iter()
        .filter(|s| s.service == "price" && s.version != if s.user == "ada" { "v3" } else { "v1" })
        .count();
    let (v1, v3) = (o.served_by("price-v1"), o.served_by("price-v3"));
    if astray > 0 || v3 == 0 || v1 + v3 != o.answers.len() {
        return Err(format!("{astray} requests at the wrong version (v1 {v1}, v3 {v3})"));
    }
    Ok(format!("all {v3} of ada's requests at price-v3, all {v1} others at price-v1"))
}

fn fault_for_bob(o: &Outcome) -> Result<String, String> {
    let bobs = o.answers.iter().filter(|(user, _)| *user == "bob").count();
    let bob_failed = o.answers.iter().filter(|(user, status)| *user == "bob" && *status == 502).count();
    let others_failed = o.answers.iter().filter(|(user, status)| *user != "bob" && *status != 200).count();
    let seen = o.served.iter().filter(|s| s.service == "price" && s.user == "bob").count();
    if bobs == 0 || bob_failed != bobs || others_failed > 0 || seen > 0 {
        return Err(format!(
            "bob failed {bob_failed} of {bobs}, others failed {others_failed}, price saw bob {seen} times"
        ));
    }
    Ok(format!(
        "bob was refused {bobs} times and price never saw him; the others got all of their {} pages",
        o.answers.len() - bobs
    ))
}

fn failures_are_hidden(o: &Outcome) -> Result<String, String> {
    let failures = o.served.iter().filter(|s| s.instance == "shipping-b" && s.status == 503).count();
    o.everyone_got_an_answer().map_err(|e| format!("{e}, while shipping-b failed {failures} times"))?;
    if failures == 0 {
        return Err("shipping-b never failed: nothing was shown".to_owned());
    }
    Ok(format!(
        "shipping-b failed {failures} times, and every one of {} requests got its page",
        o.answers.len()
    ))
}

fn death_goes_unnoticed(o: &Outcome) -> Result<String, String> {
    o.everyone_got_an_answer()?;
    let served = o.served_by("shipping-a");
    if o.served_by("shipping-b") > 0 {
        return Err("shipping-b served requests after its death".to_owned());
    }
    Ok(format!("shipping-a served all of {served}; no request failed"))
}
