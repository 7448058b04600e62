//! The protobuf form of `/openapi/v2`, which kubectl asks for first: gnostic's `openapi.v2.Document`,
//! as far as our documents use it. Field numbers are those of gnostic's OpenAPIv2.proto.

use prost::Message;
use serde_json::{Map, Value};

#[derive(Clone, PartialEq, Message)]
struct Document {
    #[prost(string, tag = "1")]
    swagger: String,
    #[prost(message, optional, tag = "2")]
    info: Option<Info>,
    #[prost(message, optional, tag = "8")]
    paths: Option<Paths>,
    #[prost(message, optional, tag = "9")]
    definitions: Option<NamedSchemas>,
}

#[derive(Clone, PartialEq, Message)]
struct Info {
    #[prost(string, tag = "1")]
    title: String,
    #[prost(string, tag = "2")]
    version: String,
}

#[derive(Clone, PartialEq, Message)]
struct Paths {
    #[prost(message, repeated, tag = "2")]
    path: Vec<NamedPathItem>,
}

#[derive(Clone, PartialEq, Message)]
struct NamedPathItem {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "2")]
    value: Option<PathItem>,
}

#[derive(Clone, PartialEq, Message)]
struct PathItem {
    #[prost(message, optional, tag = "2")]
    get: Option<Operation>,
    #[prost(message, optional, tag = "3")]
    put: Option<Operation>,
    #[prost(message, optional, tag = "4")]
    post: Option<Operation>,
    #[prost(message, optional, tag = "5")]
    delete: Option<Operation>,
    #[prost(message, optional, tag = "8")]
    patch: Option<Operation>,
    #[prost(message, repeated, tag = "9")]
    parameters: Vec<ParametersItem>,
}

#[derive(Clone, PartialEq, Message)]
struct Operation {
    #[prost(string, tag = "5")]
    operation_id: String,
    #[prost(string, repeated, tag = "6")]
    produces: Vec<String>,
    #[prost(string, repeated, tag = "7")]
    consumes: Vec<String>,
    #[prost(message, repeated, tag = "8")]
    parameters: Vec<ParametersItem>,
    #[prost(message, optional, tag = "9")]
    responses: Option<Responses>,
    #[prost(message, repeated, tag = "13")]
    vendor_extension: Vec<NamedAny>,
}

#[derive(Clone, PartialEq, Message)]
struct ParametersItem {
    #[prost(message, optional, tag = "1")]
    parameter: Option<Parameter>,
}

/// A oneof in gnostic; on the wire the same.
#[derive(Clone, PartialEq, Message)]
struct Parameter {
    #[prost(message, optional, tag = "1")]
    body: Option<BodyParameter>,
    #[prost(message, optional, tag = "2")]
    non_body: Option<NonBodyParameter>,
}

#[derive(Clone, PartialEq, Message)]
struct BodyParameter {
    #[prost(string, tag = "2")]
    name: String,
    #[prost(string, tag = "3")]
    place: String,
    #[prost(bool, tag = "4")]
    required: bool,
    #[prost(message, optional, tag = "5")]
    schema: Option<Schema>,
}

/// A oneof in gnostic; on the wire the same.
#[derive(Clone, PartialEq, Message)]
struct NonBodyParameter {
    #[prost(message, optional, tag = "3")]
    query: Option<QueryParameter>,
    #[prost(message, optional, tag = "4")]
    path: Option<PathParameter>,
}

#[derive(Clone, PartialEq, Message)]
struct QueryParameter {
    #[prost(string, tag = "2")]
    place: String,
    #[prost(string, tag = "3")]
    description: String,
    #[prost(string, tag = "4")]
    name: String,
    #[prost(string, tag = "6")]
    kind: String,
    #[prost(bool, tag = "20")]
    unique_items: bool,
}

#[derive(Clone, PartialEq, Message)]
struct PathParameter {
    #[prost(bool, tag = "1")]
    required: bool,
    #[prost(string, tag = "2")]
    place: String,
    #[prost(string, tag = "3")]
    description: String,
    #[prost(string, tag = "4")]
    name: String,
    #[prost(string, tag = "5")]
    kind: String,
    #[prost(bool, tag = "19")]
    unique_items: bool,
}

#[derive(Clone, PartialEq, Message)]
struct Responses {
    #[prost(message, repeated, tag = "1")]
    response_code: Vec<NamedResponseValue>,
}

#[derive(Clone, PartialEq, Message)]
struct NamedResponseValue {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "2")]
    value: Option<ResponseValue>,
}

#[derive(Clone, PartialEq, Message)]
struct ResponseValue {
    #[prost(message, optional, tag = "1")]
    response: Option<Response>,
}

#[derive(Clone, PartialEq, Message)]
struct Response {
    #[prost(string, tag = "1")]
    description: String,
    #[prost(message, optional, tag = "2")]
    schema: Option<SchemaItem>,
}

#[derive(Clone, PartialEq, Message)]
struct SchemaItem {
    #[prost(message, optional, tag = "1")]
    schema: Option<Schema>,
}

#[derive(Clone, PartialEq, Message)]
struct NamedSchemas {
    #[prost(message, repeated, tag = "1")]
    additional_properties: Vec<NamedSchema>,
}

#[derive(Clone, PartialEq, Message)]
struct NamedSchema {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "2")]
    value: Option<Schema>,
}

#[derive(Clone, PartialEq, Message)]
struct Schema {
    #[prost(string, tag = "1")]
    reference: String,
    #[prost(string, tag = "2")]
    format: String,
    #[prost(string, tag = "4")]
    description: String,
    #[prost(string, repeated, tag = "19")]
    required: Vec<String>,
    #[prost(message, repeated, tag = "20")]
    one_of: Vec<Any>,
    #[prost(message, optional, boxed, tag = "21")]
    additional_properties: Option<Box<AdditionalProperties>>,
    #[prost(message, optional, tag = "22")]
    kind: Option<TypeItem>,
    #[prost(message, optional, tag = "23")]
    items: Option<ItemsItem>,
    #[prost(message, optional, tag = "25")]
    properties: Option<NamedSchemas>,
    #[prost(message, repeated, tag = "31")]
    vendor_extension: Vec<NamedAny>,
}

#[derive(Clone, PartialEq, Message)]
struct AdditionalProperties {
    #[prost(message, optional, boxed, tag = "1")]
    schema: Option<Box<Schema>>,
}

#[derive(Clone, PartialEq, Message)]
struct TypeItem {
    #[prost(string, repeated, tag = "1")]
    value: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
struct ItemsItem {
    #[prost(message, repeated, tag = "1")]
    schema: Vec<Schema>,
}

#[derive(Clone, PartialEq, Message)]
struct NamedAny {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "2")]
    value: Option<Any>,
}

#[derive(Clone, PartialEq, Message)]
struct Any {
    #[prost(string, tag = "2")]
    yaml: String,
}

/// Encodes a Swagger 2 document of [`super::document::v2`].
pub(super) fn encode(document: &Value) -> Vec<u8> {
    let info = document.get("info");
    Document {
        swagger: text(Some(document), "swagger"),
        info: Some(Info { title: text(info, "title"), version: text(info, "version") }),
        paths: Some(Paths {
            path: fields(document.get("paths"))
                .map(|(name, item)| NamedPathItem { name: name.clone(), value: Some(path_item(item)) })
                .collect(),
        }),
        definitions: Some(named_schemas(document.get("definitions"))),
    }
    .encode_to_vec()
}

fn fields(value: Option<&Value>) -> impl Iterator<Item = (&String, &Value)> {
    value.and_then(Value::as_object).into_iter().flatten()
}

fn items(value: Option<&Value>) -> impl Iterator<Item = &Value> {
    value.and_then(Value::as_array).into_iter().flatten()
}

fn text(value: Option<&Value>, name: &str) -> String {
    value.and_then(|v| v.get(name)).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn strings(value: Option<&Value>) -> Vec<String> {
    items(value).filter_map(|v| v.as_str().map(str::to_owned)).collect()
}

/// JSON is YAML.
fn any(value: &Value) -> Any {
    Any { yaml: format!("{value}\n") }
}

fn extensions(value: &Value) -> Vec<NamedAny> {
    fields(Some(value))
        .filter(|(name, _)| name.starts_with("x-"))
        .map(|(name, value)| NamedAny { name: name.clone(), value: Some(any(value)) })
        .collect()
}

fn path_item(item: &Value) -> PathItem {
    let verb = |name: &str| item.get(name).map(operation);
    PathItem {
        get: verb("get"),
        put: verb("put"),
        post: verb("post"),
        delete: verb("delete"),
        patch: verb("patch"),
        parameters: items(item.get("parameters")).map(parameter).collect(),
    }
}

fn operation(operation: &Value) -> Operation {
    let response = |(code, response): (&String, &Value)| NamedResponseValue {
        name: code.clone(),
        value: Some(ResponseValue {
            response: Some(Response {
                description: text(Some(response), "description"),
                schema: response.get("schema").map(|s| SchemaItem { schema: Some(schema(s)) }),
            }),
        }),
    };
    Operation {
        operation_id: text(Some(operation), "operationId"),
        produces: strings(operation.get("produces")),
        consumes: strings(operation.get("consumes")),
        parameters: items(operation.get("parameters")).map(parameter).collect(),
        responses: Some(Responses {
            response_code: fields(operation.get("responses")).map(response).collect(),
        }),
        vendor_extension: extensions(operation),
    }
}

fn parameter(parameter: &Value) -> ParametersItem {
    let told = |name: &str| text(Some(parameter), name);
    let place = told("in");
    let (mut body, mut query, mut path) = (None, None, None);
    match place.as_str() {
        "body" => {
            let schema = parameter.get("schema").map(schema);
            body = Some(BodyParameter { name: told("name"), place, required: true, schema });
        }
        "path" => {
            path = Some(PathParameter {
                required: true,
                place,
                description: told("description"),
                name: told("name"),
                kind: told("type"),
                unique_items: true,
            });
        }
        _ => {
            query = Some(QueryParameter {
                place,
                description: told("description"),
                name: told("name"),
                kind: told("type"),
                unique_items: true,
            });
        }
    }
    let non_body = body.is_none().then_some(NonBodyParameter { query, path });
    ParametersItem { parameter: Some(Parameter { body, non_body }) }
}

fn named_schemas(value: Option<&Value>) -> NamedSchemas {
    let named =
        |(name, value): (&String, &Value)| NamedSchema { name: name.clone(), value: Some(schema(value)) };
    NamedSchemas { additional_properties: fields(value).map(named).collect() }
}

fn schema(value: &Value) -> Schema {
    let additional = value.get("additionalProperties").filter(|v| v.is_object());
    Schema {
        reference: text(Some(value), "$ref"),
        format: text(Some(value), "format"),
        description: text(Some(value), "description"),
        required: strings(value.get("required")),
        one_of: items(value.get("enum")).map(any).collect(),
        additional_properties: additional
            .map(|s| Box::new(AdditionalProperties { schema: Some(Box::new(schema(s))) })),
        kind: value.get("type").and_then(Value::as_str).map(|t| TypeItem { value: vec![t.to_owned()] }),
        items: value.get("items").map(|s| ItemsItem { schema: vec![schema(s)] }),
        properties: value
            .get("properties")
            .filter(|p| p.as_object().is_some_and(|p: &Map<String, Value>| !p.is_empty()))
            .map(|p| named_schemas(Some(p))),
        vendor_extension: extensions(value),
    }
}
