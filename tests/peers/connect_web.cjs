// Calls through gRPC-Web by Connect's client, over the fetch of Node.
//
//   connect_web.cjs PACKAGES URL    prints what the program saw, a JSON object: a call by its name, what came of it
//
// PACKAGES is a folder with npm packages. The server behind URL is grpc_pairs.py; behind URL/refused there is none.
"use strict";
const [packages, url] = process.argv.slice(2);
const bring = require("node:module").createRequire(`${packages}/`);
const { MethodKind } = bring("@bufbuild/protobuf");
const { ConnectError } = bring("@connectrpc/connect");
const { createGrpcWebTransport } = bring("@connectrpc/connect-web");

const LARGE = Uint8Array.from({ length: 5_242_885 }, (_, n) => n % 251);
const text = (bytes) => Buffer.from(bytes).toString();
const bytes = (string) => new TextEncoder().encode(string);

// A message that is its bytes.
class Raw {
  constructor(bytes) { this.bytes = bytes ?? new Uint8Array(); }
  toBinary() { return this.bytes; }
  static fromBinary(bytes) { return new Raw(new Uint8Array(bytes)); }
}

const service = { typeName: "pairing.Echo", methods: {} };
const method = (name, kind) => ({ name, I: Raw, O: Raw, kind });
const transport = (baseUrl) => createGrpcWebTransport({ baseUrl, useBinaryFormat: true });

// What of the metadata the server or the test has put there.
const own = (headers) => Object.fromEntries(
  [...headers].filter(([name]) => /^x-(initial|back-bin|trailing)/.test(name)).sort());

// Runs one call to its end and says what the program was told.
async function call(name, kind, body, { headers = {}, timeout, each, base = url } = {}) {
  const seen = { messages: [], head: {}, trailers: {}, code: 0 };
  const stop = new AbortController();
  try {
    if (kind === MethodKind.Unary) {
      const answer = await transport(base).unary(service, method(name, kind), stop.signal, timeout, headers, new Raw(body));
      Object.assign(seen, { messages: [answer.message.bytes], head: own(answer.header), trailers: own(answer.trailer) });
    } else {
      const one = (async function* () { yield new Raw(body); })();
      const answer = await transport(base).stream(service, method(name, kind), stop.signal, timeout, headers, one);
      seen.head = own(answer.header);
      for await (const message of answer.message) {
        seen.messages.push(message.bytes);
        each?.(stop);
      }
      seen.trailers = own(answer.trailer);
    }
  } catch (error) {
    const { code, rawMessage } = ConnectError.from(error);
    Object.assign(seen, { code, text: rawMessage });
  }
  return seen;
}

const said = (seen) => ({ ...seen, messages: seen.messages.map(text) });
const unary = (name, body, options) => call(name, MethodKind.Unary, bytes(body), options);
const down = (name, body, options) => call(name, MethodKind.ServerStreaming, bytes(body), options);

// The server's word on a hanging call, once it has heard that it ended.
async function heard(key) {
  for (const until = Date.now() + 15_000; Date.now() < until;) {
    const [count, left] = JSON.parse(text((await unary("Ended", key)).messages[0]));
    if (count > 0) return left === null || left > 1e6 ? "of its end" : left > 0 && left <= 1 ? "of the deadline" : `of ${left} s`;
  }
  return "of nothing";
}

async function main() {
  const found = {};
  found.unary = said(await unary("Unary", "hello", { headers: { "x-mine": "m", "x-mine-bin": "Af4A" } }));
  found.empty = said(await unary("Unary", ""));
  const large = await call("Unary", MethodKind.Unary, LARGE);
  found.large = { code: large.code, same: large.messages.length === 1 && Buffer.from(large.messages[0]).equals(LARGE) };
  const several = await Promise.all(Array.from({ length: 20 }, (_, n) => unary("Unary", `${n}`)));
  found.several = several.map((seen) => text(seen.messages[0])).join();
  found.status = said(await unary("Fail", ""));
  found["status of a stream"] = said(await down("Fail", ""));
  found["no such method"] = said(await unary("Nothing", ""));
  found.nobody = said(await unary("Unary", "", { base: `${url}/refused` }));
  const stream = said(await down("Down", "1000"));
  const expected = Array.from({ length: 1000 }, (_, n) => `${n}`).join();
  found.stream = { ...stream, messages: stream.messages.join() === expected ? "all" : stream.messages };
  found["empty stream"] = said(await down("Down", "0"));
  const key = `connect ${process.pid}`;
  const late = said(await down("Hang", `${key} deadline`, { timeout: 1_000 }));
  found.deadline = { code: late.code, heard: await heard(`${key} deadline`) };
  // The message has to be here before the end of the call.
  const early = said(await down("Hang", `${key} cancelled`, { each: (stop) => stop.abort() }));
  found.cancelled = { messages: early.messages, heard: await heard(`${key} cancelled`) };
  return JSON.stringify(found);
}

main().then((said) => process.stdout.write(said, () => process.exit(0)),
  (error) => { console.error(error); process.exit(1); });
