// Calls through gRPC-Web by Google's own client, in a page of jsdom: its XMLHttpRequest keeps CORS as browsers do.
//
//   grpc_web.cjs PACKAGES URL    prints what the page saw, a JSON object: a call by its name, what came of it
//
// PACKAGES is a folder with npm packages. The server behind URL is grpc_pairs.py; behind URL/refused there is none.
"use strict";
const [packages, url] = process.argv.slice(2);
const bring = require("node:module").createRequire(`${packages}/`);
const { JSDOM } = bring("jsdom");

const page = new JSDOM("", { url: "http://page.test/" });
// As its standard says, which jsdom does not: what is no text is there when it is complete.
globalThis.XMLHttpRequest = class extends page.window.XMLHttpRequest {
  get response() {
    return this.responseType === "arraybuffer" && this.readyState !== this.DONE ? null : super.response;
  }
};
const { GrpcWebClientBase, MethodDescriptor, MethodType } = bring("grpc-web");

const LARGE = Uint8Array.from({ length: 5_242_885 }, (_, n) => n % 251);
const text = (bytes) => Buffer.from(bytes).toString();

function descriptor(method, type) {
  const pass = (bytes) => new Uint8Array(bytes);
  return new MethodDescriptor(`/pairing.Echo/${method}`, type, Uint8Array, Uint8Array, pass, pass);
}

// What of the metadata the server or the test has put there.
function own(metadata) {
  const mine = Object.entries(metadata ?? {}).filter(([name]) => /^x-(initial|back-bin|trailing)/.test(name));
  return Object.fromEntries(mine.sort());
}

// Runs one call to its end and says what the program was told.
function call(format, method, type, body, metadata = {}, each = () => {}, base = url) {
  const client = new GrpcWebClientBase({ format, maxReceiveMessageSize: 0 });
  const seen = { messages: [], head: {}, trailers: {}, code: null };
  return new Promise((resolve) => {
    // The status comes behind the message and the end.
    const end = () => setImmediate(() => resolve(seen));
    const answered = (error, message) => {
      if (message) seen.messages.push(message);
      if (error) Object.assign(seen, { code: error.code, text: error.message });
      end();
    };
    const stream = type === MethodType.UNARY
      ? client.rpcCall(`${base}/pairing.Echo/${method}`, body, metadata, descriptor(method, type), answered)
      : client.serverStreaming(`${base}/pairing.Echo/${method}`, body, metadata, descriptor(method, type));
    stream.on("metadata", (head) => Object.assign(seen.head, own(head)));
    stream.on("status", (status) => {
      if (seen.code === null) seen.code = status.code;
      Object.assign(seen.trailers, own(status.metadata));
    });
    if (type !== MethodType.UNARY) {
      stream.on("data", (message) => { seen.messages.push(message); each(stream, message, end); });
      stream.on("error", (error) => { Object.assign(seen, { code: error.code, text: error.message }); end(); });
      stream.on("end", end);
    }
  });
}

const said = (seen) => ({ ...seen, messages: seen.messages.map(text) });
const bytes = (string) => new TextEncoder().encode(string);

// The server's word on a hanging call, once it has heard that it ended.
async function heard(format, key) {
  for (const until = Date.now() + 15_000; Date.now() < until;) {
    const told = await call(format, "Ended", MethodType.UNARY, bytes(key));
    const [count, left] = JSON.parse(text(told.messages[0]));
    if (count > 0) return left === null || left > 1e6 ? "of its end" : left > 0 && left <= 1 ? "of the deadline" : `of ${left} s`;
  }
  return "of nothing";
}

async function all(format) {
  const unary = (method, body, metadata) => call(format, method, MethodType.UNARY, body, metadata);
  const down = (method, body, metadata, each) => call(format, method, MethodType.SERVER_STREAMING, body, metadata, each);
  const found = {};
  found.unary = said(await unary("Unary", bytes("hello"), { "x-mine": "m", "x-mine-bin": "Af4A" }));
  found.empty = said(await unary("Unary", bytes("")));
  const large = await unary("Unary", LARGE);
  found.large = { code: large.code, same: large.messages.length === 1 && Buffer.from(large.messages[0]).equals(LARGE) };
  const several = await Promise.all(Array.from({ length: 20 }, (_, n) => unary("Unary", bytes(`${n}`))));
  found.several = several.map((seen) => text(seen.messages[0])).join();
  found.status = said(await unary("Fail", bytes("")));
  found["status of a stream"] = said(await down("Fail", bytes("")));
  found["no such method"] = said(await unary("Nothing", bytes("")));
  found.nobody = said(await call(format, "Unary", MethodType.UNARY, bytes(""), {}, undefined, `${url}/refused`));
  const stream = said(await down("Down", bytes("1000")));
  const expected = Array.from({ length: 1000 }, (_, n) => `${n}`).join();
  found.stream = { ...stream, messages: stream.messages.join() === expected ? "all" : stream.messages };
  found["empty stream"] = said(await down("Down", bytes("0")));

  const key = `${format} ${process.pid}`;
  const deadline = { deadline: `${Date.now() + 1_000}` };
  const late = said(await down("Hang", bytes(`${key} deadline`), deadline));
  found.deadline = { code: late.code, heard: await heard(format, `${key} deadline`) };
  if (format === "text") {
    // In binary the client gives nothing before the end.
    const each = (stream, message, end) => { stream.cancel(); end(); };
    const early = said(await down("Hang", bytes(`${key} cancelled`), {}, each));
    found.cancelled = { messages: early.messages, heard: await heard(format, `${key} cancelled`) };
  }
  return found;
}

async function main() {
  const found = {};
  for (const format of ["text", "binary"]) found[format] = await all(format);
  page.window.close();
  return JSON.stringify(found);
}

main().then((said) => process.stdout.write(said, () => process.exit(0)),
  (error) => { console.error(error); process.exit(1); });
