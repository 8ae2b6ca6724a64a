//! A stream of JavaScript's, kept until its end has come.

use std::sync::{Arc, Mutex};

use napi::Env;
use napi::bindgen_prelude::{PromiseRaw, Undefined};
use napi_derive::napi;

use super::error::promise;
use crate::error::{Code, Error, Result};
use crate::files::{Source, Spool};
use crate::sync::{blocking, lock};

/// The bytes of one stream.
#[napi]
pub struct NativeSpool(Arc<Mutex<Option<Spool>>>);

#[napi]
impl NativeSpool {
    /// For at most `limit` bytes that are to be sent under `name`.
    #[napi(constructor)]
    pub fn new(name: String, limit: f64) -> Self {
        // Whole and not negative: JavaScript has checked it.
        Self(Arc::new(Mutex::new(Some(Spool::new(name, limit as u64)))))
    }

    /// Takes the next bytes, one write at a time. Once one has failed, nothing is left.
    #[napi(ts_return_type = "Promise<void>")]
    pub fn write<'env>(&self, env: &'env Env, bytes: &[u8]) -> napi::Result<PromiseRaw<'env, Undefined>> {
        let (spool, bytes) = (self.0.clone(), bytes.to_vec());
        let write = blocking(move || {
            let mut spool = lock(&spool);
            let written = spool.as_mut().ok_or_else(over)?.write(&bytes);
            if written.is_err() {
                *spool = None;
            }
            Ok(written?)
        });
        promise(env, write, |()| ())
    }

    /// Gives up what has come.
    #[napi]
    pub fn discard(&self) {
        *lock(&self.0) = None;
    }
}

impl NativeSpool {
    /// All bytes have come.
    pub(super) fn finish(&self) -> Result<Source> {
        Ok(lock(&self.0).take().ok_or_else(over)?.finish())
    }
}

fn over() -> Error {
    Error::new(Code::State, "what was kept of the stream is gone")
}
