use super::*;

const LIMITS: Limits = Limits { bytes: 2000, fields: 20 };

fn block(line: &str) -> Vec<(Vec<u8>, Vec<u8>)> {
    let field = |field: &str| {
        // The first character of a name may be a colon.
        let at = field[1..].find('=').unwrap() + 1;
        (field.as_bytes()[..at].to_vec(), field[at + 1..].replace('_', " ").into_bytes())
    };
    line.split(' ').filter(|field| !field.is_empty()).map(field).collect()
}

fn request(line: &str) -> (Verdict, RequestHead) {
    let mut head = RequestHead::default();
    let mut request = Request::new(&mut head, LIMITS, true);
    for (name, value) in block(line) {
        request.field(&name, &value, false).unwrap();
    }
    (request.finish(), head)
}

fn response(line: &str) -> Verdict {
    let mut head = ResponseHead::default();
    let mut response = Response::new(&mut head, LIMITS);
    for (name, value) in block(line) {
        response.field(&name, &value, false).unwrap();
    }
    response.finish()
}

#[test]
fn requests_are_well_formed_or_not() {
    const GET: &str = ":method=GET :scheme=http :path=/ :authority=h";
    let good = [
        GET,
        ":path=/ :authority=h :scheme=https :method=GET",
        ":method=GET :scheme=http :path=/ host=h",
        ":method=GET :scheme=http :path=/",
        ":method=OPTIONS :scheme=http :path=* :authority=h",
        ":method=CONNECT :authority=h:1",
        ":method=CONNECT :protocol=websocket :scheme=https :path=/x?y :authority=h",
        ":method=GET :scheme=http :path=/ :authority=h te=trailers",
        ":method=M-SEARCH :scheme=coap+tcp :path=/ :authority=h x=",
    ];
    for line in good {
        assert_eq!(request(line).0, Verdict::Good(None), "{line}");
    }
    let bad = [
        ":scheme=http :path=/ :authority=h",
        ":method=GET :path=/ :authority=h",
        ":method=GET :scheme=http :authority=h",
        ":method=GET :scheme=http :path= :authority=h",
        ":method=GET :scheme=http :path=x :authority=h",
        ":method=GET :scheme=http :path=http://h/ :authority=h",
        ":method=GET :scheme=http :path=* :authority=h",
        ":method=GET :scheme=http :path=/_ :authority=h",
        ":method=GET :scheme=http :path=/# :authority=h",
        ":method=G_T :scheme=http :path=/ :authority=h",
        ":method=GET :method=GET :scheme=http :path=/ :authority=h",
        ":method=GET :scheme=http :path=/ :path=/ :authority=h",
        ":method=GET :scheme=http :scheme=http :path=/ :authority=h",
        ":method=GET :scheme=http :path=/ :authority=h :authority=h",
        ":method=GET :scheme=http x=y :path=/ :authority=h",
        ":method=GET :scheme=http :path=/ :authority=h :status=200",
        ":method=GET :scheme=http :path=/ :authority=h :x=y",
        ":method=GET :protocol=websocket :scheme=http :path=/ :authority=h",
        ":method=CONNECT :protocol=websocket :authority=h",
        ":method=CONNECT :scheme=http :path=/ :authority=h",
        ":method=CONNECT :path=/ :authority=h",
        ":method=CONNECT",
        ":method=GET :scheme=http :path=/ :authority=h X=y",
        ":method=GET :scheme=http :path=/ :authority=h x:y=z",
        ":method=GET :scheme=http :path=/ :authority=h x=_y",
        ":method=GET :scheme=http :path=/ :authority=h x=y_",
        ":method=GET :scheme=http :path=/ :authority=h x=y\r\nz",
        ":method=GET :scheme=http :path=/ :authority=h x=y\0",
        ":method=GET :scheme=http :path=/ :authority=h connection=close",
        ":method=GET :scheme=http :path=/ :authority=h keep-alive=1",
        ":method=GET :scheme=http :path=/ :authority=h proxy-connection=close",
        ":method=GET :scheme=http :path=/ :authority=h transfer-encoding=chunked",
        ":method=GET :scheme=http :path=/ :authority=h upgrade=websocket",
        ":method=GET :scheme=http :path=/ :authority=h te=gzip",
    ];
    for line in bad {
        assert_eq!(request(line).0, Verdict::Malformed, "{line}");
    }
    let refused = [
        (":method=GET :scheme=http :path=/ :authority=a@h", Malformed::BadHost),
        (":method=GET :scheme=http :path=/ host=h host=h", Malformed::ManyHosts),
        (":method=GET :scheme=http :path=/ content-length=+1", Malformed::ContentLength),
        (":method=GET :scheme=http :path=/ content-length=1 content-length=1", Malformed::ContentLength),
        (":method=CONNECT :authority=h:1 content-length=1", Malformed::ConnectContent),
    ];
    for (line, why) in refused {
        assert_eq!(request(line).0, Verdict::Refused(why), "{line}");
    }
    assert_eq!(request(&format!("{GET} content-length=7")).0, Verdict::Good(Some(7)));
    let many = format!("{GET} {}", "x=y ".repeat(21));
    assert_eq!(request(&many).0, Verdict::Refused(Malformed::TooManyFields));
    let large = format!("{GET} x={}", "y".repeat(2000));
    assert_eq!(request(&large).0, Verdict::Refused(Malformed::TooLarge));
}

#[test]
fn extended_connect_is_malformed_where_it_was_not_offered() {
    let mut head = RequestHead::default();
    let mut request = Request::new(&mut head, LIMITS, false);
    for (name, value) in block(":method=CONNECT :protocol=websocket :scheme=https :path=/ :authority=h") {
        request.field(&name, &value, false).unwrap();
    }
    assert_eq!(request.finish(), Verdict::Malformed);
}

#[test]
fn a_bomb_is_abuse() {
    let mut head = RequestHead::default();
    let mut request = Request::new(&mut head, LIMITS, true);
    let value = [b'x'; 500];
    let fields = (0..1000).take_while(|_| request.field(b"x", &value, false).is_ok()).count();
    assert_eq!(fields, LIMITS.bytes * ABUSE / (500 + 1 + OVERHEAD));
    assert!(head.headers.size() <= LIMITS.bytes);
}

#[test]
fn a_request_becomes_a_head() {
    let (verdict, head) = request(
        ":method=POST :scheme=https :path=/p?q :authority=h:1 host=other cookie=a x=y cookie=b content-length=3",
    );
    assert_eq!(verdict, Verdict::Good(Some(3)));
    assert_eq!((head.method, head.version, head.scheme), (Method::Post, Version::Http2, Scheme::Https));
    assert_eq!((head.authority(), head.path()), (&b"h:1"[..], &b"/p?q"[..]));
    let fields: Vec<_> = head.headers.iter().collect();
    let expected: [(&[u8], &[u8]); 3] = [(b"cookie", b"a; b"), (b"x", b"y"), (b"content-length", b"3")];
    assert_eq!(fields, expected);
}

#[test]
fn responses_are_well_formed_or_not() {
    assert_eq!(response(":status=200 x=y"), Verdict::Good(None));
    assert_eq!(response(":status=200 content-length=5"), Verdict::Good(Some(5)));
    for line in [
        "x=y",
        "x=y :status=200",
        ":status=200 :status=200",
        ":status=20",
        ":status=2000",
        ":status=abc",
        ":status=099",
        ":status=200 :path=/",
        ":status=200 X=y",
        ":status=200 connection=close",
    ] {
        assert_eq!(response(line), Verdict::Malformed, "{line}");
    }
}

#[test]
fn trailers_have_no_pseudo_fields_and_frame_nothing() {
    let trailers = |line| {
        let mut trailers = Trailers::new(LIMITS);
        for (name, value) in block(line) {
            trailers.field(&name, &value, false).unwrap();
        }
        (trailers.good(), trailers.headers.len())
    };
    assert_eq!(trailers("grpc-status=0 x=y"), (true, 2));
    assert_eq!(trailers("content-length=7 host=h x=y"), (true, 1));
    assert!(!trailers(":status=200").0);
    assert!(!trailers("X=y").0);
}
