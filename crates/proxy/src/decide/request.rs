//! One request on its way through the tables: virtual host, route, action.

use std::borrow::Cow;
use std::time::Duration;

use smallvec::SmallVec;

use super::filters::{self, Filtered, Levels};
use super::matching::{is_grpc, request_value, roll};
use super::observe::{Mismatch, Observer};
use super::{
    Decision, Downstream, Forward, Matched, MirrorTo, Respond, UpgradeOutcome, domains, format, forward,
    not_found, requested_upgrade, rewrite, timeout,
};
use crate::http::head::{Method, RequestHead, Scheme};
use crate::snapshot::{
    Action, Cluster, ClusterChoice, DirectResponse, HttpConnectionManager, IdleTimeout, Mirror, Name,
    Redirect, RequireTls, Route, RouteAction, RouteConfig, Snapshot, VirtualHost, Weighted, WeightedCluster,
    WeightedName,
};

/// A request on its way through the tables.
pub(super) struct Request<'s, 'h> {
    pub(super) snapshot: &'s Snapshot,
    pub(super) downstream: &'s Downstream,
    pub(super) http: &'s HttpConnectionManager,
    pub(super) config: &'s RouteConfig,
    pub(super) head: &'h RequestHead,
    pub(super) random: u64,
}

impl<'s> Request<'s, '_> {
    /// The host that chooses the virtual host.
    pub(super) fn host(&self) -> Cow<'_, [u8]> {
        let host = match &self.config.vhost_header {
            Some(header) => request_value(self.head, header).unwrap_or_default(),
            None => self.head.authority().into(),
        };
        match (self.config.ignore_port, host) {
            (true, Cow::Borrowed(host)) => domains::without_port(host).into(),
            (_, host) => host,
        }
    }

    pub(super) fn in_virtual_host<O: Observer<'s>>(
        &self,
        virtual_host: &'s VirtualHost,
        observer: &mut O,
    ) -> Decision<'s> {
        let clear = self.head.scheme != Scheme::Https;
        if clear && virtual_host.require_tls != RequireTls::None {
            let target = [b"https://", self.head.authority(), self.head.path()].concat();
            let answer =
                Respond { details: "direct_response", grpc: is_grpc(self.head), ..Respond::new(301) };
            return Decision::Respond(answer.with("location", &target));
        }
        let Some((position, route)) = self.route(virtual_host, observer) else {
            return self.no_route(Some(virtual_host));
        };
        observer.matched(position, route);
        let upgrade = match self.upgrade(Some(route)) {
            Ok(upgrade) => upgrade,
            Err(answer) => return Decision::Respond(answer),
        };
        let matched = Matched { config: self.config, virtual_host, route };
        match &route.action {
            Action::Forward(action) => self.forward(matched, action, upgrade, observer),
            Action::Redirect(redirect) => self.redirect(matched, redirect),
            Action::Direct(direct) => self.direct(matched, direct),
            Action::NonForwarding => self.no_route(Some(virtual_host)),
        }
    }

    /// The first route that matches.
    fn route<O: Observer<'s>>(
        &self,
        virtual_host: &'s VirtualHost,
        observer: &mut O,
    ) -> Option<(usize, &'s Route)> {
        let (mut path, _) = rewrite::split_path(self.head.path());
        if self.config.ignore_path_parameters {
            path = path.split(|byte| *byte == b';').next().unwrap_or(path);
        }
        if O::EVERY_ROUTE {
            for (position, route) in virtual_host.routes.iter().enumerate() {
                match self.matches(route, path) {
                    Ok(()) => return Some((position, route)),
                    Err(why) => observer.skipped(position, route, why),
                }
            }
            return None;
        }
        virtual_host.index.candidates(self.head, path).find_map(|position| {
            let route = virtual_host.routes.get(position as usize)?;
            self.matches(route, path).is_ok().then_some((position as usize, route))
        })
    }

    fn matches(&self, route: &'s Route, path: &[u8]) -> Result<(), Mismatch<'s>> {
        let wanted = &route.matches;
        if !wanted.path.is_match(self.head, path) {
            return Err(Mismatch::Path(&wanted.path));
        }
        if let Some(header) = wanted.headers.iter().find(|header| !header.is_match(self.head)) {
            return Err(Mismatch::Header(header));
        }
        if !wanted.query.is_empty() {
            let query = self.head.query();
            if let Some(parameter) = wanted.query.iter().find(|parameter| !parameter.is_match(query)) {
                return Err(Mismatch::Query(parameter));
            }
        }
        if wanted.grpc && !is_grpc(self.head) {
            return Err(Mismatch::NotGrpc);
        }
        match wanted.fraction {
            Some(share) if !share.hit(roll(self.random, 1)) => Err(Mismatch::Fraction(share.0)),
            _ => Ok(()),
        }
    }

    fn levels(&self, weighted: Option<&'s WeightedCluster>, matched: Option<Matched<'s>>) -> Levels<'s> {
        let mut levels = Levels::new();
        levels.extend(weighted.map(|weighted| &weighted.filters));
        levels.extend(matched.map(|matched| &matched.route.filters));
        levels.extend(matched.map(|matched| &matched.virtual_host.filters));
        levels.push(&self.config.filters);
        levels
    }

    pub(super) fn no_route(&self, virtual_host: Option<&'s VirtualHost>) -> Decision<'s> {
        // As Envoy: a plain CONNECT that no route takes has no route, whatever else it may not have.
        let connect = self.head.method == Method::Connect && self.head.protocol().is_empty();
        if !connect && let Err(answer) = self.upgrade(None) {
            return Decision::Respond(answer);
        }
        let _ = virtual_host;
        let filtered = filters::run(self.http, &Levels::new(), None, self.head, self.random);
        Decision::Respond(Respond { fault: filtered.fault, ..not_found(self.head) })
    }

    /// The upgrade asked for, or the answer when it is not allowed here.
    #[expect(clippy::result_large_err, reason = "an answer is built once per request and lives on the stack")]
    fn upgrade(&self, route: Option<&'s Route>) -> Result<UpgradeOutcome, Respond<'s>> {
        let Some(kind) = requested_upgrade(self.head) else { return Ok(UpgradeOutcome::None) };
        let same = |name: &str| kind.eq_ignore_ascii_case(name.as_bytes());
        let route = route.and_then(|route| match &route.action {
            Action::Forward(action) => action.upgrades.iter().find(|upgrade| same(&upgrade.kind)),
            _ => None,
        });
        let manager = self.http.upgrades.iter().find(|(name, _)| same(name));
        let allowed = match route {
            Some(upgrade) => upgrade.enabled,
            None => manager.is_some_and(|(_, enabled)| *enabled),
        };
        if !allowed {
            let grpc = is_grpc(self.head);
            return Err(Respond { details: "upgrade_failed", grpc, ..Respond::new(403) });
        }
        let terminate =
            self.head.method == Method::Connect && route.is_some_and(|upgrade| upgrade.terminate_connect);
        Ok(if terminate { UpgradeOutcome::Terminate } else { UpgradeOutcome::Pass })
    }

    fn forward<O: Observer<'s>>(
        &self,
        matched: Matched<'s>,
        action: &'s RouteAction,
        upgrade: UpgradeOutcome,
        observer: &mut O,
    ) -> Decision<'s> {
        let (weighted, name, cluster) = self.cluster(action, observer);
        let levels = self.levels(weighted, Some(matched));
        let Filtered { fault, cors, answer, web } =
            filters::run(self.http, &levels, Some(&name), self.head, self.random);
        if let Some(answer) = answer {
            return Decision::Respond(Respond { fault, web: Some(web), ..answer });
        }
        observer.cluster(&name, cluster);
        let Some(cluster) = cluster else {
            let answer = Respond::new(action.cluster_not_found);
            let grpc = is_grpc(self.head);
            return Decision::Respond(Respond {
                flag: "NC",
                details: "cluster_not_found",
                fault,
                grpc,
                web: Some(web),
                ..answer
            });
        };
        let (retry, retry_on, max_retries, codes) = forward::retries(matched, action, self.head);
        let times = timeout::timeouts(self.http, action, retry, self.head);
        let some = |duration: Duration| (!duration.is_zero()).then_some(duration);
        Decision::Forward(Forward {
            http: self.http,
            config: self.config,
            virtual_host: matched.virtual_host,
            route: matched.route,
            action,
            weighted,
            cluster,
            fault,
            mirrors: self.mirrors(matched, action),
            timeout: some(times.global),
            per_try_timeout: some(times.per_try),
            max_stream_duration: times.max_stream,
            idle_timeout: match action.idle_timeout {
                Some(IdleTimeout::Off) => None,
                Some(IdleTimeout::After(duration)) => Some(duration),
                None => self.http.stream_idle_timeout,
            },
            retry,
            retry_on,
            max_retries,
            extra_status_codes: codes,
            buffer_limit: matched.route.buffer_limit.or(matched.virtual_host.buffer_limit),
            cors,
            upgrade,
            web,
            random: self.random,
            times,
        })
    }

    /// The weighted cluster, the cluster's name, and the cluster.
    fn cluster<O: Observer<'s>>(
        &self,
        action: &'s RouteAction,
        observer: &mut O,
    ) -> (Option<&'s WeightedCluster>, Cow<'s, str>, Option<&'s Cluster>) {
        let by_name = |name: &'s Name| (name.as_str().into(), self.snapshot.cluster(name));
        match &action.cluster {
            ClusterChoice::One(name) => {
                let (name, cluster) = by_name(name);
                (None, name, cluster)
            }
            ClusterChoice::Header(header) => {
                let (name, cluster) = self.by_header(header);
                (None, name, cluster)
            }
            ClusterChoice::Weighted(weighted) => {
                let Some(drawn) = self.draw(weighted, observer) else { return (None, "".into(), None) };
                let (name, cluster) = match &drawn.cluster {
                    WeightedName::Name(name) => by_name(name),
                    WeightedName::Header(header) => self.by_header(header),
                };
                (Some(drawn), name, cluster)
            }
        }
    }

    fn by_header(&self, header: &str) -> (Cow<'s, str>, Option<&'s Cluster>) {
        let value = request_value(self.head, header).unwrap_or_default();
        let name = String::from_utf8_lossy(&value);
        let cluster = self.snapshot.cluster_named(&name);
        (name.into_owned().into(), cluster)
    }

    fn draw<O: Observer<'s>>(&self, weighted: &'s Weighted, observer: &mut O) -> Option<&'s WeightedCluster> {
        let said = weighted.header.as_ref().and_then(|header| {
            let value = request_value(self.head, header)?;
            std::str::from_utf8(&value).ok()?.trim_ascii().parse::<u64>().ok()
        });
        let value = said.unwrap_or_else(|| roll(self.random, 2)) % weighted.total.max(1);
        let mut left = value;
        let drawn = weighted.clusters.iter().find(|cluster| {
            let hit = left < u64::from(cluster.weight);
            left = left.wrapping_sub(u64::from(cluster.weight));
            hit
        })?;
        observer.weighted(drawn, weighted.total, value);
        Some(drawn)
    }

    fn mirrors(&self, matched: Matched<'s>, action: &'s RouteAction) -> SmallVec<[MirrorTo<'s>; 1]> {
        let levels: [&'s [Mirror]; 3] =
            [&action.mirrors, &matched.virtual_host.mirrors, &self.config.mirrors];
        let Some(mirrors) = levels.into_iter().find(|mirrors| !mirrors.is_empty()) else {
            return SmallVec::new();
        };
        let drawn = (20u64..).zip(mirrors).filter(|(purpose, mirror)| {
            mirror.fraction.is_none_or(|share| share.hit(roll(self.random, *purpose)))
        });
        drawn
            .filter_map(|(_, mirror)| {
                let cluster = match &mirror.cluster {
                    WeightedName::Name(name) => self.snapshot.cluster(name)?,
                    WeightedName::Header(header) => self.by_header(header).1?,
                };
                Some(MirrorTo { cluster, mirror })
            })
            .collect()
    }

    fn redirect(&self, matched: Matched<'s>, redirect: &'s Redirect) -> Decision<'s> {
        let context = self.context(matched.route);
        let target = rewrite::location(redirect, &matched.route.matches.path, &context);
        let answer = self.answer(matched, redirect.status);
        Decision::Respond(answer.with("location", &target))
    }

    fn direct(&self, matched: Matched<'s>, direct: &'s DirectResponse) -> Decision<'s> {
        let mut answer = self.answer(matched, direct.status);
        answer.body = match &direct.format {
            Some(format) => {
                let mut body = Vec::new();
                format.write(&self.context(matched.route), b"-", &mut body);
                body.into()
            }
            None => (&*direct.body).into(),
        };
        answer.content_type = direct.content_type.as_deref();
        Decision::Respond(answer)
    }

    /// An answer of a route, with what the fault filter does first.
    fn answer(&self, matched: Matched<'s>, status: u16) -> Respond<'s> {
        let levels = self.levels(None, Some(matched));
        let filtered = filters::run(self.http, &levels, None, self.head, self.random);
        Respond {
            details: "direct_response",
            matched: Some(matched),
            fault: filtered.fault,
            grpc: is_grpc(self.head),
            web: Some(filtered.web),
            ..Respond::new(status)
        }
    }

    fn context<'c>(&'c self, route: &'c Route) -> format::Context<'c> {
        let (downstream, request) = (self.downstream, self.head);
        format::Context { downstream, request, response: None, route: &route.name, cluster: "" }
    }
}
