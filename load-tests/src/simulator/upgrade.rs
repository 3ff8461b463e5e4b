//! `Upgrade`: switches protocols and sends every byte back.
//!
//! Enough to show that a gateway carries an upgraded connection both ways and to its end. It isn't a WebSocket server:
//! it computes no `Sec-WebSocket-Accept` and reads no frames.

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;

use super::answer::Connection;
use super::journal::Ending;
use super::reply::{Reply, put};

/// Switches, or refuses a wrong key.
pub(crate) fn answer(connection: &Connection, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let (head, body) = request.into_parts();
    let mut entry = connection.begin(&head);
    let mut response = Response::new(Full::default());
    if !connection.key_fits(&head.headers) {
        let refusal = Reply::unauthorized();
        *response.status_mut() = StatusCode::UNAUTHORIZED;
        *response.headers_mut() = refusal.headers;
        *response.body_mut() = Full::new(
            refusal
                .pieces
                .into_iter()
                .map(|piece| piece.bytes)
                .next()
                .unwrap_or_default(),
        );
        entry.status(401);
        entry.end(Ending::Finished);
        return response;
    }
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    if let Some(protocol) = head.headers.get("upgrade") {
        response.headers_mut().insert("upgrade", protocol.clone());
    }
    put(response.headers_mut(), "connection", "upgrade");
    connection.common_headers(response.headers_mut(), &entry);
    entry.status(101);
    tokio::spawn(async move {
        if let Ok(upgraded) = hyper::upgrade::on(Request::from_parts(head, body)).await {
            let (mut read, mut write) = tokio::io::split(TokioIo::new(upgraded));
            // Whichever side ends it, the echo is over.
            let _ = tokio::io::copy(&mut read, &mut write).await;
            entry.end(Ending::Finished);
        }
    });
    response
}
