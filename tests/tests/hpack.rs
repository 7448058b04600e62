//! Our HPACK against Python's, both ways, over random fields and table sizes.

use std::convert::Infallible;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use fastrand::Rng;
use heddle_proxy::http::h2::hpack::{DEFAULT_TABLE, Decoder, Encoder, Index};
use heddle_tests::{peer, root};
use serde_json::{Value, json};

type Field = (Vec<u8>, Vec<u8>, Index);

struct Peer {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Peer {
    fn start() -> Option<Self> {
        let python = peer::python()?;
        let mut child = Command::new(python)
            .arg(root().join("tests/peers/hpack_peer.py"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (stdin, stdout) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        Some(Self { child, stdin, stdout })
    }

    fn tell(&mut self, order: &Value) {
        writeln!(self.stdin, "{order}").unwrap();
    }

    fn ask(&mut self, order: &Value) -> Value {
        self.tell(order);
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        serde_json::from_str(&line).expect("an answer of the peer, whose Python has the package hpack")
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let digit = |byte: &u8| (*byte as char).to_digit(16).unwrap() as u8;
    text.as_bytes().chunks(2).map(|pair| digit(&pair[0]) << 4 | digit(&pair[1])).collect()
}

/// Some names and values come again and again, others are any bytes.
fn field(random: &mut Rng) -> Field {
    const NAMES: &[&str] =
        &[":method", ":path", ":status", "content-type", "te", "x-request-id", "grpc-status", "grpc-timeout"];
    const VALUES: &[&str] = &["POST", "/", "200", "404", "application/grpc", "trailers", "", "0", "1000m"];
    let mut bytes = |known: &[&str], most: usize| match random.u8(..8) {
        0 => (0..random.usize(..most)).map(|_| random.u8(..)).collect(),
        1 | 2 => (0..random.usize(..most)).map(|_| random.lowercase() as u8).collect(),
        _ => known[random.usize(..known.len())].as_bytes().to_vec(),
    };
    let (name, value) = (bytes(NAMES, 40), bytes(VALUES, 200));
    let index = [Index::Yes, Index::Yes, Index::Yes, Index::No, Index::Never][random.usize(..5)];
    // The peer takes an empty name for the end of its table.
    (if name.is_empty() { b"x".to_vec() } else { name }, value, index)
}

#[test]
fn blocks_mean_to_a_peer_what_they_mean_here() {
    let Some(mut peer) = Peer::start() else { return };
    let seed = fastrand::u64(..);
    eprintln!("seed {seed}");
    let random = &mut Rng::with_seed(seed);
    let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new(DEFAULT_TABLE));
    for _ in 0..3000 {
        if random.u8(..10) == 0 {
            let size = [0, 64, 200, 1000, 4096, 10_000][random.usize(..6)];
            encoder.set_max_table_size(size);
            decoder.set_max_table_size(size);
            peer.tell(&json!({ "size": size }));
        }
        let fields: Vec<Field> = (0..random.usize(..16)).map(|_| field(random)).collect();
        let wanted: Vec<Value> = fields
            .iter()
            .map(|(name, value, index)| json!([hex(name), hex(value), *index == Index::Never]))
            .collect();

        let mut block = Vec::new();
        encoder.begin(&mut block);
        for (name, value, index) in &fields {
            encoder.field(&mut block, name, value, *index);
        }
        assert_eq!(
            peer.ask(&json!({ "decode": hex(&block) })),
            Value::from(wanted.clone()),
            "from here to the peer"
        );

        let answer = peer.ask(&json!({ "encode": wanted }));
        let mut expected = fields.iter();
        let done = decoder.decode(&unhex(answer.as_str().unwrap()), |name, value, never| {
            let (n, v, index) = expected.next().expect("no field more");
            // The peer names a secret by its place where its table has the same field already.
            let may = !never || *index == Index::Never;
            assert!(
                name == n && value == v && may,
                "from the peer to here: {name:x?} {value:x?}, not {n:x?} {v:x?}"
            );
            Ok::<(), Infallible>(())
        });
        assert_eq!((done, expected.next()), (Ok(()), None), "from the peer to here");
    }
}
