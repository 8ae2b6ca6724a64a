//! Errors on their way to JavaScript.

use napi::bindgen_prelude::{JsObjectValue as _, JsValue as _, PromiseRaw, ToNapiValue};
use napi::{Env, Status};

use super::shapes::{ErrorShape, value};
use crate::error::Error;

/// Runs `future` on the runtime; the promise rejects with an `Error` that carries `code`, `transferId`,
/// `taskId` and `retryable`.
pub(super) fn promise<'env, T, V>(
    env: &'env Env,
    future: impl Future<Output = Result<T, Error>> + Send + 'static,
    value: impl FnOnce(T) -> V + 'static,
) -> napi::Result<PromiseRaw<'env, V>>
where
    T: Send + 'static,
    V: ToNapiValue,
{
    env.spawn_future_with_callback(async { Ok(future.await) }, |env, result| match result {
        Ok(result) => Ok(value(result)),
        Err(error) => Err(thrown(env, &error)),
    })
}

/// The same error as something that can be thrown or rejected with.
pub(super) fn thrown(env: &Env, error: &Error) -> napi::Error {
    let object = env.create_error(napi::Error::new(Status::GenericFailure, error.message.clone()));
    let filled = object.and_then(|mut object| {
        if let serde_json::Value::Object(fields) = value(ErrorShape::from(error)) {
            for (name, value) in
                fields.into_iter().filter(|(name, value)| name != "message" && !value.is_null())
            {
                object.set_named_property(&name, value)?;
            }
        }
        Ok(napi::Error::from(object.to_unknown()))
    });
    filled.unwrap_or_else(|error| error)
}
