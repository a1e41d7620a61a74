//! Signature Version 4, made and checked. The time is an argument.
//!
//! <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html>

use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{
    SignableBody, SignableRequest, SigningSettings, sign as sign_request,
};
use aws_sigv4::sign::v4;
use time::PrimitiveDateTime;
use time::macros::format_description;

use super::fault::{Code, Fault};

/// How far a request's date may be from the service's clock.
pub const CLOCK_WINDOW: Duration = Duration::from_secs(15 * 60);

/// A request could not be signed.
#[derive(Debug, thiserror::Error)]
#[error("the request cannot be signed")]
pub struct SigningError(#[source] Box<dyn std::error::Error + Send + Sync>);

/// What a signature covers.
#[derive(Clone, Copy, Debug)]
pub struct Signable<'a> {
    pub method: &'a str,
    /// The whole URL; its path is as it goes on the wire.
    pub url: &'a str,
    pub headers: &'a [(&'a str, &'a str)],
    pub body: &'a [u8],
}

/// Signs a request and returns the headers to add to it.
pub fn sign(
    request: Signable<'_>,
    credentials: &Credentials,
    region: &str,
    service: &str,
    time: SystemTime,
) -> Result<Vec<(String, String)>, SigningError> {
    let settings = SigningSettings::default();
    sign_with(request, credentials, region, service, time, settings)
}

fn sign_with(
    request: Signable<'_>,
    credentials: &Credentials,
    region: &str,
    service: &str,
    time: SystemTime,
    settings: SigningSettings,
) -> Result<Vec<(String, String)>, SigningError> {
    let identity = credentials.clone().into();
    let params = v4::SigningParams::builder()
        .identity(&identity)
        .region(region)
        .name(service)
        .time(time)
        .settings(settings)
        .build()
        .map_err(|error| SigningError(error.into()))?
        .into();
    let signable = SignableRequest::new(
        request.method,
        request.url,
        request.headers.iter().copied(),
        SignableBody::Bytes(request.body),
    )
    .map_err(|error| SigningError(error.into()))?;
    let (instructions, _) = sign_request(signable, &params)
        .map_err(|error| SigningError(error.into()))?
        .into_parts();
    let headers = instructions.headers();
    Ok(headers
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect())
}

/// The `Authorization` header of a signed request, and the headers it depends on.
#[derive(Debug)]
pub struct Authorization<'a> {
    pub access_key_id: &'a str,
    pub region: &'a str,
    pub service: &'a str,
    /// The `x-amz-security-token` that was sent.
    pub session_token: Option<&'a str>,
    date: &'a str,
    signed_headers: &'a str,
    signature: &'a str,
    time: SystemTime,
}

impl<'a> Authorization<'a> {
    /// Reads the headers of a request. Names are in lower case.
    ///
    /// # Errors
    /// `MissingAuthenticationTokenException` for an unsigned request,
    /// `IncompleteSignatureException` for a malformed one.
    pub fn parse(headers: &[(&'a str, &'a str)]) -> Result<Self, Fault> {
        let find = |wanted: &str| {
            let found = headers.iter().find(|(name, _)| *name == wanted);
            found.map(|(_, value)| *value)
        };
        let header = find("authorization").ok_or_else(|| {
            Fault::new(
                Code::MissingAuthenticationToken,
                "Missing Authentication Token",
            )
        })?;
        let incomplete = |what: &str| {
            Fault::new(
                Code::IncompleteSignature,
                format!("the Authorization header has no valid {what}"),
            )
        };
        let fields = header
            .strip_prefix("AWS4-HMAC-SHA256 ")
            .ok_or_else(|| incomplete("algorithm"))?;
        let field = |name: &str| {
            let mut pairs = fields
                .split(',')
                .filter_map(|pair| pair.trim().split_once('='));
            let found = pairs.find(|(found, _)| *found == name);
            found
                .map(|(_, value)| value)
                .ok_or_else(|| incomplete(name))
        };
        let scope: Vec<&str> = field("Credential")?.rsplitn(5, '/').collect();
        let ["aws4_request", service, region, date, access_key_id] = scope[..] else {
            return Err(incomplete("Credential"));
        };
        let time = find("x-amz-date")
            .and_then(parse_date)
            .ok_or_else(|| incomplete("X-Amz-Date"))?;
        Ok(Self {
            access_key_id,
            region,
            service,
            session_token: find("x-amz-security-token"),
            date,
            signed_headers: field("SignedHeaders")?,
            signature: field("Signature")?,
            time,
        })
    }

    /// Checks the signature by making it again from the request as received.
    ///
    /// # Errors
    /// `InvalidSignatureException` when it differs, when it does not cover the host and the date,
    /// or when it is more than [`CLOCK_WINDOW`] from `now`.
    pub fn verify(
        &self,
        request: Signable<'_>,
        secret_key: &str,
        now: SystemTime,
    ) -> Result<(), Fault> {
        let refuse = |why: &str| Err(Fault::new(Code::InvalidSignature, why));
        let age = now
            .duration_since(self.time)
            .unwrap_or_else(|early| early.duration());
        if age > CLOCK_WINDOW {
            return refuse("Signature expired: the request's date is more than 15 minutes off");
        }
        let covered: Vec<&str> = self.signed_headers.split(';').collect();
        if !covered.contains(&"host") || !covered.contains(&"x-amz-date") {
            return refuse("the signature must cover host and x-amz-date");
        }
        let headers: Vec<(&str, &str)> = request
            .headers
            .iter()
            .copied()
            .filter(|(name, _)| covered.contains(name))
            .collect();
        if covered
            .iter()
            .any(|name| !headers.iter().any(|(found, _)| found == name))
        {
            return refuse("a signed header is missing");
        }
        let covered_token = covered.contains(&"x-amz-security-token");
        let token = self.session_token.filter(|_| covered_token);
        let credentials = Credentials::new(
            self.access_key_id,
            secret_key,
            token.map(str::to_owned),
            None,
            "cognitofs",
        );
        let mut settings = SigningSettings::default();
        settings.excluded_headers = None;
        let signable = Signable {
            headers: &headers,
            ..request
        };
        let signed = sign_with(
            signable,
            &credentials,
            self.region,
            self.service,
            self.time,
            settings,
        );
        let Ok(signed) = signed else {
            return refuse("the request cannot be signed");
        };
        let ours = signed.iter().find(|(name, _)| name == "authorization");
        let ours = ours.and_then(|(_, value)| value.rsplit_once("Signature="));
        let same_day = format_date(self.time).starts_with(self.date);
        if !same_day || !ours.is_some_and(|(_, ours)| constant_time_eq(ours, self.signature)) {
            return refuse(
                "The request signature we calculated does not match the signature you provided. \
                 Check your AWS Secret Access Key and signing method.",
            );
        }
        Ok(())
    }
}

/// Compares without telling by its time where two signatures begin to differ.
fn constant_time_eq(ours: &str, theirs: &str) -> bool {
    let differences = ours
        .bytes()
        .zip(theirs.bytes())
        .fold(0, |differences, (a, b)| differences | (a ^ b));
    ours.len() == theirs.len() && differences == 0
}

fn parse_date(text: &str) -> Option<SystemTime> {
    let format = format_description!("[year][month][day]T[hour][minute][second]Z");
    let date = PrimitiveDateTime::parse(text, &format).ok()?;
    Some(date.assume_utc().into())
}

fn format_date(time: SystemTime) -> String {
    let format = format_description!("[year][month][day]");
    let date = time::OffsetDateTime::from(time);
    date.format(&format).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const URL: &str = "http://127.0.0.1:1/identitypools/us-east-1%3Aab?maxResults=1";

    fn signed(secret: &str, token: Option<&str>, time: SystemTime) -> Vec<(String, String)> {
        let token = token.map(str::to_owned);
        let credentials = Credentials::new("AKID", secret, token, None, "test");
        let request = Signable {
            method: "GET",
            url: URL,
            headers: &[("content-type", "application/json")],
            body: b"",
        };
        let mut headers = sign(request, &credentials, "us-east-1", "cognito-sync", time).unwrap();
        headers.push(("host".to_owned(), "127.0.0.1:1".to_owned()));
        headers.push(("content-type".to_owned(), "application/json".to_owned()));
        headers.push(("user-agent".to_owned(), "unsigned".to_owned()));
        headers
    }

    fn verify(
        headers: &[(String, String)],
        url: &str,
        body: &[u8],
        now: SystemTime,
    ) -> Result<(), Fault> {
        let headers: Vec<(&str, &str)> = headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        let authorization = Authorization::parse(&headers)?;
        let request = Signable {
            method: "GET",
            url,
            headers: &headers,
            body,
        };
        authorization.verify(request, "secret", now)
    }

    #[test]
    fn what_is_signed_here_is_accepted_here() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        for token in [None, Some("token")] {
            let headers = signed("secret", token, now);
            assert_eq!(verify(&headers, URL, b"", now), Ok(()));
            assert_eq!(verify(&headers, URL, b"", now + CLOCK_WINDOW), Ok(()));
        }
    }

    #[test]
    fn any_change_is_refused() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let headers = signed("secret", Some("token"), now);
        let refused =
            |result: Result<(), Fault>| result.unwrap_err().code == Code::InvalidSignature;
        assert!(refused(verify(
            &headers,
            &URL.replace("=1", "=2"),
            b"",
            now
        )));
        assert!(refused(verify(
            &headers,
            &URL.replace("%3Aab", "%3Aac"),
            b"",
            now
        )));
        assert!(refused(verify(&headers, URL, b"x", now)));
        assert!(refused(verify(&signed("other", None, now), URL, b"", now)));
        let late = now + CLOCK_WINDOW + Duration::from_secs(1);
        assert!(refused(verify(&headers, URL, b"", late)));
        for (name, value) in [
            ("x-amz-security-token", "forged"),
            ("content-type", "text/html"),
        ] {
            let mut forged = headers.clone();
            let header = forged.iter_mut().find(|(found, _)| found == name).unwrap();
            header.1 = value.to_owned();
            assert!(refused(verify(&forged, URL, b"", now)), "{name}");
        }
    }

    #[test]
    fn an_unsigned_request_is_named_so() {
        let fault = Authorization::parse(&[("host", "x")]).unwrap_err();
        assert_eq!(fault.code, Code::MissingAuthenticationToken);
        for header in [
            "Basic x",
            "AWS4-HMAC-SHA256 Credential=a/b/c/d, Signature=x",
        ] {
            let headers = [
                ("authorization", header),
                ("x-amz-date", "20261123T130000Z"),
            ];
            let fault = Authorization::parse(&headers).unwrap_err();
            assert_eq!(fault.code, Code::IncompleteSignature, "{header}");
        }
    }
}
