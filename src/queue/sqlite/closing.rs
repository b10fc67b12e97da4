//! Closing what was left open. An error ends a command where it happens, and a queue that is
//! dropped there closes at some later time, which a process that ends does not wait for: its log
//! would stay beside the file, to be read by the next command.

use std::cell::RefCell;
use std::future::Future;
use std::time::Duration;

use crate::domain::clock::Clock;
use crate::queue::Queue;

/// Longer than folding a large log in takes; a queue that another process writes to is left.
const CLOSES_WITHIN: Duration = Duration::from_secs(10);

tokio::task_local! {
    static OPENED: RefCell<Vec<Queue>>;
}

/// Does `work`, and closes every queue that it has opened and not closed, however it ends.
pub async fn closing<T>(clock: &impl Clock, work: impl Future<Output = T>) -> T {
    let closed = async {
        let done = work.await;
        let opened = OPENED.with(RefCell::take);
        let close = async {
            for store in opened {
                store.close().await;
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

/// Notes that `store` was opened, for the work that is being done, if it is to be closed with it.
pub(in crate::queue) fn opened(store: &Queue) {
    // Outside of such work its owner closes it.
    let _ = OPENED.try_with(|opened| opened.borrow_mut().push(store.clone()));
}
