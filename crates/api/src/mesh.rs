//! What the API asks of the mesh behind it.

use std::collections::BTreeMap;

use async_trait::async_trait;
use serde_json::Value;

/// A refusal of a debug view: what was wrong with the question, or why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ViewError {
    /// There is no such view here.
    NotServed,
    /// The question is wrong.
    Invalid(String),
    /// There is nothing of that name.
    NotFound(String),
    Failed(String),
}

/// One of the debug views; each is served at `/debug/NAME`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum View {
    /// Which proxies are connected and what each has acknowledged.
    Syncz,
    /// Endpoints by service.
    Endpointz,
    /// The resources in force.
    Configz,
    /// Which proxies serve which object's last change (`?object=`).
    Convergence,
}

impl View {
    pub(crate) fn parse(name: &str) -> Option<Self> {
        match name {
            "syncz" => Some(Self::Syncz),
            "endpointz" => Some(Self::Endpointz),
            "configz" => Some(Self::Configz),
            "convergence" => Some(Self::Convergence),
            _ => None,
        }
    }
}

/// The mesh as the API shows it. Implemented by whoever composes a control plane with this API.
#[async_trait]
pub trait MeshView: Send + Sync + 'static {
    /// `Err` names what is not ready; `/readyz` answers 503 with it.
    fn ready(&self) -> Result<(), String> {
        Ok(())
    }

    /// The control plane's metrics in Prometheus text format.
    fn metrics(&self) -> String {
        String::new()
    }

    /// A debug view, with the query parameters of the request.
    async fn view(&self, view: View, query: &BTreeMap<String, String>) -> Result<Value, ViewError> {
        let _ = (view, query);
        Err(ViewError::NotServed)
    }

    /// `POST /debug/explain`: where a request would go.
    async fn explain(&self, question: Value) -> Result<Value, ViewError> {
        let _ = question;
        Err(ViewError::NotServed)
    }
}

/// An API with no mesh behind it: resources only.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoMesh;

#[async_trait]
impl MeshView for NoMesh {}
