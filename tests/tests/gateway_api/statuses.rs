//! The suite's assertions about status, on the objects as they are stored.

use serde_json::Value;

use super::{bed::Bed, client::Outcome};

/// Checks one assertion once.
pub(crate) async fn check(bed: &Bed, assert: &str, args: &[Value]) -> Outcome<()> {
    let objects = Objects { bed };
    match assert {
        "GatewayAndHTTPRoutesMustBeAccepted" => objects.accepted(args, "HTTPRoute").await,
        "GatewayAndTCPRoutesMustBeAccepted" => objects.accepted(args, "TCPRoute").await,
        "GatewayAndRoutesMustBeAccepted" => {
            // The table leaves the kind to the route that is there.
            let http = objects.accepted(args, "HTTPRoute").await;
            if http.is_ok() { http } else { objects.accepted(args, "GRPCRoute").await.or(http) }
        }
        "GatewayAndTLSRoutesMustBeAccepted" => objects.accepted(args, "TLSRoute").await,
        "TLSRouteMustHaveResolvedRefsConditionsTrue" => {
            objects.route_condition("TLSRoute", args, &condition("ResolvedRefs", "True")).await
        }
        "BackendTLSPolicyMustHaveCondition" => objects.policy_condition(args).await,
        "WaitForGatewayAddress" => objects.address(args).await,
        "HTTPRouteMustHaveResolvedRefsConditionsTrue" => {
            objects.route_condition("HTTPRoute", args, &condition("ResolvedRefs", "True")).await
        }
        "HTTPRouteMustHaveCondition" => objects.route_condition("HTTPRoute", args, &args[2]).await,
        "TLSRouteMustHaveCondition" => objects.route_condition("TLSRoute", args, &args[2]).await,
        "TLSRouteMustHaveNoAcceptedParents" => objects.no_accepted_parents("TLSRoute", args).await,
        "GatewayMustHaveCondition" => objects.condition("Gateway", args).await,
        "GatewayClassMustBeAccepted" => objects.class(args).await,
        "TCPRouteMustHaveCondition" => objects.route_condition("TCPRoute", args, &args[2]).await,
        "HTTPRouteMustHaveLatestConditions" => objects.latest("HTTPRoute", args).await,
        "GatewayMustHaveLatestConditions" => objects.latest("Gateway", args).await,
        "HTTPRouteMustHaveParents" => objects.parents("HTTPRoute", args).await,
        "TCPRouteMustHaveParents" => objects.parents("TCPRoute", args).await,
        "HTTPRouteMustHaveNoAcceptedParents" => objects.no_accepted_parents("HTTPRoute", args).await,
        "GatewayMustHaveZeroRoutes" => objects.zero_routes(args).await,
        "GatewayStatusMustHaveListeners" => objects.listeners(args).await,
        "GatewayMustHaveAttachedListeners" => objects.attached_sets(args).await,
        "GatewayListenersMustHaveConditions" => objects.listener_conditions("Gateway", args).await,
        "ListenerSetMustHaveCondition" => objects.condition("ListenerSet", args).await,
        "ListenerSetListenersMustHaveConditions" => objects.listener_conditions("ListenerSet", args).await,
        other => Err(format!("this runner does not know the assertion {other}")),
    }
}

fn condition(kind: &str, status: &str) -> Value {
    serde_json::json!({"Type": kind, "Status": status, "Reason": ""})
}

/// Namespace and name, however the table spells them: `{name, namespace}`, `{Name, Namespace}`, `{nn: ...}`.
pub(crate) fn reference(value: &Value) -> Option<(String, String)> {
    let value = value.get("nn").unwrap_or(value);
    let text =
        |lower: &str, upper: &str| value.get(lower).or_else(|| value.get(upper))?.as_str().map(str::to_owned);
    Some((text("namespace", "Namespace")?, text("name", "Name")?))
}

struct Objects<'a> {
    bed: &'a Bed,
}

impl Objects<'_> {
    async fn get(&self, kind: &str, of: &Value) -> Outcome<Value> {
        let (namespace, name) = reference(of).ok_or_else(|| format!("no reference: {of}"))?;
        self.bed.get(kind, &namespace, &name).await
    }

    async fn accepted(&self, args: &[Value], kind: &str) -> Outcome<()> {
        let gateway = self.get("Gateway", &args[0]).await?;
        for wanted in ["Accepted", "Programmed"] {
            has(&gateway["status"]["conditions"], &condition(wanted, "True"))
                .map_err(|e| format!("Gateway {}: {e}", gateway["metadata"]["name"]))?;
        }
        self.address(args).await?;
        let routes = args[1..].iter().flat_map(|arg| match arg {
            Value::Array(list) => list.clone(),
            one => vec![one.clone()],
        });
        for route in routes.filter(|route| reference(route).is_some()) {
            self.route_condition(kind, &[route, args[0].clone()], &condition("Accepted", "True")).await?;
        }
        Ok(())
    }

    async fn address(&self, args: &[Value]) -> Outcome<()> {
        let gateway = self.get("Gateway", &args[0]).await?;
        match gateway["status"]["addresses"][0]["value"].as_str() {
            Some(_) => Ok(()),
            None => Err(format!("Gateway {} has no address", gateway["metadata"]["name"])),
        }
    }

    /// A condition of the route for that parent, of the object's present generation.
    async fn route_condition(&self, kind: &str, args: &[Value], wanted: &Value) -> Outcome<()> {
        let route = self.get(kind, &args[0]).await?;
        let (_, gateway) = reference(&args[1]).ok_or("no parent")?;
        let of = format!("{kind} {}", route["metadata"]["name"]);
        let parents = list(&route["status"]["parents"]);
        let parent = parents.iter().find(|parent| parent["parentRef"]["name"] == *gateway);
        let parent = parent.ok_or_else(|| format!("{of}: no status for parent {gateway}"))?;
        current(&route, &parent["conditions"]).map_err(|e| format!("{of}: {e}"))?;
        has(&parent["conditions"], wanted).map_err(|e| format!("{of}: {e}"))
    }

    /// A condition of the policy towards that Gateway, of the object's present generation.
    async fn policy_condition(&self, args: &[Value]) -> Outcome<()> {
        let policy = self.get("BackendTLSPolicy", &args[0]).await?;
        let (_, gateway) = reference(&args[1]).ok_or("no gateway")?;
        let of = format!("BackendTLSPolicy {}", policy["metadata"]["name"]);
        let ancestors = list(&policy["status"]["ancestors"]);
        let ancestor = ancestors.iter().find(|ancestor| ancestor["ancestorRef"]["name"] == *gateway);
        let ancestor = ancestor.ok_or_else(|| format!("{of}: no status for {gateway}"))?;
        current(&policy, &ancestor["conditions"]).map_err(|e| format!("{of}: {e}"))?;
        has(&ancestor["conditions"], &args[2]).map_err(|e| format!("{of}: {e}"))
    }

    async fn condition(&self, kind: &str, args: &[Value]) -> Outcome<()> {
        let object = self.get(kind, &args[0]).await?;
        current(&object, &object["status"]["conditions"])?;
        has(&object["status"]["conditions"], &args[1])
            .map_err(|e| format!("{kind} {}: {e}", object["metadata"]["name"]))
    }

    /// How many ListenerSets are attached, by a status that speaks of the present generation.
    async fn attached_sets(&self, args: &[Value]) -> Outcome<()> {
        let gateway = self.get("Gateway", &args[0]).await?;
        current(&gateway, &gateway["status"]["conditions"])?;
        match &gateway["status"]["attachedListenerSets"] {
            found if *found == args[1] => Ok(()),
            found => Err(format!("attachedListenerSets {found}, wanted {}", args[1])),
        }
    }

    /// Conditions of the listener that `args[2]` names.
    async fn listener_conditions(&self, kind: &str, args: &[Value]) -> Outcome<()> {
        let object = self.get(kind, &args[0]).await?;
        let found = list(&object["status"]["listeners"]).iter().find(|one| one["name"] == args[2]);
        let found = found.ok_or_else(|| format!("no status of listener {}", args[2]))?;
        current(&object, &found["conditions"])?;
        list(&args[1])
            .iter()
            .try_for_each(|wanted| has(&found["conditions"], wanted))
            .map_err(|e| format!("{kind} {} listener {}: {e}", object["metadata"]["name"], args[2]))
    }

    async fn class(&self, args: &[Value]) -> Outcome<()> {
        let class = self.bed.get("GatewayClass", "", args[0].as_str().unwrap_or_default()).await?;
        current(&class, &class["status"]["conditions"])?;
        has(&class["status"]["conditions"], &condition("Accepted", "True"))
    }

    async fn latest(&self, kind: &str, args: &[Value]) -> Outcome<()> {
        let object = self.get(kind, &args[0]).await?;
        if kind == "Gateway" {
            return current(&object, &object["status"]["conditions"]);
        }
        let parents = list(&object["status"]["parents"]);
        if parents.is_empty() {
            return Err(format!("{kind} {}: no parents in status", object["metadata"]["name"]));
        }
        parents.iter().try_for_each(|parent| current(&object, &parent["conditions"]))
    }

    async fn parents(&self, kind: &str, args: &[Value]) -> Outcome<()> {
        let route = self.get(kind, &args[0]).await?;
        let (wanted, found) = (list(&args[1]), list(&route["status"]["parents"]));
        if wanted.len() != found.len() {
            return Err(format!("{} parents wanted, status has {}", wanted.len(), found.len()));
        }
        for (wanted, found) in wanted.iter().zip(found) {
            let (theirs, ours) = (&wanted["ParentRef"], &found["parentRef"]);
            let fields = [("Kind", "kind"), ("Name", "name"), ("Namespace", "namespace")];
            // Without `namespaceRequired`, one that is left out is right too.
            let differ = fields.iter().find(|(upper, lower)| {
                theirs[upper] != ours[lower]
                    && !(*lower == "namespace" && args[2] == false && ours[lower].is_null())
            });
            if let Some((_, field)) = differ {
                return Err(format!("parentRef.{field}: {ours}, wanted {theirs}"));
            }
            if found["controllerName"] != "heddle.dev/gateway-controller" {
                return Err(format!("controllerName {}", found["controllerName"]));
            }
            list(&wanted["Conditions"]).iter().try_for_each(|wanted| has(&found["conditions"], wanted))?;
        }
        Ok(())
    }

    async fn no_accepted_parents(&self, kind: &str, args: &[Value]) -> Outcome<()> {
        let route = self.get(kind, &args[0]).await?;
        let parents = list(&route["status"]["parents"]);
        if parents.is_empty() {
            return Err(format!("{kind} {}: not judged yet", route["metadata"]["name"]));
        }
        match parents.iter().find(|parent| has(&parent["conditions"], &condition("Accepted", "True")).is_ok())
        {
            None => Ok(()),
            Some(parent) => Err(format!("accepted by {}", parent["parentRef"])),
        }
    }

    async fn zero_routes(&self, args: &[Value]) -> Outcome<()> {
        let gateway = self.get("Gateway", &args[0]).await?;
        let listeners = list(&gateway["status"]["listeners"]);
        if listeners.is_empty() {
            return Err("no listeners in status".into());
        }
        match listeners.iter().find(|listener| listener["attachedRoutes"] != 0) {
            None => Ok(()),
            Some(listener) => {
                Err(format!("listener {} has {} routes", listener["name"], listener["attachedRoutes"]))
            }
        }
    }

    async fn listeners(&self, args: &[Value]) -> Outcome<()> {
        let gateway = self.get("Gateway", &args[0]).await?;
        let (wanted, found) = (list(&args[1]), list(&gateway["status"]["listeners"]));
        if wanted.len() != found.len() {
            return Err(format!("{} listeners wanted, status has {}", wanted.len(), found.len()));
        }
        for wanted in wanted {
            let listener = found.iter().find(|listener| listener["name"] == wanted["Name"]);
            let listener = listener.ok_or_else(|| format!("no status of listener {}", wanted["Name"]))?;
            if listener["attachedRoutes"] != wanted["AttachedRoutes"] {
                return Err(format!(
                    "listener {}: attachedRoutes {}, wanted {}",
                    wanted["Name"], listener["attachedRoutes"], wanted["AttachedRoutes"]
                ));
            }
            let kinds = list(&listener["supportedKinds"]);
            let wanted_kinds = list(&wanted["SupportedKinds"]);
            if wanted.get("SupportedKinds").is_some() && wanted_kinds.is_empty() != kinds.is_empty() {
                return Err(format!("listener {}: supportedKinds {kinds:?}", wanted["Name"]));
            }
            if let Some(missing) = wanted_kinds.iter().find(|w| !kinds.iter().any(|k| k["kind"] == w["Kind"]))
            {
                return Err(format!("listener {}: supportedKinds lacks {missing}", wanted["Name"]));
            }
            current(&gateway, &listener["conditions"])?;
            list(&wanted["Conditions"]).iter().try_for_each(|wanted| has(&listener["conditions"], wanted))?;
        }
        Ok(())
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

/// The condition is there, with the status, and with the reason where one is asked for.
fn has(conditions: &Value, wanted: &Value) -> Outcome<()> {
    let Some(found) = list(conditions).iter().find(|condition| condition["type"] == wanted["Type"]) else {
        return Err(format!("no condition {}", wanted["Type"]));
    };
    let reason = wanted["Reason"].as_str().unwrap_or_default();
    if found["status"] == wanted["Status"] && (reason.is_empty() || found["reason"] == *reason) {
        Ok(())
    } else {
        Err(format!("condition is {found}, wanted {wanted}"))
    }
}

/// Every condition speaks of the object's present generation.
fn current(object: &Value, conditions: &Value) -> Outcome<()> {
    let generation = &object["metadata"]["generation"];
    if list(conditions).is_empty() {
        return Err(format!("{} {}: no conditions", object["kind"], object["metadata"]["name"]));
    }
    match list(conditions).iter().find(|condition| condition["observedGeneration"] != *generation) {
        None => Ok(()),
        Some(condition) => Err(format!("generation is {generation}, condition is {condition}")),
    }
}
