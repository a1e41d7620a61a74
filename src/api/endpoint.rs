//! Where the two services are.

use url::{Host, Url};

use crate::wire::operation::Service;

/// Why an endpoint cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    #[error("expected a URL such as https://example.com")]
    NotAUrl,
    #[error("credentials do not belong in a URL, where others can read them")]
    Credentials,
    #[error("a URL without ? and # is expected")]
    Query,
    #[error("plain http would show the data to the network: use https")]
    PlainHttp,
    #[error("expected https, or http to this machine")]
    Scheme,
}

/// The base URLs of Cognito Sync and Cognito Identity.
#[derive(Clone, Debug)]
pub struct Endpoints {
    sync: String,
    identity: String,
}

impl Endpoints {
    /// Finds the endpoints for a region: `explicit` (the `endpoint=` option) serves both; else
    /// `AWS_ENDPOINT_URL_COGNITO_SYNC` and `AWS_ENDPOINT_URL_COGNITO_IDENTITY`, else
    /// `AWS_ENDPOINT_URL`, else AWS's own hosts. `environment` looks a variable up.
    ///
    /// # Errors
    /// One that is no URL, and plain http to anything but loopback.
    pub fn find(
        region: &str,
        explicit: Option<&str>,
        environment: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, EndpointError> {
        let variable = |name: &str| environment(name).filter(|value| !value.is_empty());
        let find = |service: Service, name: &str| {
            let url = explicit
                .map(str::to_owned)
                .or_else(|| variable(name))
                .or_else(|| variable("AWS_ENDPOINT_URL"))
                .unwrap_or_else(|| aws_url(service, region));
            parse_endpoint(&url).map(|_| url.trim_end_matches('/').to_owned())
        };
        Ok(Self {
            sync: find(Service::CognitoSync, "AWS_ENDPOINT_URL_COGNITO_SYNC")?,
            identity: find(
                Service::CognitoIdentity,
                "AWS_ENDPOINT_URL_COGNITO_IDENTITY",
            )?,
        })
    }

    /// Returns a service's base URL, without a slash at its end.
    pub fn url(&self, service: Service) -> &str {
        match service {
            Service::CognitoSync => &self.sync,
            Service::CognitoIdentity => &self.identity,
        }
    }

    /// Returns whether neither is called by TLS.
    pub(super) fn are_plain(&self) -> bool {
        [&self.sync, &self.identity]
            .iter()
            .all(|url| url.starts_with("http:"))
    }
}

fn aws_url(service: Service, region: &str) -> String {
    let domain = match region {
        _ if region.starts_with("cn-") => "amazonaws.com.cn",
        _ if region.starts_with("us-iso-") => "c2s.ic.gov",
        _ if region.starts_with("us-isob-") => "sc2s.sgov.gov",
        _ => "amazonaws.com",
    };
    format!("https://{}.{region}.{domain}", service.signing_name())
}

/// Reads an endpoint: https, or http to this machine.
///
/// # Errors
/// Anything else, and a URL with credentials, a query or a fragment.
pub fn parse_endpoint(text: &str) -> Result<Url, EndpointError> {
    let url = Url::parse(text).map_err(|_| EndpointError::NotAUrl)?;
    let loopback = match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => return Err(EndpointError::NotAUrl),
    };
    if !url.username().is_empty() || url.password().is_some() {
        return Err(EndpointError::Credentials);
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(EndpointError::Query);
    }
    match url.scheme() {
        "https" => Ok(url),
        "http" if loopback => Ok(url),
        "http" => Err(EndpointError::PlainHttp),
        _ => Err(EndpointError::Scheme),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(explicit: Option<&str>, environment: &[(&str, &str)]) -> (String, String) {
        let variable = |name: &str| {
            let found = environment.iter().find(|(found, _)| *found == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        let endpoints = Endpoints::find("eu-west-1", explicit, variable).unwrap();
        (endpoints.sync, endpoints.identity)
    }

    #[test]
    fn the_nearest_setting_wins() {
        let aws = find(None, &[("AWS_ENDPOINT_URL", "")]);
        assert_eq!(aws.0, "https://cognito-sync.eu-west-1.amazonaws.com");
        assert_eq!(aws.1, "https://cognito-identity.eu-west-1.amazonaws.com");
        let environment = [
            ("AWS_ENDPOINT_URL", "https://both/"),
            ("AWS_ENDPOINT_URL_COGNITO_SYNC", "https://sync"),
        ];
        let found = find(None, &environment);
        assert_eq!(
            (found.0.as_str(), found.1.as_str()),
            ("https://sync", "https://both")
        );
        let found = find(Some("http://[::1]:9"), &environment);
        assert_eq!(
            (found.0.as_str(), found.1.as_str()),
            ("http://[::1]:9", "http://[::1]:9")
        );
    }

    #[test]
    fn plain_http_stays_on_this_machine() {
        let check = |url| Endpoints::find("eu-west-1", Some(url), |_| None).map(drop);
        assert!(check("http://127.0.0.1:1").is_ok());
        assert!(check("http://localhost:1").is_ok());
        assert!(matches!(
            check("http://10.0.0.1"),
            Err(EndpointError::PlainHttp)
        ));
        assert!(matches!(
            check("http://127.0.0.1.example"),
            Err(EndpointError::PlainHttp)
        ));
        assert!(matches!(check("ftp://x"), Err(EndpointError::Scheme)));
        assert!(matches!(check("nonsense"), Err(EndpointError::NotAUrl)));
    }
}
