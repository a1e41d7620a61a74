//! Devices and what they are told about. Only a user's own credentials may call these.

use serde::{Deserialize, Serialize};

use super::datasets::{dataset_path, parse_dataset};
use super::events::Done;
use super::fault::Fault;
use super::names::{DatasetName, DeviceId, IdentityId, PoolId};
use super::operation::{Operation, Request, both, parse_body, parse_ids, parse_name};

/// <https://docs.aws.amazon.com/cognitosync/latest/APIReference/API_RegisterDevice.html>
#[derive(Clone, Debug)]
pub struct RegisterDevice {
    pub pool: PoolId,
    pub identity: IdentityId,
    pub body: RegisterDeviceBody,
}

/// What a [`RegisterDevice`] request has in its body.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct RegisterDeviceBody {
    pub platform: Platform,
    /// What the platform gave the device to be reached by.
    pub token: String,
}

/// Leaves the token out: who has it can reach the device.
impl std::fmt::Debug for RegisterDeviceBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RegisterDeviceBody")
            .field("platform", &self.platform)
            .finish_non_exhaustive()
    }
}

/// Whose push notifications reach a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Platform {
    Apns,
    ApnsSandbox,
    Gcm,
    Adm,
}

impl Platform {
    /// Every platform.
    pub const ALL: [Self; 4] = [Self::Apns, Self::ApnsSandbox, Self::Gcm, Self::Adm];

    /// Returns the name on the wire, which is also the one in SNS application ARNs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Apns => "APNS",
            Self::ApnsSandbox => "APNS_SANDBOX",
            Self::Gcm => "GCM",
            Self::Adm => "ADM",
        }
    }
}

/// The answer of [`RegisterDevice`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct RegisteredDevice {
    pub device_id: DeviceId,
}

impl RegisterDevice {
    pub(super) fn parse(pool: &str, identity: &str, body: &[u8]) -> Result<Self, Fault> {
        let (pool, identity) = parse_ids(pool, identity)?;
        Ok(Self {
            pool,
            identity,
            body: parse_body(body)?,
        })
    }
}

impl Operation for RegisterDevice {
    const NAME: &'static str = "RegisterDevice";
    type Answer = RegisteredDevice;

    fn request(&self) -> Request {
        let (pool, identity) = (self.pool.as_str(), self.identity.as_str());
        let segments = ["identitypools", pool, "identity", identity, "device"];
        Request::rest("POST", &segments).json(&self.body)
    }
}

macro_rules! names_one_subscription {
    ($($operation:ident $method:literal $repeatable:literal)*) => {$(
        #[doc = concat!(
            "<https://docs.aws.amazon.com/cognitosync/latest/APIReference/API_",
            stringify!($operation),
            ".html>"
        )]
        #[derive(Clone, Debug)]
        pub struct $operation {
            pub pool: PoolId,
            pub identity: IdentityId,
            pub dataset: DatasetName,
            pub device: DeviceId,
        }

        impl $operation {
            pub(super) fn parse(
                pool: &str,
                identity: &str,
                dataset: &str,
                device: &str,
            ) -> Result<Self, Fault> {
                let names = parse_dataset(pool, identity, dataset);
                let ((pool, identity, dataset), device) = both(names, parse_name(device))?;
                Ok(Self { pool, identity, dataset, device })
            }
        }

        impl Operation for $operation {
            const NAME: &'static str = stringify!($operation);
            const REPEATABLE: bool = $repeatable;
            type Answer = Done;

            fn request(&self) -> Request {
                let [pools, pool, identities, identity, datasets, dataset] =
                    dataset_path(&self.pool, &self.identity, &self.dataset);
                Request::rest(
                    $method,
                    &[
                        pools,
                        pool,
                        identities,
                        identity,
                        datasets,
                        dataset,
                        "subscriptions",
                        self.device.as_str(),
                    ],
                )
            }
        }
    )*};
}

names_one_subscription! {
    SubscribeToDataset "POST" true
    UnsubscribeFromDataset "DELETE" true
}

#[cfg(test)]
mod tests {
    use super::super::fault::Code;
    use super::super::operation::Call;
    use super::*;

    #[test]
    fn a_registration_names_a_platform_and_a_token() {
        let register = |body: &str| {
            RegisterDevice::parse("us-east-1:ab", "us-east-1:cd", body.as_bytes())
                .map_err(|fault| fault.code)
        };
        for platform in ["APNS", "APNS_SANDBOX", "GCM", "ADM"] {
            let body = format!(r#"{{"Platform":"{platform}","Token":""}}"#);
            assert_eq!(register(&body).unwrap().body.platform.name(), platform);
        }
        for (body, code) in [
            (r#"{"Platform":"FCM","Token":"x"}"#, Code::InvalidParameter),
            (r#"{"Platform":"GCM"}"#, Code::InvalidParameter),
            (r#"{"Token":"x"}"#, Code::InvalidParameter),
            (r#"{"Platform":"GCM","Token":5}"#, Code::Serialization),
            ("{", Code::Serialization),
        ] {
            assert_eq!(register(body).unwrap_err(), code, "{body}");
        }
    }

    #[test]
    fn device_ids_are_any_text_of_1_to_256_characters() {
        let subscribe = |device: &str| SubscribeToDataset {
            pool: "us-east-1:ab".parse().unwrap(),
            identity: "us-east-1:cd".parse().unwrap(),
            dataset: "settings".parse().unwrap(),
            device: device.parse().unwrap(),
        };
        for device in ["d", "a/b:c ?é", &"é".repeat(256)] {
            let request = subscribe(device).request();
            let call = Call::parse(request.method, &request.path, "", b"").unwrap();
            let Call::SubscribeToDataset(call) = call else {
                panic!("{device}")
            };
            assert_eq!(call.device.as_str(), device);
        }
        let path = subscribe("d").request().path;
        let path = path.strip_suffix('d').unwrap();
        for device in ["", &"e".repeat(257)] {
            let fault = Call::parse("DELETE", &format!("{path}{device}"), "", b"").unwrap_err();
            assert_eq!(fault.code, Code::InvalidParameter);
        }
    }
}
