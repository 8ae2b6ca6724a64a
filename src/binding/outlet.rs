//! A file that is received by a reader of JavaScript's.

use std::sync::{Arc, Mutex};

use napi::Env;
use napi::bindgen_prelude::{Buffer, PromiseRaw};
use napi_derive::napi;

use super::error::promise;
use crate::pump::{Outlet, OutletReader};
use crate::sync::lock;

/// The bytes of one file as they come.
#[napi]
pub struct NativeOutlet {
    outlet: Mutex<Option<Outlet>>,
    /// Away while a read is under way.
    reader: Arc<Mutex<Option<OutletReader>>>,
}

#[napi]
impl NativeOutlet {
    /// One for a single `accept`.
    #[napi(constructor)]
    pub fn new() -> Self {
        let (outlet, reader) = Outlet::new();
        Self { outlet: Mutex::new(Some(outlet)), reader: Arc::new(Mutex::new(Some(reader))) }
    }

    /// The next bytes, and null where no more come: what `accept` comes to says why. One read at a time.
    #[napi(ts_return_type = "Promise<Buffer | null>")]
    pub fn read<'env>(&self, env: &'env Env) -> napi::Result<PromiseRaw<'env, Option<Buffer>>> {
        let place = self.reader.clone();
        let read = async move {
            let Some(mut reader) = lock(&place).take() else { return Ok(None) };
            let batch = reader.read().await;
            *lock(&place) = Some(reader);
            Ok(batch.map(|pieces| pieces.concat()))
        };
        promise(env, read, |bytes| bytes.map(Buffer::from))
    }
}

impl NativeOutlet {
    pub(super) fn take(&self) -> Option<Outlet> {
        lock(&self.outlet).take()
    }
}
