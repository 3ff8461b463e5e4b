//! A failure at a backend, in words that may be logged.
//!
//! Pingora's errors quote the bytes that they couldn't parse, up to a part of an answer. The text of a failure to
//! connect speaks of addresses and certificates alone, so that is shown whole; of any other failure its kind.

use std::fmt;

use pingora::{Error, ErrorType};

/// Shows an error without what it quotes.
#[derive(Debug)]
pub struct Fault<'a>(pub &'a Error);

impl fmt::Display for Fault<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Fault(error) = self;
        let quotes_nothing = matches!(
            error.etype(),
            ErrorType::ConnectTimedout
                | ErrorType::ConnectRefused
                | ErrorType::ConnectNoRoute
                | ErrorType::ConnectError
                | ErrorType::BindError
                | ErrorType::SocketError
                | ErrorType::TLSHandshakeFailure
                | ErrorType::TLSHandshakeTimedout
                | ErrorType::InvalidCert
        );
        match quotes_nothing {
            true => write!(formatter, "{error}"),
            false => write!(
                formatter,
                "{} ({})",
                error.etype().as_str(),
                error.esource().as_str()
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_not_be_parsed_is_not_quoted() {
        let error = *Error::explain(ErrorType::InvalidHTTPHeader, "buf: api-key: planted");
        assert!(!Fault(&error).to_string().contains("planted"));
        let error = *Error::explain(ErrorType::ConnectRefused, "10.0.0.1:443");
        assert!(Fault(&error).to_string().contains("10.0.0.1:443"));
    }
}
