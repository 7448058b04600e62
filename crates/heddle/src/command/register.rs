//! `heddle register` and `deregister`: an instance as a WorkloadEntry, bound to its service by a label.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use heddle_api::client::{ApplyOptions, Client, ClientError};
use heddle_control::registry::{HEALTH, LEASE_TTL};
use heddle_resource::kind::{SERVICE, WORKLOAD_ENTRY};
use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::{
    cli::{DeregisterArgs, RegisterArgs},
    output, settings,
};

/// Binds a WorkloadEntry to a service, besides what selectors match.
pub(crate) const SERVICE_LABEL: &str = "heddle.dev/service";

/// An instance of a service.
pub(crate) struct Instance<'i> {
    pub(crate) name: String,
    pub(crate) namespace: &'i str,
    pub(crate) service: &'i str,
    pub(crate) address: SocketAddr,
    pub(crate) port_name: Option<&'i str>,
    pub(crate) service_port: Option<u16>,
    pub(crate) protocol: &'i str,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) weight: Option<u32>,
    /// How the control plane checks the instance: `http:/PATH`, `tcp` or `grpc`.
    pub(crate) health: Option<&'i str>,
    /// The instance goes when nobody renews it for so long.
    pub(crate) ttl: Option<Duration>,
}

impl Instance<'_> {
    /// Writes the instance, and the service where there is none.
    ///
    /// # Errors
    /// When the service has several ports and none is named, or the API refuses.
    pub(crate) async fn register(&self, client: &Client) -> Result<(), String> {
        check_health(self.health)?;
        let port = self.service_port_name(client).await?;
        let mut labels = self.labels.clone();
        labels.insert(SERVICE_LABEL.to_owned(), self.service.to_owned());
        labels.entry("app".to_owned()).or_insert_with(|| self.service.to_owned());
        let mut annotations = BTreeMap::new();
        annotations.extend(self.health.map(|check| (HEALTH, check.to_owned())));
        // Written with the entry: whoever is killed before the first renewal leaves nothing behind for ever.
        annotations.extend(self.ttl.map(|ttl| (LEASE_TTL, format!("{}s", ttl.as_secs().max(1)))));
        let mut spec = json!({
            "address": self.address.ip().to_string(),
            "ports": { port: self.address.port() },
            "labels": labels,
        });
        if let Some(weight) = self.weight {
            spec["weight"] = weight.into();
        }
        let entry = json!({
            "apiVersion": "networking.istio.io/v1",
            "kind": "WorkloadEntry",
            "metadata": {"name": self.name, "namespace": self.namespace, "labels": labels, "annotations": annotations},
            "spec": spec,
        });
        let options = ApplyOptions { force: true, ..ApplyOptions::default() };
        client.apply(&WORKLOAD_ENTRY, &entry, &options).await.map_err(|e| e.to_string())?;
        if self.ttl.is_none() { self.release(client).await } else { Ok(()) }
    }

    /// Gives up a lease that an earlier registration left: its lapse would take this one away.
    async fn release(&self, client: &Client) -> Result<(), String> {
        match client.raw(Method::DELETE, &self.lease_path(), &[], None).await {
            Ok(_) => Ok(()),
            // There is none, or the store knows no leases.
            Err(error) if matches!(error.code(), Some(StatusCode::NOT_FOUND | StatusCode::CONFLICT)) => {
                Ok(())
            }
            Err(error) => Err(error.to_string()),
        }
    }

    fn lease_path(&self) -> String {
        heddle_api::client::object_path(&WORKLOAD_ENTRY, self.namespace, &self.name) + "/lease"
    }

    pub(crate) async fn deregister(&self, client: &Client) -> Result<(), String> {
        client
            .delete(&WORKLOAD_ENTRY, self.namespace, &self.name)
            .await
            .map(|_| ())
            .map_err(|e| format!("{} of {}: {e}", self.name, self.service))
    }

    /// Grants the instance a lease, or renews it. An entry that is gone is written again: its lease lapsed while the control
    /// plane could not be reached, or that lost what it kept in memory, and this program still runs.
    ///
    /// # Errors
    /// When the API cannot be reached or refuses.
    pub(crate) async fn renew(&self, client: &Client, ttl: Duration) -> Result<(), String> {
        match self.lease(client, ttl).await {
            Err(error) if error.is_not_found() => {}
            renewed => return renewed.map_err(|e| e.to_string()),
        }
        self.register(client).await?;
        output::note(&format!("the registration of {} was gone: registered again", self.name));
        self.lease(client, ttl).await.map_err(|e| e.to_string())
    }

    async fn lease(&self, client: &Client, ttl: Duration) -> Result<(), ClientError> {
        let body = json!({"ttlSeconds": ttl.as_secs().max(1)});
        client.raw(Method::POST, &self.lease_path(), &[], Some(&body)).await.map(|_| ())
    }

    /// The name of the service's port that this instance stands for.
    async fn service_port_name(&self, client: &Client) -> Result<String, String> {
        let service = match client.get(&SERVICE, self.namespace, self.service).await {
            Err(error) if error.is_not_found() => match self.create_service(client).await? {
                Some(port) => return Ok(port),
                // Another instance was faster: its service counts.
                None => client.get(&SERVICE, self.namespace, self.service).await,
            },
            found => found,
        };
        let service = service.map_err(|e| e.to_string())?;
        let ports = service["spec"]["ports"].as_array().cloned().unwrap_or_default();
        let names: Vec<String> = ports.iter().map(port_name).collect();
        let chosen = match (self.port_name, names.as_slice()) {
            (Some(wanted), names) if names.iter().any(|n| n == wanted) => Ok(wanted.to_owned()),
            (None, [only]) => Ok(only.clone()),
            (Some(wanted), names) => {
                Err(format!("service {} has no port `{wanted}`; it has: {}", self.service, names.join(", ")))
            }
            (None, names) => Err(format!(
                "service {} has several ports: name one with --port-name ({})",
                self.service,
                names.join(", ")
            )),
        }?;
        // The service was there before, perhaps from another day: say where it is called.
        let number =
            ports.iter().find(|port| port_name(port) == chosen).and_then(|port| port["port"].as_u64());
        if let Some(number) = number
            && self.service_port.is_some_and(|wanted| u64::from(wanted) != number)
        {
            output::note(&format!("service {0} is there already: called at {0}:{number}", self.service));
        }
        Ok(chosen)
    }

    /// Creates the service; `None` when there is one by now.
    async fn create_service(&self, client: &Client) -> Result<Option<String>, String> {
        let number = self.service_port.unwrap_or(self.address.port());
        let name = match (self.port_name, self.protocol) {
            (Some(name), _) => name.to_owned(),
            (None, "") => "detect".to_owned(),
            (None, protocol) => protocol.to_owned(),
        };
        let mut port = json!({"name": name, "port": number});
        if !self.protocol.is_empty() {
            port["appProtocol"] = self.protocol.into();
        }
        let service = json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": self.service, "namespace": self.namespace},
            "spec": {"ports": [port], "selector": {"app": self.service}},
        });
        match client.create(&SERVICE, self.namespace, &service).await {
            Ok(_) => {}
            Err(error) if error.code() == Some(StatusCode::CONFLICT) => return Ok(None),
            Err(error) => return Err(error.to_string()),
        }
        output::note(&format!("service {} did not exist: created with port {number}", self.service));
        Ok(Some(name))
    }
}

/// A port without a name is called by its number.
fn port_name(port: &Value) -> String {
    match port["name"].as_str() {
        Some(name) if !name.is_empty() => name.to_owned(),
        _ => port["port"].to_string(),
    }
}

fn check_health(check: Option<&str>) -> Result<(), String> {
    match check {
        None | Some("tcp" | "grpc") => Ok(()),
        Some(path) if path.starts_with("http:/") => Ok(()),
        Some(other) => Err(format!("--health {other}: expected http:/PATH, tcp or grpc")),
    }
}

/// The name under which an address is registered: `hello-127-0-0-1-8000`.
fn entry_name(service: &str, address: SocketAddr) -> String {
    let address: String =
        address.to_string().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    format!("{service}-{}", address.trim_matches('-').replace("--", "-0-"))
}

pub(crate) async fn register(args: &RegisterArgs) -> Result<bool, String> {
    let client = Client::new(&settings::server(args.server.server.as_deref())).map_err(|e| e.to_string())?;
    let instance = Instance {
        name: entry_name(&args.service, args.address),
        namespace: &args.namespace,
        service: &args.service,
        address: args.address,
        port_name: args.port_name.as_deref(),
        service_port: args.service_port,
        protocol: &args.protocol,
        labels: settings::labels(&args.labels)?,
        weight: args.weight,
        health: args.health.as_deref(),
        ttl: args.ttl,
    };
    instance.register(&client).await?;
    output::line(&format!(
        "registered {} as an instance of {}/{}",
        args.address, args.namespace, args.service
    ));
    let Some(ttl) = args.ttl else { return Ok(true) };
    instance.renew(&client, ttl).await?;
    output::note(&format!("renewing every {:?}; Ctrl-C deregisters", ttl / 3));
    let mut heartbeat = tokio::time::interval(ttl / 3);
    loop {
        tokio::select! {
            _ = heartbeat.tick() => {
                if let Err(error) = instance.renew(&client, ttl).await {
                    output::warning(&format!("could not renew, trying again: {error}"));
                }
            }
            () = crate::role::stopped() => break,
        }
    }
    instance.deregister(&client).await?;
    output::line(&format!("deregistered {}", args.address));
    Ok(true)
}

pub(crate) async fn deregister(args: &DeregisterArgs) -> Result<bool, String> {
    let client = Client::new(&settings::server(args.server.server.as_deref())).map_err(|e| e.to_string())?;
    let name = entry_name(&args.service, args.address);
    client.delete(&WORKLOAD_ENTRY, &args.namespace, &name).await.map_err(|e| {
        if e.is_not_found() {
            format!(
                "{} is not registered as an instance of {}/{}",
                args.address, args.namespace, args.service
            )
        } else {
            e.to_string()
        }
    })?;
    output::line(&format!("deregistered {} from {}/{}", args.address, args.namespace, args.service));
    Ok(true)
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn every_address_has_a_usable_name() {
        assert_eq!(entry_name("hello", "127.0.0.1:80".parse().unwrap()), "hello-127-0-0-1-80");
        let six = entry_name("hello", "[::1]:80".parse().unwrap());
        assert!(!six.contains("--") && six.starts_with("hello-"), "{six}");
    }

    #[test]
    fn a_health_check_names_its_protocol() {
        assert!(check_health(Some("http:/ready")).is_ok());
        assert!(check_health(Some("/ready")).unwrap_err().contains("http:/PATH"));
    }
}
