//! WebSockets that give messages back, and their clients.

use crate::dial::Stream;
use crate::pace::Pace;
use crate::tally::{Event, Failure};
use crate::{Failed, Load, PATIENCE};
use futures_util::{SinkExt as _, StreamExt as _};
use std::sync::Arc;
use std::time::Instant;
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, accept_async, client_async};

/// Gives every message back.
///
/// # Errors
/// If it cannot listen.
pub async fn serve(address: &str) -> Result<(), Failed> {
    let listener = TcpListener::bind(address).await?;
    loop {
        if let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(echo(stream));
        }
    }
}

async fn echo(stream: TcpStream) -> Result<(), Error> {
    let mut socket = accept_async(stream).await?;
    while let Some(message) = socket.next().await {
        let message = message?;
        if message.is_text() || message.is_binary() {
            socket.send(message).await?;
        }
    }
    Ok(())
}

type Socket = WebSocketStream<Box<dyn Stream>>;

pub async fn run(load: Arc<Load>, mut pace: Pace) {
    let mut kept: Option<(Socket, u64)> = None;
    while let Some(due) = load.turn(&mut pace).await {
        let (mut socket, sent) = match kept.take() {
            Some(kept) => kept,
            None => match Box::pin(open(&load)).await {
                Ok(socket) => (socket, 0),
                Err(error) => {
                    load.tally.failed(Failure::Refused, error);
                    continue;
                }
            },
        };
        let Ok(came) = tokio::time::timeout(PATIENCE, exchange(&mut socket, sent)).await else {
            load.tally.failed(Failure::Late, format_args!("message {sent}"));
            continue;
        };
        match came {
            Ok(true) => {
                load.tally.answered(due);
                kept = Some((socket, sent + 1));
            }
            Ok(false) => load.tally.count(Event::Told),
            Err(error) => load.tally.failed(Failure::Cut, format_args!("message {sent}: {error}")),
        }
        if let Some((socket, _)) = kept.take_if(|(_, sent)| *sent >= load.requests) {
            leave(&load, socket).await;
        }
    }
    if let Some((socket, _)) = kept {
        leave(&load, socket).await;
    }
}

async fn open(load: &Load) -> Result<Socket, Failed> {
    let stream = load.dialer.connect().await?;
    let address = format!("ws://{}{}", load.name, load.path);
    let (socket, _) = tokio::time::timeout(PATIENCE, client_async(address, stream)).await??;
    load.tally.count(Event::Opened);
    Ok(socket)
}

/// True when the echo has come; false if the other side has said that it goes.
async fn exchange(socket: &mut Socket, number: u64) -> Result<bool, Error> {
    let sent = format!("message {number} at {:?}", Instant::now());
    socket.send(Message::text(sent.clone())).await?;
    loop {
        match socket.next().await.ok_or(Error::ConnectionClosed)?? {
            Message::Text(text) if text.as_str() == sent => return Ok(true),
            Message::Text(_) | Message::Binary(_) => return Err(Error::AttackAttempt),
            Message::Close(_) => return Ok(false),
            _ => {}
        }
    }
}

/// Says goodbye, and waits for the other side's.
async fn leave(load: &Load, mut socket: Socket) {
    let goodbye = async {
        socket.close(None).await?;
        while let Some(message) = socket.next().await {
            message?;
        }
        Ok::<_, Error>(())
    };
    match tokio::time::timeout(PATIENCE, goodbye).await {
        Ok(Ok(()) | Err(Error::ConnectionClosed)) => {}
        Ok(Err(error)) => load.tally.failed(Failure::Cut, format_args!("no goodbye: {error}")),
        Err(_) => load.tally.failed(Failure::Late, "no goodbye"),
    }
}
