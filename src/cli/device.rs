//! `cognitofs device`: push notifications of a user's devices.
//!
//! Invariant: a device's token is neither printed nor logged.

use std::fs;
use std::io::{self, Write};
use std::time::Instant;

use super::args::{DeviceCommand, RegisterArgs, SubscriptionArgs, TokenArgs};
use super::connection::{self, Connection};
use super::options::MountOptions;
use super::source::{Place, Source};
use super::{ExitCode, Failure, log_to_stderr};
use crate::api::Error;
use crate::wire::devices::{
    RegisterDevice, RegisterDeviceBody, SubscribeToDataset, UnsubscribeFromDataset,
};
use crate::wire::fault::Code;
use crate::wire::names::{DatasetName, DeviceId, IdentityId, PoolId, Scope};
use crate::wire::operation::Operation;

const USERS_ONLY: &str = "devices are their users' own, not the developer's: act as the user by \
     -o identity=guest or -o login=PROVIDER=FILE";

pub(super) fn run(command: &DeviceCommand) -> Result<ExitCode, Failure> {
    log_to_stderr("warn", true);
    match command {
        DeviceCommand::Register(args) => register(args),
        DeviceCommand::Subscribe(args) => {
            subscription(args, |pool, identity, dataset, device| SubscribeToDataset {
                pool,
                identity,
                dataset,
                device,
            })
        }
        DeviceCommand::Unsubscribe(args) => {
            subscription(args, |pool, identity, dataset, device| {
                UnsubscribeFromDataset {
                    pool,
                    identity,
                    dataset,
                    device,
                }
            })
        }
    }
}

fn register(args: &RegisterArgs) -> Result<ExitCode, Failure> {
    let (source, options) = connection::read(&args.source, &args.options, false)?;
    let unnamed = || {
        Failure::usage(format!(
            "{source}: a device is one identity's: name POOL/IDENTITY, or POOL with -o \
             identity=guest or -o login=PROVIDER=FILE"
        ))
    };
    match &source.scope {
        Scope::Identity(..) => {}
        Scope::Pool(_) if options.is_user() => {}
        _ => return Err(unnamed()),
    }
    let body = RegisterDeviceBody {
        platform: args.platform,
        token: args.token.read()?,
    };
    let (registered, scope) = call(&source, &options, |scope| match scope.clone() {
        Scope::Identity(pool, identity) => Ok(RegisterDevice {
            pool,
            identity,
            body,
        }),
        _ => Err(unnamed()),
    })?;
    writeln!(io::stdout(), "{}", registered.device_id).map_err(Failure::system)?;
    if scope != source.scope {
        // A subscription has to name the identity, and nothing else tells which it is.
        let _ = writeln!(io::stderr(), "cognitofs: registered for {scope}");
    }
    Ok(ExitCode::Success)
}

fn subscription<O: Operation>(
    args: &SubscriptionArgs,
    operation: impl FnOnce(PoolId, IdentityId, DatasetName, DeviceId) -> O,
) -> Result<ExitCode, Failure> {
    let (source, options) = connection::read(&args.source, &args.options, false)?;
    let Scope::Dataset(pool, identity, dataset) = source.scope.clone() else {
        return Err(Failure::usage(format!(
            "{source}: a subscription is to a dataset: name POOL/IDENTITY/DATASET"
        )));
    };
    let operation = operation(pool, identity, dataset, args.device.clone());
    call(&source, &options, |_| Ok(operation))?;
    Ok(ExitCode::Success)
}

/// Calls the operation that is made for the scope of who is acting, and returns that too.
fn call<O: Operation>(
    source: &Source,
    options: &MountOptions,
    operation: impl FnOnce(&Scope) -> Result<O, Failure>,
) -> Result<(O::Answer, Scope), Failure> {
    if matches!(source.place, Place::Local { .. }) && !options.is_user() {
        return Err(Failure::usage(format!("{source}: {USERS_ONLY}")));
    }
    super::runtime()?.block_on(async {
        let connection = Connection::open_existing(source, options).await?;
        let scope = connection.scope.clone();
        let deadline = Instant::now() + options.timeout;
        let answer = match operation(&scope) {
            Ok(operation) => {
                let called = connection.client.call(&operation, deadline).await;
                called.map_err(|error| explained(source, options, error))
            }
            Err(failure) => Err(failure),
        };
        connection.close().await;
        Ok((answer?, scope))
    })
}

/// Tells what to do about what the service refused.
fn explained(source: &Source, options: &MountOptions, error: Error) -> Failure {
    match &error {
        Error::Fault(fault) => match fault.code {
            Code::AccessDenied | Code::NotAuthorized if !options.is_user() => {
                Failure::refused(format!("{source}: {fault}; {USERS_ONLY}"))
            }
            Code::InvalidConfiguration => Failure::refused(format!(
                "{source}: {fault}; set PushSync in the pool's .cognito/configuration.json"
            )),
            _ => connection::refused(source, error),
        },
        _ => connection::refused(source, error),
    }
}

impl TokenArgs {
    fn read(&self) -> Result<String, Failure> {
        let token = match (&self.token, &self.token_file) {
            (Some(token), _) => token.clone(),
            (None, Some(file)) => {
                let read = match file.as_os_str() == "-" {
                    true => io::read_to_string(io::stdin()),
                    false => fs::read_to_string(file),
                };
                read.map_err(|error| {
                    Failure::usage(format!("the token in {}: {error}", file.display()))
                })?
            }
            (None, None) => String::new(),
        };
        match token.trim() {
            "" => Err(Failure::usage("the token is empty")),
            token => Ok(token.to_owned()),
        }
    }
}
