//! Calling a function: one POST to a URL on this machine, in place of AWS Lambda.
//!
//! Invariant: it ends within [`TIME`], whatever the function does, and no proxy is asked.

use std::time::Duration;

use ureq::{Agent, Error};
use url::Url;

use crate::wire::fault::{Code, Fault};

/// How long a function may take.
const TIME: Duration = Duration::from_secs(5);

/// The longest answer, in bytes: a full dataset, old and new, with every character escaped.
const MAX_ANSWER: u64 = 16 * 1024 * 1024;

/// Sends an event to a function and returns its answer.
///
/// # Errors
/// `LambdaThrottledException` for a function that is throttled, too slow or not to be reached: to
/// try again may help. `InvalidLambdaFunctionOutputException` for one that failed.
pub(super) fn invoke(function: &Url, event: &[u8]) -> Result<Vec<u8>, Fault> {
    invoke_within(function, event, TIME)
}

fn invoke_within(function: &Url, event: &[u8], time: Duration) -> Result<Vec<u8>, Fault> {
    let config = Agent::config_builder()
        .timeout_global(Some(time))
        .http_status_as_error(false)
        .max_redirects(0)
        .proxy(None)
        .build();
    let sent = Agent::new_with_config(config)
        .post(function.as_str())
        .content_type("application/json")
        .send(event);
    let mut answer = sent.map_err(|error| explain(&error))?;
    match answer.status().as_u16() {
        200..=299 => {}
        429 | 503 => return Err(throttled("the function is throttled")),
        status => {
            return Err(failed(&format!(
                "the function answered with status {status}"
            )));
        }
    }
    let body = answer.body_mut().with_config().limit(MAX_ANSWER);
    body.read_to_vec().map_err(|error| explain(&error))
}

fn explain(error: &Error) -> Fault {
    tracing::warn!(%error, "a function cannot be called");
    match error {
        Error::Timeout(_) => throttled("the function did not answer in time"),
        Error::Io(_) | Error::ConnectionFailed | Error::HostNotFound => {
            throttled("the function cannot be reached")
        }
        _ => failed("the function's answer cannot be read"),
    }
}

fn throttled(message: &str) -> Fault {
    Fault::new(Code::LambdaThrottled, message)
}

/// Makes the answer to a function that did not do its part.
pub(super) fn failed(message: &str) -> Fault {
    Fault::new(Code::InvalidLambdaFunctionOutput, message)
}

#[cfg(test)]
pub(super) mod testing {
    //! A function as a server on a port.

    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::sync::mpsc;

    use super::*;

    /// Serves calls with `answer`, which takes a request's body and returns the whole response,
    /// or nothing to leave the caller waiting.
    pub(in super::super) fn function(
        answer: impl Fn(&[u8]) -> Option<Vec<u8>> + Send + 'static,
    ) -> Url {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let mut kept = Vec::new();
            while let Ok((mut stream, _)) = listener.accept() {
                let body = read_request(&mut stream);
                match answer(&body) {
                    Some(response) => stream.write_all(&response).unwrap_or_default(),
                    None => kept.push(stream),
                }
            }
        });
        format!("http://{address}/function").parse().unwrap()
    }

    /// Returns a response of a status and a body.
    pub(in super::super) fn response(status: u16, body: &[u8]) -> Vec<u8> {
        let head = format!(
            "HTTP/1.1 {status} x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        [head.as_bytes(), body].concat()
    }

    fn read_request(stream: &mut impl Read) -> Vec<u8> {
        let mut request = Vec::new();
        let mut buffer = [0; 4096];
        loop {
            let end = request.windows(4).position(|four| four == b"\r\n\r\n");
            if let Some(end) = end {
                let head = String::from_utf8_lossy(&request[..end]).to_lowercase();
                let (_, length) = head.split_once("content-length: ").unwrap();
                let length: usize = length.lines().next().unwrap().parse().unwrap();
                if request.len() >= end + 4 + length {
                    return request.split_off(end + 4);
                }
            }
            match stream.read(&mut buffer).unwrap_or(0) {
                0 => return Vec::new(),
                read => request.extend_from_slice(&buffer[..read]),
            }
        }
    }

    #[test]
    fn a_function_gets_the_event_and_is_not_waited_for_long() {
        let (told, heard) = mpsc::channel();
        let echo = function(move |body| {
            told.send(body.to_vec()).unwrap();
            Some(response(200, body))
        });
        assert_eq!(invoke(&echo, b"event").unwrap(), b"event");
        assert_eq!(heard.recv().unwrap(), b"event");

        let silent = function(|_| None);
        let late = invoke_within(&silent, b"", Duration::from_millis(100)).unwrap_err();
        assert_eq!(late.code, Code::LambdaThrottled);
        let gone: Url = "http://127.0.0.1:9/".parse().unwrap();
        assert_eq!(invoke(&gone, b"").unwrap_err().code, Code::LambdaThrottled);
        for (status, code) in [
            (302, Code::InvalidLambdaFunctionOutput),
            (404, Code::InvalidLambdaFunctionOutput),
            (500, Code::InvalidLambdaFunctionOutput),
            (429, Code::LambdaThrottled),
        ] {
            let broken = function(move |_| Some(response(status, b"")));
            assert_eq!(invoke(&broken, b"").unwrap_err().code, code, "{status}");
        }
        let garbage = function(|_| Some(b"garbage\r\n\r\n".to_vec()));
        assert!(invoke(&garbage, b"").is_err());
    }
}
