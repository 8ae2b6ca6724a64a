//! What ends with the environment of JavaScript that started it.
//!
//! A worker thread that ends, in whichever way, takes its JavaScript with it, but no thread of this addon: a
//! node of its would go on to claim offers that nobody hears of. Node.js runs a clean-up hook then, but none
//! where `process.exit()` or an error ends the main thread: there JavaScript says so, by [`end_all`].

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use napi::Env;
#[cfg(not(test))]
use napi_derive::napi;
#[cfg(not(test))]
use tokio::sync::MutexGuard;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::error::{Code, Error, Result};
use crate::sync::lock;

/// How long an environment waits for all that ends with it. A service nearby is told in milliseconds; who
/// ends a process waits no longer for one that does not answer.
const FAREWELL: Duration = Duration::from_millis(500);

type Ending = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Ends something.
type End = Box<dyn FnOnce() -> Ending + Send>;

/// What runs in each environment, by its address, until that has ended.
static ENVIRONMENTS: Mutex<Option<HashMap<usize, Arc<JsEnvironment>>>> = Mutex::new(None);

#[derive(Default)]
struct JsEnvironment(Mutex<Living>);

#[derive(Default)]
struct Living {
    last: u64,
    ends: HashMap<u64, End>,
}

/// Something that ends with its environment, unless it was ended before.
#[derive(Clone)]
pub(super) struct Resident {
    environment: Arc<JsEnvironment>,
    number: u64,
}

impl Resident {
    /// Has `end` called when the environment ends.
    pub(super) fn new<F: Future<Output = ()> + Send + 'static>(
        env: &Env,
        end: impl FnOnce() -> F + Send + 'static,
    ) -> napi::Result<Self> {
        let environment = JsEnvironment::of(env)?;
        let number = {
            let mut living = lock(&environment.0);
            living.last += 1;
            let number = living.last;
            living.ends.insert(number, Box::new(|| Box::pin(end())));
            number
        };
        Ok(Self { environment, number })
    }

    /// It has ended.
    pub(super) fn leave(&self) {
        // What the function holds may take a while to drop.
        let end = lock(&self.environment.0).ends.remove(&self.number);
        drop(end);
    }
}

/// Something that runs until it is closed, or its environment ends.
pub(super) struct Tenant<T> {
    running: Arc<tokio::sync::Mutex<Option<T>>>,
    close: fn(T) -> Ending,
    /// Is cancelled when it is to end.
    ending: CancellationToken,
    resident: Resident,
}

impl<T> Clone for Tenant<T> {
    fn clone(&self) -> Self {
        Self {
            running: self.running.clone(),
            close: self.close,
            ending: self.ending.clone(),
            resident: self.resident.clone(),
        }
    }
}

impl<T: Send + 'static> Tenant<T> {
    /// What [`Self::start`] is to start, and `close` ends.
    pub(super) fn new(env: &Env, close: fn(T) -> Ending) -> napi::Result<Self> {
        let running = Arc::<tokio::sync::Mutex<Option<T>>>::default();
        let ending = CancellationToken::new();
        let (kept, end) = (running.clone(), ending.clone());
        let resident = Resident::new(env, move || async move {
            end.cancel();
            if let Some(running) = kept.lock().await.take() {
                close(running).await;
            }
        })?;
        Ok(Self { running, close, ending, resident })
    }

    /// Keeps what `start` gives, and gives what it tells besides.
    pub(super) async fn start<I>(&self, start: impl Future<Output = Result<(T, I)>>) -> Result<I> {
        // Who ends it meanwhile finds what has started.
        let mut running = self.running.lock().await;
        let start = self.ending.run_until_cancelled(start);
        match start.await.unwrap_or_else(|| Err(Error::new(Code::Destroyed, "its thread ended"))) {
            Ok((started, told)) => {
                *running = Some(started);
                Ok(told)
            }
            Err(error) => {
                self.resident.leave();
                Err(error)
            }
        }
    }

    /// What runs, if it does. It must not be held on to when it is to end.
    #[cfg(not(test))]
    pub(super) async fn running(&self) -> MutexGuard<'_, Option<T>> {
        self.running.lock().await
    }

    /// Is cancelled when it is to end.
    #[cfg(not(test))]
    pub(super) fn ending(&self) -> &CancellationToken {
        &self.ending
    }

    /// Ends it; a second call does nothing.
    pub(super) async fn close(&self) {
        self.ending.cancel();
        if let Some(running) = self.running.lock().await.take() {
            (self.close)(running).await;
        }
        self.resident.leave();
    }
}

/// Ends all that runs in this environment, which is about to end, and waits for that, but not for long.
#[cfg(not(test))]
#[napi]
pub(super) fn end_all(env: &Env) -> napi::Result<()> {
    JsEnvironment::of(env)?.end();
    Ok(())
}

impl JsEnvironment {
    fn of(env: &Env) -> napi::Result<Arc<Self>> {
        let key = env.raw().addr();
        let mut environments = lock(&ENVIRONMENTS);
        let environments = environments.get_or_insert_default();
        if let Some(environment) = environments.get(&key) {
            return Ok(environment.clone());
        }
        let environment = Arc::<Self>::default();
        let ending = environment.clone();
        env.add_env_cleanup_hook((), move |()| {
            if let Some(environments) = &mut *lock(&ENVIRONMENTS) {
                environments.remove(&key);
            }
            ending.end();
        })?;
        environments.insert(key, environment.clone());
        Ok(environment)
    }

    /// Ends all that runs, and waits for it, but not for long. What takes longer goes on as long as the
    /// process does.
    fn end(&self) {
        let ends = std::mem::take(&mut lock(&self.0).ends);
        if ends.is_empty() {
            return;
        }
        let (ended, wait) = mpsc::channel();
        napi::bindgen_prelude::spawn(async move {
            let all: JoinSet<()> = ends.into_values().map(|end| end()).collect();
            all.join_all().await;
            let _ = ended.send(());
        });
        let _ = wait.recv_timeout(FAREWELL);
    }
}
