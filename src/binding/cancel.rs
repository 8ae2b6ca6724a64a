//! Calls that JavaScript ends by a signal.

use napi::Env;
use napi::bindgen_prelude::{PromiseRaw, ToNapiValue};
use napi_derive::napi;
use tokio_util::sync::CancellationToken;

use super::error::promise;
use crate::error::Result;
use crate::sync::or_cancelled;

/// What ends the call that it is given to.
#[napi]
#[derive(Debug, Default)]
pub struct NativeCancel {
    token: CancellationToken,
}

#[napi]
impl NativeCancel {
    /// One that was not used yet.
    #[napi(constructor)]
    pub fn new() -> Self {
        Self::default()
    }

    /// Ends the call; a second time does nothing.
    #[napi]
    pub fn cancel(&self) {
        self.token.cancel();
    }
}

impl NativeCancel {
    /// For a call that ends in its own way.
    pub(super) fn token(&self) -> CancellationToken {
        self.token.clone()
    }

    /// [`promise`] of what is left where it stands when the call is ended; it rejects with `ABORTED` then.
    pub(super) fn promise<'env, T, V>(
        &self,
        env: &'env Env,
        future: impl Future<Output = Result<T>> + Send + 'static,
        value: impl FnOnce(T) -> V + 'static,
    ) -> napi::Result<PromiseRaw<'env, V>>
    where
        T: Send + 'static,
        V: ToNapiValue,
    {
        let token = self.token();
        promise(env, async move { or_cancelled(&token, future).await }, value)
    }
}
