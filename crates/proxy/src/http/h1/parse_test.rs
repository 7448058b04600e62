use super::*;

fn parse(text: &str) -> Result<Option<(RequestHead, Message)>, Malformed> {
    let mut head = RequestHead::default();
    let message = request(text.as_bytes(), &mut head, Limits::default())?;
    Ok(message.map(|message| (head, message)))
}

fn refused(text: &str) -> Malformed {
    match parse(text) {
        Err(malformed) => malformed,
        Ok(other) => panic!("accepted {text:?}: {other:?}"),
    }
}

#[test]
fn reads_an_ordinary_request() {
    let text = "GET /a?b HTTP/1.1\r\nHost: x:80\r\nUser-Agent: t \r\n\r\nrest";
    let (head, message) = parse(text).unwrap().unwrap();
    assert_eq!(head.authority(), b"x:80");
    assert_eq!(head.path(), b"/a?b");
    assert_eq!(head.headers.get("user-agent"), Some(&b"t"[..]));
    assert_eq!(head.headers.get("host"), None);
    assert_eq!(message.len, text.len() - 4);
    assert_eq!(message.framing, Framing::Empty);
    assert!(message.keep_alive);
}

#[test]
fn every_cut_needs_more() {
    let text = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\n";
    for end in 0..text.len() {
        assert!(parse(&text[..end]).unwrap().is_none(), "{end}");
    }
}

#[test]
fn torture() {
    use Malformed::*;
    let table: &[(&str, Malformed)] = &[
        ("GET / HTTP/1.1\nHost: x\n\n", BareLineEnd),
        ("GET / HTTP/1.1\r\nHost: x\nA: b\r\n\r\n", BareLineEnd),
        ("GET / HTTP/1.1\r\nHost: x\r\nA: b\rc\r\n\r\n", Syntax),
        ("GET / HTTP/1.1\r\nHost: x\r\nA: b\r\n c\r\n\r\n", Syntax),
        ("GET / HTTP/1.1\r\nHost : x\r\n\r\n", Syntax),
        ("GET / HTTP/1.1\r\nHost: x\r\nA\0: x\r\n\r\n", Syntax),
        ("GET / HTTP/1.1\r\nHost: x\r\nA: x\0y\r\n\r\n", Syntax),
        ("GET / HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n", ManyHosts),
        ("GET / HTTP/1.1\r\nA: x\r\n\r\n", NoHost),
        ("GET / HTTP/1.1\r\nHost: a b\r\n\r\n", BadHost),
        ("GET / HTTP/1.1\r\nHost: u@h\r\n\r\n", BadHost),
        ("GET /a b HTTP/1.1\r\nHost: x\r\n\r\n", Version),
        ("GET  / HTTP/1.1\r\nHost: x\r\n\r\n", Syntax),
        ("GET a HTTP/1.1\r\nHost: x\r\n\r\n", Target),
        ("GET * HTTP/1.1\r\nHost: x\r\n\r\n", Target),
        ("GET /a#b HTTP/1.1\r\nHost: x\r\n\r\n", Target),
        ("GET ftp://a/ HTTP/1.1\r\nHost: x\r\n\r\n", Target),
        ("GET http:///p HTTP/1.1\r\nHost: x\r\n\r\n", Target),
        ("CONNECT a HTTP/1.1\r\nHost: x\r\n\r\n", Target),
        ("CONNECT /a HTTP/1.1\r\nHost: x\r\n\r\n", Target),
        ("GET / HTTP/2.0\r\nHost: x\r\n\r\n", Version),
        ("GET /\r\n\r\n", Syntax),
        ("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", ContentLength),
        ("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: +1\r\n\r\n", ContentLength),
        ("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1, 1\r\n\r\n", ContentLength),
        ("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0x1\r\n\r\n", ContentLength),
        ("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: \r\n\r\n", ContentLength),
        ("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n", ContentLength),
        ("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", ContentLength),
        ("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n", ContentLength),
        ("CONNECT x:1 HTTP/1.1\r\nHost: x:1\r\nContent-Length: 1\r\n\r\n", ConnectContent),
        ("GET / HTTP/1.1\r\nHost: x:y\r\n\r\n", BadHost),
        ("GET / HTTP/1.1\r\nHost: x:1:2\r\n\r\n", BadHost),
        ("GET / HTTP/1.1\r\nHost: [::1\r\n\r\n", BadHost),
        ("GET / HTTP/1.1\r\nHost: [x/y]\r\n\r\n", BadHost),
        (
            "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            TwoFramings,
        ),
        (
            "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n",
            TwoFramings,
        ),
        ("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", TransferEncoding),
        ("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\n\r\n", TransferEncoding),
        (
            "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
            TransferEncoding,
        ),
        ("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding:\x0bchunked\r\n\r\n", Syntax),
        ("POST / HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", TransferEncoding),
        ("GET / HTTP/1.1\r\nHost: x\r\nConnection: content-length\r\n\r\n", Connection),
    ];
    for (text, expected) in table {
        assert_eq!(refused(text), *expected, "{text:?}");
    }
}

#[test]
fn limits_answer_431() {
    let many = "A: b\r\n".repeat(101);
    let text = format!("GET / HTTP/1.1\r\nHost: x\r\n{many}\r\n");
    assert_eq!(refused(&text).status(), 431);
    let long = "b".repeat(61 * 1024);
    let text = format!("GET / HTTP/1.1\r\nHost: x\r\nA: {long}");
    assert_eq!(refused(&text).status(), 431);
}

#[test]
fn target_forms() {
    let (head, _) = parse("GET http://h:1?q HTTP/1.1\r\nHost: x\r\n\r\n").unwrap().unwrap();
    assert_eq!((head.authority(), head.path()), (&b"h:1"[..], &b"/?q"[..]));
    let (head, _) = parse("GET http://h HTTP/1.1\r\nHost: x\r\n\r\n").unwrap().unwrap();
    assert_eq!((head.authority(), head.path()), (&b"h"[..], &b"/"[..]));
    let (head, _) = parse("OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n").unwrap().unwrap();
    assert_eq!(head.path(), b"*");
    let (head, _) = parse("CONNECT h:9 HTTP/1.1\r\nHost: x\r\n\r\n").unwrap().unwrap();
    assert_eq!((head.authority(), head.path()), (&b"h:9"[..], &b""[..]));
}

#[test]
fn connection_options() {
    let keep = |text: &str| parse(text).unwrap().unwrap().1.keep_alive;
    assert!(!keep("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"));
    assert!(!keep("GET / HTTP/1.0\r\n\r\n"));
    assert!(keep("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n"));
    let text = "GET / HTTP/1.1\r\nHost: x\r\nX-A: 1\r\nConnection: x-a, keep-alive\r\n\r\n";
    let (head, _) = parse(text).unwrap().unwrap();
    assert!(!head.headers.contains("x-a"));
}

#[test]
fn responses_need_their_request() {
    let framing = |text: &str, method| {
        let mut head = ResponseHead::default();
        response(text.as_bytes(), &mut head, method, Limits::default()).unwrap().unwrap().framing
    };
    let text = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n";
    assert_eq!(framing(text, Method::Get), Framing::Length(5));
    assert_eq!(framing(text, Method::Head), Framing::Empty);
    assert_eq!(framing(text, Method::Connect), Framing::UntilClose);
    assert_eq!(framing("HTTP/1.1 204\r\n\r\n", Method::Get), Framing::Empty);
    assert_eq!(framing("HTTP/1.1 304 x\r\nContent-Length: 5\r\n\r\n", Method::Get), Framing::Empty);
    assert_eq!(framing("HTTP/1.1 100 Continue\r\n\r\n", Method::Get), Framing::Empty);
    assert_eq!(framing("HTTP/1.1 200 OK\r\n\r\n", Method::Get), Framing::UntilClose);
    assert_eq!(
        framing("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", Method::Get),
        Framing::Chunked
    );
}
