//! Resources as text.

use heddle_resource::{AdmitOptions, admit, parse_documents};

/// Text to documents to verdicts. True when a document was admitted.
pub fn admit_yaml(data: &[u8]) -> bool {
    let text = String::from_utf8_lossy(data);
    let mut admitted = false;
    for document in parse_documents(&text, "fuzz.yaml").into_iter().flatten() {
        let verdict = admit(&document, &AdmitOptions::default());
        for finding in verdict.diagnostics() {
            let _ = finding.to_string();
        }
        if let Some(object) = verdict.object() {
            let _ = object.unbuilt();
            admitted = true;
        }
    }
    admitted
}

pub(crate) const CORPUS: &[&[u8]] = &[
    b"apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: a}\nspec:\n  hosts: [a]\n  http:\n  - match:\n    - uri: {regex: '/a.*'}\n      headers: {x: {exact: y}}\n    route:\n    - destination: {host: a, subset: v1, port: {number: 80}}\n      weight: 90\n    timeout: 1.5s\n    fault: {delay: {fixedDelay: 7s, percentage: {value: 100}}}\n",
    b"apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {ports: [{port: 80, targetPort: http}], selector: {app: a}}\n---\nkind: List\napiVersion: v1\nitems: [{apiVersion: v1, kind: Secret, metadata: {name: s}, data: {a: eA==}}]\n",
    b"apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: r}\nspec:\n  parentRefs: [{name: g}]\n  rules:\n  - matches: [{path: {type: PathPrefix, value: /a}}]\n    backendRefs: [{name: b, port: 80, weight: 1}]\n",
    b"{\"apiVersion\":\"networking.istio.io/v1\",\"kind\":\"DestinationRule\",\"metadata\":{\"name\":\"d\"},\"spec\":{\"host\":\"a\",\"subsets\":[{\"name\":\"v1\",\"labels\":{\"v\":\"1\"}}]}}",
    b"a: &a [1, 2]\nb: *a\nc: {<<: *a}\n",
];
