//! Small tools for tasks, threads and locks.

use std::pin::pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::error::{Code, Error, Result};

/// Locks a mutex whose holders cannot leave its content half changed.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits for `future` or the caller's cancellation, whichever is first.
///
/// # Errors
/// `ABORTED` if it was cancelled; the future's own.
pub(crate) async fn or_cancelled<T>(
    cancel: &CancellationToken,
    future: impl Future<Output = Result<T>>,
) -> Result<T> {
    tokio::select! {
        biased;
        () = cancel.cancelled() => Err(aborted()),
        // What was given up with the caller may be polled a moment before that is seen here.
        result = future => result.map_err(|error| if cancel.is_cancelled() { aborted() } else { error }),
    }
}

/// The same of what fails in its own way.
pub(crate) async fn tried_or_cancelled<T, E>(
    cancel: &CancellationToken,
    future: impl Future<Output = Result<T, E>>,
) -> Result<Result<T, E>> {
    let tried = or_cancelled(cancel, async { Ok(future.await) }).await?;
    if tried.is_err() && cancel.is_cancelled() { Err(aborted()) } else { Ok(tried) }
}

/// Runs a transfer, and cancels it when its caller does.
pub(crate) async fn cancelled_by<T>(
    caller: CancellationToken,
    transfer: CancellationToken,
    run: impl Future<Output = T>,
) -> T {
    let mut run = pin!(run);
    tokio::select! {
        result = &mut run => return result,
        () = caller.cancelled() => transfer.cancel(),
    }
    run.await
}

tokio::task_local! {
    /// The tasks of the node whose task it is that runs.
    static OF_NODE: TaskTracker;
}

/// Runs what blocks on a thread where that is allowed. It can't be stopped: a node ends no sooner than what
/// its tasks have begun so, whether they still wait for it or not.
pub(crate) fn spawn_blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    match OF_NODE.try_with(TaskTracker::clone) {
        Ok(tasks) => tasks.spawn_blocking(work),
        Err(_) => tokio::task::spawn_blocking(work),
    }
}

/// [`spawn_blocking`], and waits for it.
///
/// # Errors
/// Those of `work`; `STATE` if it panicked.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    spawn_blocking(work).await.unwrap_or_else(|_| Err(ended_unexpectedly()))
}

/// Waits for a task of [`Spawner::spawn`].
///
/// # Errors
/// The task's own; `ABORTED` if it was stopped with its node; `STATE` if it panicked.
pub(crate) async fn joined<T>(task: JoinHandle<Option<Result<T>>>) -> Result<T> {
    match task.await {
        Ok(Some(result)) => result,
        Ok(None) => Err(aborted()),
        Err(_) => Err(ended_unexpectedly()),
    }
}

/// That the caller cancelled it.
pub(crate) fn aborted() -> Error {
    Error::new(Code::Aborted, "the transfer was cancelled here")
}

fn ended_unexpectedly() -> Error {
    Error::new(Code::State, "an internal task ended unexpectedly")
}

/// Runs the tasks of one node, which end with it. Clones spawn for the same node.
#[derive(Clone, Debug, Default)]
pub(crate) struct Spawner {
    /// Asks everything to end in good order.
    cancel: CancellationToken,
    /// Stops what did not end by that.
    halt: CancellationToken,
    tasks: TaskTracker,
}

impl Spawner {
    /// Runs `future`; the handle gives `None` if it had to be stopped.
    pub(crate) fn spawn<T: Send + 'static>(
        &self,
        future: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<Option<T>> {
        let halt = self.halt.clone();
        // That of a transfer is tens of kilobytes. Each layer around it would have copies on a thread's
        // stack, which without optimization do not fit.
        let future = Box::pin(future);
        let task = async move { halt.run_until_cancelled(future).await };
        self.tasks.spawn(OF_NODE.scope(self.tasks.clone(), task))
    }

    /// Is cancelled when the node is to end.
    pub(crate) fn cancel(&self) -> &CancellationToken {
        &self.cancel
    }

    /// Asks all tasks to end, waits for `farewell`, stops the rest, and waits for that at most `halt`.
    pub(crate) async fn shut_down(&self, farewell: Duration, halt: Duration) {
        self.cancel.cancel();
        self.tasks.close();
        let _ = timeout(farewell, self.tasks.wait()).await;
        self.halt.cancel();
        let _ = timeout(halt, self.tasks.wait()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn tasks_are_asked_first_and_stopped_later() {
        let spawner = Spawner::default();
        let cancel = spawner.cancel().clone();
        let good = spawner.spawn(async move { cancel.cancelled().await });
        let bad = spawner.spawn(std::future::pending::<()>());
        spawner.shut_down(SECOND, SECOND).await;
        assert_eq!(good.await.unwrap(), Some(()));
        assert_eq!(bad.await.unwrap(), None);
    }

    /// It went on in the node's folders while others took those for theirs.
    #[tokio::test]
    async fn work_on_a_thread_is_waited_for_though_its_task_has_ended() {
        let spawner = Spawner::default();
        let (begin, begun) = tokio::sync::oneshot::channel();
        let (let_go, held) = std::sync::mpsc::channel::<()>();
        let cancel = spawner.cancel().clone();
        let work = blocking(move || {
            let _ = begin.send(());
            let _ = held.recv();
            Ok(())
        });
        let task = spawner.spawn(async move { cancel.run_until_cancelled(work).await.is_none() });
        begun.await.unwrap();
        let ending = tokio::spawn({
            let spawner = spawner.clone();
            async move { spawner.shut_down(60 * SECOND, SECOND).await }
        });
        assert_eq!(task.await.unwrap(), Some(true));
        for _ in 0..100 {
            tokio::task::yield_now().await;
            assert!(!ending.is_finished());
        }
        drop(let_go);
        ending.await.unwrap();
    }

    #[tokio::test]
    async fn a_cancelled_caller_is_told_so_even_where_the_result_is_ready() {
        let cancel = CancellationToken::new();
        assert_eq!(or_cancelled(&cancel, async { Ok(1) }).await.unwrap(), 1);
        cancel.cancel();
        assert_eq!(or_cancelled(&cancel, async { Ok(1) }).await.unwrap_err().code, Code::Aborted);
    }

    #[tokio::test]
    async fn what_fails_because_its_caller_was_cancelled_is_cancelled() {
        let cancel = CancellationToken::new();
        let failing = async {
            cancel.cancel();
            Err::<(), _>(Error::new(Code::AtsUnreachable, "gone"))
        };
        assert_eq!(or_cancelled(&cancel, failing).await.unwrap_err().code, Code::Aborted);
        let cancel = CancellationToken::new();
        let failing = async {
            cancel.cancel();
            Err::<(), _>(5)
        };
        assert_eq!(tried_or_cancelled(&cancel, failing).await.unwrap_err().code, Code::Aborted);
        let cancel = CancellationToken::new();
        assert_eq!(tried_or_cancelled(&cancel, async { Err::<(), _>(5) }).await.unwrap(), Err(5));
    }

    #[tokio::test]
    async fn work_that_panics_is_an_error() {
        let error = blocking(|| -> Result<()> { panic!("on purpose") }).await.unwrap_err();
        assert_eq!(error.code, Code::State);
    }
}
