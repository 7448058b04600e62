use std::future::poll_fn;
use std::io::{Read as _, Write as _};
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::net::TcpStream;

use super::*;
use crate::conn::buffers::Buffers;
use crate::conn::wire::Wire;
use crate::http::h1::encode::Case;
use crate::http::h1::framing::Framing;

/// A flow, and the far ends of the two connections it runs between.
struct Bench {
    flow: Flow,
    from: Stream,
    to: Stream,
    source: std::net::TcpStream,
    sink: std::net::TcpStream,
    buffers: Rc<Buffers>,
}

async fn connection() -> (std::net::TcpStream, TcpStream) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let far = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (far, listener.accept().await.unwrap().0)
}

impl Bench {
    async fn new(framing: Framing) -> Self {
        let ((source, from), (sink, to)) = (connection().await, connection().await);
        // A narrow way out: it is full now and then.
        socket2::SockRef::from(&to).set_send_buffer_size(128 * 1024).unwrap();
        to.set_nodelay(true).unwrap();
        let buffers = Rc::<Buffers>::default();
        let mut from = WireStream::new(Wire::new(from, buffers.clone()));
        let mut to = WireStream::new(Wire::new(to, buffers.clone()));
        from.expect(framing);
        to.begin(framing, Case::Kept);
        let flow = Flow::default();
        Self { flow, from: Stream::Wire(from), to: Stream::Wire(to), source, sink, buffers }
    }

    /// Sends `data` through, ends the sending half where asked, and returns what arrives and how the flow ended.
    async fn pass(&mut self, data: Vec<u8>, shut: bool) -> (Vec<u8>, Result<(), Side>) {
        let (mut source, mut sink) = (self.source.try_clone().unwrap(), self.sink.try_clone().unwrap());
        let sending = std::thread::spawn(move || {
            source.write_all(&data).unwrap();
            if shut {
                source.shutdown(std::net::Shutdown::Write).unwrap();
            }
        });
        let reading = std::thread::spawn(move || {
            let mut got = Vec::new();
            sink.read_to_end(&mut got).unwrap();
            got
        });
        let passing = poll_fn(|cx| self.flow.poll(cx, &mut self.from, &mut self.to));
        let outcome = tokio::time::timeout(Duration::from_secs(30), passing).await.expect("in time");
        let Stream::Wire(to) = &mut self.to else { unreachable!() };
        poll_fn(|cx| to.wire.poll_shutdown(cx)).await.unwrap();
        sending.join().unwrap();
        (reading.join().unwrap(), outcome)
    }

    /// Polls once.
    fn poll(&mut self) -> Poll<Result<(), Side>> {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        self.flow.poll(&mut cx, &mut self.from, &mut self.to)
    }

    /// Polls until so many bytes were passed.
    async fn until(&mut self, bytes: u64) {
        poll_fn(|cx| {
            assert!(self.flow.poll(cx, &mut self.from, &mut self.to).is_pending());
            if self.flow.bytes >= bytes { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}

fn data(len: usize) -> Vec<u8> {
    (0..len).map(|n| (n / 7 % 251) as u8).collect()
}

#[tokio::test]
async fn much_goes_through_a_pipe_and_arrives_whole() {
    let mut bench = Bench::new(Framing::UntilClose).await;
    let sent = data(8_000_000);
    let (got, outcome) = bench.pass(sent.clone(), true).await;
    outcome.unwrap();
    assert!(got == sent);
    assert_eq!(bench.flow.bytes, 8_000_000);
    assert_eq!(bench.buffers.pipes.state(), (0, 1), "one pipe was used and given back");
}

#[tokio::test]
async fn a_body_of_known_length_ends_where_it_ends() {
    let len = 3_000_000;
    let mut bench = Bench::new(Framing::Length(len)).await;
    let mut sent = data(len as usize);
    sent.extend(b"the next message");
    let (got, outcome) = bench.pass(sent.clone(), false).await;
    outcome.unwrap();
    assert!(got == sent[..len as usize], "{} bytes", got.len());
    assert_eq!(bench.buffers.pipes.state(), (0, 1));
    let Stream::Wire(to) = &bench.to else { unreachable!() };
    assert_eq!(to.send, Encoder::Done, "the receiver is owed nothing");
    let Stream::Wire(from) = &mut bench.from else { unreachable!() };
    poll_fn(|cx| from.wire.poll_fill(cx)).await.unwrap();
    assert!(b"the next message".starts_with(from.wire.data()), "{:?}", from.wire.data());
}

#[tokio::test]
async fn a_body_that_breaks_off_is_told() {
    let mut bench = Bench::new(Framing::Length(3_000_000)).await;
    let (got, outcome) = bench.pass(data(2_000_000), true).await;
    assert!(matches!(outcome, Err(Side::From(_))), "{outcome:?}");
    assert_eq!(got.len(), 2_000_000);
}

#[tokio::test]
async fn who_waits_holds_no_pipe_and_small_pieces_are_copied() {
    let mut bench = Bench::new(Framing::UntilClose).await;
    let mut sink = bench.sink.try_clone().unwrap();
    let reading = std::thread::spawn(move || std::io::copy(&mut sink, &mut std::io::sink()).unwrap());
    let mut source = bench.source.try_clone().unwrap();
    let sending = std::thread::spawn(move || source.write_all(&data(2_000_000)).unwrap());
    bench.until(2_000_000).await;
    sending.join().unwrap();
    assert!(bench.poll().is_pending());
    assert_eq!(bench.buffers.pipes.state(), (0, 1));
    for n in 1..=2 {
        bench.source.write_all(b"small").unwrap();
        bench.until(2_000_000 + 5 * n).await;
    }
    assert!(matches!(bench.flow.way, Way::Copy), "{:?}", bench.flow.way);
    drop(bench);
    assert_eq!(reading.join().unwrap(), 2_000_010);
}

#[tokio::test]
async fn a_pipe_with_something_in_it_is_not_used_again() {
    let mut bench = Bench::new(Framing::UntilClose).await;
    let mut source = bench.source.try_clone().unwrap();
    // Nobody reads: in the end the pipe is full.
    let sending = std::thread::spawn(move || source.write_all(&data(30_000_000)));
    let deadline = Instant::now() + Duration::from_secs(30);
    while !matches!(&bench.flow.way, Way::Splice(Some(pipe)) if pipe.held() > 0) {
        assert!(bench.poll().is_pending() && Instant::now() < deadline);
        tokio::task::yield_now().await;
    }
    let buffers = bench.buffers.clone();
    assert_eq!(buffers.pipes.state(), (1, 0));
    drop(bench);
    assert_eq!(buffers.pipes.state(), (0, 0));
    assert!(sending.join().unwrap().is_err());
}

#[tokio::test]
async fn without_a_pipe_bytes_are_copied() {
    let mut bench = Bench::new(Framing::UntilClose).await;
    let mut all = Vec::new();
    while let Some(pipe) = Lent::new(&bench.buffers) {
        all.push(pipe);
    }
    assert_eq!(all.len(), 64, "as many as there may be");
    let (got, outcome) = bench.pass(data(5_000_000), true).await;
    outcome.unwrap();
    assert!(got == data(5_000_000));
}

#[tokio::test]
async fn a_socket_that_refuses_is_written() {
    let mut bench = Bench::new(Framing::UntilClose).await;
    let Stream::Wire(to) = &mut bench.to else { unreachable!() };
    // The system splices into nothing that appends.
    to.wire.set_append();
    let (got, outcome) = bench.pass(data(5_000_000), true).await;
    outcome.unwrap();
    assert!(got == data(5_000_000));
    assert!(matches!(bench.flow.way, Way::CopyOnly));
    assert_eq!(bench.flow.bytes, 5_000_000);
}
