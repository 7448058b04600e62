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
