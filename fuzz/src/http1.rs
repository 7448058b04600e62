//! HTTP/1.1 as it comes from clients and endpoints.

/// Heads, bodies and attempts at smuggling.
pub(crate) const REQUESTS: &[&[u8]] = &[
    b"GET /a?b HTTP/1.1\r\nHost: x:80\r\nUser-Agent: t\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhelloGET / HTTP/1.1\r\nHost: x\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5;e=1\r\nhello\r\n0\r\nT: v\r\n\r\n",
    b"CONNECT h:443 HTTP/1.1\r\nHost: h:443\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost: x\r\nConnection: x-a, keep-alive\r\nX-A: 1\r\n\r\n",
    b"GET http://h/p HTTP/1.0\r\nConnection: Keep-Alive\r\nExpect: 100-continue\r\n\r\n",
];

/// The first byte chooses the method of the request.
pub(crate) const RESPONSES: &[&[u8]] = &[
    b"\x00HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    b"\x00HTTP/1.1 200\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
    b"\x01HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
    b"\x02HTTP/1.1 200 OK\r\n\r\ntunnel",
    b"\x03HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
    b"\x00HTTP/1.0 200 OK\r\n\r\nuntil the end",
];

/// A request of a client. True when it has a whole head.
pub fn http1_request(data: &[u8]) -> bool {
    heddle_proxy::http::probe::request(data)
}

/// A response of an endpoint. True when it has a whole head.
pub fn http1_response(data: &[u8]) -> bool {
    heddle_proxy::http::probe::response(data)
}

/// The lengths of pieces, closed by a zero, and a chunked body: extensions, trailers, and what two readers see differently.
pub(crate) const CHUNKED: &[&[u8]] = &[
    b"\x01\x03\x02\x00\x35\r\nhello\r\n6;ext=\"v\"\r\n world\r\n0\r\nX-T: 1\r\n\r\nNEXT",
    b"\x00000a\r\n0123456789\r\n00\r\n\r\n",
    b"\x021 ; a\r\na\r\n0\r\nContent-Length: 5\r\nb:\r\n\r\n",
    b"\x05\x00\x31\r\na\r\n2\nbb\r\n0\r\n\r\n",
    b"\x00ffffffffffffffff\r\n",
];

/// A chunked body, cut anywhere. True when it came to its end.
pub fn chunked(data: &[u8]) -> bool {
    heddle_proxy::http::probe::chunked(data)
}
