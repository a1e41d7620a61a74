//! RegisterDevice, SubscribeToDataset and UnsubscribeFromDataset.
//!
//! Invariant: they are a user's own; no developer registers or subscribes for one.

use sha2::{Digest, Sha256};

use crate::wire::configuration::IdentityPoolOptions;
use crate::wire::devices::{
    Platform, RegisterDevice, RegisteredDevice, SubscribeToDataset, UnsubscribeFromDataset,
};
use crate::wire::events::Done;
use crate::wire::fault::{Code, Fault};
use crate::wire::names::{DeviceId, IdentityId, PoolId};

use super::super::random;
use super::super::storage::{StorageError, Tx};
use super::datasets::{existing, is_here};
use super::{Caller, Service, not_found};

impl Service {
    /// Registers a device; the same token of the same platform is the same device.
    pub(super) fn register_device(
        &self,
        call: &RegisterDevice,
        caller: &Caller,
    ) -> Result<RegisteredDevice, Fault> {
        caller.must_be_user()?;
        caller.must_own(&call.pool, &call.identity)?;
        let platform = call.body.platform;
        let token_hash: [u8; 32] = Sha256::digest(call.body.token.as_bytes()).into();
        self.storage.write(|tx| {
            must_exist(tx, caller, &call.pool, &call.identity)?;
            must_push(tx, &call.pool, Some(platform))?;
            let new = random::uuid().map_err(StorageError::from)?;
            let new: DeviceId = new
                .parse()
                .map_err(|_| StorageError::Damaged(format!("{new} is no device id")))?;
            let device_id = tx.register_device(&call.identity, platform, &token_hash, &new)?;
            Ok(RegisteredDevice { device_id })
        })
    }

    /// Subscribes a device to a dataset, which must exist; once more changes nothing.
    pub(super) fn subscribe_to_dataset(
        &self,
        call: &SubscribeToDataset,
        caller: &Caller,
    ) -> Result<Done, Fault> {
        caller.must_be_user()?;
        caller.must_own(&call.pool, &call.identity)?;
        self.storage.write(|tx| {
            let (pool, identity) = (&call.pool, &call.identity);
            must_exist(tx, caller, pool, identity)?;
            let platform = must_be_registered(tx, identity, &call.device)?;
            must_push(tx, pool, Some(platform))?;
            existing(tx, caller, pool, identity, &call.dataset)?;
            tx.subscribe(identity, &call.dataset, &call.device)?;
            Ok(Done {})
        })
    }

    /// Ends a subscription; one that is not there has ended.
    pub(super) fn unsubscribe_from_dataset(
        &self,
        call: &UnsubscribeFromDataset,
        caller: &Caller,
    ) -> Result<Done, Fault> {
        caller.must_be_user()?;
        caller.must_own(&call.pool, &call.identity)?;
        self.storage.write(|tx| {
            must_exist(tx, caller, &call.pool, &call.identity)?;
            must_be_registered(tx, &call.identity, &call.device)?;
            must_push(tx, &call.pool, None)?;
            tx.unsubscribe(&call.identity, &call.dataset, &call.device)?;
            Ok(Done {})
        })
    }
}

fn must_exist(
    tx: &Tx<'_>,
    caller: &Caller,
    pool: &PoolId,
    identity: &IdentityId,
) -> Result<(), Fault> {
    match is_here(caller, pool) && tx.identity_exists(pool, identity)? {
        true => Ok(()),
        false => Err(not_found("Identity", identity.as_str())),
    }
}

fn must_be_registered(
    tx: &Tx<'_>,
    identity: &IdentityId,
    device: &DeviceId,
) -> Result<Platform, Fault> {
    tx.device(identity, device)?
        .ok_or_else(|| not_found("Device", device.as_str()))
}

/// Refuses a pool that pushes nothing, or nothing to a platform.
fn must_push(tx: &Tx<'_>, pool: &PoolId, platform: Option<Platform>) -> Result<(), Fault> {
    let options: IdentityPoolOptions = tx.document(pool)?.unwrap_or_default();
    let reached = options.push_sync.is_some_and(|push| {
        let reaches = |platform: Platform| {
            let application = format!(":app/{}/", platform.name());
            push.application_arns
                .iter()
                .any(|arn| arn.contains(&application))
        };
        platform.is_none_or(reaches)
    });
    match reached {
        true => Ok(()),
        false => Err(Fault::new(
            Code::InvalidConfiguration,
            "the identity pool is not set up for push notifications to this platform",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{World, at, replace};
    use super::*;
    use serde_json::{Value, json};

    struct Devices(World);

    impl Devices {
        fn register(&self, caller: &Caller, platform: &str, token: &str) -> Result<String, Code> {
            let path = format!(
                "/identitypools/{}/identity/{}/device",
                self.0.pool, self.0.identity
            );
            let body = json!({"Platform": platform, "Token": token}).to_string();
            let sent = self.0.send(caller, at(0), "POST", &path, body.as_bytes());
            let registered: RegisteredDevice = sent.map_err(|fault| fault.code)?;
            Ok(registered.device_id.to_string())
        }

        fn subscription(
            &self,
            caller: &Caller,
            method: &str,
            dataset: &str,
            device: &str,
        ) -> Result<Value, Code> {
            let path = self
                .0
                .path(&format!("/datasets/{dataset}/subscriptions/{device}"));
            let sent = self.0.send(caller, at(0), method, &path, b"");
            sent.map_err(|fault: Fault| fault.code)
        }

        fn push_to(&self, platforms: &[&str]) {
            let arns: Vec<_> = platforms
                .iter()
                .map(|platform| format!("arn:aws:sns:us-east-1:1:app/{platform}/a"))
                .collect();
            let body = json!({"PushSync": {"ApplicationArns": arns}});
            self.0.pool_call("POST", "configuration", &body).unwrap();
        }
    }

    #[test]
    fn the_other_devices_are_told() {
        let devices = Devices(World::with_events());
        let (world, user) = (&devices.0, devices.0.user());
        assert_eq!(
            devices.register(&user, "GCM", "a"),
            Err(Code::InvalidConfiguration)
        );
        devices.push_to(&["GCM"]);
        assert_eq!(
            devices.register(&world.developer, "GCM", "a"),
            Err(Code::NotAuthorized)
        );
        assert_eq!(
            devices.register(&user, "APNS", "a"),
            Err(Code::InvalidConfiguration)
        );
        let phone = devices.register(&user, "GCM", "a").unwrap();
        let tablet = devices.register(&user, "GCM", "b").unwrap();
        assert_eq!(devices.register(&user, "GCM", "a").unwrap(), phone);
        assert_ne!(phone, tablet);

        let subscribe = |dataset, device| devices.subscription(&user, "POST", dataset, device);
        assert_eq!(subscribe("settings", &phone), Err(Code::ResourceNotFound));
        world.update(&[replace("a", "1", 0)]).unwrap();
        assert_eq!(subscribe("settings", "nobody"), Err(Code::ResourceNotFound));
        for device in [&phone, &tablet, &phone] {
            assert_eq!(subscribe("settings", device), Ok(json!({})));
        }
        assert_eq!(
            devices.subscription(&world.developer, "POST", "settings", &phone),
            Err(Code::NotAuthorized)
        );

        let push = |device: Option<&str>, count: i64| {
            let token = world.list("", at(0)).unwrap().sync_session_token;
            let body = json!({
                "RecordPatches": [replace("a", "x", count)],
                "SyncSessionToken": token,
                "DeviceId": device,
            });
            let path = world.path("/datasets/settings");
            let body = body.to_string();
            let sent = world.send::<Value>(&user, at(0), "POST", &path, body.as_bytes());
            sent.unwrap();
            let told: Vec<String> = world
                .events()
                .iter()
                .filter(|line| line["message"]["syncCount"] == count + 1)
                .map(|line| line["deviceId"].as_str().unwrap().to_owned())
                .collect();
            told
        };
        assert_eq!(push(Some(&phone), 1), [tablet.as_str()]);
        assert_eq!(push(None, 2).len(), 2);
        devices
            .subscription(&user, "DELETE", "settings", &tablet)
            .unwrap();
        assert_eq!(push(None, 3), [phone.as_str()]);
        let unknown = devices.subscription(&user, "DELETE", "settings", "nobody");
        assert_eq!(unknown, Err(Code::ResourceNotFound));
        world.delete("settings").unwrap();
        let told = world.events();
        assert_eq!(told.last().unwrap()["message"]["syncCount"], 5);
        assert_eq!(told.last().unwrap()["message"]["source"], "cognito-sync");
    }

    #[test]
    fn somebody_elses_device_is_not_there() {
        let devices = Devices(World::new());
        let (world, user) = (&devices.0, devices.0.user());
        devices.push_to(&["GCM"]);
        let phone = devices.register(&user, "GCM", "a").unwrap();
        world.update(&[replace("a", "1", 0)]).unwrap();
        let other = Caller::User {
            pool: world.pool.clone(),
            identity: world.other.clone(),
            region: world.pool.region(),
        };
        assert_eq!(
            devices.subscription(&other, "POST", "settings", &phone),
            Err(Code::NotAuthorized)
        );
        let path = format!(
            "/identitypools/{}/identities/{}/datasets/settings/subscriptions/{phone}",
            world.pool, world.other
        );
        let sent = world.send::<Value>(&other, at(0), "POST", &path, b"");
        assert_eq!(sent.unwrap_err().code, Code::ResourceNotFound);
    }
}
