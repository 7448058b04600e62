//! Certificates and authorities by the objects that hold them.
//!
//! Each is two units. The judgement ([`Unit::Credential`]) is what listeners and clusters read: whether the
//! object can be used. The resource ([`Unit::Secret`]) is its content, read by nobody else, so that a changed
//! certificate is one changed resource and nothing more.

use std::sync::Arc;

use envoy_types::pb::envoy::{
    config::core::v3::{DataSource, data_source::Specifier},
    extensions::transport_sockets::tls::v3::{
        CertificateValidationContext, Secret as SecretMessage, TlsCertificate, secret::Type,
    },
};
use heddle_resource::{
    Key, Object, Spec,
    certificate::{self, Fault},
    kind,
};
use heddle_xds::ResourceType;

use crate::compile::{
    cx::Cx,
    unit::{Unit, Value},
};

/// What a rule names.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub(crate) enum Credential {
    /// Certificate and key of a Secret.
    Pair { namespace: Arc<str>, name: Arc<str> },
    /// The authorities that go with an Istio credential: of the Secret `NAME-cacert`, else of `NAME`.
    Companion { namespace: Arc<str>, name: Arc<str> },
    /// The authorities of ConfigMaps and Secrets, together.
    Bundle(Arc<[Key]>),
}

/// Finds an object.
type Find<'f, 'o> = &'f dyn Fn(&Key) -> Option<&'o Arc<Object>>;

/// What was found.
enum Content {
    Pair(certificate::Pair),
    Authorities(String),
}

impl Credential {
    pub(crate) fn pair(namespace: &str, name: &str) -> Self {
        Self::Pair { namespace: namespace.into(), name: name.into() }
    }

    pub(crate) fn companion(namespace: &str, name: &str) -> Self {
        Self::Companion { namespace: namespace.into(), name: name.into() }
    }

    /// The resource's name: `kubernetes://NAMESPACE/NAME` for a pair, `kubernetes-ca://NAMESPACE/NAME` for an
    /// Istio credential's authorities, `ca://KIND/NAMESPACE/NAME,...` for those of other objects.
    pub(crate) fn resource_name(&self) -> String {
        match self {
            Self::Pair { namespace, name } => format!("kubernetes://{namespace}/{name}"),
            Self::Companion { namespace, name } => format!("kubernetes-ca://{namespace}/{name}"),
            Self::Bundle(keys) => {
                let one = |key: &Key| {
                    format!("{}/{}/{}", key.kind.kind.to_ascii_lowercase(), key.namespace, key.name)
                };
                format!("ca://{}", keys.iter().map(one).collect::<Vec<_>>().join(","))
            }
        }
    }

    /// Why it cannot be used, if so, given a way to find objects.
    pub(crate) fn fault<'o>(&self, find: Find<'_, 'o>) -> Option<String> {
        self.read(find).err()
    }

    fn read<'o>(&self, find: Find<'_, 'o>) -> Result<Content, String> {
        match self {
            Self::Pair { namespace, name } => {
                let key = Key::new(&kind::SECRET, namespace.clone(), name.clone());
                let object = find(&key).ok_or_else(|| format!("there is no {key}"))?;
                let Spec::Secret(secret) = &object.spec else { return Err(format!("{key} is no Secret")) };
                certificate::pair(secret).map(Content::Pair).map_err(|fault| at(&key, &fault))
            }
            Self::Companion { namespace, name } => {
                let own = Key::new(&kind::SECRET, namespace.clone(), format!("{name}-cacert"));
                let beside = Key::new(&kind::SECRET, namespace.clone(), name.clone());
                for key in [&own, &beside] {
                    let Some(Spec::Secret(secret)) = find(key).map(|object| &object.spec) else {
                        continue;
                    };
                    if certificate::has_authorities(secret) || key == &own {
                        let found = certificate::authorities(secret).map_err(|fault| at(key, &fault))?;
                        return Ok(Content::Authorities(found));
                    }
                }
                Err(format!("neither {own} nor {beside} holds authorities (cacert or ca.crt)"))
            }
            Self::Bundle(keys) => {
                let mut text = String::new();
                for key in keys.iter() {
                    text.push_str(&authorities(find, key)?);
                }
                Ok(Content::Authorities(text))
            }
        }
    }
}

fn at(key: &Key, fault: &Fault) -> String {
    format!("{key} {fault}")
}

fn authorities<'o>(find: Find<'_, 'o>, key: &Key) -> Result<String, String> {
    let object = find(key).ok_or_else(|| format!("there is no {key}"))?;
    let found = match &object.spec {
        Spec::ConfigMap(map) => certificate::config_map_authorities(map),
        Spec::Secret(secret) => certificate::authorities(secret),
        _ => return Err(format!("{key} is neither a ConfigMap nor a Secret")),
    };
    found.map_err(|fault| at(key, &fault))
}

/// The judgement: why it cannot be used, if so.
pub(crate) fn judge(cx: &Cx<'_>, credential: &Credential) -> Value {
    Value::Credential(credential.fault(&|key| cx.object(key)).map(Into::into))
}

/// Whether a credential can be used.
///
/// # Errors
/// With object, field and what is wanted.
pub(crate) fn usable(cx: &Cx<'_>, credential: &Credential) -> Result<(), Arc<str>> {
    match cx.unit(&Unit::Credential(credential.clone())) {
        Value::Credential(Some(fault)) => Err(fault),
        _ => Ok(()),
    }
}

/// The resource.
pub(crate) fn secret(cx: &Cx<'_>, credential: &Credential) -> Value {
    let Ok(content) = credential.read(&|key| cx.object(key)) else { return Value::none() };
    let name = credential.resource_name();
    let inline = |text: String| {
        let specifier = Some(Specifier::InlineBytes(text.into_bytes()));
        Some(DataSource { specifier, ..Default::default() })
    };
    let content = match content {
        Content::Pair(pair) => Type::TlsCertificate(TlsCertificate {
            certificate_chain: inline(pair.chain),
            private_key: inline(pair.key),
            ..Default::default()
        }),
        Content::Authorities(text) => Type::ValidationContext(CertificateValidationContext {
            trusted_ca: inline(text),
            ..Default::default()
        }),
    };
    let message = SecretMessage { name: name.clone(), r#type: Some(content) };
    cx.encode(ResourceType::Secret, &name, &message).into()
}
