//! Choosing an endpoint of a set: pure, over an immutable set and a small state of one worker.
//!
//! First the priority (Envoy's overprovisioned health), then the locality where the cluster asks for it, then the endpoint by
//! the cluster's policy. Endpoints that were tried or that the worker holds for bad are avoided while others exist; when all
//! are bad the least bad is used and flagged, never one at random (DESIGN 7.5). Draining endpoints are never chosen while
//! others exist.

use std::cell::{Cell, RefCell};

use smallvec::SmallVec;

use crate::decide::matching::roll;
use crate::snapshot::{Balancer, Cluster, EndpointSet, Health, Priority};

/// Balancer state of one cluster on one worker; it outlives configuration.
#[derive(Debug, Default)]
pub struct State {
    turn: Cell<u32>,
    /// Smooth weighted round robin: the set it stands for, and each endpoint's current credit.
    credit: RefCell<(u64, Vec<i64>)>,
}

/// What the worker knows of the endpoints of a set, by index.
pub trait Members {
    /// Requests under way there.
    fn active(&self, index: usize) -> u32;
    /// How bad it is held to be; 0 is good, more is worse (outlier ejection, connect failures).
    fn badness(&self, index: usize) -> u32 {
        let _ = index;
        0
    }
    /// This request was there already.
    fn tried(&self, index: usize) -> bool {
        let _ = index;
        false
    }
}

/// A choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Picked {
    /// Index of the endpoint.
    pub index: usize,
    /// No good endpoint was left: this one is the least bad.
    pub least_bad: bool,
}

/// Chooses an endpoint; `None` when the set is empty or the request falls into `drop_overloads`.
pub fn pick(
    cluster: &Cluster,
    set: &EndpointSet,
    state: &State,
    members: &impl Members,
    random: u64,
) -> Option<Picked> {
    if u64::from(set.drop_per_million) > roll(random, 50) % 1_000_000 {
        return None;
    }
    let good = |index: u32| members.badness(index as usize) == 0;
    if let Some((priority, degraded)) = choose_priority(set, cluster, random) {
        let list = locality(priority, cluster, degraded, set.overprovisioning, random);
        if let Some(index) = quick(cluster, set, state, members, &list, random) {
            return Some(Picked { index, least_bad: false });
        }
        let usable: SmallVec<[u32; 32]> = list.iter().copied().filter(|index| good(*index)).collect();
        let fresh: SmallVec<[u32; 32]> =
            usable.iter().copied().filter(|index| !members.tried(*index as usize)).collect();
        for candidates in [&fresh, &usable] {
            if let Some(index) = choose(cluster, set, state, members, candidates, random) {
                return Some(Picked { index, least_bad: false });
            }
        }
    }
    anywhere(set, members, good, random)
}

/// The chosen priority held nobody good: any good endpoint by priority, untried ones first, then the least bad.
fn anywhere(
    set: &EndpointSet,
    members: &impl Members,
    good: impl Fn(u32) -> bool,
    random: u64,
) -> Option<Picked> {
    let rank = |index: usize| {
        let endpoint = &set.endpoints[index];
        let health = match endpoint.health {
            Health::Healthy => 0u32,
            Health::Degraded => 1,
            Health::Unhealthy => 2,
            Health::Draining => 3,
        };
        let bad = members.badness(index);
        (health == 3, health == 2 || bad > 0, members.tried(index), bad, health, endpoint.priority)
    };
    let best = (0..set.endpoints.len()).map(rank).min()?;
    let equals = (0..set.endpoints.len()).filter(|index| rank(*index) == best);
    let equals: SmallVec<[usize; 32]> = equals.collect();
    let index = *equals.get((roll(random, 51) % equals.len().max(1) as u64) as usize)?;
    let healthy = matches!(set.endpoints[index].health, Health::Healthy | Health::Degraded);
    Some(Picked { index, least_bad: !(healthy && good(index as u32)) })
}

/// Percent of a priority that is available, overprovisioned.
fn available(count: usize, priority: &Priority, set: &EndpointSet) -> u32 {
    if priority.total == 0 {
        return 0;
    }
    let percent = u64::from(set.overprovisioning) * count as u64 / u64::from(priority.total);
    u32::try_from(percent.min(100)).unwrap_or(100)
}

/// The priority for a roll and whether its degraded endpoints are meant: healthy ones of all priorities take their share
/// first, in order, then degraded ones.
fn choose_priority<'e>(set: &'e EndpointSet, cluster: &Cluster, random: u64) -> Option<(&'e Priority, Kind)> {
    if let [only] = &*set.priorities
        && only.healthy.len() as u32 == only.total
        && only.total > 0
    {
        return Some((only, Kind::Healthy));
    }
    let healthy = |p: &Priority| available(p.healthy.len(), p, set);
    let degraded = |p: &Priority| available(p.degraded.len(), p, set);
    let total: u32 = set.priorities.iter().map(|p| healthy(p) + degraded(p)).sum::<u32>().min(100);
    if cluster.panic_threshold > 0 && total < 100 {
        // Envoy's panic: below the threshold health is not looked at, so that the few that are left are not overrun.
        let panicking = set.priorities.iter().find(|p| p.total > 0)?;
        let share = (panicking.healthy.len() + panicking.degraded.len()) as u64 * 100;
        if share < u64::from(cluster.panic_threshold) * u64::from(panicking.total) {
            return Some((panicking, Kind::Any));
        }
    }
    if total == 0 {
        return None;
    }
    let mut left = roll(random, 52) % u64::from(total);
    for kind in [Kind::Healthy, Kind::Degraded] {
        for priority in &set.priorities {
            let share = u64::from(if kind == Kind::Healthy { healthy(priority) } else { degraded(priority) });
            if left < share {
                return Some((priority, kind));
            }
            left -= share;
        }
    }
    None
}

/// Which endpoints of a priority are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Healthy,
    Degraded,
    /// Panic: all but draining ones.
    Any,
}

/// The endpoints to choose from: those of one locality where the cluster weighs localities.
fn locality<'e>(
    priority: &'e Priority,
    cluster: &Cluster,
    kind: Kind,
    overprovisioning: u32,
    random: u64,
) -> std::borrow::Cow<'e, [u32]> {
    let all = || match kind {
        Kind::Healthy => (&*priority.healthy).into(),
        Kind::Degraded => (&*priority.degraded).into(),
        Kind::Any => [&*priority.healthy, &*priority.degraded, &*priority.unhealthy].concat().into(),
    };
    if !cluster.locality_weighted || priority.localities.is_empty() || kind == Kind::Any {
        return all();
    }
    let members = |share: &'e crate::snapshot::LocalityShare| match kind {
        Kind::Degraded => &*share.degraded,
        _ => &*share.healthy,
    };
    let weight = |share: &'e crate::snapshot::LocalityShare| {
        let part = members(share).len() as u64 * u64::from(overprovisioning) * 1000
            / (u64::from(share.total.max(1)) * 100);
        u64::from(share.weight) * part.min(1000)
    };
    let total: u64 = priority.localities.iter().map(weight).sum();
    if total == 0 {
        return all();
    }
    let mut left = roll(random, 53) % total;
    for share in &priority.localities {
        let part = weight(share);
        if left < part {
            return members(share).into();
        }
        left -= part;
    }
    all()
}

/// Draws from the list until good endpoints are met, without looking at all of it: for endpoints of equal weight. `None`: look
/// at all of it.
fn quick(
    cluster: &Cluster,
    set: &EndpointSet,
    state: &State,
    members: &impl Members,
    list: &[u32],
    random: u64,
) -> Option<usize> {
    const DRAWS: u64 = 12;
    if !set.uniform || list.len() < 2 {
        return None;
    }
    let ok = |index: u32| members.badness(index as usize) == 0 && !members.tried(index as usize);
    let draw = |purpose: u64| list[(roll(random, purpose) % list.len() as u64) as usize];
    match cluster.balancer {
        Balancer::RoundRobin | Balancer::ClusterProvided => {
            let turn = state.turn.get();
            let steps =
                (0..DRAWS as u32).find(|step| ok(list[turn.wrapping_add(*step) as usize % list.len()]))?;
            state.turn.set(turn.wrapping_add(steps + 1));
            Some(list[turn.wrapping_add(steps) as usize % list.len()] as usize)
        }
        Balancer::Random => {
            (0..DRAWS).map(|n| draw(100 + n)).find(|index| ok(*index)).map(|index| index as usize)
        }
        Balancer::LeastRequest { choices, .. } => {
            let mut drawn: SmallVec<[u32; 4]> = SmallVec::new();
            for n in 0..DRAWS {
                let index = draw(100 + n);
                if ok(index) && !drawn.contains(&index) {
                    drawn.push(index);
                }
                if drawn.len() >= choices as usize {
                    let least = drawn.iter().min_by_key(|index| members.active(**index as usize));
                    return least.map(|index| *index as usize);
                }
            }
            None
        }
    }
}

fn choose(
    cluster: &Cluster,
    set: &EndpointSet,
    state: &State,
    members: &impl Members,
    candidates: &[u32],
    random: u64,
) -> Option<usize> {
    let (first, rest) = candidates.split_first()?;
    if rest.is_empty() {
        return Some(*first as usize);
    }
    let weight = |index: u32| set.endpoints.get(index as usize).map_or(1, |endpoint| endpoint.weight);
    let equal = rest.iter().all(|index| weight(*index) == weight(*first));
    let chosen = match cluster.balancer {
        Balancer::RoundRobin | Balancer::ClusterProvided if equal => {
            let turn = state.turn.get();
            state.turn.set(turn.wrapping_add(1));
            candidates[turn as usize % candidates.len()]
        }
        Balancer::RoundRobin | Balancer::ClusterProvided => {
            smooth(set, state, candidates, |index| f64::from(weight(index)))
        }
        Balancer::Random if equal => candidates[(roll(random, 54) % candidates.len() as u64) as usize],
        Balancer::Random => by_weight(candidates, weight, roll(random, 54)),
        Balancer::LeastRequest { choices, .. } if equal => least(members, candidates, choices, random),
        Balancer::LeastRequest { bias, .. } => smooth(set, state, candidates, |index| {
            let active = f64::from(members.active(index as usize)) + 1.0;
            f64::from(weight(index)) / active.powf(bias)
        }),
    };
    Some(chosen as usize)
}

/// The least loaded of some drawn at random, no one drawn twice.
fn least(members: &impl Members, candidates: &[u32], choices: u32, random: u64) -> u32 {
    let count = candidates.len() as u64;
    let mut drawn: SmallVec<[u32; 4]> = SmallVec::new();
    for draw in 0..u64::from(choices.max(1)).min(count) {
        let mut at = roll(random, 60 + draw) % count;
        while drawn.contains(&candidates[at as usize]) {
            at = (at + 1) % count;
        }
        drawn.push(candidates[at as usize]);
    }
    drawn.iter().copied().min_by_key(|index| members.active(*index as usize)).unwrap_or(candidates[0])
}

fn by_weight(candidates: &[u32], weight: impl Fn(u32) -> u32, roll: u64) -> u32 {
    let total: u64 = candidates.iter().map(|index| u64::from(weight(*index))).sum();
    let mut left = roll % total.max(1);
    for index in candidates {
        if left < u64::from(weight(*index)) {
            return *index;
        }
        left -= u64::from(weight(*index));
    }
    candidates[0]
}

/// Smooth weighted round robin: every candidate earns its weight, the richest is chosen and pays what all earned. The sequence
/// of equal states is even, without bursts on heavy endpoints.
fn smooth(set: &EndpointSet, state: &State, candidates: &[u32], weight: impl Fn(u32) -> f64) -> u32 {
    const UNIT: f64 = 1024.0;
    let mut credit = state.credit.borrow_mut();
    if credit.0 != set.id || credit.1.len() != set.endpoints.len() {
        *credit = (set.id, vec![0; set.endpoints.len()]);
    }
    let mut total = 0i64;
    let mut best = candidates[0];
    for index in candidates {
        let earned = (weight(*index) * UNIT).clamp(1.0, 1e12) as i64;
        total = total.saturating_add(earned);
        let here = &mut credit.1[*index as usize];
        *here = here.saturating_add(earned);
        if credit.1[*index as usize] > credit.1[best as usize] {
            best = *index;
        }
    }
    credit.1[best as usize] = credit.1[best as usize].saturating_sub(total);
    best
}

#[cfg(test)]
#[path = "balance_test.rs"]
mod balance_test;
