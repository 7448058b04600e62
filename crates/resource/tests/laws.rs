//! Laws of the resource model: what is printed reads as the same, and nothing that comes in makes admission panic.

use heddle_resource::{
    Admission, AdmitOptions, Kind, Spec, UnknownFields, admit, admit_json, analyze, kind::Content, kinds,
    parse_documents, schema::Field, schema::Schema,
};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

/// A small generator (SplitMix64): one number from proptest makes one document.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % sides
    }

    fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.roll(from.len() as u64) as usize].clone()
    }

    /// A value of a schema; `depth` bounds its size.
    fn value(&mut self, schema: &Schema, field: Option<&Field>, depth: u32) -> Value {
        match schema {
            Schema::String => match field.map(|f| f.one_of).filter(|words| !words.is_empty()) {
                Some(words) => self.pick(words).into(),
                None => self.pick(&["a", "reviews", "v1", "/x", "10.0.0.1", "*", "x.example.com"]).into(),
            },
            Schema::Integer => {
                let (least, greatest) = field.and_then(|f| f.range).unwrap_or((0, 100));
                self.pick(&[least.max(0), 1, 80, greatest.min(65535)]).into()
            }
            Schema::Number => json!(self.roll(1000) as f64 / 8.0),
            Schema::Boolean => (self.roll(2) == 0).into(),
            Schema::IntOrString => self.pick(&[json!(8080), json!("http")]),
            Schema::Duration => self.pick(&["1s", "1h2m", "250ms", "1.5s", "0s"]).into(),
            Schema::Any => json!({ "free": [1, "x", null] }),
            Schema::Enum(words) => self.pick(words).into(),
            Schema::List(item) => {
                (0..self.roll(3)).map(|_| self.value(item, field, depth)).collect::<Vec<_>>().into()
            }
            Schema::Map(item) => {
                let entries = (0..self.roll(3)).map(|at| (format!("k{at}"), self.value(item, field, depth)));
                entries.collect::<Map<_, _>>().into()
            }
            Schema::Object(fields) => self.object(fields, depth).into(),
        }
    }

    fn object(&mut self, fields: &[Field], depth: u32) -> Map<String, Value> {
        let string_match = fields.len() == 3 && fields[0].name == "exact";
        let mut object = Map::new();
        if string_match {
            let name = self.pick(&["exact", "prefix", "regex"]);
            object.insert(name.to_owned(), "x".into());
            return object;
        }
        for field in fields {
            if field.required || depth > 0 && self.roll(3) == 0 {
                let value = self.value(&field.schema, Some(field), depth.saturating_sub(1));
                object.insert(field.name.to_owned(), value);
            }
        }
        object
    }

    fn document(&mut self, kind: &Kind) -> Value {
        let Schema::Object(fields) = (kind.schema)() else { unreachable!() };
        let content = self.object(&fields, 6);
        let mut document = match kind.content {
            Content::Spec => Map::from_iter([("spec".to_owned(), content.into())]),
            Content::Document => content,
        };
        document.insert("apiVersion".to_owned(), kind.api_version().into());
        document.insert("kind".to_owned(), kind.kind.into());
        document.insert("metadata".to_owned(), json!({ "name": "x", "namespace": "default" }));
        document.into()
    }
}

/// The typed content as JSON.
fn print(spec: &Spec) -> Value {
    macro_rules! each {
        ($($variant:ident),*) => {
            match spec {
                $(Spec::$variant(content) => serde_json::to_value(&**content).unwrap(),)*
            }
        };
    }
    each!(
        Namespace,
        Service,
        Pod,
        Secret,
        ConfigMap,
        ServiceAccount,
        EndpointSlice,
        VirtualService,
        DestinationRule,
        ServiceEntry,
        WorkloadEntry,
        WorkloadGroup,
        IstioGateway,
        Sidecar,
        GatewayClass,
        Gateway,
        ListenerSet,
        HttpRoute,
        GrpcRoute,
        TcpRoute,
        TlsRoute,
        BackendTlsPolicy,
        ReferenceGrant
    )
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::from),
        "[a-z*./%-]{0,12}".prop_map(Value::String),
    ];
    leaf.prop_recursive(4, 32, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            prop::collection::btree_map("(spec|http|match|route|tls|hosts|rules|[a-z]{1,6})", inner, 0..4)
                .prop_map(|entries| entries.into_iter().collect::<Map<_, _>>().into()),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_printed_reads_as_the_same(seed: u64) {
        let mut dice = Dice(seed);
        for kind in kinds() {
            let document = dice.document(kind);
            let first = kind.read(&document).unwrap_or_else(|e| panic!("{kind:?}: {e}\n{document}"));
            let printed = print(&first);
            let again = match kind.content {
                Content::Spec => kind.read(&json!({ "spec": printed })),
                Content::Document => kind.read(&printed),
            };
            prop_assert_eq!(print(&again.unwrap()), printed);
        }
    }

    #[test]
    fn every_verdict_comes_without_a_panic(seed: u64) {
        let mut dice = Dice(seed);
        let verdicts = kinds().iter().map(|kind| admit_json(dice.document(kind), &AdmitOptions::default()));
        let objects: Vec<_> = verdicts.filter_map(Admission::object).collect();
        for finding in analyze(&objects) {
            prop_assert!(!finding.fix().is_empty(), "{} has no fix", finding.code);
        }
        for object in &objects {
            // An admitted object is admitted again, as the API serves it.
            let again = admit_json((*object.json).clone(), &AdmitOptions::default());
            let admitted = matches!(again, Admission::Admitted { .. });
            prop_assert!(admitted, "{:?}", object.key());
            let _ = object.unbuilt();
        }
    }

    #[test]
    fn arbitrary_json_is_judged_without_a_panic(mut value in any_json(), at in 0..21_usize, refuse: bool) {
        let kind = kinds()[at];
        if let Some(object) = value.as_object_mut() {
            object.insert("apiVersion".to_owned(), kind.api_version().into());
            object.insert("kind".to_owned(), kind.kind.into());
            object.insert("metadata".to_owned(), json!({ "name": "x" }));
        }
        let unknown_fields = if refuse { UnknownFields::Refuse } else { UnknownFields::Drop };
        let _ = admit_json(value, &AdmitOptions { unknown_fields, default_namespace: "default" });
    }

    #[test]
    fn arbitrary_text_is_read_without_a_panic(text in "(---\n|[a-z]{1,4}: |[\\[\\]{}&*!|>'\"#,]|\n| {1,4}|[a-z0-9]{1,5}){0,60}") {
        for document in parse_documents(&text, "x.yaml").into_iter().flatten() {
            let _ = admit(&document, &AdmitOptions::default());
        }
    }
}
