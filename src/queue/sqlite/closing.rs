//! Closes the queues that a command left open. An error ends a command at once, and a dropped queue
//! closes at some later time, for which an ending process does not wait. Its write-ahead log would then
//! stay beside the file, and the next command would have to recover it.

use std::cell::RefCell;
use std::future::Future;
use std::time::Duration;

use crate::domain::clock::Clock;
use crate::queue::sqlite::SqliteQueue;

/// Longer than the checkpoint of a large log takes. A queue that another process writes to is not
/// waited for longer.
const CLOSES_WITHIN: Duration = Duration::from_secs(10);

tokio::task_local! {
    static OPENED: RefCell<Vec<SqliteQueue>>;
}

/// Runs `work`, then closes every queue that it opened and did not close, even after an error.
pub async fn closing<T>(clock: &impl Clock, work: impl Future<Output = T>) -> T {
    let closed = async {
        let done = work.await;
        let opened = OPENED.with(RefCell::take);
        let close = async {
            for queue in opened {
                queue.close().await;
            }
        };
        tokio::select! {
            () = close => {}
            () = clock.sleep_until(clock.now() + CLOSES_WITHIN) => {
                tracing::debug!("the queue is still in use and was not closed");
            }
        }
        done
    };
    OPENED.scope(RefCell::default(), closed).await
}

/// Registers an opened queue with the current [`closing`], if there is one.
pub(in crate::queue) fn opened(queue: &SqliteQueue) {
    // Outside [`closing`] the owner closes the queue.
    let _ = OPENED.try_with(|opened| opened.borrow_mut().push(queue.clone()));
}
