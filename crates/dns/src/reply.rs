//! A packet in, a packet out: what RFC 1035 and 6891 ask of a server around the answer itself.

use hickory_proto::{
    op::{Edns, Message, MessageType, OpCode, Query, ResponseCode},
    rr::{Name, Record},
};

use crate::{Answer, Names, Outside, Verdict};

/// The largest UDP payload we send, in bytes: the DNS flag day 2020 figure, below any path's MTU.
pub const UDP_PAYLOAD: u16 = 1232;
/// What a TCP message can carry.
const TCP_PAYLOAD: usize = u16::MAX as usize;
const HEADER: usize = 12;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    Udp,
    Tcp,
}

/// What to do with a packet.
#[derive(Debug)]
pub enum Reply {
    Packet(Vec<u8>),
    /// Ask the resolvers.
    Forward,
    /// Ask them for another name, and answer under the one that was asked for.
    Chase(Box<Chase>),
    /// Not a question (too short, or a response): answering it could make two servers talk for ever.
    Drop,
}

/// Answers a packet. Total: any bytes give a reply, never a panic.
pub fn reply(
    packet: &[u8],
    names: &Names,
    asker: Option<&str>,
    outside: Outside,
    transport: Transport,
    random: u64,
) -> Reply {
    let Some(head) = packet.get(..HEADER) else { return Reply::Drop };
    if head[2] & 0x80 != 0 {
        return Reply::Drop;
    }
    let Ok(request) = Message::from_vec(packet) else { return failure(packet, ResponseCode::FormErr) };
    if request.metadata.op_code != OpCode::Query {
        return failure(packet, ResponseCode::NotImp);
    }
    let [query] = request.queries.as_slice() else { return failure(packet, ResponseCode::FormErr) };
    if request.version() > 0 {
        return match error_message(&request, ResponseCode::BADVERS).to_vec() {
            Ok(bytes) => Reply::Packet(bytes),
            Err(_) => Reply::Drop,
        };
    }
    match names.answer(query, asker, outside, random) {
        Verdict::Forward => Reply::Forward,
        Verdict::Alias(aliases, target) => match Chase::new(&request, query, aliases, target, transport) {
            Some(chase) => Reply::Chase(Box::new(chase)),
            None => failure(packet, ResponseCode::ServFail),
        },
        Verdict::Answer(answer) => match encode(&request, query, answer, limit(&request, transport)) {
            Some(bytes) => Reply::Packet(bytes),
            None => failure(packet, ResponseCode::ServFail),
        },
    }
}

/// A question that is answered by aliases and by what the resolvers have for the last of them.
#[derive(Debug)]
pub struct Chase {
    request: Message,
    aliases: Vec<Record>,
    /// What the resolvers are asked.
    pub question: Vec<u8>,
    limit: usize,
}

impl Chase {
    fn new(
        request: &Message,
        query: &Query,
        aliases: Vec<Record>,
        target: Name,
        transport: Transport,
    ) -> Option<Self> {
        let mut question = request.clone();
        let mut asked = query.clone();
        asked.set_name(target);
        question.queries = vec![asked];
        let question = question.to_vec().ok()?;
        Some(Self { request: request.clone(), aliases, question, limit: limit(request, transport) })
    }

    /// The whole answer. Without what the resolvers say the aliases alone: whoever can goes on from there.
    pub fn finish(&self, told: Option<&[u8]>) -> Option<Vec<u8>> {
        let told = told.and_then(|told| Message::from_vec(told).ok());
        let mut answer = Answer { answers: self.aliases.clone(), ..Answer::default() };
        if let Some(told) = told {
            answer.no_such_name = told.metadata.response_code == ResponseCode::NXDomain;
            answer.answers.extend(told.answers.iter().cloned());
            answer.authorities.extend(told.authorities.iter().cloned());
        }
        encode(&self.request, self.request.queries.first()?, answer, self.limit)
    }
}

/// The answer when the resolvers could not be asked or did not answer: SERVFAIL.
pub fn server_failure(packet: &[u8]) -> Option<Vec<u8>> {
    match failure(packet, ResponseCode::ServFail) {
        Reply::Packet(bytes) => Some(bytes),
        Reply::Forward | Reply::Chase(_) | Reply::Drop => None,
    }
}

/// The answer of a server that asks nobody else, to what is not its own: REFUSED, upon which resolvers
/// turn to the next server.
pub(crate) fn refusal(packet: &[u8]) -> Option<Vec<u8>> {
    match failure(packet, ResponseCode::Refused) {
        Reply::Packet(bytes) => Some(bytes),
        Reply::Forward | Reply::Chase(_) | Reply::Drop => None,
    }
}

/// How many bytes the asker takes.
fn limit(request: &Message, transport: Transport) -> usize {
    match transport {
        Transport::Tcp => TCP_PAYLOAD,
        Transport::Udp => usize::from(request.max_payload().min(UDP_PAYLOAD)),
    }
}

/// What a resolver sent, cut to what the asker takes: header and question with TC, so that it asks again
/// over TCP.
pub(crate) fn fit(request: &[u8], response: Vec<u8>, transport: Transport) -> Option<Vec<u8>> {
    // A resolver's answer may use all that the asker offered, beyond our own limit.
    let takes = match transport {
        Transport::Tcp => TCP_PAYLOAD,
        Transport::Udp => usize::from(Message::from_vec(request).ok()?.max_payload()),
    };
    if response.len() <= takes {
        return Some(response);
    }
    Message::from_vec(&response).ok()?.truncate().to_vec().ok()
}

fn encode(request: &Message, query: &Query, answer: Answer, limit: usize) -> Option<Vec<u8>> {
    let mut message = respond_to(request);
    message.metadata.authoritative = true;
    message.add_query(query.clone());
    if answer.no_such_name {
        message.metadata.response_code = ResponseCode::NXDomain;
    }
    message.answers = answer.answers;
    message.authorities = answer.authorities;
    message.additionals = answer.additionals;
    loop {
        let bytes = message.to_vec().ok()?;
        if bytes.len() <= limit {
            return Some(bytes);
        }
        // Additional records are a courtesy: without them nothing is truncated.
        if !message.additionals.is_empty() {
            message.additionals.clear();
            continue;
        }
        // What fits is sent with TC: stub resolvers that cannot do TCP still get addresses.
        if message.answers.is_empty() {
            return None;
        }
        message.metadata.truncation = true;
        message.answers.truncate(message.answers.len() * 3 / 4);
    }
}

fn respond_to(request: &Message) -> Message {
    let mut message = Message::response(request.metadata.id, request.metadata.op_code);
    message.metadata.recursion_desired = request.metadata.recursion_desired;
    message.metadata.recursion_available = true;
    message.metadata.checking_disabled = request.metadata.checking_disabled;
    if request.edns.is_some() {
        let mut edns = Edns::new();
        edns.set_max_payload(UDP_PAYLOAD);
        message.set_edns(edns);
    }
    message
}

fn error_message(request: &Message, code: ResponseCode) -> Message {
    let mut message = respond_to(request);
    message.add_queries(request.queries.iter().cloned());
    message.metadata.response_code = code;
    message
}

/// A refusal with as much of the question as could be read.
fn failure(packet: &[u8], code: ResponseCode) -> Reply {
    let Some(head) = packet.get(..HEADER) else { return Reply::Drop };
    let message = match Message::from_vec(packet) {
        Ok(request) => error_message(&request, code),
        Err(_) => {
            let id = u16::from_be_bytes([head[0], head[1]]);
            let mut message = Message::new(id, MessageType::Response, OpCode::from_u8(head[2] >> 3 & 0xf));
            message.metadata.response_code = code;
            message
        }
    };
    message.to_vec().map_or(Reply::Drop, Reply::Packet)
}

#[cfg(test)]
#[path = "reply_test.rs"]
mod reply_test;
