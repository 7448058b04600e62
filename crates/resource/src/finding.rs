//! The table of findings: what each code means and what to do about it.

use std::fmt::Write as _;

/// A kind of finding.
#[derive(Debug)]
pub struct Finding {
    pub code: &'static str,
    pub title: &'static str,
    pub meaning: &'static str,
    pub fix: &'static str,
}

macro_rules! findings {
    ($($code:literal $title:literal, $meaning:literal, $fix:literal;)*) => {
        /// Every finding, by code.
        pub static FINDINGS: &[Finding] =
            &[$(Finding { code: $code, title: $title, meaning: $meaning, fix: $fix }),*];
    };
}

findings! {
    "HDL0001" "Text too long", "A file or request body is longer than the limit.", "Split it.";
    "HDL0002" "Not readable", "The text is neither YAML nor JSON, or a key stands there twice.", "Correct the line that is named.";
    "HDL0003" "Not a resource", "A document has no `apiVersion` or no `kind`.", "Add them.";
    "HDL0004" "Not one of ours", "The kind is none that a mesh reads. It is left alone.", "Nothing, or correct `apiVersion` and `kind`.";
    "HDL0005" "Unknown version", "The kind is served, but not in this version.", "Use a version that is named.";
    "HDL0006" "Metadata not readable", "A field of `metadata` has the wrong type.", "Write `metadata` as Kubernetes has it.";
    "HDL0007" "Not a name", "The name or namespace is not one that Kubernetes takes.", "Use lower-case letters, digits, `-` and `.`.";
    "HDL0008" "Wrong type", "A value has the wrong type, is none of the allowed words, or is out of range.", "Write what was expected.";
    "HDL0009" "Not readable as its kind", "The fields do not fit together, such as two ways to match where one is allowed.", "Correct the field that is named.";
    "HDL0010" "Not built yet", "The field is valid and does nothing in this version. It is listed in the condition `Unsupported`.", "Leave it out, or live without it.";
    "HDL0011" "Unknown field", "No version of the kind has this field.", "Use the name that is proposed, or remove the field.";
    "HDL0012" "Not built yet, traffic denied", "The field is valid, does nothing in this version, and restricts, encrypts or limits. Rather than let traffic through without it, the traffic concerned is denied with 503.", "Leave the field out if the traffic may pass without it.";
    "HDL0013" "Missing field", "A field must be there.", "Add it.";
    "HDL0014" "Kind not built yet, refused", "The kind restricts or encrypts traffic, or may do so, and this version does not have it. It is refused, so that nobody takes traffic for protected that is not.", "Leave the object out if the traffic may pass without it; else keep that traffic out of this mesh.";
    "HDL0015" "Kind not built yet", "The kind is one of a mesh, but not of this version. It has no effect.", "Leave it out, or live without it.";

    "HDL0101" "Missing value", "Something must be given here, or one of several things.", "Add what was expected.";
    "HDL0102" "Not a host or name", "The value is not a host, a name, or a name in the form that is asked for.", "Write it in the form that was expected.";
    "HDL0103" "Not a port", "The port's number, name or protocol is not usable.", "1 to 65535; a known protocol; a name that the service has.";
    "HDL0104" "Weights", "A weight is negative or too great, or weights add up to nothing.", "Give at least one destination a weight above 0.";
    "HDL0105" "Regular expression", "The expression does not compile (RE2's syntax), is empty, or is too large.", "Correct it; look-around and back references do not exist in RE2.";
    "HDL0106" "Match that means nothing", "A match is empty where it would match everything or nothing.", "Remove it, or write what to match.";
    "HDL0107" "Conflict", "Two fields exclude each other.", "Keep one of them.";
    "HDL0108" "Duplicate", "Something stands there twice, or two hosts overlap.", "Keep it once.";
    "HDL0109" "Out of range", "A number, share, time or word is none of the allowed ones.", "Write what was expected.";
    "HDL0110" "Header", "A header's name or value is not usable.", "Names are letters, digits and `-`; in values write `%%` for a per cent sign.";
    "HDL0111" "Address", "The value is not an address, a range, or an address of the expected type.", "Write an IP address, or a range such as `10.0.0.0/8`.";
    "HDL0112" "Label", "A label or selector is not usable.", "Follow Kubernetes' rules for labels; selectors know no wildcards.";
    "HDL0113" "TLS settings", "The TLS settings contradict each other or the port.", "See the mode's documentation for what it takes.";
    "HDL0114" "Namespace", "The value is not a namespace, nor one of the signs that may stand for some.", "A name, `.`, `*` or `~`.";
    "HDL0115" "Path", "The path is not absolute, or is not normalized.", "Write `/PATH`.";
    "HDL0116" "Type and field", "`type` names one field and another is set.", "Set the field that `type` names.";
    "HDL0117" "Base64", "The value is not base64.", "Encode it, or use `stringData`.";

    "HDL0201" "Every host of the mesh", "A VirtualService with hosts `*` and without gateways acts on every request in the mesh.", "Name the hosts or the gateway that are meant.";
    "HDL0203" "Never reached", "A route before this one takes every request.", "Put the route without conditions last.";
    "HDL0204" "Without effect", "The setting has no effect where it stands.", "Remove it.";
    "HDL0205" "Short host", "A ServiceEntry's host has no domain.", "Write the whole name.";
    "HDL0206" "Shared port", "A port without protocol and address is shared by all TCP services.", "Give a protocol or an address.";
    "HDL0207" "Certificates", "Certificates or cipher suites that will not be used.", "Remove them.";

    "HDL0300" "Not looked up", "No service is among the objects, so that hosts and backends could not be checked.", "Analyze the services too.";
    "HDL0301" "No such service", "A host or backend that no service has. Requests for it fail.", "Create the Service or ServiceEntry, or correct the name.";
    "HDL0302" "No such subset", "No DestinationRule of the host defines the subset. Requests for it fail.", "Define it, or correct the name.";
    "HDL0303" "No such Gateway", "A VirtualService names a Gateway that is not there.", "Create it, or correct NAMESPACE/NAME.";
    "HDL0304" "Host claimed twice", "Two VirtualServices have one host on one gateway. At gateways their routes are joined, in sidecars the older one acts.", "Join them in one object.";
    "HDL0305" "Two rules for one host", "Two DestinationRules of a namespace have one host.", "Join them in one object.";
    "HDL0306" "Host not of the Gateway", "The Gateway serves no such host, so that the route is not reached there.", "Add the host to the Gateway, or correct it.";
    "HDL0307" "No such Secret", "A certificate's Secret is not there.", "Create it.";
    "HDL0308" "No such GatewayClass", "Nobody serves Gateways of this class.", "Use `heddle`, or create the class.";
    "HDL0309" "No such parent", "The parent of a route or of a ListenerSet, or the listener of it, is not there or lets it not in.", "Create it, or correct the reference.";
    "HDL0310" "No such port", "The service does not have the port.", "Use a port that is named.";
    "HDL0311" "No such delegate", "A route continues in a VirtualService that is not there.", "Create it, or correct the name.";
    "HDL0312" "Twice", "An object of this kind and name stands there twice. The later one replaces the earlier.", "Keep one.";
    "HDL0313" "Several Sidecars", "A namespace has several Sidecars without a selector.", "Keep one.";
    "HDL0314" "No grant", "A reference into another namespace that no ReferenceGrant there allows.", "Create a ReferenceGrant in that namespace.";
    "HDL0315" "Several ports", "A destination names no port, and its service has several.", "Name the port if it should not be the one that was called.";

    "HDL0401" "Name taken", "Another object has the same name or host and goes before this one.", "Rename or remove one of them.";
    "HDL0402" "Denied", "A field that protects traffic is not built, so that the traffic is answered with 503.", "Remove the field, if the traffic may go without it.";
    "HDL0403" "Leads nowhere", "A reference of the object leads nowhere in what was compiled.", "Create what it names, or correct it.";
    "HDL0404" "Left out", "A part of the object cannot be used as written and is left out.", "Do what the message says.";
    "HDL0405" "Refused by a proxy", "A proxy refused what was compiled from the object. It keeps the previous version.", "Read the proxy's reason; `heddle describe` shows it.";
    "HDL0406" "Not for gRPC", "A gRPC program without a proxy does not do what the object asks.", "Give the program a proxy, or do without.";

    "HDL0407" "Certificate not usable", "A Secret or ConfigMap is missing, malformed, or its key is not the certificate's. What needs it is closed or answered with 503, never served in the clear.", "Correct the object and field that the message names.";
    "HDL0408" "Certificate out of time", "A certificate that is served has expired, or is not valid yet. It is served all the same; clients refuse it.", "Renew it: a changed Secret is served at once.";

    "HDL0901" "File not readable", "A file of resources cannot be read. What was read from it before stays in force.", "Correct its permissions, or remove it from the paths.";
    "HDL0902" "Two files, one object", "An object stands in two files. The one that was there first stays in force.", "Keep one of them.";
    "HDL0903" "No name in a file", "An object in a file has no name of its own; files are read again and again, so that none can be made up.", "Write `metadata.name`.";
    "HDL0904" "Not kept", "An object from a file cannot be held, such as one that is too large.", "Do what the message says.";
}

/// The entry of a code.
pub fn finding(code: &str) -> Option<&'static Finding> {
    FINDINGS.iter().find(|finding| finding.code == code)
}

/// `docs/findings.md`.
pub fn markdown() -> String {
    let mut text = String::from(
        "# Findings\n\nWhat `heddle apply`, `heddle analyze`, the API and the log say of resources. Generated from the table of \
         findings;\n`UPDATE_DOCS=1 cargo test -p heddle-resource` writes it anew.\n\nHDL00 reading, HDL01 errors in one object, \
         HDL02 warnings about one object, HDL03 between objects, HDL04 compiling, HDL09 files.\n\n| code | what | meaning | what to do |\n|---|---|---|---|\n",
    );
    for finding in FINDINGS {
        // Writing to a String does not fail.
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} |",
            finding.code,
            finding.title,
            finding.meaning.replace('|', "\\|"),
            finding.fix.replace('|', "\\|")
        );
    }
    text
}
