//! HTTP/1.1 read to the letter of RFC 9112, by code that shares nothing with heddle's: what is sent on has to pass it.

/// A message with all of its body.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) first: String,
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// The body had no end of its own and ends with the connection.
    pub(crate) until_close: bool,
}

impl Message {
    pub(crate) fn all<'m>(&'m self, name: &'m str) -> impl Iterator<Item = &'m str> {
        self.fields.iter().filter(move |(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    pub(crate) fn word(&self, index: usize) -> &str {
        self.first.split(' ').nth(index).unwrap_or_default()
    }

    pub(crate) fn status(&self) -> u16 {
        self.word(1).parse().unwrap_or_default()
    }
}

/// What the bytes at the front are.
#[derive(Debug)]
pub(crate) enum Read {
    /// A message, and how many bytes it took.
    Message(Message, usize),
    More,
    Wrong(String),
}

/// A request at the front of `input`.
pub(crate) fn request(input: &[u8]) -> Read {
    message(input, false, false)
}

/// A response to a request that was, or was not, HEAD.
pub(crate) fn response(input: &[u8], to_head: bool) -> Read {
    message(input, true, to_head)
}

fn message(input: &[u8], response: bool, to_head: bool) -> Read {
    let Some(end) = input.windows(4).position(|four| four == b"\r\n\r\n") else {
        return Read::More;
    };
    match head(&input[..end], response).and_then(|head| body(head, input, end + 4, response, to_head)) {
        Ok(Some((message, len))) => Read::Message(message, len),
        Ok(None) => Read::More,
        Err(wrong) => Read::Wrong(wrong),
    }
}

fn head(bytes: &[u8], response: bool) -> Result<Message, String> {
    if let Some(byte) = bytes.iter().find(|b| (**b < b' ' && !b"\r\n\t".contains(b)) || **b == 0x7f) {
        return Err(format!("a control character: {byte:#x}"));
    }
    let text: String = bytes.iter().map(|byte| char::from(*byte)).collect();
    let mut lines = text.split("\r\n");
    let first = lines.next().unwrap_or_default().to_owned();
    if response {
        let status = first.strip_prefix("HTTP/1.1 ").ok_or(format!("status line {first:?}"))?;
        let digits = status.len() >= 4 && status.as_bytes()[..3].iter().all(u8::is_ascii_digit);
        if !digits || status.as_bytes()[3] != b' ' {
            return Err(format!("status line {first:?}"));
        }
    } else {
        let parts: Vec<&str> = first.split(' ').collect();
        let version = parts.get(2).is_some_and(|v| ["HTTP/1.1", "HTTP/1.0"].contains(v));
        if parts.len() != 3 || !token(parts[0]) || parts[1].is_empty() || !version || first.contains('\t') {
            return Err(format!("request line {first:?}"));
        }
    }
    let mut fields = Vec::new();
    for line in lines {
        if line.contains(['\r', '\n']) {
            return Err(format!("a bare line end in {line:?}"));
        }
        let (name, value) = line.split_once(':').ok_or(format!("a field without colon: {line:?}"))?;
        if !token(name) {
            return Err(format!("the name of a field: {line:?}"));
        }
        fields.push((name.to_owned(), value.trim_matches([' ', '\t']).to_owned()));
    }
    if first.contains(['\r', '\n']) {
        return Err(format!("a bare line end in {first:?}"));
    }
    Ok(Message { first, fields, ..Message::default() })
}

fn body(
    mut message: Message,
    input: &[u8],
    start: usize,
    response: bool,
    to_head: bool,
) -> Result<Option<(Message, usize)>, String> {
    let codings: Vec<&str> = message.all("transfer-encoding").collect();
    let lengths: Vec<&str> = message.all("content-length").collect();
    if !response && message.all("host").count() != 1 {
        return Err("not exactly one Host".into());
    }
    if codings.len() + lengths.len() > 1 {
        return Err(format!("framed twice: {codings:?} {lengths:?}"));
    }
    let status = if response { message.status() } else { 0 };
    if response && (to_head || status < 200 || status == 204 || status == 304) {
        return Ok(Some((message, start)));
    }
    if let Some(coding) = codings.first() {
        if *coding != "chunked" {
            return Err(format!("transfer-encoding {coding:?}"));
        }
        let Some((body, len)) = chunks(&input[start..])? else { return Ok(None) };
        message.body = body;
        return Ok(Some((message, start + len)));
    }
    if let Some(length) = lengths.first() {
        if length.is_empty() || !length.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(format!("content-length {length:?}"));
        }
        let length: usize = length.parse().map_err(|_| format!("content-length {length:?}"))?;
        let Some(body) = input.get(start..start + length) else { return Ok(None) };
        message.body = body.to_vec();
        return Ok(Some((message, start + length)));
    }
    if response {
        message.body = input[start..].to_vec();
        message.until_close = true;
        return Ok(Some((message, input.len())));
    }
    Ok(Some((message, start)))
}

fn chunks(input: &[u8]) -> Result<Option<(Vec<u8>, usize)>, String> {
    let (mut body, mut at) = (Vec::new(), 0);
    loop {
        let Some(end) = input[at..].windows(2).position(|two| two == b"\r\n") else { return Ok(None) };
        let line = String::from_utf8_lossy(&input[at..at + end]).into_owned();
        if line.is_empty() || !line.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(format!("chunk size {line:?}"));
        }
        let size = usize::from_str_radix(&line, 16).map_err(|_| format!("chunk size {line:?}"))?;
        at += end + 2;
        if size == 0 {
            break;
        }
        match input.get(at..at + size + 2) {
            Some(chunk) if chunk.ends_with(b"\r\n") => body.extend_from_slice(&chunk[..size]),
            Some(_) => return Err("a chunk that is longer than its size".into()),
            None => return Ok(None),
        }
        at += size + 2;
    }
    loop {
        let Some(end) = input[at..].windows(2).position(|two| two == b"\r\n") else { return Ok(None) };
        if end == 0 {
            return Ok(Some((body, at + 2)));
        }
        let trailer = head(&[b"GET / HTTP/1.1\r\n", &input[at..at + end]].concat(), false)?;
        for (name, _) in &trailer.fields {
            const FRAMING: [&str; 5] =
                ["content-length", "transfer-encoding", "host", "trailer", "connection"];
            if FRAMING.contains(&name.to_ascii_lowercase().as_str()) {
                return Err(format!("{name} as a trailer"));
            }
        }
        at += end + 2;
    }
}

fn token(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}
