//! A caller over HTTP/2 with prior knowledge, on hyper's client: the gateway's own code isn't on both sides.

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};

use super::before::KEY;
use super::http;

/// One connection, for any number of calls. Dropping it closes the connection.
pub struct Caller {
    sender: SendRequest<Full<Bytes>>,
}

impl Caller {
    /// Connects to `http://AUTHORITY`.
    pub async fn connect(url: &str) -> Caller {
        let stream = tokio::net::TcpStream::connect(http::split(url).0)
            .await
            .unwrap();
        let (sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
        // It ends with the connection, and an error of it is seen by the call that it belongs to.
        tokio::spawn(async move { drop(connection.await) });
        Caller { sender }
    }

    /// Sends a POST of a JSON body with the key of the tests, and waits for the answer's head. Dropping the answer
    /// before its end resets its stream (`RST_STREAM`).
    pub async fn post(&mut self, path: &str, case: &str, body: &[u8]) -> Response<Incoming> {
        self.try_post(path, case, body).await.unwrap()
    }

    /// Likewise, for calls that may have no answer.
    pub async fn try_post(
        &mut self,
        path: &str,
        case: &str,
        body: &[u8],
    ) -> hyper::Result<Response<Incoming>> {
        self.sender.ready().await?;
        let request = Request::post(format!("http://tests{path}"))
            .header("api-key", KEY)
            .header("x-case", case)
            .header("content-type", "application/json")
            .body(Full::new(Bytes::copy_from_slice(body)));
        self.sender.send_request(request.unwrap()).await
    }
}

/// The next bytes of an answer's body; `None` at its proper end.
pub async fn chunk(answer: &mut Response<Incoming>) -> Option<Bytes> {
    let frame = answer.body_mut().frame().await?;
    Some(frame.unwrap().into_data().unwrap())
}

/// The whole body, if it ends properly.
pub async fn body(answer: Response<Incoming>) -> hyper::Result<Bytes> {
    answer
        .into_body()
        .collect()
        .await
        .map(http_body_util::Collected::to_bytes)
}
