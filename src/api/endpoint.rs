//! Where the two services are.

use url::Url;

use crate::wire::operation::Service;

/// An endpoint that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    #[error("endpoint {0:?} is not an http or https URL")]
    NotAUrl(String),
    #[error("endpoint {0:?}: plain http would show the data to the network; use https")]
    PlainHttp(String),
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
            check(&url).map(|()| url.trim_end_matches('/').to_owned())
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

fn check(url: &str) -> Result<(), EndpointError> {
    let parsed = Url::parse(url).map_err(|_| EndpointError::NotAUrl(url.to_owned()))?;
    let host = parsed.host_str().unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']');
    let loopback = host == "localhost"
        || address
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback());
    match parsed.scheme() {
        "https" if !host.is_empty() => Ok(()),
        "http" if loopback => Ok(()),
        "http" => Err(EndpointError::PlainHttp(url.to_owned())),
        _ => Err(EndpointError::NotAUrl(url.to_owned())),
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
            Err(EndpointError::PlainHttp(_))
        ));
        assert!(matches!(
            check("http://127.0.0.1.example"),
            Err(EndpointError::PlainHttp(_))
        ));
        assert!(matches!(check("ftp://x"), Err(EndpointError::NotAUrl(_))));
        assert!(matches!(check("nonsense"), Err(EndpointError::NotAUrl(_))));
    }
}
