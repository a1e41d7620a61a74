//! What is set on a pool: push notifications, a stream, the function of its events.
//!
//! Invariant: what a call does not name stays as it was.

use url::{Host, Url};

use crate::wire::configuration::{
    CognitoStreams, GetIdentityPoolConfiguration, IdentityPoolConfiguration, IdentityPoolOptions,
    SetIdentityPoolConfiguration, StreamingStatus,
};
use crate::wire::events::{CognitoEvents, Done, GetCognitoEvents, SYNC_TRIGGER, SetCognitoEvents};
use crate::wire::fault::Fault;
use crate::wire::names::PoolId;

use super::super::storage::Tx;
use super::datasets::is_here;
use super::{Caller, Service, not_found};

/// The longest function name or URL, in bytes; the API states none.
const MAX_HANDLER: usize = 2048;

impl Service {
    pub(super) fn get_identity_pool_configuration(
        &self,
        call: &GetIdentityPoolConfiguration,
        caller: &Caller,
    ) -> Result<IdentityPoolConfiguration, Fault> {
        caller.must_be_developer()?;
        self.storage.read(|tx| {
            must_exist(tx, caller, &call.pool)?;
            let options = tx.document(&call.pool)?.unwrap_or_default();
            Ok(describe(&call.pool, options))
        })
    }

    /// Sets the parts that are named; an empty one takes the part away.
    pub(super) fn set_identity_pool_configuration(
        &self,
        call: &SetIdentityPoolConfiguration,
        caller: &Caller,
    ) -> Result<IdentityPoolConfiguration, Fault> {
        caller.must_be_developer()?;
        if let Some(streams) = &call.body.cognito_streams
            && streams.streaming_status == Some(StreamingStatus::Enabled)
            && (streams.stream_name.is_none() || streams.role_arn.is_none())
        {
            return Err(Fault::invalid(
                "a stream that is enabled needs a StreamName and a RoleArn",
            ));
        }
        self.storage.write(|tx| {
            must_exist(tx, caller, &call.pool)?;
            let mut options: IdentityPoolOptions = tx.document(&call.pool)?.unwrap_or_default();
            if let Some(push) = call.body.push_sync.clone() {
                options.push_sync = Some(push).filter(|push| *push != Default::default());
            }
            if let Some(streams) = call.body.cognito_streams.clone() {
                options.cognito_streams =
                    Some(streams).filter(|streams| *streams != Default::default());
            }
            tx.put_document(&call.pool, &options)?;
            Ok(describe(&call.pool, options))
        })
    }

    pub(super) fn get_cognito_events(
        &self,
        call: &GetCognitoEvents,
        caller: &Caller,
    ) -> Result<CognitoEvents, Fault> {
        caller.must_be_developer()?;
        self.storage.read(|tx| {
            must_exist(tx, caller, &call.pool)?;
            Ok(tx.document(&call.pool)?.unwrap_or_default())
        })
    }

    /// Sets an event's function; an empty one takes it away.
    pub(super) fn set_cognito_events(
        &self,
        call: &SetCognitoEvents,
        caller: &Caller,
    ) -> Result<Done, Fault> {
        caller.must_be_developer()?;
        for (event, handler) in &call.body.events {
            if event != SYNC_TRIGGER {
                return Err(Fault::invalid("the only event is SyncTrigger"));
            }
            check_handler(handler)?;
        }
        self.storage.write(|tx| {
            must_exist(tx, caller, &call.pool)?;
            let mut events: CognitoEvents = tx.document(&call.pool)?.unwrap_or_default();
            for (event, handler) in &call.body.events {
                match handler.as_str() {
                    "" => events.events.remove(event),
                    handler => events.events.insert(event.clone(), handler.to_owned()),
                };
            }
            tx.put_document(&call.pool, &events)?;
            Ok(Done {})
        })
    }
}

/// Refuses a pool that is not there.
pub(super) fn must_exist(tx: &Tx<'_>, caller: &Caller, pool: &PoolId) -> Result<(), Fault> {
    match is_here(caller, pool) && tx.pool_exists(pool)? {
        true => Ok(()),
        false => Err(not_found("IdentityPool", pool.as_str())),
    }
}

/// Returns the name of the stream that changes go to.
pub(super) fn stream(options: &IdentityPoolOptions) -> Option<&str> {
    let streams: &CognitoStreams = options.cognito_streams.as_ref()?;
    match streams.streaming_status? {
        StreamingStatus::Enabled => streams.stream_name.as_deref(),
        StreamingStatus::Disabled => None,
    }
}

/// A function that can be called here is a URL on this machine. Any other text is kept, as the
/// name of a Lambda function, and is never called.
fn check_handler(handler: &str) -> Result<(), Fault> {
    if handler.len() > MAX_HANDLER {
        return Err(Fault::invalid("a function's name is too long"));
    }
    let web = ["http:", "https:"]
        .iter()
        .any(|web| handler.starts_with(web));
    match web && local_url(handler).is_none() {
        true => Err(Fault::invalid(
            "a function that is a URL must be http on this machine, such as \
             http://127.0.0.1:9000/",
        )),
        false => Ok(()),
    }
}

/// Reads a URL of plain http on loopback; names are not resolved, so only addresses and
/// `localhost` are.
pub(super) fn local_url(handler: &str) -> Option<Url> {
    let url = Url::parse(handler).ok()?;
    let local = match url.host()? {
        Host::Domain(name) => name == "localhost",
        Host::Ipv4(address) => address.is_loopback(),
        Host::Ipv6(address) => address.is_loopback(),
    };
    let plain = url.scheme() == "http" && url.username().is_empty() && url.password().is_none();
    (local && plain).then_some(url)
}

fn describe(pool: &PoolId, options: IdentityPoolOptions) -> IdentityPoolConfiguration {
    IdentityPoolConfiguration {
        identity_pool_id: Some(pool.clone()),
        push_sync: options.push_sync,
        cognito_streams: options.cognito_streams,
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::World;
    use super::*;
    use crate::wire::fault::Code;
    use serde_json::{Value, json};

    const ROLE: &str = "arn:aws:iam::123456789012:role/r";

    #[test]
    fn what_is_not_named_stays() {
        let world = World::new();
        let empty = world
            .pool_call("GET", "configuration", &Value::Null)
            .unwrap();
        assert_eq!(empty["IdentityPoolId"], json!(world.pool));
        assert_eq!(
            (&empty["PushSync"], &empty["CognitoStreams"]),
            (&Value::Null, &Value::Null)
        );
        let push =
            json!({"ApplicationArns": ["arn:aws:sns:us-east-1:1:app/GCM/a"], "RoleArn": ROLE});
        let stream = json!({"StreamName": "s", "RoleArn": ROLE, "StreamingStatus": "ENABLED"});
        let set = |body: Value| world.pool_call("POST", "configuration", &body);
        set(json!({"PushSync": push})).unwrap();
        let both = set(json!({"CognitoStreams": stream})).unwrap();
        assert_eq!(
            (&both["PushSync"], &both["CognitoStreams"]),
            (&push, &stream)
        );
        assert_eq!(
            world
                .pool_call("GET", "configuration", &Value::Null)
                .unwrap(),
            both
        );
        let one = set(json!({"PushSync": {}})).unwrap();
        assert_eq!(
            (&one["PushSync"], &one["CognitoStreams"]),
            (&Value::Null, &stream)
        );
        let half =
            set(json!({"CognitoStreams": {"StreamName": "s", "StreamingStatus": "ENABLED"}}));
        assert_eq!(half.unwrap_err().code, Code::InvalidParameter);
    }

    #[test]
    fn an_event_has_one_function() {
        let world = World::new();
        let set = |handler: &str| {
            let body = json!({"Events": {"SyncTrigger": handler}});
            world.pool_call("POST", "events", &body)
        };
        let get = || world.pool_call("GET", "events", &Value::Null).unwrap();
        assert_eq!(get(), json!({"Events": {}}));
        for handler in [
            "arn:aws:lambda:us-east-1:1:function:f",
            "http://127.0.0.1:9000/x",
            "http://[::1]:9000",
            "http://localhost:9000",
        ] {
            set(handler).unwrap();
            assert_eq!(get(), json!({"Events": {"SyncTrigger": handler}}));
        }
        for handler in [
            "http://example.com/",
            "http://127.0.0.1.example.com/",
            "https://127.0.0.1/",
            "http://a:b@127.0.0.1/",
            "http://",
            &"x".repeat(2049),
        ] {
            assert_eq!(
                set(handler).unwrap_err().code,
                Code::InvalidParameter,
                "{handler}"
            );
        }
        let other = world.pool_call("POST", "events", &json!({"Events": {"Other": "x"}}));
        assert_eq!(other.unwrap_err().code, Code::InvalidParameter);
        world
            .pool_call("POST", "events", &json!({"Events": {}}))
            .unwrap();
        assert_ne!(get(), json!({"Events": {}}));
        set("").unwrap();
        assert_eq!(get(), json!({"Events": {}}));
    }

    #[test]
    fn pools_are_the_developers() {
        let world = World::new();
        for (method, path, body) in [
            ("GET", "configuration", "{}"),
            ("POST", "configuration", "{}"),
            ("GET", "events", ""),
            ("POST", "events", r#"{"Events":{}}"#),
            ("POST", "bulkpublish", ""),
            ("POST", "getBulkPublishDetails", ""),
        ] {
            let call = |caller: &Caller, pool: &str| {
                let path = format!("/identitypools/{pool}/{path}");
                let sent = world.send::<Value>(
                    caller,
                    super::super::testing::at(0),
                    method,
                    &path,
                    body.as_bytes(),
                );
                sent.map_err(|fault| fault.code)
            };
            let pool = world.pool.as_str();
            assert_eq!(
                call(&world.user(), pool),
                Err(Code::NotAuthorized),
                "{path}"
            );
            let missing = call(&world.developer, "us-east-1:00");
            assert_eq!(missing, Err(Code::ResourceNotFound), "{path}");
            let elsewhere = world.service.developer("eu-west-1".parse().unwrap());
            assert_eq!(
                call(&elsewhere, pool),
                Err(Code::ResourceNotFound),
                "{path}"
            );
        }
    }
}
