use super::*;
use crate::listen::Edge;
use crate::listen::conn_info::Origin;
use pingora_core::protocols::Digest;
use pingora_core::protocols::{GetProxyDigest, GetSocketDigest, Ssl};
use proptest::prelude::*;
use std::io::IoSlice;
use std::os::fd::AsRawFd;
use tokio::sync::watch;

/// The server's side as an edge, and the client's side.
async fn pair(yaml: &str) -> (Edge<TcpStream>, TcpStream) {
    let socket = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let local = socket.local_addr().unwrap();
    let (client, accepted) = tokio::join!(TcpStream::connect(local), socket.accept());
    let (tcp, peer) = accepted.unwrap();
    let config = Arc::new(listener(yaml));
    let name = "edge".parse().unwrap();
    let origin =
        Origin { listener: ListenerId(5), name, config, local, peer, leave: watch::channel(false).1 };
    let fd = tcp.as_raw_fd();
    (Edge::new(tcp, fd, Arc::new(ConnInfo::new(origin, None))).unwrap(), client.unwrap())
}

#[derive(Clone, Debug)]
enum Step {
    Write(usize),
    Vectored(Vec<usize>),
    Flush,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let size = prop_oneof![0usize..64, 4000usize..4200, 0usize..40_000];
    let step = prop_oneof![
        4 => size.clone().prop_map(Step::Write),
        3 => prop::collection::vec(size, 0..20).prop_map(Step::Vectored),
        1 => Just(Step::Flush),
    ];
    prop::collection::vec(step, 1..24)
}

async fn run(edge: &mut Edge<TcpStream>, steps: &[Step]) -> Vec<u8> {
    let mut expected = Vec::new();
    let fill = |count: usize, seed: usize| (0..count).map(|at| (at + seed) as u8).collect::<Vec<u8>>();
    for step in steps {
        match step {
            Step::Write(count) => {
                let bytes = fill(*count, expected.len());
                edge.write_all(&bytes).await.unwrap();
                expected.extend(bytes);
            }
            Step::Vectored(counts) => {
                let bytes: Vec<_> = counts.iter().map(|count| fill(*count, expected.len())).collect();
                let mut slices: Vec<_> = bytes.iter().map(|bytes| IoSlice::new(bytes)).collect();
                let mut rest = &mut slices[..];
                IoSlice::advance_slices(&mut rest, 0);
                while !rest.is_empty() {
                    let written = edge.write_vectored(rest).await.unwrap();
                    assert!(written > 0, "nothing is written of something");
                    IoSlice::advance_slices(&mut rest, written);
                }
                expected.extend(bytes.concat());
            }
            Step::Flush => edge.flush().await.unwrap(),
        }
    }
    edge.shutdown().await.unwrap();
    expected
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_written_arrives_whole_and_in_order(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (mut edge, mut client) = pair("").await;
            let mut arrived = Vec::new();
            let (expected, read) = tokio::join!(run(&mut edge, &steps), client.read_to_end(&mut arrived));
            read.unwrap();
            prop_assert!(arrived == expected, "{} bytes arrived of {}", arrived.len(), expected.len());
            prop_assert_eq!(edge.info().sent(), expected.len() as u64);
            Ok(())
        })?;
    }
}

#[tokio::test]
async fn small_writes_go_out_together() {
    let (mut edge, mut client) = pair("").await;
    edge.write_all(b"head").await.unwrap();
    edge.write_all(b"body").await.unwrap();
    assert_eq!(edge.info().sent(), 0, "nothing before the flush");
    edge.flush().await.unwrap();
    assert_eq!(edge.info().sent(), 8);
    edge.write_all(b"head").await.unwrap();
    edge.write_all(&[b'x'; 5000]).await.unwrap();
    assert_eq!(edge.info().sent(), 8 + 4 + 5000, "what is large goes out, with what waits, unflushed");
    let mut arrived = vec![0; 8 + 4 + 5000];
    patiently(client.read_exact(&mut arrived)).await.unwrap();
    assert!(arrived.starts_with(b"headbodyheadx"));
}

/// On a runtime of one thread, as a worker is: what else runs there gets in between.
#[tokio::test]
async fn a_large_answer_leaves_turns_to_others() {
    const SIZE: usize = 1 << 20;
    let (mut edge, mut client) = pair("").await;
    let others = std::cell::Cell::new(0);
    let mut most_between = 0;
    let large = vec![b'x'; SIZE];
    let mut arrived = vec![0; SIZE];
    let writing = async {
        let (mut turns, mut since) = (others.get(), 0);
        let mut rest = &large[..];
        while !rest.is_empty() {
            let written = edge.write(rest).await.unwrap();
            if others.get() != turns {
                (turns, since) = (others.get(), 0);
            }
            since += written;
            most_between = most_between.max(since);
            rest = &rest[written..];
        }
        edge.flush().await.unwrap();
    };
    let reading = patiently(client.read_exact(&mut arrived));
    let other = async {
        loop {
            others.set(others.get() + 1);
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        biased;
        ((), read) = async { tokio::join!(writing, reading) } => read.unwrap(),
        () = other => unreachable!("it has no end"),
    };
    assert!(most_between <= 2 * 65_483 + 4096, "{most_between} bytes while another waited");
    assert!(arrived == large, "it came as it was sent");
}

#[tokio::test]
async fn a_client_that_was_given_up_is_reset() {
    let (mut edge, mut client) = pair("limits: { write_time: 50ms }").await;
    let error = patiently(edge.write_all(&vec![b'x'; 64 << 20])).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
    // At once, though there is something to write: the client had its time.
    edge.write_all(b"more").await.unwrap();
    assert!(edge.flush().await.is_err());
    drop(edge);
    let error = patiently(client.read_to_end(&mut Vec::new())).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn hooks_find_the_connection_and_its_addresses() {
    let (edge, client) = pair("").await;
    let digest = Digest {
        proxy_digest: edge.get_proxy_digest(),
        socket_digest: edge.get_socket_digest(),
        ..Digest::default()
    };
    let info = ConnInfo::of(&digest).unwrap();
    assert_eq!(info.listener(), ListenerId(5));
    assert_eq!(info.peer_addr(), client.local_addr().unwrap());
    assert_eq!(info.local_addr(), client.peer_addr().unwrap());
    let socket = digest.socket_digest.as_ref().unwrap();
    assert_eq!(socket.peer_addr().unwrap().as_inet(), Some(&info.peer_addr()));
    assert!(edge.get_ssl_digest().is_none());
    assert!(ConnInfo::of(&Digest::default()).is_none());
}
