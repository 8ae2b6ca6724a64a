//! The node.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use napi::Env;
use napi::bindgen_prelude::{Function, PromiseRaw, Undefined};
use napi::threadsafe_function::{ThreadsafeFunction, ThreadsafeFunctionCallMode};
use napi_derive::napi;
use serde_json::Value;

use super::cancel::NativeCancel;
use super::environment::Resident;
use super::error::{promise, thrown};
use super::options::{
    AcceptOptions, ContentOptions, NodeOptions, SendOptions, WatchArguments, full, max_rate, metadata,
    milliseconds, read,
};
use super::outlet::NativeOutlet;
use super::shapes::{
    EventShape, ReceivedShape, ResumedShape, SendProgressShape, SentShape, StatusShape, value,
};
use super::spool::NativeSpool;
use crate::error::{Code, Error, Result};
use crate::event::{ProgressListener, ProgressReport};
use crate::files::{Existing, Source, Target};
use crate::node::{self, Node};
use crate::receive::Acceptance;
use crate::send::{SendRequest, SendSource, SharedFile};
use crate::sync::lock;

/// Events that wait for JavaScript to come round. Progress is rare and offers are bounded, so that only
/// a thread that is stuck for good fills it.
const EVENT_QUEUE: usize = 16 * 1024;

/// Reports of progress that wait, those of several seconds; beyond, a newer one makes an older one worthless.
const PROGRESS_QUEUE: usize = 64;

/// A callback that keeps no process alive.
type Callback<const QUEUE: usize> =
    ThreadsafeFunction<Value, napi::Unknown<'static>, Value, napi::Status, false, true, QUEUE>;

/// A file that several are sent.
#[napi]
#[derive(Debug)]
pub struct NativeFile {
    file: Mutex<Option<SharedFile>>,
}

#[napi]
impl NativeFile {
    /// Closes it, once all have it: a garbage collector would take its time.
    #[napi]
    pub fn close(&self) {
        *lock(&self.file) = None;
    }
}

impl NativeFile {
    fn source(&self) -> Result<SendSource> {
        let file = lock(&self.file).clone().ok_or_else(|| Error::new(Code::State, "the file was closed"))?;
        Ok(SendSource::Shared(file))
    }
}

/// One node.
#[napi]
pub struct NativeNode {
    node: Node,
    resident: Resident,
}

#[napi]
impl NativeNode {
    /// A node that calls `onEvent` with `{name, payload}`. Does no I/O beyond reading settings.
    #[napi(
        factory,
        ts_args_type = "options: object, onEvent: (event: { name: string, payload: any }) => void"
    )]
    pub fn create(
        env: Env,
        options: Value,
        on_event: Function<Value, napi::Unknown<'static>>,
    ) -> napi::Result<Self> {
        let callback: Callback<EVENT_QUEUE> = on_event
            .build_threadsafe_function::<Value>()
            .callee_handled::<false>()
            .weak::<true>()
            .max_queue_size::<EVENT_QUEUE>()
            .build()?;
        let emit = move |event: crate::event::Event| {
            callback.call(value(EventShape::from(&event)), ThreadsafeFunctionCallMode::NonBlocking);
        };
        let node = crate::log::start()
            .and_then(|()| read::<NodeOptions>(options))
            .and_then(NodeOptions::into_options)
            .and_then(|options| Node::new(options, emit))
            .map_err(|error| thrown(&env, &error))?;
        let ending = node.clone();
        let resident = Resident::new(&env, move || async move { ending.destroy().await })?;
        Ok(Self { node, resident })
    }

    /// Sends a file, one that is open where it is given; see `SendOptions` in `index.d.ts`.
    #[napi(
        ts_args_type = "options: object, cancel: NativeCancel, \
            onProgress?: (progress: any) => void, file?: NativeFile",
        ts_return_type = "Promise<any>"
    )]
    pub fn send<'env>(
        &self,
        env: &'env Env,
        options: Value,
        cancel: &NativeCancel,
        on_progress: Option<Function<Value, napi::Unknown<'static>>>,
        file: Option<&NativeFile>,
    ) -> napi::Result<PromiseRaw<'env, Value>> {
        let options: SendOptions = read(options).map_err(|error| thrown(env, &error))?;
        let timeout = options.timeout.map(|timeout| milliseconds("timeout", timeout)).transpose();
        let progress = on_progress
            .map(|on_progress| {
                on_progress
                    .build_threadsafe_function::<Value>()
                    .callee_handled::<false>()
                    .weak::<true>()
                    .max_queue_size::<PROGRESS_QUEUE>()
                    .build()
            })
            .transpose()?
            .map(|callback: Callback<PROGRESS_QUEUE>| -> ProgressListener {
                Arc::new(move |progress: &ProgressReport| {
                    let progress = value(SendProgressShape::from(progress));
                    callback.call(progress, ThreadsafeFunctionCallMode::NonBlocking);
                })
            });
        let metadata = options.metadata.as_deref().map(metadata).transpose();
        let rate = options.max_rate.map(max_rate).transpose();
        let source = match file {
            Some(file) => file.source(),
            None => content(options.content, None, None),
        };
        let (node, cancel) = (self.node.clone(), cancel.token());
        let send = async move {
            let request = SendRequest {
                source: source?,
                recipient_id: options.recipient_id,
                channel: options.channel,
                timeout: timeout?,
                idempotency_key: options.idempotency_key,
                metadata: metadata?,
                max_rate: rate?,
                progress,
                cancel,
            };
            node.send(request).await
        };
        promise(env, send, |sent| value(SentShape::from(sent)))
    }

    /// Opens what is to be sent: a file that is to go to several, bytes, or what came by a stream.
    #[napi(
        ts_args_type = "options: object, cancel: NativeCancel, data?: Uint8Array, spool?: NativeSpool",
        ts_return_type = "Promise<NativeFile>"
    )]
    pub fn open<'env>(
        &self,
        env: &'env Env,
        options: Value,
        cancel: &NativeCancel,
        data: Option<&[u8]>,
        spool: Option<&NativeSpool>,
    ) -> napi::Result<PromiseRaw<'env, NativeFile>> {
        let options: ContentOptions = read(options).map_err(|error| thrown(env, &error))?;
        let source = content(options, data, spool);
        let (node, cancel) = (self.node.clone(), cancel.token());
        let open = async move { node.open(source?, &cancel).await };
        promise(env, open, |file| NativeFile { file: Mutex::new(Some(file)) })
    }

    /// Watches a channel; see `WatchOptions` in `index.d.ts`.
    #[napi(ts_args_type = "options: object")]
    pub fn watch(&self, env: Env, options: Value) -> napi::Result<()> {
        let watch = || -> Result<()> {
            let options: WatchArguments = read(options)?;
            let WatchArguments { channel, save_dir, existing, asks, tag } = options;
            let save_dir = save_dir.map(full).transpose()?;
            let options =
                node::WatchOptions { channel, save_dir, existing: existing.unwrap_or_default(), asks, tag };
            napi::bindgen_prelude::within_runtime_if_available(|| self.node.watch(options))
        };
        watch().map_err(|error| thrown(&env, &error))
    }

    /// Takes an offered file; see `file` in `index.d.ts`.
    #[napi(
        ts_args_type = "offer: number, options: object, cancel: NativeCancel, outlet?: NativeOutlet",
        ts_return_type = "Promise<any>"
    )]
    pub fn accept<'env>(
        &self,
        env: &'env Env,
        offer: u32,
        options: Value,
        cancel: &NativeCancel,
        outlet: Option<&NativeOutlet>,
    ) -> napi::Result<PromiseRaw<'env, Value>> {
        let options: AcceptOptions = read(options).map_err(|error| thrown(env, &error))?;
        let (node, cancel) = (self.node.clone(), cancel.token());
        // The working directory is that of the call.
        let (path, dir) = (options.path.map(full).transpose(), options.dir.map(full).transpose());
        let (overwrite, existing) = (options.overwrite, options.existing.unwrap_or_default());
        let rate = options.max_rate.map(max_rate).transpose();
        let outlet = outlet.and_then(NativeOutlet::take);
        let accept = async move {
            let destination = match outlet {
                Some(outlet) => outlet.into(),
                None => target(&node, offer.into(), path?, dir?, overwrite, existing)?.into(),
            };
            node.accept(offer.into(), Acceptance { destination, max_rate: rate?, cancel }).await
        };
        promise(env, accept, |received| value(ReceivedShape::from(received)))
    }

    /// Takes an offered file into the folder `dir`, as a watch does that saves all; events tell what becomes
    /// of it.
    #[napi(ts_args_type = "offer: number, options: object")]
    pub fn take(&self, env: Env, offer: u32, options: Value) -> napi::Result<()> {
        let take = || -> Result<()> {
            let options: AcceptOptions = read(options)?;
            let existing = options.existing.unwrap_or_default();
            let dir = options.dir.ok_or_else(|| Error::new(Code::InvalidArgument, "take needs a folder"))?;
            let dir = full(dir)?;
            napi::bindgen_prelude::within_runtime_if_available(|| self.node.take(offer.into(), dir, existing))
        };
        take().map_err(|error| thrown(&env, &error))
    }

    /// The ids of the transfers that run.
    #[napi]
    pub fn running(&self) -> Vec<String> {
        self.node.running()
    }

    /// Whether an offer still waits for its answer.
    #[napi]
    pub fn is_open(&self, offer: u32) -> bool {
        self.node.is_open(offer.into())
    }

    /// The channel that is used where none is named.
    #[napi]
    pub fn channel(&self) -> String {
        self.node.channel().to_owned()
    }

    /// The public key of the node's identity, 64 hex digits; null where it has none.
    #[napi]
    pub fn public_key(&self, env: Env) -> napi::Result<Option<String>> {
        let key = self.node.public_key().map_err(|error| thrown(&env, &error))?;
        Ok(key.map(hex::encode))
    }

    /// Declines an offered file.
    #[napi(ts_return_type = "Promise<void>")]
    pub fn reject<'env>(
        &self,
        env: &'env Env,
        offer: u32,
        reason: Option<String>,
    ) -> napi::Result<PromiseRaw<'env, Undefined>> {
        let node = self.node.clone();
        promise(env, async move { node.reject(offer.into(), reason.as_deref()).await }, |()| ())
    }

    /// What the task service knows of a transfer, by its id or its task's.
    #[napi(ts_return_type = "Promise<any>")]
    pub fn status<'env>(
        &self,
        env: &'env Env,
        id: String,
        cancel: &NativeCancel,
    ) -> napi::Result<PromiseRaw<'env, Value>> {
        let node = self.node.clone();
        cancel.promise(env, async move { node.status(&id).await }, |status| value(StatusShape::from(&status)))
    }

    /// Goes on with the offers that earlier processes of this agent left open.
    #[napi(ts_return_type = "Promise<any[]>")]
    pub fn resume_offers<'env>(
        &self,
        env: &'env Env,
        cancel: &NativeCancel,
    ) -> napi::Result<PromiseRaw<'env, Value>> {
        let (node, cancel) = (self.node.clone(), cancel.token());
        promise(env, async move { node.resume_offers(cancel).await }, |offers| {
            value(offers.into_iter().map(ResumedShape::from).collect::<Vec<_>>())
        })
    }

    /// Ends a transfer, by its id or its task's.
    #[napi(ts_return_type = "Promise<any>")]
    pub fn cancel<'env>(
        &self,
        env: &'env Env,
        id: String,
        cancel: &NativeCancel,
    ) -> napi::Result<PromiseRaw<'env, Value>> {
        let node = self.node.clone();
        cancel.promise(env, async move { node.cancel(&id).await }, |status| value(StatusShape::from(&status)))
    }

    /// Leaves the peer network for a while.
    #[napi(ts_return_type = "Promise<void>")]
    pub fn suspend<'env>(&self, env: &'env Env) -> napi::Result<PromiseRaw<'env, Undefined>> {
        let node = self.node.clone();
        promise(env, async move { node.suspend().await }, |()| ())
    }

    /// Comes back to it.
    #[napi(ts_return_type = "Promise<void>")]
    pub fn resume<'env>(&self, env: &'env Env) -> napi::Result<PromiseRaw<'env, Undefined>> {
        let node = self.node.clone();
        promise(env, async move { node.resume().await }, |()| ())
    }

    /// Ends everything.
    #[napi(ts_return_type = "Promise<void>")]
    pub fn destroy<'env>(&self, env: &'env Env) -> napi::Result<PromiseRaw<'env, Undefined>> {
        let (node, resident) = (self.node.clone(), self.resident.clone());
        let destroy = async move {
            node.destroy().await;
            resident.leave();
            Ok(())
        };
        promise(env, destroy, |()| ())
    }
}

/// What is sent: exactly one thing.
fn content(options: ContentOptions, data: Option<&[u8]>, spool: Option<&NativeSpool>) -> Result<SendSource> {
    let ContentOptions { file_path, file_paths, file_name: name, exclude, gitignore } = options;
    let paths = file_path.into_iter().chain(file_paths).map(full).collect::<Result<Vec<_>>>()?;
    match (paths.is_empty(), data, spool) {
        (false, None, None) => Ok(SendSource::Paths { paths, name, exclude, gitignore }),
        // Copied, because whoever has it may write to it.
        (true, Some(data), None) => {
            Ok(SendSource::Open(Source::of_bytes(name.unwrap_or_default(), Bytes::copy_from_slice(data))))
        }
        (true, None, Some(spool)) => spool.finish().map(SendSource::Open),
        _ => Err(Error::new(Code::InvalidArgument, "send needs a path, data or a stream")),
    }
}

fn target(
    node: &Node,
    offer: u64,
    path: Option<PathBuf>,
    dir: Option<PathBuf>,
    overwrite: Option<bool>,
    existing: Existing,
) -> Result<Target> {
    match (path, dir) {
        // A folder is never put into one that a path leads to: it is that one, or refused.
        (Some(path), None) if names_a_folder(&path) && !node.is_of_folder(offer)? => {
            Ok(Target::InFolder { dir: path, name: node.safe_name(offer)?, existing })
        }
        (Some(path), None) => Ok(Target::Exact { path, overwrite: overwrite.unwrap_or(true) }),
        (None, Some(dir)) => Ok(Target::InFolder { dir, name: node.safe_name(offer)?, existing }),
        _ => Err(Error::new(Code::InvalidArgument, "accept needs the path to save to, or a folder as dir")),
    }
}

fn names_a_folder(path: &Path) -> bool {
    path.as_os_str().as_encoded_bytes().ends_with(b"/") || path.is_dir()
}
