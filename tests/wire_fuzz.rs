//! Requests that nobody would write: whatever the method, the path and the body are, they are read
//! or refused, and never end the service.

use cognitofs::wire::fault::Code;
use cognitofs::wire::identity::IdentityCall;
use cognitofs::wire::operation::Call;
use proptest::prelude::*;

/// A path made of the API's own words, of ids and of anything.
fn path() -> impl Strategy<Value = String> {
    let segment = prop_oneof![
        3 => prop_oneof![
            Just("identitypools"), Just("identities"), Just("identity"), Just("datasets"),
            Just("records"), Just("subscriptions"), Just("device"), Just("events"),
            Just("configuration"), Just("bulkpublish"), Just("getBulkPublishDetails"),
        ].prop_map(str::to_owned),
        3 => Just("us-east-1%3Aab".to_owned()),
        1 => Just("settings".to_owned()),
        1 => "(%[0-9a-fA-F]{2}|[a-z:%/.~]){0,8}",
        1 => any::<String>(),
    ];
    let any_path =
        prop::collection::vec(segment.clone(), 0..9).prop_map(|segments| segments.join("/"));
    let deep = prop::collection::vec(segment, 0..6).prop_map(|rest| {
        format!(
            "identitypools/us-east-1:ab/identities/us-east-1:cd/{}",
            rest.join("/")
        )
    });
    prop_oneof![any_path, deep].prop_map(|path| format!("/{path}"))
}

fn body() -> impl Strategy<Value = Vec<u8>> {
    let field = prop_oneof![
        Just("RecordPatches"),
        Just("SyncSessionToken"),
        Just("Events"),
        Just("PushSync"),
        Just("CognitoStreams"),
        Just("Platform"),
        Just("Token"),
        Just("Op"),
        Just("Key"),
        Just("Value"),
        Just("SyncCount"),
        Just("DeviceLastModifiedDate"),
        Just("Logins"),
        Just("IdentityPoolId"),
        Just("IdentityIdsToDelete"),
        Just("MaxResults"),
    ];
    let leaf = prop_oneof![
        Just("null".to_owned()),
        Just("true".to_owned()),
        Just(r#""\ud800""#.to_owned()),
        Just(r#""replace""#.to_owned()),
        Just(r#""us-east-1:ab""#.to_owned()),
        any::<i64>().prop_map(|number| number.to_string()),
        any::<f64>().prop_map(|number| format!("{number:E}")),
        any::<String>().prop_map(|text| serde_json::json!(text).to_string()),
    ];
    let json = leaf.prop_recursive(5, 32, 6, move |inner| {
        let fields = prop::collection::vec((field.clone(), inner.clone()), 0..6);
        prop_oneof![
            prop::collection::vec(inner, 0..4).prop_map(|list| format!("[{}]", list.join(","))),
            fields.prop_map(|fields| {
                let fields: Vec<_> = fields
                    .iter()
                    .map(|(name, value)| format!("{name:?}:{value}"))
                    .collect();
                format!("{{{}}}", fields.join(","))
            }),
        ]
    });
    prop_oneof![
        4 => json.prop_map(String::into_bytes),
        1 => prop::collection::vec(any::<u8>(), 0..64),
    ]
}

/// What a request may be refused with before anybody looked at the data.
fn is_refusal(code: &Code) -> bool {
    matches!(
        code,
        Code::UnknownOperation | Code::Serialization | Code::InvalidParameter
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_request_is_read_or_refused(
        method in prop_oneof![Just("GET"), Just("POST"), Just("DELETE"), Just("PUT"), Just("")],
        path in path(),
        query in prop_oneof![
            Just(String::new()),
            "(lastSyncCount|maxResults|nextToken)=[-0-9a-z%]{0,24}",
            any::<String>(),
        ],
        body in body(),
    ) {
        match Call::parse(method, &path, &query, &body) {
            Ok(call) => prop_assert!(!call.name().is_empty()),
            Err(fault) => prop_assert!(is_refusal(&fault.code), "{}", fault),
        }
    }

    #[test]
    fn any_target_is_read_or_refused(
        operation in prop_oneof![
            Just("ListIdentities".to_owned()), Just("GetId".to_owned()),
            Just("CreateIdentityPool".to_owned()), Just("DeleteIdentities".to_owned()),
            Just("GetOpenIdTokenForDeveloperIdentity".to_owned()), any::<String>(),
        ],
        body in body(),
    ) {
        let target = format!("AWSCognitoIdentityService.{operation}");
        match IdentityCall::parse(&target, &body) {
            Ok(call) => prop_assert_eq!(call.name(), operation),
            Err(fault) => prop_assert!(is_refusal(&fault.code), "{}", fault),
        }
    }
}
