//! `heddle demo`: a whole mesh with sample services and live traffic on this machine.
//!
//! The control plane, each service's sidecar and the gateway are processes of this same binary. The
//! services themselves run here, and keep their own logs, which every expectation is checked against.

mod children;
mod display;
mod resources;
mod script;
mod shop;

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    sync::Arc,
    time::Duration,
};

use futures_util::{StreamExt, stream};
use heddle_api::client::Client;
use heddle_runtime::free_port;

use self::{
    children::Role,
    display::Display,
    resources::{GATEWAY_HOST, NAMESPACE},
    script::{Event, Outcome, STEPS, Step},
    shop::{INSTANCES, Journal, Running},
};
use crate::{
    cli::DemoArgs,
    command::{apply, explain},
};

/// How many requests the traffic source keeps in flight.
const IN_FLIGHT: usize = 16;
/// How long the demo waits for the mesh to serve a change.
const PATIENCE: Duration = Duration::from_secs(30);

/// Runs the demo; true when every expectation held.
///
/// # Errors
/// When a part of the mesh does not start.
pub(crate) async fn run(args: &DemoArgs) -> Result<bool, String> {
    let scratch = tempfile::Builder::new().prefix("heddle-demo-").tempdir().map_err(|e| e.to_string())?;
    let mut display = Display::new();
    let mut mesh = Mesh::start(scratch.path(), &mut display).await?;
    let interrupted = tokio::signal::ctrl_c();
    tokio::pin!(interrupted);
    let script = async {
        let mut failed: usize = 0;
        loop {
            for (index, step) in STEPS.iter().enumerate() {
                failed += usize::from(!mesh.play(index, step, args.requests, &mut display).await?);
            }
            if args.once {
                return Ok::<usize, String>(failed);
            }
            mesh.revive().await?;
        }
    };
    tokio::select! {
        failed = script => match failed? {
            0 => {
                Display::new().line(&format!("\nall {} expectations held", STEPS.len()));
                Ok(true)
            }
            failed => {
                Display::new().line(&format!("\n{failed} of {} expectations FAILED", STEPS.len()));
                Ok(false)
            }
        },
        _ = &mut interrupted => Ok(true),
    }
}

struct Mesh {
    control: Role,
    sidecars: Vec<Role>,
    /// Serves until it is dropped.
    _gateway: Role,
    services: Vec<Running>,
    journal: Arc<Journal>,
    api: Client,
    entrance: SocketAddr,
    scratch: std::path::PathBuf,
}

impl Mesh {
    async fn start(scratch: &Path, display: &mut Display) -> Result<Self, String> {
        display.line(
            "heddle demo: starting the control plane, the shop's services, a sidecar for each, and a gateway",
        );
        let args = ["control", "--store", "memory", "--xds", "127.0.0.1:0", "--api", "127.0.0.1:0"];
        let control = Role::start("control", scratch.join("control"), &owned(&args)).await?;
        let address = control.ports.api.ok_or("the control plane has no API address")?;
        let api = Client::new(&format!("http://{address}")).map_err(|e| e.to_string())?;

        let journal = Arc::new(Journal::default());
        let mut services = Vec::new();
        for instance in INSTANCES {
            services.push(shop::open(*instance, journal.clone()).await.map_err(|e| e.to_string())?);
        }
        let door =
            free_port(Ipv4Addr::LOCALHOST.into()).map_err(|e| format!("no port for the gateway: {e}"))?;
        let entrance = SocketAddr::from((Ipv4Addr::LOCALHOST, door));
        apply_text(&api, &resources::mesh(INSTANCES, door)).await?;

        let mut sidecars = Vec::new();
        for service in &services {
            sidecars.push(start_sidecar(&control, scratch, service).await?);
        }
        let mut workloads = String::new();
        for (service, sidecar) in services.iter().zip(&sidecars) {
            workloads.push_str("---\n");
            workloads.push_str(&introduce(service, sidecar)?);
        }
        let gateway = start_gateway(&control, scratch).await?;
        apply_text(&api, &workloads).await?;

        let mut mesh = Self {
            control,
            sidecars,
            _gateway: gateway,
            services,
            journal,
            api,
            entrance,
            scratch: scratch.to_owned(),
        };
        mesh.wait_until_it_answers().await?;
        display.line(&format!(
            "  control plane  http://{address}   (kubectl --server http://{address} get virtualservices -A)"
        ));
        display.line(&format!(
            "  gateway        http://{entrance}   (curl -H 'Host: {GATEWAY_HOST}' http://{entrance}/)"
        ));
        Ok(mesh)
    }

    /// One step: the change, the traffic, the check.
    async fn play(
        &mut self,
        index: usize,
        step: &Step,
        requests: u32,
        display: &mut Display,
    ) -> Result<bool, String> {
        self.happen(step.event).await;
        if let Some((host, rules)) = step.change {
            apply_text(&self.api, &resources::route(host, rules)).await?;
        }
        let why = self.why(step).await;
        display.title(index + 1, STEPS.len(), step, &why);
        self.journal.take();
        let answers = self.traffic(step, requests, display).await;
        let outcome = Outcome { served: self.journal.take(), answers };
        let verdict = (step.check)(&outcome);
        display.verdict(&verdict);
        Ok(verdict.is_ok())
    }

    async fn happen(&mut self, event: Event) {
        let shipping_b = self.services.iter().position(|s| s.instance.name == "shipping-b");
        match (event, shipping_b) {
            (Event::ShippingFails, Some(at)) => self.services[at].fail(true),
            (Event::ShippingDies, Some(at)) => {
                self.services[at].fail(false);
                self.sidecars[at].kill().await;
            }
            _ => {}
        }
    }

    /// Brings back what the last step killed, so that the script can run again.
    async fn revive(&mut self) -> Result<(), String> {
        for at in 0..self.services.len() {
            if self.services[at].instance.name == "shipping-b" {
                self.sidecars[at] = start_sidecar(&self.control, &self.scratch, &self.services[at]).await?;
                apply_text(&self.api, &introduce(&self.services[at], &self.sidecars[at])?).await?;
            }
        }
        for host in ["price", "shipping"] {
            apply_text(
                &self.api,
                &resources::route(host, &format!("- route:\n  - destination:\n      host: {host}")),
            )
            .await?;
        }
        Ok(())
    }

    /// Sends the step's requests through the gateway and returns what came back.
    async fn traffic(&self, step: &Step, requests: u32, display: &mut Display) -> Vec<(&'static str, u16)> {
        let of = requests as usize;
        let entrance = self.entrance;
        let calls = (0..of).map(|n| step.users[n % step.users.len()]).map(|user| async move {
            match shop::call(entrance, GATEWAY_HOST, "/", user).await {
                Ok((status, _)) => (user, status),
                Err(_) => (user, 0),
            }
        });
        let mut calls = stream::iter(calls).buffer_unordered(IN_FLIGHT);
        let mut answers = Vec::with_capacity(of);
        let mut redraw = tokio::time::interval(Duration::from_millis(100));
        loop {
            tokio::select! {
                answer = calls.next() => match answer {
                    Some(answer) => answers.push(answer),
                    None => break,
                },
                _ = redraw.tick() => display.bars(&self.journal.counts(), answers.len(), of),
            }
        }
        display.bars(&self.journal.counts(), answers.len(), of);
        answers
    }

    /// What `heddle explain` says of the storefront's call that this step is about.
    async fn why(&self, step: &Step) -> String {
        let user = step.users.last().copied().unwrap_or_default();
        explain::summary(&self.api, step.about, NAMESPACE, "storefront", user).await.unwrap_or_else(|e| e)
    }

    /// Waits until a page has come through the gateway from every service.
    async fn wait_until_it_answers(&mut self) -> Result<(), String> {
        let mut poll = tokio::time::interval(Duration::from_millis(50));
        let mut last = String::new();
        let ready = async {
            loop {
                poll.tick().await;
                match shop::call(self.entrance, GATEWAY_HOST, "/", "").await {
                    Ok((200, _)) => return,
                    Ok((status, body)) => last = format!("{status} {body}"),
                    Err(error) => last = error,
                }
            }
        };
        if tokio::time::timeout(PATIENCE, ready).await.is_ok() {
            return Ok(());
        }
        Err(format!(
            "the shop does not answer through the gateway after {PATIENCE:?}; the last answer was: {last}"
        ))
    }
}

async fn apply_text(api: &Client, text: &str) -> Result<(), String> {
    apply::apply_text(api, text, "demo", NAMESPACE, Some(PATIENCE)).await
}

/// The WorkloadEntry of an instance: reachable at its sidecar's inbound address.
fn introduce(service: &Running, sidecar: &Role) -> Result<String, String> {
    let inbound = sidecar.ports.inbound.values().next();
    let inbound =
        inbound.ok_or_else(|| format!("the sidecar of {} has no inbound address", service.instance.name))?;
    let outbound = sidecar.ports.outbound.first();
    service.use_proxy(
        *outbound
            .ok_or_else(|| format!("the sidecar of {} has no outbound address", service.instance.name))?,
    );
    Ok(resources::workload(&service.instance, *inbound))
}

async fn start_sidecar(control: &Role, scratch: &Path, service: &Running) -> Result<Role, String> {
    let instance = service.instance;
    let xds = control.ports.xds.ok_or("the control plane has no xDS address")?;
    let args = [
        "proxy",
        "--role",
        "sidecar",
        "--xds",
        &format!("http://{xds}"),
        "--namespace",
        NAMESPACE,
        "--workload",
        instance.name,
        "--labels",
        &format!("app={},version={}", instance.service, instance.version),
        "--outbound",
        "127.0.0.1:0",
        "--inbound",
        &format!("{}=127.0.0.1:0", service.address.port()),
        "--admin",
        "127.0.0.1:0",
        "--dns",
        "127.0.0.1:0",
        "--workers",
        "1",
    ];
    Role::start(instance.name, scratch.join(instance.name), &owned(&args)).await
}

async fn start_gateway(control: &Role, scratch: &Path) -> Result<Role, String> {
    let xds = control.ports.xds.ok_or("the control plane has no xDS address")?;
    let args = [
        "proxy",
        "--role",
        "gateway",
        "--xds",
        &format!("http://{xds}"),
        "--namespace",
        NAMESPACE,
        "--workload",
        "shop-gateway",
        "--labels",
        "app=shop-gateway",
        "--gateway",
        &format!("istio:{NAMESPACE}/shop-gateway"),
        "--bind",
        "127.0.0.1",
        "--admin",
        "127.0.0.1:0",
        "--dns",
        "127.0.0.1:0",
        "--workers",
        "1",
    ];
    Role::start("gateway", scratch.join("gateway"), &owned(&args)).await
}

fn owned(args: &[&str]) -> Vec<String> {
    args.iter().map(|a| (*a).to_owned()).collect()
}
