//! Giving others their turn, without a timer and without anyone who must wake the one who waits.

use std::future::poll_fn;
use std::task::Poll;

/// Lets every other task that is ready run once.
pub(crate) async fn step_aside() {
    let mut has_stepped = false;
    poll_fn(|context| {
        if has_stepped {
            return Poll::Ready(());
        }
        has_stepped = true;
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
